package tool

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/dataguardian/dataguardian/internal/process"
)

// Feed is one run of a tool that takes a member of a dump as its input.
type Feed struct {
	Spec   process.Spec
	Stall  time.Duration // how long the tool may refuse bytes; 0 means DefaultStall
	Source io.Reader
	Proof  Proof
	OnFeed func(n int) // after each read of the source, may be nil
	// Needs, which may be nil, is asked after each write to Proof how many bytes of the
	// source are all that the tool will ever read, once that is known. What follows is
	// read for the proof alone.
	Needs func() (bytes int64, known bool)
	// Prove, which may be nil, is asked when the tool needs no more. When it says that what
	// was read is proven, nothing more is read.
	Prove func() (proven bool, err error)
	// Proven, which may be nil, is called when the source was proven, and the tool has all
	// that it needs but the last byte. gone is closed when the tool ends.
	Proven func(gone <-chan struct{})
}

// Run returns when the tool is gone. nil means that it exited with 0, also when ctx
// ended meanwhile, and that the source was read to its end and is proven whole, or as far
// as the tool needs it if Prove says so. The last bytes reach the tool only then, so that it cannot finish on input that is
// broken; one that needs less than Needs says may: it then failed with an exit code of
// 0. That is -1 of a tool that did not start. Of several errors the first of these is
// returned: the source's, the proof's, the cause of ctx's end, ErrStalled,
// *process.ExitError.
func (f Feed) Run(ctx context.Context) (process.Result, error) {
	spec := f.Spec
	spec.Stdin, spec.Grace = true, grace
	p, err := process.Start(ctx, spec)
	if err != nil {
		return process.Result{ExitCode: -1}, err
	}
	err = f.pump(p)
	if err != nil {
		p.Kill(err)
	} else {
		err = closeInput(p.Stdin)
	}
	res, exit := p.Wait()
	switch {
	case err == nil && exit == nil:
		return res, nil
	case err != nil && !errors.Is(err, ErrStalled) && !onlyEnded(ctx, err):
		return res, err
	case ctx.Err() != nil:
		return res, context.Cause(ctx)
	case err != nil:
		return res, err
	}
	return res, exit
}

// pump holds one buffer back until the source has ended well. A tool that
// stops reading has its reasons, which its exit status tells; the source is
// then read to its end for the proof alone.
func (f Feed) pump(p *process.Process) error {
	now, last := make([]byte, bufferSize), make([]byte, 0, bufferSize)
	deaf, enough, read := false, false, int64(0)
	write := func(b []byte) error {
		if deaf || len(b) == 0 {
			return nil
		}
		err := f.write(p.Stdin, b)
		if errors.Is(err, syscall.EPIPE) {
			deaf, err = true, nil
		}
		return err
	}
	finish := func() error {
		end := max(0, len(last)-1)
		if err := write(last[:end]); err != nil {
			return err
		}
		if f.Proven != nil {
			f.Proven(p.Exited())
		}
		return write(last[end:])
	}
	for {
		n, err := f.Source.Read(now)
		if n > 0 {
			if !enough {
				if err := write(last); err != nil {
					return err
				}
			}
			if _, err := f.Proof.Write(now[:n]); err != nil {
				return err
			}
			if f.OnFeed != nil {
				f.OnFeed(n)
			}
			read += int64(n)
			if !enough {
				var surplus int64
				surplus, enough = f.surplus(read)
				now, last = last[:cap(last)], now[:int64(n)-surplus]
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			if err := f.Proof.Done(); err != nil {
				return err
			}
			return finish()
		case err != nil:
			return err
		case enough && f.Prove != nil:
			proven, err := f.Prove()
			if err != nil {
				return err
			}
			if proven {
				return finish()
			}
		}
	}
}

// surplus returns how many of the bytes that were read the tool does not need.
func (f Feed) surplus(read int64) (surplus int64, enough bool) {
	if f.Needs == nil {
		return 0, false
	}
	needs, enough := f.Needs()
	if !enough {
		return 0, false
	}
	return read - needs, true
}

// write fails with ErrStalled when the tool takes nothing for the stall time.
func (f Feed) write(stdin *os.File, b []byte) error {
	stall := f.Stall
	if stall <= 0 {
		stall = DefaultStall
	}
	for len(b) > 0 {
		if err := stdin.SetWriteDeadline(time.Now().Add(stall)); err != nil {
			return err
		}
		n, err := stdin.Write(b)
		b = b[n:]
		switch {
		case err == nil, n > 0 && errors.Is(err, os.ErrDeadlineExceeded):
		case errors.Is(err, os.ErrDeadlineExceeded):
			return ErrStalled
		default:
			return err
		}
	}
	return nil
}

// onlyEnded reports an error that says no more than that ctx has ended; its
// cause says more.
func onlyEnded(ctx context.Context, err error) bool {
	return ctx.Err() != nil && errors.Is(err, ctx.Err())
}

// closeInput is the end of the input. A tool that is gone already has closed
// its side.
func closeInput(stdin *os.File) error {
	if err := stdin.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}
