package queue_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/embedded"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/queue"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

const long = 30 * time.Second

func TestEachWakeWakesOneOfManyWaitersInSeveralProcesses(t *testing.T) {
	eachRedis(t, func(t *testing.T, opt rueidis.ClientOption) {
		const processes, waiters = 3, 4
		ctx, cancel := context.WithCancelCause(context.Background())
		woken := make(chan struct{}, processes*waiters)
		var group sync.WaitGroup
		for range processes {
			q := queue.New(connect(t, opt), queue.Config{})
			for range waiters {
				group.Go(func() {
					if q.Wait(ctx, "backup", long) == nil {
						woken <- struct{}{}
					}
				})
			}
		}
		q := queue.New(connect(t, opt), queue.Config{})
		for range 5 {
			require.NoError(t, q.Wake(t.Context(), "backup"))
			receive(t, woken)
		}
		cancel(errors.New("enough"))
		group.Wait()
		require.Empty(t, woken, "nobody else was woken")
	})
}

func TestAWakeUpIsKeptForTheNextWaiterOfItsKindOnly(t *testing.T) {
	eachRedis(t, func(t *testing.T, opt rueidis.ClientOption) {
		q := queue.New(connect(t, opt), queue.Config{})
		require.NoError(t, q.Wake(t.Context(), "restore"))

		began := time.Now()
		require.NoError(t, q.Wait(t.Context(), "backup", 50*time.Millisecond))
		require.GreaterOrEqual(t, time.Since(began), 50*time.Millisecond, "not for this kind")

		began = time.Now()
		require.NoError(t, q.Wait(t.Context(), "restore", long))
		require.Less(t, time.Since(began), long/2)
	})
}

func TestWakeUpsDoNotPileUp(t *testing.T) {
	eachRedis(t, func(t *testing.T, opt rueidis.ClientOption) {
		client := connect(t, opt)
		q := queue.New(client, queue.Config{Prefix: "x:", Tokens: 3})
		for range 10 {
			require.NoError(t, q.Wake(t.Context(), "backup"))
		}
		n, err := client.Do(t.Context(), client.B().Llen().Key("x:queue:backup").Build()).AsInt64()
		require.NoError(t, err)
		require.EqualValues(t, 3, n)
		ttl, err := client.Do(t.Context(), client.B().Pttl().Key("x:queue:backup").Build()).AsInt64()
		require.NoError(t, err)
		require.Positive(t, ttl, "they expire")
	})
}

func TestWaitEndsWithTheCauseOfItsContextAtOnce(t *testing.T) {
	eachRedis(t, func(t *testing.T, opt rueidis.ClientOption) {
		q := queue.New(connect(t, opt), queue.Config{Slice: long})
		cause := errors.New("shutting down")
		ctx, cancel := context.WithCancelCause(t.Context())
		ctx, stop := context.WithTimeout(ctx, 2*long) // a deadline must not hide the cancellation
		defer stop()
		done := make(chan error, 1)
		go func() { done <- q.Wait(ctx, "backup", long) }()
		began := time.Now()
		time.AfterFunc(20*time.Millisecond, func() { cancel(cause) })
		require.ErrorIs(t, <-done, cause)
		require.Less(t, time.Since(began), long/2)
	})
}

func TestAForgedKeyOnlyDelays(t *testing.T) {
	eachRedis(t, func(t *testing.T, opt rueidis.ClientOption) {
		client := connect(t, opt)
		require.NoError(t, client.Do(t.Context(), client.B().Set().Key("dg:queue:backup").Value("not a list").Build()).Error())
		q := queue.New(client, queue.Config{})
		began := time.Now()
		require.NoError(t, q.Wait(t.Context(), "backup", 30*time.Millisecond))
		require.GreaterOrEqual(t, time.Since(began), 30*time.Millisecond)
		require.Equal(t, errs.CodeRedisUnavailable, errs.CodeOf(q.Wake(t.Context(), "backup")))
	})
}

