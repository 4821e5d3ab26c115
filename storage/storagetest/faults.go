package storagetest

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/storage"
	"github.com/stretchr/testify/require"
)

// FaultOptions describe a driver that speaks HTTP to a real server.
type FaultOptions struct {
	// Server is the endpoint of a running server.
	Server string
	// New returns a driver over an empty bucket of the server, which it reaches
	// at endpoint and gives up after stall without a byte.
	New func(t *testing.T, endpoint string, stall time.Duration) storage.Driver
	// Leftovers returns a name for everything that lies in d's place without
	// being an object, asked at the server itself.
	Leftovers func(t *testing.T, d storage.Driver) []string
	// Commits tells the request that makes an object visible.
	Commits func(*http.Request) bool
	// Reads tells the request that reads an object's bytes.
	Reads func(*http.Request) bool
	// BigSize is a body that takes several requests.
	BigSize int
}

// RunFaults proves how a driver behaves when server and network misbehave.
func RunFaults(t *testing.T, o FaultOptions) {
	t.Helper()
	for _, c := range []struct {
		name string
		run  func(*testing.T, faultFixture)
	}{
		{"a server that fails now and then is asked again", failsNowAndThen},
		{"a server that always fails leads to an error worth a retry", alwaysFails},
		{"a server that is down leads to an error worth a retry", isDown},
		{"a slow network only takes longer", isSlow},
		{"a connection that breaks midway leaves nothing", breaksMidway},
		{"a connection that stalls is given up", stalls},
		{"a deadline ends a call to a server that stalls", deadline},
		{"a write whose answer was lost is recognised", lostAnswers},
		{"an answer that is cut off is never a shorter object", cutAnswers},
		{"a full store is told", isFull},
		{"a missing permission is told by validation", mayNotDelete},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, faultFixture{o}) })
	}
}

// generous is a stall limit no healthy answer exceeds.
const generous = time.Minute

type faultFixture struct{ FaultOptions }

func (f faultFixture) start(t *testing.T, endpoint string, stall time.Duration) fixture {
	t.Helper()
	d := f.New(t, endpoint, stall)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return fixture{Driver: d, options: Options{Leftovers: f.Leftovers}}
}

func (f faultFixture) fronted(t *testing.T) (*Front, fixture) {
	t.Helper()
	front := StartFront(t, f.Server)
	return front, f.start(t, front.Endpoint, generous)
}

func (f faultFixture) networked(t *testing.T, stall time.Duration) (*Network, fixture) {
	t.Helper()
	network := StartNetwork(t, f.Server)
	return network, f.start(t, network.Endpoint, stall)
}

// bodies are put as artifacts are: known, exclusive, from a file that can be
// read again.
func (f faultFixture) bodies() map[string][]byte {
	return map[string][]byte{"small": Bytes(1, 10_000), "big": Bytes(2, f.BigSize)}
}

func putNew(ctx context.Context, d storage.Driver, key string, b []byte, digest bool) error {
	opts := storage.PutOptions{Size: int64(len(b)), IfAbsent: true}
	if digest {
		opts.SHA256 = Digest(b)
	}
	_, err := d.Put(ctx, key, bytes.NewReader(b), opts)
	return err
}

