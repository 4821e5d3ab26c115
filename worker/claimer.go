package worker

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/health"
)

// Queue wakes a claimer; a lost wake-up costs a poll.
type Queue interface {
	// Wait returns when somebody wakes the kind, when poll has passed, or with ctx's cause.
	Wait(ctx context.Context, kind string, poll time.Duration) error
	// WaitUp returns when the queue answers, or with ctx's cause.
	WaitUp(ctx context.Context) error
	// Up reports whether the queue answers.
	Up() bool
}

// Meter counts what an operator should hear of.
type Meter interface {
	// LeaseLost counts an execution that this process had to let go.
	LeaseLost(op execution.Operation)
}

// Tracer follows executions from the request that queued them.
type Tracer interface {
	// Begin returns the context of the work of a claimed execution; end is called
	// once, with how it went.
	Begin(ctx context.Context, e execution.Execution) (own context.Context, end func(error))
}

// Timing holds the intervals of leases; all have defaults.
type Timing struct {
	Lease     time.Duration // how long a worker may be silent before others take over; 60 s
	Heartbeat time.Duration // how often it speaks, and hears of a cancel request; 1 s
	SelfStop  time.Duration // how long it works on without an answer; 45 s
	Poll      time.Duration // how often the queue is looked at without a wake-up; 3 s
	Grace     time.Duration // how long running work may go on at shutdown; 30 s
}

// WithDefaults returns t with its defaults filled in.
func (t Timing) WithDefaults() Timing {
	fill := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	fill(&t.Lease, time.Minute)
	fill(&t.Heartbeat, time.Second)
	fill(&t.SelfStop, t.Lease*3/4)
	fill(&t.Poll, 3*time.Second)
	fill(&t.Grace, 30*time.Second)
	return t
}

// Claimer takes queued executions of its operations, a few at once, and works on
// each under a lease. It claims nothing while the queue is down; what runs goes
// on. At shutdown it stops claiming, gives running work the grace period, and
// then ends it with ErrShutdown as the cause.
type Claimer struct {
	Label       string // its name, such as "backup worker"
	WorkerID    string // unique per process
	Spool       string // id of this machine's spool; empty for work that has none
	Operations  []execution.Operation
	Concurrency int
	Limits      execution.Limits // over all processes
	Timing      Timing
	Store       execution.Store
	Queue       Queue
	Entry       *Entry
	Meter       Meter
	Tracer      Tracer // nil: nothing is traced
	Logger      *slog.Logger
	// Work does one execution to its end: it must finish, release or abandon it.
	Work func(ctx context.Context, l *Leased) error
}

// Name implements Service.
func (c *Claimer) Name() string { return c.Label }

// Run implements Service.
func (c *Claimer) Run(ctx context.Context) error {
	timing := c.Timing.WithDefaults()
	work, stopWork := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stopWork(ErrShutdown)
	slots := make(chan struct{}, max(c.Concurrency, 1))
	var running sync.WaitGroup
	defer c.Entry.SetState(health.WorkerStopped)
	for c.ready(ctx) {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			continue
		}
		e, found := c.claim(ctx, timing)
		if !found {
			<-slots
			c.wait(ctx, timing)
			continue
		}
		running.Go(func() {
			defer func() { <-slots }()
			c.work(work, e, timing)
		})
	}
	c.drain(&running, timing.Grace, stopWork)
	return nil
}

// ready waits until the queue answers; false when ctx has ended.
func (c *Claimer) ready(ctx context.Context) bool {
	if ctx.Err() != nil {
		return false
	}
	if !c.Queue.Up() {
		c.Entry.SetState(health.WorkerStopped)
		if c.Queue.WaitUp(ctx) != nil {
			return false
		}
	}
	c.Entry.SetState(health.WorkerRunning)
	return true
}

func (c *Claimer) claim(ctx context.Context, timing Timing) (execution.Execution, bool) {
	e, found, err := c.Store.Claim(ctx, execution.Claimant{WorkerID: c.WorkerID, Spool: c.Spool, Limits: c.Limits}, c.Operations, timing.Lease)
	if err != nil {
		if ctx.Err() == nil {
			c.Entry.Claimed(err)
			c.Logger.WarnContext(ctx, "nothing could be claimed, trying again", "worker", c.Label, "error", err)
		}
		return execution.Execution{}, false
	}
	c.Entry.Claimed(nil)
	return e, found
}

// wait sleeps until there may be work. All operations of one worker share one kind
// of wake-up.
func (c *Claimer) wait(ctx context.Context, timing Timing) {
	if err := c.Queue.Wait(ctx, c.Operations[0].Queue(), timing.Poll); err != nil && ctx.Err() == nil {
		c.Logger.DebugContext(ctx, "waiting for work was interrupted", "worker", c.Label, "error", err)
	}
}

func (c *Claimer) work(ctx context.Context, e execution.Execution, timing Timing) {
	c.Entry.Started()
	end := func(error) {}
	if c.Tracer != nil {
		ctx, end = c.Tracer.Begin(ctx, e)
	}
	l := lease(ctx, c.Store, e, timing, c.Logger)
	err := c.Work(l.Context(), l)
	if errors.Is(context.Cause(l.Context()), execution.ErrLeaseLost) {
		c.Meter.LeaseLost(e.Operation)
	}
	l.stop()
	end(err)
	c.Entry.Finished(err)
}

// drain waits for running work, at most grace, then ends it and waits again: the
// work puts itself in order when its context ends.
func (c *Claimer) drain(running *sync.WaitGroup, grace time.Duration, stopWork context.CancelCauseFunc) {
	done := make(chan struct{})
	go func() {
		running.Wait()
		close(done)
	}()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-done:
		return
	case <-timer.C:
		c.Logger.Warn(c.Label + " ends its work: the grace period is over")
	}
	stopWork(ErrShutdown)
	<-done
}
