// Package scheduler queues backups when they are due and takes executions back
// from workers that went silent. Any number of processes may run it.
package scheduler

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/health"
	"github.com/dataguardian/dataguardian/internal/logs"
	"github.com/dataguardian/dataguardian/internal/schedule"
	"github.com/dataguardian/dataguardian/worker"
)

const (
	// batch is how many due jobs one transaction takes.
	batch = 200
	// missedLimit bounds the counting of missed slots, not the finding of the newest.
	missedLimit = 1000
)

// Queue is what a scheduler needs of the queue.
type Queue interface {
	Up() bool
	WaitUp(ctx context.Context) error
	Wake(ctx context.Context, kind string) error
}

// Meter counts what an operator should hear of.
type Meter interface {
	// Missed counts due times that nothing ran for, once for all schedulers.
	Missed(slots int)
	// Reaped counts an execution that was taken from a silent worker.
	Reaped(op execution.Operation, after execution.Status)
}

// Scheduler is a worker.Service.
type Scheduler struct {
	Jobs       backup.JobStore
	Executions execution.Store
	Queue      Queue
	Hub        logs.Hub
	Entry      *worker.Entry
	Meter      Meter
	Logger     *slog.Logger
	Tick       time.Duration // how often due jobs are looked for; 1 s
	Sweep      time.Duration // how often silent workers are looked for; 5 s
	// Late is how far behind its time a slot may be and still count as on time; 1 min.
	Late time.Duration
	// Stranded is how long a retried upload waits for the machine that has its dump
	// while no backup worker runs there; 30 min.
	Stranded time.Duration
}

// Name implements worker.Service.
func (s *Scheduler) Name() string { return "scheduler" }

// Run implements worker.Service.
func (s *Scheduler) Run(ctx context.Context) error {
	s.defaults()
	reaped := make(chan struct{})
	go func() {
		defer close(reaped)
		worker.Every(ctx, s.Sweep, s.reap)
	}()
	worker.Every(ctx, s.Tick, s.tick)
	<-reaped
	s.Entry.SetState(health.WorkerStopped)
	return nil
}

func (s *Scheduler) defaults() {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&s.Tick, time.Second}, {&s.Sweep, 5 * time.Second}, {&s.Late, time.Minute}, {&s.Stranded, 30 * time.Minute}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
}

// tick queues everything that is due, once; while Redis is down it waits.
func (s *Scheduler) tick(ctx context.Context) {
	if !s.Queue.Up() {
		s.Entry.SetState(health.WorkerStopped)
		if s.Queue.WaitUp(ctx) != nil {
			return
		}
	}
	s.Entry.SetState(health.WorkerRunning)
	for {
		taken, queued, missed, err := s.due(ctx)
		if err != nil {
			if ctx.Err() == nil {
				s.Entry.Finished(err)
				s.Logger.WarnContext(ctx, "due jobs could not be queued, trying again", "error", err)
			}
			return
		}
		s.Meter.Missed(missed)
		if taken > 0 {
			s.Entry.Started()
			s.wake(ctx, queued)
			s.Entry.Finished(nil)
		}
		if taken < batch {
			return
		}
	}
}

func (s *Scheduler) wake(ctx context.Context, queued int) {
	for range queued {
		if err := s.Queue.Wake(ctx, execution.Backup.Queue()); err != nil {
			s.Logger.DebugContext(ctx, "no worker was woken, they look by themselves", "error", err)
			return
		}
	}
}

// due takes one batch of due jobs. What it counted is true once the batch is
// committed: after an error nothing of it has happened.
func (s *Scheduler) due(ctx context.Context) (taken, queued, missed int, err error) {
	taken, err = s.Jobs.Due(ctx, batch, func(ctx context.Context, tx backup.DueTx, j backup.Job) (*time.Time, error) {
		d, err := s.take(ctx, tx, j)
		if d.queued {
			queued++
		}
		missed += d.missed
		return d.next, err
	})
	if err != nil {
		return 0, 0, 0, err
	}
	return taken, queued, missed, nil
}

// decision is what became of a due job.
type decision struct {
	next   *time.Time
	queued bool
	missed int // due times
}

