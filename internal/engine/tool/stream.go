// Package tool runs the programs that come with a database: it finds out which
// version one has and carries its output, watched and proven, into a sink.
package tool

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/dataguardian/dataguardian/internal/process"
)

// DefaultStall is how long a tool may be silent.
const DefaultStall = 10 * time.Minute

const (
	bufferSize = 256 << 10
	readSize   = 512 << 10
	grace      = time.Second
)

// ErrStalled is a tool that neither wrote nor ended for the stall time.
var ErrStalled = errors.New("no bytes within the stall time")

// Proof follows a tool's output and tells at the end whether it was whole.
type Proof interface {
	io.Writer
	Done() error
}

// Stream is one run of a tool whose output is a member of a dump.
type Stream struct {
	Spec   process.Spec
	Stall  time.Duration // 0 means DefaultStall
	Proof  Proof
	Member io.Writer
	OnRead func(n int) // after each read, may be nil
}

// Run returns when the tool is gone. nil means that it exited with 0, that the
// proof holds, and that Member took every byte; closing it is the caller's. Of
// several errors the first of these is returned: Member's own, the cause of
// ctx's end, ErrStalled, *process.ExitError, the proof's.
func (s Stream) Run(ctx context.Context) (process.Result, error) {
	spec := s.Spec
	spec.Stdout, spec.Grace = true, grace
	p, err := process.Start(ctx, spec)
	if err != nil {
		return process.Result{}, err
	}
	err = s.pump(ctx, p.Stdout)
	if err != nil {
		p.Kill(err)
	}
	res, exit := p.Wait()
	switch {
	case err != nil && !errors.Is(err, ErrStalled) && !onlyEnded(ctx, err):
		return res, err
	case ctx.Err() != nil:
		return res, context.Cause(ctx)
	case err != nil:
		return res, err
	case exit != nil:
		return res, exit
	}
	return res, s.Proof.Done()
}

// pump reads to the end of the output. A broken proof is not the end: the tool
// may be about to say what went wrong, so the rest is read and dropped.
func (s Stream) pump(ctx context.Context, stdout *os.File) error {
	stall := s.Stall
	if stall <= 0 {
		stall = DefaultStall
	}
	buf := make([]byte, readSize)
	rest := pause{capacity: pipeCapacity(stdout)}
	last, armed := time.Now(), time.Time{}
	for broken := false; ; {
		if until := last.Add(stall); armed.Before(last) { // moved lazily: tools write in small pieces
			if err := stdout.SetReadDeadline(until); err != nil {
				return err
			}
			armed = until
		}
		n, err := stdout.Read(buf)
		if n > 0 && !broken {
			if _, err := s.Proof.Write(buf[:n]); err != nil {
				broken = true
			} else if _, err := s.Member.Write(buf[:n]); err != nil {
				return err
			}
			if s.OnRead != nil {
				s.OnRead(n)
			}
		}
		if n > 0 { // after the writes: a slow sink is no silent tool
			last = time.Now()
		}
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded):
			if n == 0 && time.Since(last) >= stall {
				return ErrStalled
			}
			armed = time.Time{}
		default:
			return nil // the end of the output; the exit status and the proof judge it
		}
		rest.after(ctx, n)
	}
}
