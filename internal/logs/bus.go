package logs

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

const (
	subscribeBatch = 500
	firstRetry     = 50 * time.Millisecond
	lastRetry      = time.Second
)

// bus keeps the one subscription connection of this process: it listens to the
// wanted channels, and does so again after every loss. A name that ends with an
// asterisk is a pattern. Its maps are made anew when they are empty: Go's keep the room
// for all they ever held.
type bus struct {
	client    rueidis.Client
	receive   func(rueidis.PubSubMessage) // must not block
	listening func(channel string)        // from now on messages of channel arrive; must not block
	report    func(error)                 // hears of the first failure of a row

	mu      sync.Mutex
	wanted  map[string]struct{}
	active  map[string]struct{} // on the present connection
	pending map[string]struct{} // where wanted and active may differ
	heard   map[string]struct{} // confirmed by Redis on the present connection
	wake    chan struct{}
}

func newBus(client rueidis.Client, receive func(rueidis.PubSubMessage), listening func(string), report func(error)) *bus {
	return &bus{
		client: client, receive: receive, listening: listening, report: report,
		wanted: map[string]struct{}{}, active: map[string]struct{}{}, pending: map[string]struct{}{}, heard: map[string]struct{}{},
		wake: make(chan struct{}, 1),
	}
}

// want asks for a channel, or no longer. It does not wait. It reports whether
// the channel is being listened to already.
func (b *bus) want(channel string, want bool) bool {
	b.mu.Lock()
	_, heard := b.heard[channel]
	if want {
		b.wanted[channel] = struct{}{}
	} else if delete(b.wanted, channel); len(b.wanted) == 0 {
		b.wanted = map[string]struct{}{}
	}
	b.pending[channel] = struct{}{}
	b.mu.Unlock()
	signal(b.wake)
	return heard
}

// run listens until ctx ends.
func (b *bus) run(ctx context.Context) error {
	for retry := firstRetry; ; {
		heard, err := b.session(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if heard || retry == firstRetry {
			b.report(errRedis(err))
		}
		if heard {
			retry = firstRetry
		}
		timer := time.NewTimer(retry/2 + rand.N(retry/2)) //nolint:gosec // spreads load
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
		retry = min(2*retry, lastRetry)
	}
}

// session listens on one connection until it breaks, and returns why. It reports
// whether the connection ever worked.
func (b *bus) session(ctx context.Context) (heard bool, err error) {
	conn, _ := b.client.Dedicate()
	defer conn.Close()
	lost := conn.SetPubSubHooks(rueidis.PubSubHooks{
		OnMessage:      b.receive,
		OnSubscription: b.confirmed,
	})
	b.restart()
	for {
		for _, cmd := range b.changes(conn.B()) {
			if err := conn.Do(ctx, cmd).Error(); err != nil {
				return heard, err
			}
			heard = true
		}
		select {
		case <-b.wake:
		case err := <-lost:
			return heard, err
		case <-ctx.Done():
			return heard, context.Cause(ctx)
		}
	}
}

// confirmed runs on the connection's goroutine.
func (b *bus) confirmed(s rueidis.PubSubSubscription) {
	on := !strings.HasSuffix(s.Kind, "unsubscribe")
	b.mu.Lock()
	if on {
		b.heard[s.Channel] = struct{}{}
	} else if delete(b.heard, s.Channel); len(b.heard) == 0 {
		b.heard = map[string]struct{}{}
	}
	b.mu.Unlock()
	if on {
		b.listening(s.Channel)
	}
}

// restart begins a connection, on which nothing is active.
func (b *bus) restart() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.active, b.heard, b.pending = map[string]struct{}{}, map[string]struct{}{}, map[string]struct{}{}
	for channel := range b.wanted {
		b.pending[channel] = struct{}{}
	}
}

// changes turns what is pending into commands.
func (b *bus) changes(cmd rueidis.Builder) []rueidis.Completed {
	b.mu.Lock()
	defer b.mu.Unlock()
	var on, off, patternsOn, patternsOff []string
	for channel := range b.pending {
		_, want := b.wanted[channel]
		_, have := b.active[channel]
		pattern := strings.HasSuffix(channel, "*")
		switch {
		case want && !have && pattern:
			patternsOn = append(patternsOn, channel)
		case want && !have:
			on = append(on, channel)
		case !want && have && pattern:
			patternsOff = append(patternsOff, channel)
		case !want && have:
			off = append(off, channel)
		}
		if want {
			b.active[channel] = struct{}{}
		} else {
			delete(b.active, channel)
		}
	}
	b.pending = map[string]struct{}{}
	if len(b.active) == 0 {
		b.active = map[string]struct{}{}
	}
	return slices.Concat(
		batches(on, func(c []string) rueidis.Completed { return cmd.Subscribe().Channel(c...).Build() }),
		batches(patternsOn, func(c []string) rueidis.Completed { return cmd.Psubscribe().Pattern(c...).Build() }),
		batches(off, func(c []string) rueidis.Completed { return cmd.Unsubscribe().Channel(c...).Build() }),
		batches(patternsOff, func(c []string) rueidis.Completed { return cmd.Punsubscribe().Pattern(c...).Build() }),
	)
}

func batches(channels []string, build func([]string) rueidis.Completed) []rueidis.Completed {
	var cmds []rueidis.Completed
	for batch := range slices.Chunk(channels, subscribeBatch) {
		cmds = append(cmds, build(batch))
	}
	return cmds
}

// signal wakes the reader of a channel with room for one, if it is not awake.
func signal(wake chan<- struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}