// take decides about one due job.
func (s *Scheduler) take(ctx context.Context, tx backup.DueTx, j backup.Job) (decision, error) {
	due, err := schedule.Parse(j.ScheduleCron, j.ScheduleTimezone)
	if err != nil {
		s.Logger.ErrorContext(ctx, "the schedule of a job cannot be read; it is not run by itself until it is mended", "job", j.Name, "error", err)
		return decision{}, nil
	}
	slot, missed, onTime := s.slot(due, *j.NextExecutionAt, tx.Now())
	next := due.Next(tx.Now())
	run := onTime || j.Options.WithDefaults().MissedRun == backup.RunOnce
	queued := false
	if run {
		if _, queued, err = tx.Queue(ctx, j.ID, slot); err != nil {
			return decision{}, err
		}
	}
	if missed > 0 {
		err = tx.Missed(ctx, j, missed, slot, queued)
	}
	return decision{next: &next, queued: queued, missed: missed}, err
}

// slot returns the newest due time up to now, whether it is still on time, and
// how many due times were missed.
func (s *Scheduler) slot(due schedule.Schedule, stored, now time.Time) (newest time.Time, missed int, onTime bool) {
	missed, newest = due.Missed(stored, now, missedLimit)
	if missed == 0 {
		newest = stored
	}
	onTime = now.Sub(newest) <= s.Late
	if !onTime {
		missed++
	}
	return newest, missed, onTime
}

// reap takes executions back from silent workers.
func (s *Scheduler) reap(ctx context.Context) {
	expired, err := s.Executions.Expired(ctx, s.Stranded, batch)
	if err != nil {
		if ctx.Err() == nil {
			s.Logger.WarnContext(ctx, "silent workers could not be looked for, trying again", "error", err)
		}
		return
	}
	for _, e := range expired {
		s.reapOne(ctx, e)
	}
}

func (s *Scheduler) reapOne(ctx context.Context, e execution.Execution) {
	lines := s.lines(ctx, e)
	status, err := s.Executions.Reap(ctx, e, lines)
	switch {
	case errors.Is(err, execution.ErrLeaseLost):
		return // its worker came back, or another scheduler was faster
	case err != nil:
		s.Logger.WarnContext(ctx, "an execution could not be taken back from its silent worker, trying again", "execution_id", e.ID, "error", err)
		return
	}
	if e.Status == execution.Queued {
		s.Logger.WarnContext(ctx, "a retried upload was given up: the machine that has its dump did not come back", "execution_id", e.ID, "host", e.Record.WorkerHost)
	} else {
		s.Meter.Reaped(e.Operation, status)
		s.Logger.WarnContext(ctx, "an execution was taken back from a silent worker", "execution_id", e.ID, "worker", e.WorkerID, "status", string(status))
	}
	e.Status = status
	told := errors.Join(s.Hub.Append(ctx, e.ID, lines[max(len(lines)-2, 0):]...), s.Hub.Announce(ctx, e.ID, execution.StateOf(e)))
	if status == execution.Queued {
		s.wake(ctx, 1)
	} else {
		told = errors.Join(told, s.Hub.Close(ctx, e.ID))
	}
	if err := told; err != nil {
		s.Logger.DebugContext(ctx, "tails were not told, they notice by themselves", "execution_id", e.ID, "error", err)
	}
}

// lines folds the last live lines of a dead worker into the stored ones. When Redis
// has none of them, or cannot be asked, it has lost what was not stored yet, if
// there was anything: one line says so.
func (s *Scheduler) lines(ctx context.Context, e execution.Execution) []logs.Line {
	full, err := s.Executions.Get(ctx, e.ID)
	if err != nil {
		full.Logs = e.Logs
	}
	if e.Status == execution.Queued {
		return append(full.Logs, logs.Line{
			Seq: next(full.Logs), Time: time.Now().UTC(), Level: "error",
			Message: "The machine that has the dump did not come back: the upload is given up",
		})
	}
	live, err := s.Hub.Read(ctx, e.ID, max(next(full.Logs)-2, 0)) // the last stored one must be there, too
	if err != nil {
		s.Logger.WarnContext(ctx, "the last lines of a silent worker are not readable", "execution_id", e.ID, "error", errs.Message(err))
	}
	now := time.Now().UTC()
	lines := logs.Merge(full.Logs, live)
	if len(live) == 0 {
		lines = append(lines, logs.Unsure(next(lines), now))
	}
	return append(lines, logs.Line{
		Seq: next(lines), Time: now, Level: "warn",
		Message: "the worker " + e.WorkerID + " went silent; its lease has run out",
	})
}

func next(lines []logs.Line) int64 {
	if len(lines) == 0 {
		return 1
	}
	return lines[len(lines)-1].Seq + 1
}
