package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/dataguardian/dataguardian/storage"
	"github.com/stretchr/testify/require"
)

func roundTrips(t *testing.T, f fixture) {
	body := []byte("one object")
	before := time.Now()
	o := f.put(t, "folder/one", body)
	require.Equal(t, "folder/one", o.Key)
	require.EqualValues(t, len(body), o.Size)
	require.Equal(t, Digest(body), o.SHA256)
	f.requireObject(t, "folder/one", body)

	stat, err := f.Stat(t.Context(), "folder/one")
	require.NoError(t, err)
	require.WithinRange(t, stat.Modified, before.Add(-2*time.Second), time.Now().Add(2*time.Second))

	o, err = f.Put(t.Context(), "folder/two", Unseekable{bytes.NewReader(body)}, storage.PutOptions{Size: -1})
	require.NoError(t, err)
	require.EqualValues(t, len(body), o.Size)
	require.Equal(t, Digest(body), o.SHA256)
	f.requireObject(t, "folder/two", body)
}

func sizes(t *testing.T, f fixture) {
	list := []int{0, 1, 4095, 1 << 20, 5<<20 + 1, 40<<20 + 7}
	if p := int(f.options.PartSize); p > 0 {
		list = append(list, p-1, p, p+1, 2*p)
	}
	for i, n := range list {
		body := Bytes(uint64(i), n)
		key := fmt.Sprintf("sizes/%d", n)
		f.put(t, key+"/known", body)
		f.requireObject(t, key+"/known", body)
		o, err := f.Put(t.Context(), key+"/unknown", Unseekable{iotest.HalfReader(bytes.NewReader(body))}, storage.PutOptions{Size: -1})
		require.NoError(t, err, "%d bytes of unknown size", n)
		require.Equal(t, Digest(body), o.SHA256)
		f.requireObject(t, key+"/unknown", body)
	}
}

func mismatches(t *testing.T, f fixture) {
	for name, n := range map[string]int{"small": 1000, "big": f.bigSize()} {
		body := Bytes(1, n)
		for what, opts := range map[string]storage.PutOptions{
			"short":                            {Size: int64(n) + 1},
			"long":                             {Size: int64(n) - 1},
			"digest":                           {Size: int64(n), SHA256: Digest([]byte("other"))},
			"digest of a body of unknown size": {Size: -1, SHA256: Digest([]byte("other"))},
		} {
			for _, opts.IfAbsent = range []bool{false, true} {
				key := "mismatch/" + name
				_, err := f.Put(t.Context(), key, Unseekable{bytes.NewReader(body)}, opts)
				require.ErrorIs(t, err, storage.ErrChecksum, "%s, %s", name, what)
				require.False(t, storage.Permanent(err))
				f.requireAbsent(t, key)
				_, err = f.Put(t.Context(), key, bytes.NewReader(body), opts)
				require.ErrorIs(t, err, storage.ErrChecksum, "%s, %s, seekable", name, what)
				f.requireAbsent(t, key)
			}
		}
	}
}

var errBody = errors.New("the body broke")

// broken returns a body of n bytes that fails after them.
func broken(n int) io.Reader {
	return Unseekable{io.MultiReader(bytes.NewReader(Bytes(2, n)), iotest.ErrReader(errBody))}
}

func failingBodies(t *testing.T, f fixture) {
	for _, n := range []int{0, 1, 100_000, f.bigSize()} {
		for _, size := range []int64{-1, int64(n) + 1, int64(n)} {
			for _, exclusive := range []bool{false, true} {
				key := fmt.Sprintf("broken/%d", n)
				_, err := f.Put(t.Context(), key, broken(n), storage.PutOptions{Size: size, IfAbsent: exclusive})
				require.ErrorIs(t, err, errBody, "%d bytes, announced %d", n, size)
				f.requireAbsent(t, key)
			}
		}
	}
	require.Empty(t, f.keys(t, ""))
	f.requireNoLeftovers(t)
}

func failingReplacement(t *testing.T, f fixture) {
	body := []byte("the good one")
	f.put(t, "kept", body)
	for _, n := range []int{100, f.bigSize()} {
		_, err := f.Put(t.Context(), "kept", broken(n), storage.PutOptions{Size: -1})
		require.ErrorIs(t, err, errBody)
		f.requireObject(t, "kept", body)
	}
}

// cancelling ends its context after n bytes and goes on reading.
type cancelling struct {
	io.Reader
	n      int
	cancel context.CancelFunc
}

func (c *cancelling) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if c.n -= n; c.n < 0 {
		c.cancel()
	}
	return n, err
}

func cancelledWrites(t *testing.T, f fixture) {
	n := f.bigSize()
	for _, after := range []int{0, n / 2, n - 2} {
		ctx, cancel := context.WithCancel(t.Context())
		body := &cancelling{Reader: bytes.NewReader(Bytes(3, n)), n: after, cancel: cancel}
		_, err := f.Put(ctx, "cancelled", Unseekable{body}, storage.PutOptions{Size: -1})
		require.ErrorIs(t, err, context.Canceled, "cancelled after %d of %d bytes", after, n)
		f.requireAbsent(t, "cancelled")
		cancel()
	}
	f.requireNoLeftovers(t)
}

