package gcs_test

import (
	"bytes"
	"io"
	"net/http"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/dataguardian/dataguardian/storage"
	"github.com/dataguardian/dataguardian/storage/gcs"
	"github.com/dataguardian/dataguardian/storage/storagetest"
	"github.com/stretchr/testify/require"
)

// It counts what this process allocates, and therefore does not run beside others.
func TestABodyThatCanBeReadAgainIsNotHeldInMemory(t *testing.T) {
	server := storagetest.StartGCS(t)
	d := open(t, gcs.Config{Endpoint: server.Endpoint, Bucket: server.NewBucket(t)})
	body := storagetest.Bytes(1, 32<<20)
	opts := storage.PutOptions{Size: int64(len(body)), SHA256: storagetest.Digest(body), IfAbsent: true}
	put := func(key string) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := d.Put(t.Context(), key, bytes.NewReader(body), opts)
		runtime.ReadMemStats(&after)
		require.NoError(t, err)
		return after.TotalAlloc - before.TotalAlloc
	}
	put("first") // makes what the client keeps
	require.Less(t, put("second"), uint64(1<<20))
}

func TestABodyThatIsRefusedIsNotSent(t *testing.T) {
	front := storagetest.StartFront(t, "http://127.0.0.1:1")
	var asked atomic.Bool
	front.Answer(http.StatusForbidden, func(r *http.Request) bool {
		if r.Method == http.MethodPost {
			asked.Store(r.Header.Get("Expect") == "100-continue")
		}
		return true
	})
	d := open(t, gcs.Config{Endpoint: front.Endpoint, Bucket: "b"})
	body := storagetest.Bytes(1, 32<<20)
	r := bytes.NewReader(body)
	_, err := d.Put(t.Context(), "k", r, storage.PutOptions{Size: int64(len(body)), SHA256: storagetest.Digest(body)})
	require.ErrorIs(t, err, storage.ErrPermission)
	require.True(t, asked.Load())
	require.Equal(t, len(body), r.Len())
}

func TestARequestThatBreaksIsSentAgainFromTheStart(t *testing.T) {
	server := storagetest.StartGCS(t)
	front := storagetest.StartFront(t, server.Endpoint)
	d := open(t, gcs.Config{Endpoint: front.Endpoint, Bucket: server.NewBucket(t)})
	body := storagetest.Bytes(1, 20<<20)
	var tries atomic.Int32
	front.Intercept(func(_ http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if r.Method != http.MethodPost || tries.Add(1) > 1 {
			return false
		}
		_, _ = io.CopyN(io.Discard, r.Body, 5<<20) // less would be broken off, too
		panic(http.ErrAbortHandler)
	})
	opts := storage.PutOptions{Size: int64(len(body)), SHA256: storagetest.Digest(body), IfAbsent: true}
	_, err := d.Put(t.Context(), "k", bytes.NewReader(body), opts)
	require.NoError(t, err)
	require.EqualValues(t, 2, tries.Load())
	r, err := d.Open(t.Context(), "k", 0, -1)
	require.NoError(t, err)
	got, err := io.ReadAll(r)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	require.Equal(t, opts.SHA256, storagetest.Digest(got))
}
