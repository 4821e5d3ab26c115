package queue_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
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

func TestMonitorNoticesADeadOrHangingRedisAndItsReturn(t *testing.T) {
	for name, fault := range map[string]struct {
		begin, end func(*testkit.RedisServer, testing.TB)
	}{
		"dead":    {(*testkit.RedisServer).Stop, (*testkit.RedisServer).Start},
		"hanging": {(*testkit.RedisServer).Freeze, (*testkit.RedisServer).Thaw},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testkit.Redis(t)
			var told bytes.Buffer
			m := watch(t, connect(t, parse(t, server.URL())), queue.MonitorConfig{Logger: slog.New(slog.NewTextHandler(&told, nil))})
			require.NoError(t, m.WaitUp(t.Context()))
			require.NoError(t, m.Err())
			require.Empty(t, told.String(), "that Redis is there is nothing to tell")

			changed := m.Changed()
			fault.begin(server, t)
			within(t, long, changed)
			require.False(t, m.Up())
			require.Equal(t, errs.CodeRedisUnavailable, errs.CodeOf(m.Err()))
			require.Equal(t, 1, strings.Count(told.String(), "level=WARN msg=\"Redis does not answer"))

			changed = m.Changed()
			fault.end(server, t)
			within(t, long, changed)
			require.True(t, m.Up())
			require.Equal(t, 2, strings.Count(told.String(), "\n"))
			require.Contains(t, told.String(), "level=INFO msg=\"Redis answers again")
		})
	}
}

func TestMonitorIsDownUntilRedisIsThereForTheFirstTime(t *testing.T) {
	server := testkit.Redis(t)
	server.Stop(t)
	client := connect(t, parse(t, server.URL())) // no Redis is no reason not to start
	m := watch(t, client, queue.MonitorConfig{Interval: 10 * time.Millisecond})
	require.False(t, m.Up())

	cause := errors.New("waited enough")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, cause)
	defer cancel()
	require.ErrorIs(t, m.WaitUp(ctx), cause)

	server.Start(t)
	ctx, cancel = context.WithTimeout(t.Context(), long)
	defer cancel()
	require.NoError(t, m.WaitUp(ctx))
}

func TestOneLateAnswerIsNotAnOutageButTwoAreWhichIsNoticedWithinFiveSecondsAsIsTheReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, err := embedded.StartRedis()
		require.NoError(t, err)
		var late atomic.Int64 // nanoseconds that the next answer takes
		var gone atomic.Bool  // for new connections
		client, err := queue.Connect(lateOption(server, &late, &gone))
		require.NoError(t, err)
		m := queue.NewMonitor(client, queue.MonitorConfig{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- m.Run(ctx) }()
		require.NoError(t, m.WaitUp(ctx))

		changed := m.Changed()
		late.Store(int64(1500 * time.Millisecond))
		pass(10 * time.Second)
		synctest.Wait()
		require.Zero(t, late.Load(), "an answer was late")
		require.Equal(t, changed, m.Changed(), "nothing has changed")

		began := time.Now()
		gone.Store(true)
		late.Store(int64(time.Minute))
		<-changed
		require.False(t, m.Up())
		require.Less(t, time.Since(began), 5*time.Second)
		changed = m.Changed()
		pass(2 * time.Minute)
		require.False(t, m.Up(), "the late answer came on a connection that is closed")
		gone.Store(false)
		returned := time.Now()
		<-changed
		require.True(t, m.Up())
		assert.Less(t, time.Since(returned), 5*time.Second)

		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
		client.Close()
		require.NoError(t, server.Close())
	})
}

// lateOption leads to a server whose next answer takes as long as late says, and which takes
// no new connections while it is gone.
func lateOption(server *embedded.Redis, late *atomic.Int64, gone *atomic.Bool) rueidis.ClientOption {
	opt := server.ClientOption()
	opt.DialCtxFn = func(ctx context.Context, _ string, _ *net.Dialer, _ *tls.Config) (net.Conn, error) {
		if gone.Load() {
			return nil, syscall.ECONNREFUSED
		}
		conn, err := server.Dial(ctx, "", nil, nil)
		return &lateConn{Conn: conn, late: late}, err
	}
	return opt
}

// lateConn is a connection on which one answer may be late.
type lateConn struct {
	net.Conn
	late     *atomic.Int64
	deadline atomic.Pointer[time.Time]
}

func (c *lateConn) SetDeadline(end time.Time) error {
	c.deadline.Store(&end)
	return c.Conn.SetDeadline(end)
}

func (c *lateConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	late := time.Duration(c.late.Swap(0))
	if end := c.deadline.Load(); late > 0 && end != nil && !end.IsZero() && time.Until(*end) < late {
		pass(time.Until(*end))
		return 0, os.ErrDeadlineExceeded
	}
	if late > 0 {
		pass(late)
	}
	return n, err
}

func watch(t *testing.T, client rueidis.Client, cfg queue.MonitorConfig) *queue.Monitor {
	t.Helper()
	m := queue.NewMonitor(client, cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = m.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return m
}

func within(t *testing.T, limit time.Duration, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(limit):
		t.Fatalf("nothing changed within %v", limit)
	}
}

// pass lets time pass, in a bubble of synctest.
func pass(d time.Duration) { <-time.After(d) }
