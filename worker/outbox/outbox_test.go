package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/health"
	"github.com/dataguardian/dataguardian/internal/notification"
	"github.com/dataguardian/dataguardian/worker"
)

// post is an outbox in memory with the rules of the real one.
type post struct {
	mu       sync.Mutex
	waiting  map[string][]*parcel // by channel
	busy     map[string]bool
	rest     map[string]time.Time
	failures map[string]int
	done     []string
	misses   []notification.Miss
	given    int
	broken   int  // how often the database fails before it books
	away     bool // nothing can be claimed
}

type parcel struct {
	id       string
	attempts int
	due      time.Time
	made     time.Time
}

func newPost() *post {
	return &post{waiting: map[string][]*parcel{}, busy: map[string]bool{}, rest: map[string]time.Time{}, failures: map[string]int{}}
}

func (p *post) put(channel string, ids ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range ids {
		p.waiting[channel] = append(p.waiting[channel], &parcel{id: id, due: time.Now(), made: time.Now()})
	}
}

func (p *post) Claim(context.Context, time.Duration) (notification.Parcel, bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.away {
		return notification.Parcel{}, false, errs.New(errs.Unavailable, errs.CodeDatabaseUnavailable, "away")
	}
	for channel, queue := range p.waiting {
		if p.busy[channel] || time.Now().Before(p.rest[channel]) {
			continue
		}
		for _, w := range queue {
			if time.Now().Before(w.due) {
				continue
			}
			w.attempts++
			p.busy[channel] = true
			return notification.Parcel{
				Delivery: notification.Delivery{ID: w.id, Attempts: w.attempts, CreatedAt: w.made},
				Channel:  notification.Channel{ID: channel, Name: channel}, Failures: p.failures[channel],
			}, true, nil
		}
	}
	return notification.Parcel{}, false, nil
}

func (p *post) settle(c notification.Parcel, change func(w *parcel) (gone bool)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken > 0 {
		p.broken--
		return errs.New(errs.Unavailable, errs.CodeDatabaseUnavailable, "down")
	}
	p.busy[c.Channel.ID] = false
	var left []*parcel
	for _, w := range p.waiting[c.Channel.ID] {
		if w.id != c.Delivery.ID || !change(w) {
			left = append(left, w)
		}
	}
	p.waiting[c.Channel.ID] = left
	return nil
}

func (p *post) Done(_ context.Context, c notification.Parcel) error {
	return p.settle(c, func(w *parcel) bool {
		p.done = append(p.done, w.id)
		p.failures[c.Channel.ID] = 0
		return true
	})
}

func (p *post) Missed(_ context.Context, c notification.Parcel, m notification.Miss) error {
	return p.settle(c, func(w *parcel) bool {
		p.misses = append(p.misses, m)
		if m.Unsound {
			p.failures[c.Channel.ID]++
			p.rest[c.Channel.ID] = time.Now().Add(m.Pause)
		}
		w.due = time.Now().Add(m.Retry)
		return m.GiveUp
	})
}

func (p *post) Release(_ context.Context, c notification.Parcel) error {
	return p.settle(c, func(w *parcel) bool { p.given++; w.attempts--; return false })
}

func (p *post) seen() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string{}, p.done...)
}

type sender func(ctx context.Context, channel, id string) error

func (s sender) Send(ctx context.Context, c notification.Channel, _ notification.Notification, id string) error {
	return s(ctx, c.ID, id)
}

// queue wakes nobody: the poll is the backstop.
type queue struct{}

func (queue) Wait(ctx context.Context, _ string, poll time.Duration) error {
	select {
	case <-time.After(poll):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// tally counts tries by what came of them.
type tally struct {
	mu                         sync.Mutex
	delivered, failed, givenUp int
}

func (c *tally) Attempted(_ string, err error, gaveUp bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case gaveUp:
		c.givenUp++
	case err != nil:
		c.failed++
	default:
		c.delivered++
	}
}

// run runs a carrier until stop is called.
func run(t *testing.T, p *post, send sender, edit ...func(*Carrier)) (stop func()) {
	c := &Carrier{Store: p, Courier: send, Queue: queue{}, Meter: &tally{}, Logger: slog.New(slog.DiscardHandler)}
	c.Entry = worker.NewRegistry(nil, time.Hour, c.Logger).Register(health.RoleOutbox)
	for _, e := range edit {
		e(c)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	return func() {
		cancel()
		require.NoError(t, <-ended)
	}
}

var errDown = errs.New(errs.Unavailable, notification.CodeChannelUnreachable, "down")

func TestAChannelGetsItsNotificationsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPost()
		var want []string
		for i := range 50 {
			want = append(want, fmt.Sprint(i))
		}
		p.put("a", want...)
		stop := run(t, p, func(context.Context, string, string) error { return nil })
		<-time.After(time.Second)
		require.Equal(t, want, p.seen(), "one poll is enough for all of them")
		stop()
	})
}

func TestAChannelThatHangsHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPost()
		for i := range 10 {
			p.put(fmt.Sprint("hangs", i), "never")
		}
		p.put("works", "1", "2", "3")
		stop := run(t, p, func(ctx context.Context, channel, _ string) error {
			if channel == "works" {
				return nil
			}
			<-ctx.Done()
			return ctx.Err()
		}, func(c *Carrier) { c.Concurrency = 11 })
		<-time.After(time.Second)
		require.Equal(t, []string{"1", "2", "3"}, p.seen())
		stop()
		require.Equal(t, 10, p.given, "what was not sent to its end was given back")
	})
}

