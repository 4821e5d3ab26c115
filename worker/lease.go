package worker

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/execution"
)

// ErrCancelled is the cause of work that ends because somebody cancelled it.
var ErrCancelled = errs.New(errs.Cancelled, errs.CodeCancelled, "cancelled on request")

// Leased is a running execution that this process holds. Its context ends, with
// the reason as its cause, when the work must stop: execution.ErrLeaseLost,
// ErrCancelled or ErrShutdown.
type Leased struct {
	Execution execution.Execution
	Lease     execution.Lease

	ctx    context.Context
	cancel context.CancelCauseFunc
	store  execution.Store
	timing Timing
	logger *slog.Logger
	done   sync.WaitGroup
	ended  chan struct{}

	mu       sync.Mutex
	progress execution.Progress
	beat     time.Time // last answered heartbeat
}

// lease starts the heartbeats of a claimed execution.
func lease(ctx context.Context, store execution.Store, e execution.Execution, timing Timing, logger *slog.Logger) *Leased {
	own, cancel := context.WithCancelCause(ctx)
	l := &Leased{
		Execution: e, Lease: execution.Lease{ExecutionID: e.ID, WorkerID: e.WorkerID, Fence: e.Fence},
		ctx: own, cancel: cancel, store: store, timing: timing, logger: logger, ended: make(chan struct{}), beat: time.Now(),
	}
	l.done.Go(l.heartbeats)
	return l
}

// Context is the context of the work.
func (l *Leased) Context() context.Context { return l.ctx }

// SetProgress is what the next heartbeat stores.
func (l *Leased) SetProgress(p execution.Progress) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.progress = p
}

// Progress returns what SetProgress was given last.
func (l *Leased) Progress() execution.Progress {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.progress
}

// Held fails when the lease is lost, or may be: call it before every step that
// others could see.
func (l *Leased) Held() error {
	if l.ctx.Err() != nil {
		return context.Cause(l.ctx)
	}
	return l.Owned()
}

// Owned fails when the lease is lost, or may be, and only then: work that was asked
// to stop puts in order what it has begun.
func (l *Leased) Owned() error {
	if errors.Is(context.Cause(l.ctx), execution.ErrLeaseLost) {
		return execution.ErrLeaseLost
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.beat) > l.timing.SelfStop {
		return execution.ErrLeaseLost
	}
	return nil
}

// heartbeats go on after the work was asked to stop: putting things in order
// needs the lease too.
func (l *Leased) heartbeats() {
	ticker := time.NewTicker(l.timing.Heartbeat)
	defer ticker.Stop()
	for {
		select {
		case <-l.ended:
			return
		case <-ticker.C:
		}
		if !l.heartbeat() {
			return
		}
	}
}

// heartbeat speaks once; false when the lease is lost.
func (l *Leased) heartbeat() bool {
	ctx, stop := context.WithTimeout(context.WithoutCancel(l.ctx), l.timing.SelfStop/3)
	defer stop()
	asked := time.Now()
	cancelled, err := l.store.Heartbeat(ctx, l.Lease, l.timing.Lease, l.Progress())
	switch {
	case err == nil:
		l.mu.Lock()
		l.beat = asked
		l.mu.Unlock()
		if cancelled {
			l.cancel(ErrCancelled)
		}
		return true
	case errors.Is(err, execution.ErrLeaseLost):
		l.cancel(execution.ErrLeaseLost)
		return false
	default:
		return l.silent(err)
	}
}

// silent decides what an unanswered heartbeat means.
func (l *Leased) silent(err error) bool {
	l.mu.Lock()
	silence := time.Since(l.beat)
	l.mu.Unlock()
	if silence > l.timing.SelfStop {
		l.logger.Error("the work stops: the database has not answered for too long, another worker may take over",
			"execution_id", l.Execution.ID, "silence", silence.String(), "error", err)
		l.cancel(execution.ErrLeaseLost)
		return false
	}
	l.logger.Warn("a heartbeat was not answered", "execution_id", l.Execution.ID, "error", err)
	return true
}

// stop ends the heartbeats; the work has ended.
func (l *Leased) stop() {
	close(l.ended)
	l.done.Wait()
	l.cancel(nil)
}
