// Package attempt is what every run of an execution shares: its log, its
// progress, and the ways it can end.
package attempt

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/logs"
	"github.com/dataguardian/dataguardian/worker"
)

const (
	// endTimeout bounds what is done after the work's own context has ended.
	endTimeout = 2 * time.Minute
	// bookPause is between two tries to book how an execution ended.
	bookPause = time.Second
	// announceTimeout bounds an announcement, which nobody has to hear.
	announceTimeout = time.Second
	// announcePause is between two announcements of progress.
	announcePause = time.Second
)

// Meter counts what was done. Its methods may be called concurrently.
type Meter interface {
	Ended(e execution.Execution, r execution.Result, took time.Duration)
	// UploadRetried counts a try of an upload after its first.
	UploadRetried()
	// LogLag hears how old the oldest line was when lines were sent to Redis.
	LogLag(age time.Duration)
}

// Tracer follows an attempt through its phases.
type Tracer interface {
	Phase(ctx context.Context, p execution.Phase) (end func())
}

// Desk is what attempts of one process share.
type Desk struct {
	Executions execution.Store
	Hub        logs.Hub
	Terminal   *logs.Terminal
	Meter      Meter
	Tracer     Tracer // nil: nothing is traced
	Logger     *slog.Logger
}

// Attempt is one worker's run of one execution. Its methods may be called
// concurrently, but it is ended once: by Abandon, Release or Finish.
type Attempt struct {
	Desk
	Execution execution.Execution
	Log       *logs.Recorder
	Temp      string // private directory, removed at the end
	Started   time.Time

	label    string
	leased   *worker.Leased
	announce chan struct{} // holds a token while an announcement may be made

	tracing  sync.Mutex
	endPhase func() // of the span of the current phase; nil without one
}

// Begin opens the log of a leased execution. label is how its lines begin on the
// terminal; secrets never get into them.
func (d Desk) Begin(l *worker.Leased, full execution.Execution, label string, secrets ...string) (*Attempt, error) {
	temp, err := os.MkdirTemp("", "dataguardian-")
	if err != nil {
		return nil, err
	}
	a := &Attempt{Desk: d, Execution: full, Temp: temp, Started: time.Now(), label: label, leased: l, announce: make(chan struct{}, 1)}
	a.announce <- struct{}{}
	a.Log = logs.NewRecorder(logs.RecorderConfig{
		ExecutionID: full.ID, Label: label, Job: full.JobName, Stored: full.Logs, Hub: d.Hub, Terminal: d.Terminal,
		Redactor: logs.NewRedactor(secrets...), Lag: d.Meter.LogLag,
		Save: func(ctx context.Context, lines []logs.Line) error { return d.Executions.SaveLogs(ctx, l.Lease, lines) },
		Report: func(err error) {
			d.Logger.Warn("a log line did not get through at once", "execution_id", full.ID, "error", err)
		},
	})
	return a, nil
}

// Lease is the right to the execution.
func (a *Attempt) Lease() execution.Lease { return a.leased.Lease }

// Held fails when the lease is lost, or may be.
func (a *Attempt) Held() error { return a.leased.Held() }

// Owned fails when the lease is lost, or may be. It holds beyond the end of the work,
// for putting things in order.
func (a *Attempt) Owned() error { return a.leased.Owned() }

// Phase says what the attempt does now; verb begins its progress lines, such as
// "dumped".
func (a *Attempt) Phase(p execution.Phase, verb string) {
	if verb != "" {
		a.Log.Phase(verb)
	}
	a.trace(p)
	progress := a.leased.Progress()
	progress.Phase = p
	a.leased.SetProgress(progress)
	a.tell(execution.Running)
}

// trace ends the span of the phase before and begins that of p; of none when p is
// empty.
func (a *Attempt) trace(p execution.Phase) {
	a.tracing.Lock()
	defer a.tracing.Unlock()
	if a.endPhase != nil {
		a.endPhase()
		a.endPhase = nil
	}
	if a.Tracer != nil && p != "" {
		a.endPhase = a.Tracer.Phase(a.leased.Context(), p)
	}
}

// Progress takes a snapshot of the current phase.
func (a *Attempt) Progress(p engine.Progress) {
	a.Log.Progress(p)
	a.leased.SetProgress(a.numbers())
	a.tellSometimes()
}

// numbers translates the recorder's.
func (a *Attempt) numbers() execution.Progress {
	n := a.Log.Numbers()
	p := execution.Progress{Phase: a.leased.Progress().Phase, BytesDone: n.BytesDone, BytesTotal: n.BytesTotal, Percent: n.Percent, Rate: n.Rate}
	if n.ETA != nil {
		seconds := n.ETA.Seconds()
		p.ETASeconds = &seconds
	}
	return p
}

// tellSometimes announces progress now and then, without keeping the work waiting.
func (a *Attempt) tellSometimes() {
	select {
	case <-a.announce:
	default:
		return
	}
	go func() {
		a.tell(execution.Running)
		time.AfterFunc(announcePause, func() { a.announce <- struct{}{} })
	}()
}

