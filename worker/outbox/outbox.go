// Package outbox carries notifications from the outbox to their channels.
package outbox

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/health"
	"github.com/dataguardian/dataguardian/internal/notification"
	"github.com/dataguardian/dataguardian/worker"
)

// Kind is what the queue is woken with when there may be something to deliver.
const Kind = "outbox"

// Courier sends one notification.
type Courier interface {
	Send(ctx context.Context, c notification.Channel, n notification.Notification, deliveryID string) error
}

// Queue wakes; a lost wake-up costs a poll.
type Queue interface {
	Wait(ctx context.Context, kind string, poll time.Duration) error
}

// Meter counts what an operator should hear of.
type Meter interface {
	// Attempted counts a try: err is what came of it, gaveUp says that it was the last.
	Attempted(channelType string, err error, gaveUp bool)
}

// Carrier is a worker.Service: any number of processes may run it. It takes one
// delivery of a channel at a time, and as many channels at once as it may, so that
// a channel that hangs holds up no other.
type Carrier struct {
	Store   notification.Outbox
	Courier Courier
	Queue   Queue
	Entry   *worker.Entry
	Meter   Meter
	Logger  *slog.Logger

	Concurrency int           // channels at once; 16
	Lease       time.Duration // within which a try must end, and be booked; 1 min
	Poll        time.Duration // between two looks without a wake-up; 3 s
	FirstRetry  time.Duration // after the first failed try; 2 s. It doubles with each
	LastRetry   time.Duration // the longest between two tries; 1 h
	Attempts    int           // tries before a delivery is given up; 20
	Age         time.Duration // after which a failed try is the last; 72 h
	Grace       time.Duration // for what runs at the end; 5 s
}

// refusals is how often a receiver may refuse one message before it is given up:
// it is not likely to change its mind.
const refusals = 10

// longestPause is the longest a channel rests after failures, unless its receiver
// asks for more.
const longestPause = time.Minute

func (c *Carrier) complete() {
	c.Concurrency = cmp.Or(c.Concurrency, 16)
	c.Lease = cmp.Or(c.Lease, time.Minute)
	c.Poll = cmp.Or(c.Poll, 3*time.Second)
	c.FirstRetry = cmp.Or(c.FirstRetry, 2*time.Second)
	c.LastRetry = cmp.Or(c.LastRetry, time.Hour)
	c.Attempts = cmp.Or(c.Attempts, 20)
	c.Age = cmp.Or(c.Age, 72*time.Hour)
	c.Grace = cmp.Or(c.Grace, 5*time.Second)
}

// Name implements worker.Service.
func (c *Carrier) Name() string { return "outbox worker" }

// Run implements worker.Service.
func (c *Carrier) Run(ctx context.Context) error {
	c.complete()
	c.Entry.SetState(health.WorkerRunning)
	defer c.Entry.SetState(health.WorkerStopped)
	work, stopWork := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stopWork(worker.ErrShutdown)
	slots := make(chan struct{}, c.Concurrency)
	var running sync.WaitGroup
	for ctx.Err() == nil {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			continue
		}
		p, found := c.claim(ctx)
		if !found {
			<-slots
			c.wait(ctx)
			continue
		}
		running.Go(func() {
			defer func() { <-slots }()
			for found {
				c.deliver(work, p)
				p, found = c.claim(ctx)
			}
		})
	}
	c.drain(&running, stopWork)
	return nil
}

func (c *Carrier) claim(ctx context.Context) (notification.Parcel, bool) {
	if ctx.Err() != nil {
		return notification.Parcel{}, false
	}
	p, found, err := c.Store.Claim(ctx, c.Lease)
	if ctx.Err() == nil {
		c.Entry.Claimed(err)
	}
	if err != nil && ctx.Err() == nil {
		c.Logger.WarnContext(ctx, "no notification could be claimed, trying again", "error", err)
	}
	return p, found && err == nil
}

