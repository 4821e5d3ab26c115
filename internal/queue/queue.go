// Package queue wakes workers over Redis. The queue itself is in the database:
// what comes from Redis, forged or lost, makes a worker look there sooner or
// later, and nothing else.
package queue

import (
	"cmp"
	"context"
	"time"

	"github.com/redis/rueidis"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// Config of a Queue. Zero fields take the defaults.
type Config struct {
	Prefix  string        // of every key; "dg:"
	Tokens  int           // wake-ups of a kind kept while nobody waits; 64
	Keep    time.Duration // how long they are kept; 1 minute
	Timeout time.Duration // for one answer of Redis; 2 s
	Slice   time.Duration // the longest blocking read; 1 s. One that was given up may swallow a wake-up for so long
}

// Queue wakes and waits. Its methods are safe for concurrent use, and any
// number of processes may share one Redis.
type Queue struct {
	client rueidis.Client
	cfg    Config
}

// New returns a queue on a client that stays the caller's.
func New(client rueidis.Client, cfg Config) *Queue {
	cfg.Prefix = cmp.Or(cfg.Prefix, "dg:")
	cfg.Tokens = cmp.Or(cfg.Tokens, 64)
	cfg.Keep = cmp.Or(cfg.Keep, time.Minute)
	cfg.Timeout = cmp.Or(cfg.Timeout, 2*time.Second)
	cfg.Slice = cmp.Or(cfg.Slice, time.Second)
	return &Queue{client: client, cfg: cfg}
}

// Wake wakes one worker that waits for kind, or the next that will. When Redis
// does not answer it fails with Unavailable (CodeRedisUnavailable).
func (q *Queue) Wake(ctx context.Context, kind string) error {
	ctx, cancel := context.WithTimeout(ctx, q.cfg.Timeout)
	defer cancel()
	key, b := q.key(kind), q.client.B()
	for _, answer := range q.client.DoMulti(ctx,
		b.Lpush().Key(key).Element("1").Build(),
		b.Ltrim().Key(key).Start(0).Stop(int64(q.cfg.Tokens)-1).Build(),
		b.Pexpire().Key(key).Milliseconds(q.cfg.Keep.Milliseconds()).Build(),
	) {
		if err := answer.Error(); err != nil {
			return errs.Wrap(err, errs.Unavailable, errs.CodeRedisUnavailable,
				"Redis does not answer, so that no worker can be woken; try again when it is back")
		}
	}
	return nil
}

// Wait returns nil when a Wake of kind has reached this caller, or after poll:
// either way it is time to look into the database. It returns the cause of ctx
// when that ends. Without Redis it waits for poll.
func (q *Queue) Wait(ctx context.Context, kind string, poll time.Duration) error {
	for end := time.Now().Add(poll); ; {
		left := time.Until(end)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if left <= 0 {
			return nil
		}
		woken, err := q.pop(ctx, kind, min(left, q.cfg.Slice))
		switch {
		case woken:
			return nil
		case err != nil: // Redis is gone, or ctx has ended: poll is the backstop
			if err := pause(ctx, min(time.Until(end), q.cfg.Slice)); err != nil {
				return err
			}
		}
	}
}

// pop takes a token if there is one within d.
func (q *Queue) pop(ctx context.Context, kind string, d time.Duration) (bool, error) {
	ctx, cancel := cancelAfter(ctx, d+q.cfg.Timeout)
	defer cancel()
	seconds := max(d, time.Millisecond).Seconds() // 0 would block for ever
	err := q.client.Do(ctx, q.client.B().Blpop().Key(q.key(kind)).Timeout(seconds).Build()).Error()
	if rueidis.IsRedisNil(err) {
		return false, nil
	}
	return err == nil, err
}

func (q *Queue) key(kind string) string { return q.cfg.Prefix + "queue:" + kind }

// cancelAfter cancels after d, or with ctx. The context it returns has no
// deadline: with one, the client would not notice that ctx ends before it.
func cancelAfter(parent context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent))
	stop := context.AfterFunc(parent, cancel)
	timer := time.AfterFunc(d, cancel)
	return ctx, func() {
		stop()
		timer.Stop()
		cancel()
	}
}

// pause waits for d, or returns the cause of ctx.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