// tell announces how the execution stands. Nobody has to hear it.
func (a *Attempt) tell(status execution.Status) {
	e := a.Execution
	e.Status, e.Progress = status, a.leased.Progress()
	ctx, cancel := context.WithTimeout(context.Background(), announceTimeout)
	defer cancel()
	if err := a.Hub.Announce(ctx, e.ID, execution.StateOf(e)); err != nil {
		a.Logger.Debug("progress was not announced", "execution_id", e.ID, "error", err)
	}
}

// Ending returns a context for putting things in order: it outlives the work's
// own, which may have been cancelled.
func Ending() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), endTimeout)
}

// Cause prefers the reason of a context's end over the error it led to.
func Cause(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// Abandon leaves the execution to whoever holds it now. Its log is somebody
// else's, too: the last word is said on the terminal only.
func (a *Attempt) Abandon(ctx context.Context) {
	a.Print(engine.LevelError, "This worker has lost its lease and stops")
	if _, err := a.Log.Close(ctx); err != nil {
		a.Logger.Info("the last lines of a lost execution were not stored", "execution_id", a.Execution.ID, "error", err)
	}
	a.leave()
}

// Release gives the execution back to the queue; the attempt does not count.
func (a *Attempt) Release(ctx context.Context, reason string) {
	a.Log.Log(engine.LevelWarn, reason)
	lines, err := a.Log.Close(ctx)
	if err != nil {
		a.Logger.Warn("lines were not stored in time", "execution_id", a.Execution.ID, "error", err)
	}
	if err := a.Executions.Release(ctx, a.leased.Lease, time.Second, false, lines); err != nil {
		a.Logger.Error("the execution could not be given back; it is taken over when its lease runs out", "execution_id", a.Execution.ID, "error", err)
	}
	a.leave()
}

// Postpone gives the execution back to the queue once the metadata database
// answers again; the attempt does not count. It gives up with ctx, or with the lease.
func (a *Attempt) Postpone(ctx context.Context, reason string) {
	a.Log.Log(engine.LevelWarn, reason)
	lines, err := a.Log.Close(ctx)
	if err != nil {
		a.Logger.Info("lines are stored when the execution is given back", "execution_id", a.Execution.ID, "error", err)
	}
	a.leave()
	err = a.insist(ctx, func() error { return a.Executions.Release(ctx, a.leased.Lease, time.Second, false, lines) })
	if err != nil {
		a.Logger.Error("the execution could not be given back; it is taken over when its lease runs out", "execution_id", a.Execution.ID, "error", err)
	}
}

// Finish books how the execution ended and ends its tails. It reports whether
// that was booked.
func (a *Attempt) Finish(ctx context.Context, result execution.Result) bool {
	result.Progress = a.numbers()
	lines, err := a.Log.Close(ctx)
	if err != nil {
		a.Logger.Warn("lines are stored with the result", "execution_id", a.Execution.ID, "error", err)
	}
	result.Logs = lines
	a.leave()
	if err := a.insist(ctx, func() error { return a.Executions.Finish(ctx, a.leased.Lease, result) }); err != nil {
		a.Logger.Error("how the execution ended could not be booked; it is taken over when its lease runs out", "execution_id", a.Execution.ID, "error", err)
		return false
	}
	a.Meter.Ended(a.Execution, result, time.Since(a.Started))
	a.tell(result.Status)
	if err := a.Hub.Close(ctx, a.Execution.ID); err != nil {
		a.Logger.Debug("tails were not told of the end", "execution_id", a.Execution.ID, "error", err)
	}
	return true
}

// insist books something, again and again while the lease lasts: a database that is
// away for a moment must not cost the work.
func (a *Attempt) insist(ctx context.Context, book func() error) error {
	for {
		err := book()
		if err == nil || errs.KindOf(err) != errs.Unavailable {
			return err
		}
		a.Logger.Warn("an end could not be booked yet", "execution_id", a.Execution.ID, "error", err)
		timer := time.NewTimer(bookPause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return errors.Join(err, context.Cause(ctx))
		case <-timer.C:
		}
	}
}

// Failure fills in why an execution did not end well.
func (a *Attempt) Failure(result *execution.Result, err error) {
	result.Status, result.ErrorCode, result.ErrorMessage = execution.Failed, errs.CodeOf(err), a.Log.Clean(errs.Message(err))
	if errors.Is(err, worker.ErrCancelled) {
		result.Status = execution.Cancelled
	}
	if errs.As(err) == nil {
		a.Logger.Error("an execution failed in a way that has no code", "execution_id", a.Execution.ID, "error", err)
	}
}

// Print shows a line after the log was closed.
func (a *Attempt) Print(level engine.Level, message string) {
	if err := a.Terminal.Print(a.label, a.Execution.JobName, level, message); err != nil {
		a.Logger.Debug("the terminal is gone", "error", err)
	}
}

// Host names the machine for the record.
func Host() string {
	host, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return host
}

// leave ends what an attempt has of its own.
func (a *Attempt) leave() {
	a.trace("")
	if err := os.RemoveAll(a.Temp); err != nil {
		a.Logger.Warn("a temporary directory was not removed", "path", a.Temp, "error", err)
	}
}