func (c *Carrier) wait(ctx context.Context) {
	if err := c.Queue.Wait(ctx, Kind, c.Poll); err != nil && ctx.Err() == nil {
		c.Logger.DebugContext(ctx, "waiting for notifications was interrupted", "error", err)
	}
}

// drain waits for what runs, at most for the grace period, and then ends it.
func (c *Carrier) drain(running *sync.WaitGroup, stopWork context.CancelCauseFunc) {
	timer := time.AfterFunc(c.Grace, func() { stopWork(worker.ErrShutdown) })
	defer timer.Stop()
	running.Wait()
}

// deliver tries once and books what came of it. A process that dies in between has
// sent what another one will send again.
func (c *Carrier) deliver(ctx context.Context, p notification.Parcel) {
	c.Entry.Started()
	err := c.send(ctx, p)
	c.Entry.Finished(troubled(p, err))
	if err != nil && ctx.Err() != nil {
		c.book(ctx, p, func(ctx context.Context) error { return c.Store.Release(ctx, p) })
		return
	}
	if err == nil {
		c.Meter.Attempted(p.Channel.Type, nil, false)
		c.book(ctx, p, func(ctx context.Context) error { return c.Store.Done(ctx, p) })
		return
	}
	m := c.miss(p, err)
	c.Meter.Attempted(p.Channel.Type, err, m.GiveUp)
	c.Logger.WarnContext(ctx, "a notification was not delivered", "channel", p.Channel.Name, "type", p.Channel.Type,
		"attempt", p.Delivery.Attempts, "given_up", m.GiveUp, "code", errs.CodeOf(err), "reason", m.Reason)
	c.book(ctx, p, func(ctx context.Context) error { return c.Store.Missed(ctx, p, m) })
}

// troubled says in the worker's state which channel is in trouble.
func troubled(p notification.Parcel, err error) error {
	if err == nil {
		return nil
	}
	return errs.Wrap(err, errs.KindOf(err), errs.CodeOf(err), "the channel %q: %s", p.Channel.Name, errs.Message(err))
}

// send ends before the claim does, whatever the courier thinks is long.
func (c *Carrier) send(ctx context.Context, p notification.Parcel) error {
	ctx, cancel := context.WithTimeout(ctx, c.Lease*3/4)
	defer cancel()
	return c.Courier.Send(ctx, p.Channel, p.Notification, p.Delivery.ID)
}

// book writes down what came of a try, also at shutdown, as long as the claim
// lasts: what is not booked is sent again.
func (c *Carrier) book(ctx context.Context, p notification.Parcel, write func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.Lease)
	defer cancel()
	for {
		err := write(ctx)
		if err == nil {
			return
		}
		if errors.Is(err, notification.ErrClaimLost) || ctx.Err() != nil {
			c.Logger.WarnContext(ctx, "what came of a notification could not be booked: it may arrive twice", "channel", p.Channel.Name, "error", err)
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// miss says what follows from a failed try.
func (c *Carrier) miss(p notification.Parcel, err error) notification.Miss {
	m := notification.Miss{Reason: errs.Message(err), Unsound: notification.Unsound(err), Retry: c.backoff(p.Delivery.Attempts)}
	most := c.Attempts
	if m.Unsound {
		m.Pause = max(min(c.backoff(p.Failures+1), longestPause), notification.RetryAfter(err))
		m.Retry = max(m.Retry, m.Pause)
	} else {
		most = min(most, refusals)
	}
	m.GiveUp = p.Delivery.Attempts >= most || time.Since(p.Delivery.CreatedAt) > c.Age
	return m
}

// backoff doubles with every failure, up to a limit. A part of it is random, so that
// not everything comes back at once.
func (c *Carrier) backoff(failures int) time.Duration {
	d := c.FirstRetry
	for range failures - 1 {
		if d >= c.LastRetry {
			break
		}
		d *= 2
	}
	d = min(d, c.LastRetry)
	return d*3/4 + rand.N(d/4+1) //nolint:gosec // jitter, not a secret
}
