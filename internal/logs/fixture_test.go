package logs_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/dataguardian/dataguardian/internal/embedded"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/logs"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

const long = 60 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(testkit.Wrap(m)) }

// eachRedis runs a test against the in-process Redis and a real server.
func eachRedis(t *testing.T, test func(t *testing.T, opt rueidis.ClientOption)) {
	t.Run("in-process", func(t *testing.T) {
		server, err := embedded.StartRedis()
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, server.Close()) })
		test(t, inProcess(server))
	})
	t.Run("server", func(t *testing.T) { test(t, optionFor(testkit.Redis(t))) })
}

// inProcess reads and writes at once: a pipe holds nothing, so that a client
// that writes a batch first and reads the answers then would wait for ever.
func inProcess(server *embedded.Redis) rueidis.ClientOption {
	opt := server.ClientOption()
	opt.AlwaysPipelining, opt.DisableRetry = true, true
	return opt
}

func optionFor(server *testkit.RedisServer) rueidis.ClientOption {
	return rueidis.ClientOption{
		InitAddress: []string{server.Addr()}, ForceSingleClient: true, DisableCache: true, AlwaysPipelining: true, DisableRetry: true,
		ConnWriteTimeout: 3 * time.Second,
	}
}

type failer interface {
	require.TestingT
	Helper()
}

// startHub returns a hub of a process of its own, and what ends it.
func startHub(t failer, opt rueidis.ClientOption, cfg logs.HubConfig) (*logs.RedisHub, func()) {
	t.Helper()
	client, err := rueidis.NewClient(opt)
	require.NotNil(t, client, "%v", err)
	hub := logs.NewHub(client, cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = hub.Run(ctx) }()
	return hub, sync.OnceFunc(func() { cancel(); <-done; client.Close() })
}

func newHub(t *testing.T, opt rueidis.ClientOption, cfg logs.HubConfig) *logs.RedisHub {
	t.Helper()
	hub, stop := startHub(t, opt, cfg)
	t.Cleanup(stop)
	return hub
}

func line(seq int64) logs.Line {
	return logs.Line{Seq: seq, Time: time.Unix(1700000000+seq, 0).UTC(), Level: engine.LevelInfo, Message: fmt.Sprintf("line %d", seq)}
}

func lineRange(from, to int64) []logs.Line {
	var out []logs.Line
	for seq := from; seq <= to; seq++ {
		out = append(out, line(seq))
	}
	return out
}

// transcript is what a tail has received, checked as it comes.
type transcript struct {
	mu   sync.Mutex
	pos  int64
	gaps []logs.Gap
	end  bool
	err  error
	bad  error
	done chan struct{}
	more chan struct{}
}

// tail follows a log in the background until it ends. before is called before
// each event is taken, and may wait.
func tail(ctx context.Context, hub logs.Hub, id string, after int64, before func()) *transcript {
	tr := &transcript{pos: after, done: make(chan struct{}), more: make(chan struct{}, 1)}
	go func() {
		defer close(tr.done)
		for e, err := range hub.Follow(ctx, id, after) {
			tr.take(e, err)
			if before != nil {
				before()
			}
		}
	}()
	return tr
}

func (tr *transcript) take(e logs.Event, err error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	fail := func(format string, args ...any) {
		if tr.bad == nil {
			tr.bad = fmt.Errorf(format, args...)
		}
	}
	switch {
	case tr.end || tr.err != nil:
		fail("an event after the end: %+v", e)
	case err != nil:
		tr.err = err
	case e.Line != nil:
		if e.Line.Seq != tr.pos+1 {
			fail("line %d after %d", e.Line.Seq, tr.pos)
		}
		if *e.Line != line(e.Line.Seq) {
			fail("line %d is not what was written: %+v", e.Line.Seq, *e.Line)
		}
		tr.pos = e.Line.Seq
	case e.Gap != nil:
		if e.Gap.From != tr.pos+1 || e.Gap.To < e.Gap.From {
			fail("gap %+v after %d", *e.Gap, tr.pos)
		}
		tr.pos = e.Gap.To
		tr.gaps = append(tr.gaps, *e.Gap)
	case e.End:
		tr.end = true
	}
	select {
	case tr.more <- struct{}{}:
	default:
	}
}

func (tr *transcript) at() int64 {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.pos
}

// ended waits for the end of the log and checks what came before.
func (tr *transcript) ended(last int64) error {
	select {
	case <-tr.done:
	case <-time.After(long):
		return fmt.Errorf("the tail is at %d of %d and does not end", tr.at(), last)
	}
	switch {
	case tr.bad != nil:
		return tr.bad
	case tr.err != nil:
		return tr.err
	case !tr.end:
		return errors.New("the tail ended without an end")
	case tr.pos != last:
		return fmt.Errorf("the tail ended at %d of %d", tr.pos, last)
	}
	return nil
}

// reached waits until the tail has got so far.
func (tr *transcript) reached(t *testing.T, seq int64) {
	t.Helper()
	for limit := time.After(long); tr.at() < seq; {
		select {
		case <-tr.more:
		case <-tr.done:
			require.GreaterOrEqual(t, tr.at(), seq, "%v", tr.err)
		case <-limit:
			t.Fatalf("the tail is at %d, not at %d", tr.at(), seq)
		}
	}
}

// fickle is a Redis in the process that can lose its connections and its memory.
type fickle struct {
	mu     sync.Mutex
	server *embedded.Redis
	conns  map[net.Conn]struct{}
	down   bool
}

func newFickle(t failer) *fickle {
	f := &fickle{conns: map[net.Conn]struct{}{}}
	var err error
	f.server, err = embedded.StartRedis()
	require.NoError(t, err)
	return f
}

func (f *fickle) option() rueidis.ClientOption {
	opt := inProcess(f.server)
	opt.DialCtxFn = func(ctx context.Context, _ string, _ *net.Dialer, _ *tls.Config) (net.Conn, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.down {
			return nil, errors.New("connection refused")
		}
		conn, err := f.server.Dial(ctx, "", nil, nil)
		if err == nil {
			f.conns[conn] = struct{}{}
		}
		return conn, err
	}
	return opt
}

// cut breaks every connection.
func (f *fickle) cut() {
	f.mu.Lock()
	conns := f.conns
	f.conns = map[net.Conn]struct{}{}
	f.mu.Unlock()
	for conn := range conns {
		_ = conn.Close()
	}
}

func (f *fickle) setDown(down bool) {
	f.mu.Lock()
	f.down = down
	f.mu.Unlock()
	if down {
		f.cut()
	}
}

// forget restarts it empty.
func (f *fickle) forget(t failer) {
	fresh, err := embedded.StartRedis()
	require.NoError(t, err)
	f.mu.Lock()
	old := f.server
	f.server = fresh
	f.mu.Unlock()
	f.cut()
	require.NoError(t, old.Close())
}

func (f *fickle) close(t failer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = true
	require.NoError(t, f.server.Close())
}

// pass lets time pass, in a bubble of synctest.
func pass(d time.Duration) { <-time.After(d) }
