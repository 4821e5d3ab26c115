package queue

import (
	"context"
	"time"

	"github.com/redis/rueidis"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// relisten is how long a Bell waits after it has lost Redis.
const relisten = time.Second

// Bell tells every process that listens that something happened, where Queue wakes
// one. What it says may be lost: who listens must look now and then.
type Bell struct {
	client  rueidis.Client
	channel string
	heard   func()
}

// NewBell returns a bell of a name on a client that stays the caller's. heard is
// called when it was rung, or may have been; it must not wait.
func NewBell(client rueidis.Client, name string, heard func()) *Bell {
	return &Bell{client: client, channel: "dg:bell:" + name, heard: heard}
}

// Ring rings it in every process. When Redis does not answer it fails with
// Unavailable (CodeRedisUnavailable).
func (b *Bell) Ring(ctx context.Context) error {
	if err := b.client.Do(ctx, b.client.B().Publish().Channel(b.channel).Message("1").Build()).Error(); err != nil {
		return errs.Wrap(err, errs.Unavailable, errs.CodeRedisUnavailable, "Redis does not answer, so that nobody hears of it at once")
	}
	return nil
}

// Run listens until ctx ends and returns its cause. Run it once.
func (b *Bell) Run(ctx context.Context) error {
	for {
		b.listen(ctx)
		if err := pause(ctx, relisten); err != nil {
			return err
		}
	}
}

// listen stays on one connection until it breaks. Why it does is the business of
// the Monitor.
func (b *Bell) listen(ctx context.Context) {
	conn, _ := b.client.Dedicate()
	defer conn.Close()
	lost := conn.SetPubSubHooks(rueidis.PubSubHooks{
		OnMessage:      func(rueidis.PubSubMessage) { b.heard() },
		OnSubscription: func(rueidis.PubSubSubscription) { b.heard() }, // it may have rung before
	})
	if conn.Do(ctx, conn.B().Subscribe().Channel(b.channel).Build()).Error() != nil {
		return
	}
	select {
	case <-lost: //nolint:errcheck // see above
	case <-ctx.Done():
	}
}