// calls are all methods, on an object "there" and a key "new".
func calls(d storage.Driver) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"put": func(ctx context.Context) error { return putNew(ctx, d, "new", []byte("x"), true) },
		"open": func(ctx context.Context) error {
			_, err := (fixture{Driver: d}).tryGet(ctx, "there", 0, -1)
			return err
		},
		"stat":   func(ctx context.Context) error { _, err := d.Stat(ctx, "there"); return err },
		"delete": func(ctx context.Context) error { return d.Delete(ctx, "there") },
		"list": func(ctx context.Context) error {
			for _, err := range d.List(ctx, "") {
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// RequireCalls proves that every method of d fails with an error want accepts.
func RequireCalls(t *testing.T, d storage.Driver, want func(t *testing.T, method string, err error)) {
	t.Helper()
	for name, call := range calls(d) {
		want(t, name, call(t.Context()))
	}
}

func requireRetriable(t *testing.T, method string, err error) {
	t.Helper()
	require.Error(t, err, method)
	require.False(t, storage.Permanent(err), "%s: %v", method, err)
	require.Equal(t, errs.CodeStorageUnavailable, storage.Explain(err).Code, "%s: %v", method, err)
}

func failsNowAndThen(t *testing.T, f faultFixture) {
	front, d := f.fronted(t)
	status := map[string]int{"small": http.StatusInternalServerError, "big": http.StatusServiceUnavailable}
	for name, body := range f.bodies() {
		failFirst := func() { front.FailFirst(status[name]) }
		failFirst()
		require.NoError(t, putNew(t.Context(), d, name, body, true), name)
		failFirst()
		require.NoError(t, putNew(t.Context(), d, "of unknown digest/"+name, body, false), name)
		failFirst()
		d.requireObject(t, name, body)
		d.requireObject(t, "of unknown digest/"+name, body)
		failFirst()
		require.Equal(t, []string{name}, d.keys(t, name))
		failFirst()
		require.NoError(t, d.Delete(t.Context(), name))
		d.requireAbsent(t, name)
	}
	d.requireNoLeftovers(t)
}

func alwaysFails(t *testing.T, f faultFixture) {
	front, d := f.fronted(t)
	d.put(t, "there", []byte("x"))
	front.Answer(http.StatusServiceUnavailable, func(*http.Request) bool { return true })
	RequireCalls(t, d, requireRetriable)
	front.Intercept(nil)
	for name, body := range f.bodies() {
		front.Answer(http.StatusInternalServerError, f.Commits)
		requireRetriable(t, "put", putNew(t.Context(), d, name, body, true))
		requireRetriable(t, "put", putNew(t.Context(), d, name, body, false))
		front.Intercept(nil)
		d.requireAbsent(t, name)
	}
	d.requireNoLeftovers(t)
	require.Equal(t, []string{"there"}, d.keys(t, ""))
}

func isDown(t *testing.T, f faultFixture) {
	network, d := f.networked(t, generous)
	d.put(t, "there", []byte("x"))
	network.Down()
	RequireCalls(t, d, requireRetriable)
	network.Up(t)
	d.requireObject(t, "there", []byte("x"))
	require.NoError(t, putNew(t.Context(), d, "new", []byte("x"), true))
}

func isSlow(t *testing.T, f faultFixture) {
	network, d := f.networked(t, 2*time.Second)
	network.Poison(t, "latency", Receiving, map[string]int64{"latency": 100, "jitter": 50})
	network.Poison(t, "bandwidth", Sending, map[string]int64{"rate": 2000})
	body := Bytes(3, 3<<20)
	require.NoError(t, putNew(t.Context(), d, "slow", body, true))
	d.requireObject(t, "slow", body)
}

func breaksMidway(t *testing.T, f faultFixture) {
	network, d := f.networked(t, generous)
	body := Bytes(4, f.BigSize)
	for name, poison := range map[string]func(){
		"cut off": func() { network.Poison(t, "limit_data", Sending, map[string]int64{"bytes": 1 << 20}) },
		"reset":   func() { network.Poison(t, "reset_peer", Sending, map[string]int64{"timeout": 5}) },
	} {
		poison()
		requireRetriable(t, "put, "+name, putNew(t.Context(), d, "broken", body, true))
		requireRetriable(t, "put, "+name, putNew(t.Context(), d, "broken", body, false))
		network.Heal(t)
		d.requireAbsent(t, "broken")
	}
	require.NoError(t, putNew(t.Context(), d, "broken", body, true))
	d.requireObject(t, "broken", body)
}

// stalls lets requests through in the one direction, so that they are carried
// out although their answers never come.
func stalls(t *testing.T, f faultFixture) {
	network, d := f.networked(t, 300*time.Millisecond)
	for _, direction := range []Direction{Sending, Receiving} {
		persist(t, func() error {
			_, err := d.Put(t.Context(), "there", strings.NewReader("x"), storage.PutOptions{Size: 1})
			return err
		})
		network.Poison(t, "timeout", direction, map[string]int64{"timeout": 0})
		RequireCalls(t, d, requireRetriable)
		network.Heal(t)
		if o, err := d.Stat(t.Context(), "new"); err == nil {
			require.Equal(t, Receiving, direction)
			require.EqualValues(t, 1, o.Size, "it is whole")
			persist(t, func() error { return d.Delete(t.Context(), "new") })
		}
	}
}

// persist repeats a call until it succeeds: to a driver that gives up soon, a busy machine
// may look like a network that stalls.
func persist(t *testing.T, call func() error) {
	t.Helper()
	for limit := time.Now().Add(generous); ; {
		err := call()
		if err == nil {
			return
		}
		require.True(t, time.Now().Before(limit), "%v", err)
	}
}

func deadline(t *testing.T, f faultFixture) {
	network, d := f.networked(t, generous)
	d.put(t, "there", []byte("x"))
	network.Poison(t, "timeout", Sending, map[string]int64{"timeout": 0})
	for name, call := range calls(d) {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		start := time.Now()
		require.ErrorIs(t, call(ctx), context.DeadlineExceeded, name)
		require.Less(t, time.Since(start), generous, name)
		cancel()
	}
}

func lostAnswers(t *testing.T, f faultFixture) {
	front, d := f.fronted(t)
	for name, body := range f.bodies() {
		for _, digest := range []bool{true, false} {
			front.LoseAnswers(f.Commits)
			require.NoError(t, putNew(t.Context(), d, name, body, digest), name)
			front.Intercept(nil)
			d.requireObject(t, name, body)
			require.ErrorIs(t, putNew(t.Context(), d, name, body, digest), storage.ErrExist)
			require.NoError(t, d.Delete(t.Context(), name))
		}
	}
	d.requireNoLeftovers(t)
}

func cutAnswers(t *testing.T, f faultFixture) {
	front, d := f.fronted(t)
	body := Bytes(5, 3<<20)
	d.put(t, "cut", body)
	for _, c := range []struct{ offset, length int64 }{{0, -1}, {100, -1}, {100, 2 << 20}} {
		front.CutAnswers(f.Reads)
		got, err := d.tryGet(t.Context(), "cut", c.offset, c.length)
		front.Intercept(nil)
		if err != nil {
			require.False(t, storage.Permanent(err), "%v", err)
			continue
		}
		want := body[c.offset:]
		if c.length >= 0 {
			want = want[:c.length]
		}
		require.True(t, bytes.Equal(want, got), "a driver that goes on by itself reads the rest")
	}
}

func isFull(t *testing.T, f faultFixture) {
	front, d := f.fronted(t)
	front.Answer(http.StatusInsufficientStorage, func(r *http.Request) bool { return r.Method == http.MethodPut || r.Method == http.MethodPost })
	for name, body := range f.bodies() {
		err := putNew(t.Context(), d, name, body, true)
		require.ErrorIs(t, err, storage.ErrFull)
		require.Equal(t, errs.CodeStorageFull, storage.Explain(err).Code)
	}
	front.Intercept(nil)
	require.Empty(t, d.keys(t, ""))
	d.requireNoLeftovers(t)
}

func mayNotDelete(t *testing.T, f faultFixture) {
	front, d := f.fronted(t)
	report, err := storage.Validate(t.Context(), d, storage.ValidateOptions{Large: true})
	require.NoError(t, err)
	require.True(t, report.Exclusive)
	require.Empty(t, d.keys(t, ""))

	front.Answer(http.StatusForbidden, func(r *http.Request) bool { return r.Method == http.MethodDelete })
	_, err = storage.Validate(t.Context(), d, storage.ValidateOptions{})
	e := errs.As(err)
	require.Equal(t, errs.CodeStorageAuth, e.Code)
	require.Equal(t, "delete", e.Details["step"])
	require.Equal(t, []any{e.Details["left_behind"]}, []any{d.keys(t, "")[0]})
}
