package artifact

import (
	"context"
	"errors"
	"io"
	"time"
)

// errStalled is a transfer that stood still for too long. It is worth a retry.
var errStalled = errors.New("the transfer stood still for too long")

// stallWatch ends a transfer that does not move for a while, which a broken
// network may never report.
type stallWatch struct {
	ctx    context.Context // of the transfer
	cancel context.CancelCauseFunc
	timer  *time.Timer
	after  time.Duration
}

// watchStall returns the context of a transfer and its watch, which is running.
// Call stop when the transfer ends.
func watchStall(ctx context.Context, after time.Duration) (context.Context, *stallWatch) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(after, func() { cancel(errStalled) })
	return ctx, &stallWatch{ctx: ctx, cancel: cancel, timer: timer, after: after}
}

// moved says that the transfer goes on.
func (w *stallWatch) moved() { w.timer.Reset(w.after) }

// pause stops the clock until moved is called: it is not the storage's turn.
func (w *stallWatch) pause() { w.timer.Stop() }

func (w *stallWatch) stop() {
	w.timer.Stop()
	w.cancel(nil)
}

// explain returns why the transfer failed: a stall hides behind a cancellation.
func (w *stallWatch) explain(err error) error {
	if err != nil && errors.Is(context.Cause(w.ctx), errStalled) {
		return errStalled
	}
	return err
}

// watchedReader lets the clock of a watch run only while it reads.
type watchedReader struct {
	io.Reader
	watch *stallWatch
}

func (r watchedReader) Read(p []byte) (int, error) {
	r.watch.moved()
	n, err := r.Reader.Read(p)
	r.watch.pause()
	return n, r.watch.explain(err)
}