func replaces(t *testing.T, f fixture) {
	for i, n := range []int{2000, 10, 0, 5000} {
		body := Bytes(uint64(i), n)
		f.put(t, "replaced", body)
		f.requireObject(t, "replaced", body)
	}
	require.Equal(t, []string{"replaced"}, f.keys(t, ""))
}

func exclusive(t *testing.T, f fixture) {
	for _, n := range []int{0, 10, f.bigSize()} {
		key := fmt.Sprintf("once/%d", n)
		body := Bytes(4, n)
		opts := known(body)
		opts.IfAbsent = true
		_, err := f.Put(t.Context(), key, bytes.NewReader(body), opts)
		require.NoError(t, err)

		other := Bytes(5, n+1)
		for _, size := range []int64{-1, int64(n) + 1} {
			_, err = f.Put(t.Context(), key, Unseekable{bytes.NewReader(other)}, storage.PutOptions{Size: size, IfAbsent: true})
			require.ErrorIs(t, err, storage.ErrExist)
			require.True(t, storage.Permanent(err))
			f.requireObject(t, key, body)
		}
		require.NoError(t, f.Delete(t.Context(), key))
		_, err = f.Put(t.Context(), key, bytes.NewReader(body), opts)
		require.NoError(t, err, "a deleted key is free again")
	}
}

func exclusiveRace(t *testing.T, f fixture) {
	for round, n := range []int{100, f.bigSize()} {
		const writers = 16
		key := fmt.Sprintf("race/%d", round)
		var won atomic.Int32
		var winner atomic.Uint64
		start := make(chan struct{})
		var wg sync.WaitGroup
		for i := range writers {
			wg.Go(func() {
				body := Bytes(uint64(i), n)
				opts := known(body)
				opts.IfAbsent = true
				<-start
				switch _, err := f.Put(t.Context(), key, bytes.NewReader(body), opts); {
				case err == nil:
					won.Add(1)
					winner.Store(uint64(i))
				case !errors.Is(err, storage.ErrExist):
					t.Errorf("writer %d: %v", i, err)
				}
			})
		}
		close(start)
		wg.Wait()
		require.EqualValues(t, 1, won.Load(), "winners of %d bytes", n)
		f.requireObject(t, key, Bytes(winner.Load(), n))
	}
}

func concurrentWrites(t *testing.T, f fixture) {
	var wg sync.WaitGroup
	for i := range 24 {
		wg.Go(func() {
			body := Bytes(uint64(i), 1000*i)
			if i%8 == 0 {
				body = Bytes(uint64(i), f.bigSize())
			}
			key := fmt.Sprintf("many/%d/%d", i%3, i)
			if _, err := f.Put(t.Context(), key, Unseekable{bytes.NewReader(body)}, known(body)); err != nil {
				t.Errorf("put %s: %v", key, err)
				return
			}
			got, err := f.tryGet(t.Context(), key, 0, -1)
			if err != nil || !bytes.Equal(got, body) {
				t.Errorf("%s came back differently: %v", key, err)
			}
		})
	}
	wg.Wait()
	require.Len(t, f.keys(t, "many/"), 24)
}

func churn(t *testing.T, f fixture) {
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			key := fmt.Sprintf("deep/er/folder/%d", i)
			for round := range 25 {
				body := fmt.Sprintf("%d in round %d", i, round)
				err := storage.ErrBadKey
				// A gateway over a file system may see a folder that another delete is just
				// removing, and refuse the key for that moment; nothing is written then.
				for try := 0; try < 5 && errors.Is(err, storage.ErrBadKey); try++ {
					_, err = f.Put(t.Context(), key, strings.NewReader(body), storage.PutOptions{Size: -1, IfAbsent: round%2 == 0})
				}
				if err != nil {
					t.Errorf("put %s: %v", key, err)
					return
				}
				if got, err := f.tryGet(t.Context(), key, 0, -1); err != nil || string(got) != body {
					t.Errorf("%s is %q: %v", key, got, err)
					return
				}
				if err := f.Delete(t.Context(), key); err != nil {
					t.Errorf("delete %s: %v", key, err)
					return
				}
			}
		})
	}
	wg.Wait()
	require.Empty(t, f.keys(t, ""))
}

func sweeps(t *testing.T, f fixture) {
	s, ok := f.Driver.(storage.Sweeper)
	if !ok {
		return
	}
	f.put(t, "a/b", []byte("object"))
	n, err := s.Sweep(t.Context(), "", 0)
	require.NoError(t, err)
	require.Zero(t, n)
	f.requireObject(t, "a/b", []byte("object"))
}
