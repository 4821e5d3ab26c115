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
}

// Run returns when the tool is gone. nil means that it exited with 0 and that
// the source was read to its end and is proven whole. The last bytes reach the
// tool only then, so that one which reads all cannot finish on input that is broken;
// one that needs less may: it then failed with an exit code of 0. That is -1 of a tool
// that did not start. Of several errors the first of these is returned: the source's,
// the proof's, the cause of ctx's end, ErrStalled, *process.ExitError.
func (f Feed) Run(ctx context.Context) (process.Result, error) {
	spec := f.Spec
	spec.Stdin, spec.Grace = true, grace
	p, err := process.Start(ctx, spec)
	if err != nil {
		return process.Result{ExitCode: -1}, err
	}
	err = f.pump(p.Stdin)
	if err != nil {
		p.Kill(err)
	} else {
		err = closeInput(p.Stdin)
	}
	res, exit := p.Wait()
	switch {
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
func (f Feed) pump(stdin *os.File) error {
	now, last := make([]byte, bufferSize), make([]byte, 0, bufferSize)
	deaf := false
	write := func(b []byte) error {
		if deaf || len(b) == 0 {
			return nil
		}
		err := f.write(stdin, b)
		if errors.Is(err, syscall.EPIPE) {
			deaf, err = true, nil
		}
		return err
	}
	for {
		n, err := f.Source.Read(now)
		if n > 0 {
			if err := write(last); err != nil {
				return err
			}
			if _, err := f.Proof.Write(now[:n]); err != nil {
				return err
			}
			if f.OnFeed != nil {
				f.OnFeed(n)
			}
			now, last = last[:cap(last)], now[:n]
		}
		switch {
		case errors.Is(err, io.EOF):
			if err := f.Proof.Done(); err != nil {
				return err
			}
			return write(last)
		case err != nil:
			return err
		}
	}
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