func TestWhatFailsIsTriedAgainAtGrowingIntervalsAndGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPost()
		p.put("a", "1")
		var tries []time.Time
		told := &tally{}
		stop := run(t, p, func(context.Context, string, string) error { tries = append(tries, time.Now()); return errDown }, func(c *Carrier) { c.Meter = told })
		<-time.After(48 * time.Hour)
		stop()
		require.Equal(t, []int{0, 19, 1}, []int{told.delivered, told.failed, told.givenUp})
		require.Len(t, tries, 20)
		require.Len(t, p.misses, 20)
		require.True(t, p.misses[19].GiveUp)
		require.False(t, p.misses[18].GiveUp)
		require.Less(t, tries[1].Sub(tries[0]), 10*time.Second)
		require.Greater(t, tries[19].Sub(tries[18]), 40*time.Minute)
		require.LessOrEqual(t, tries[19].Sub(tries[18]), time.Hour+time.Minute)
	})
}

func TestAReceiverThatIsDownIsNotFloodedAndGetsAllWhenItIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPost()
		for i := range 1000 {
			p.put("a", fmt.Sprint(i))
		}
		var mu sync.Mutex
		up, tries := false, 0
		stop := run(t, p, func(context.Context, string, string) error {
			mu.Lock()
			defer mu.Unlock()
			tries++
			if up {
				return nil
			}
			return errDown
		})
		<-time.After(10 * time.Minute)
		mu.Lock()
		require.Less(t, tries, 30)
		up = true
		mu.Unlock()
		<-time.After(2 * time.Hour)
		stop()
		require.Len(t, p.seen(), 1000)
	})
}

func TestARefusedMessageIsGivenUpSoonAndStopsNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPost()
		p.put("a", "bad", "good")
		stop := run(t, p, func(_ context.Context, _, id string) error {
			if id == "bad" {
				return errs.New(errs.Invalid, notification.CodeChannelRefused, "too long")
			}
			return nil
		})
		<-time.After(time.Second)
		require.Equal(t, []string{"good"}, p.seen())
		<-time.After(2 * time.Hour)
		stop()
		require.Len(t, p.misses, refusals)
		require.True(t, p.misses[refusals-1].GiveUp)
	})
}

func TestAReceiverIsLeftAloneForAsLongAsItAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPost()
		p.put("a", "1")
		p.put("a", "2")
		var tries []time.Time
		stop := run(t, p, func(context.Context, string, string) error {
			tries = append(tries, time.Now())
			if len(tries) == 1 {
				return notification.WithRetryAfter(errDown, 10*time.Minute)
			}
			return nil
		})
		<-time.After(time.Hour)
		stop()
		require.GreaterOrEqual(t, tries[1].Sub(tries[0]), 10*time.Minute)
		require.ElementsMatch(t, []string{"1", "2"}, p.seen())
	})
}

func TestWhatWasSentIsBookedWhenTheDatabaseIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPost()
		p.put("a", "1")
		p.broken = 20
		sends := 0
		stop := run(t, p, func(context.Context, string, string) error { sends++; return nil })
		<-time.After(time.Minute)
		stop()
		require.Equal(t, []string{"1"}, p.seen())
		require.Equal(t, 1, sends)
	})
}

// wall keeps the last error that was reported.
type wall struct {
	health.Store
	mu   sync.Mutex
	last string
}

func (w *wall) Report(_ context.Context, _ time.Duration, instances ...health.Instance) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, instance := range instances { // none where nobody is registered
		w.last = instance.LastError
	}
	return nil
}

func (w *wall) Withdraw(context.Context, ...string) error { return nil }

func (w *wall) shown() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}

func TestTheDatabasesErrorIsShownUntilItAnswersAndAChannelsUntilTheNextTry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, w := newPost(), &wall{}
		registry := worker.NewRegistry(w, time.Second, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		entry := registry.Register(health.RoleOutbox)
		ended := make(chan error, 1)
		go func() { ended <- registry.Run(ctx) }()
		stop := run(t, p, func(_ context.Context, channel, _ string) error {
			if channel == "bad" {
				return notification.WithRetryAfter(errDown, time.Hour)
			}
			return nil
		}, func(c *Carrier) { c.Entry = entry })
		away := func(is bool) {
			p.mu.Lock()
			p.away = is
			p.mu.Unlock()
			<-time.After(10 * time.Second)
		}
		away(true)
		require.Equal(t, "away", w.shown())
		away(false)
		require.Empty(t, w.shown(), "without a delivery")
		p.put("bad", "1")
		away(false)
		require.Contains(t, w.shown(), "bad")
		away(false)
		require.Contains(t, w.shown(), "bad", "that nothing is due changes nothing")
		p.put("good", "2")
		away(false)
		require.Empty(t, w.shown())
		stop()
		cancel()
		require.NoError(t, <-ended)
	})
}

func TestAnOldDeliveryHasOneLastTry(t *testing.T) {
	c := &Carrier{}
	c.complete()
	m := c.miss(notification.Parcel{Delivery: notification.Delivery{Attempts: 1, CreatedAt: time.Now().Add(-100 * time.Hour)}}, errors.New("x"))
	require.True(t, m.GiveUp)
}