func TestWithoutRedisWakeFailsAndWaitPolls(t *testing.T) {
	server := testkit.Redis(t)
	for name, breakIt := range map[string]func(testing.TB){"dead": server.Stop, "hanging": server.Freeze} {
		t.Run(name, func(t *testing.T) {
			client := connect(t, parse(t, server.URL()))
			patient := queue.New(client, queue.Config{Timeout: long})
			require.NoError(t, patient.Wake(t.Context(), "backup"))
			require.NoError(t, patient.Wait(t.Context(), "backup", long))
			q := queue.New(client, queue.Config{Timeout: 100 * time.Millisecond, Slice: 50 * time.Millisecond})
			breakIt(t)

			err := q.Wake(t.Context(), "backup")
			require.Equal(t, errs.Unavailable, errs.KindOf(err))
			require.Equal(t, errs.CodeRedisUnavailable, errs.CodeOf(err))
			began := time.Now()
			require.NoError(t, q.Wait(t.Context(), "backup", 300*time.Millisecond))
			require.GreaterOrEqual(t, time.Since(began), 300*time.Millisecond)
			require.Less(t, time.Since(began), long)

			if name == "dead" {
				server.Start(t)
			} else {
				server.Thaw(t)
			}
			require.Eventually(t, func() bool { return q.Wake(t.Context(), "backup") == nil }, long, 10*time.Millisecond)
		})
	}
}

func TestAnAnswerThatDoesNotComeHoldsUpNobodyForLongerThanTheQueueWasTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, err := embedded.StartRedis()
		require.NoError(t, err)
		other, err := queue.Connect(server.ClientOption())
		require.NoError(t, err)
		var late atomic.Int64
		client, err := queue.Connect(lateOption(server, &late, new(atomic.Bool)))
		require.NoError(t, err)
		q := queue.New(client, queue.Config{Timeout: 100 * time.Millisecond, Slice: 50 * time.Millisecond})
		require.NoError(t, q.Wait(t.Context(), "backup", 10*time.Millisecond)) // connects

		time.AfterFunc(500*time.Millisecond, func() { assert.NoError(t, queue.New(other, queue.Config{}).Wake(t.Context(), "backup")) })
		began := time.Now()
		late.Store(int64(time.Minute))
		require.NoError(t, q.Wait(t.Context(), "backup", long))
		require.Zero(t, late.Load(), "an answer was late")
		require.Less(t, time.Since(began), time.Second, "the wait went on with another answer")

		began = time.Now()
		late.Store(int64(time.Minute))
		require.Equal(t, errs.CodeRedisUnavailable, errs.CodeOf(q.Wake(t.Context(), "backup")))
		require.Less(t, time.Since(began), time.Second)

		pass(2 * time.Minute) // the late answers have come by then
		client.Close()
		other.Close()
		require.NoError(t, server.Close())
	})
}

func TestWaitDoesNotSpinWithoutRedis(t *testing.T) {
	var dials atomic.Int64
	client := connect(t, countingOption(&dials))
	q := queue.New(client, queue.Config{Slice: 100 * time.Millisecond})
	before := dials.Load()
	require.NoError(t, q.Wait(t.Context(), "backup", 500*time.Millisecond))
	require.LessOrEqual(t, dials.Load()-before, int64(10))
}

func TestAWaiterGoesOnWhenRedisComesBackEmpty(t *testing.T) {
	server := testkit.Redis(t)
	q := queue.New(connect(t, parse(t, server.URL())), queue.Config{Slice: 100 * time.Millisecond})
	done := make(chan error, 1)
	go func() { done <- q.Wait(t.Context(), "backup", 2*long) }()
	server.Stop(t)
	server.Start(t)
	require.Eventually(t, func() bool { return q.Wake(t.Context(), "backup") == nil }, long, 10*time.Millisecond)
	select {
	case err := <-done:
		require.NoError(t, err)
	case <-time.After(long):
		t.Fatal("the waiter was not woken")
	}
}

// countingOption reaches nobody and counts the attempts.
func countingOption(dials *atomic.Int64) rueidis.ClientOption {
	return rueidis.ClientOption{
		InitAddress: []string{"nowhere"},
		DialCtxFn: func(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error) {
			dials.Add(1)
			return nil, errors.New("refused")
		},
	}
}

func receive(t *testing.T, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(long):
		t.Fatal("nothing came")
	}
}
