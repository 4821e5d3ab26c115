package test

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/storage"
	"github.com/dataguardian/dataguardian/storage/gcs"
	"github.com/dataguardian/dataguardian/storage/s3"
	"github.com/dataguardian/dataguardian/storage/storagetest"
	"github.com/dataguardian/dataguardian/test/harness"
)

// cloud is a kind of object storage with a real server of the test's own.
type cloud struct {
	name     string
	endpoint string
	fronts   chan *storagetest.Front // not taken yet
	// rent makes a storage location on a bucket of its own that the program reaches
	// at endpoint, and a driver that reaches it directly.
	rent func(t *testing.T, s *harness.Server, endpoint string) (place, storage.Driver)
}

// clouds starts a server of every kind, each with some proxies that can misbehave.
// Call it before the program is started: what must hold in the end is asked of them.
func clouds(t *testing.T, fronts int) []cloud {
	t.Helper()
	objects, google := storagetest.StartS3(t), storagetest.StartGCS(t)
	closed := func(t *testing.T, d storage.Driver, err error) storage.Driver {
		t.Helper()
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, d.Close()) })
		return d
	}
	return []cloud{
		{"s3", objects.Endpoint, fronted(t, objects.Endpoint, fronts), func(t *testing.T, s *harness.Server, endpoint string) (place, storage.Driver) {
			bucket := objects.NewBucket(t)
			d, err := s3.New(t.Context(), s3.Config{Endpoint: objects.Endpoint, Bucket: bucket, Region: objects.Region, Prefix: "dg",
				AccessKeyID: objects.AccessKey, SecretAccessKey: objects.SecretKey, ForcePathStyle: true})
			id := addStorage(t, s, bucket, "s3", s3Config(objects, endpoint, bucket))
			return place{"s3", id, func(t *testing.T) []string { return s3Keys(t, objects, bucket) }}, closed(t, d, err)
		}},
		{"gcs", google.Endpoint, fronted(t, google.Endpoint, fronts), func(t *testing.T, s *harness.Server, endpoint string) (place, storage.Driver) {
			bucket := google.NewBucket(t)
			d, err := gcs.New(t.Context(), gcs.Config{Endpoint: google.Endpoint, Bucket: bucket, Prefix: "dg"})
			id := addStorage(t, s, bucket, "gcs", config{"endpoint": endpoint, "bucket": bucket, "prefix": "dg"})
			return place{"gcs", id, func(t *testing.T) []string { return gcsKeys(t, google, bucket) }}, closed(t, d, err)
		}},
	}
}

func fronted(t *testing.T, endpoint string, n int) chan *storagetest.Front {
	t.Helper()
	fronts := make(chan *storagetest.Front, n)
	for range n {
		fronts <- storagetest.StartFront(t, endpoint)
	}
	close(fronts)
	return fronts
}

// fronted rents a place behind a proxy that can misbehave.
func (c cloud) fronted(t *testing.T, s *harness.Server) (place, *storagetest.Front) {
	t.Helper()
	front, ok := <-c.fronts
	require.True(t, ok, "the test needs more proxies")
	p, _ := c.rent(t, s, front.Endpoint)
	return p, front
}

// uploads are the requests that carry objects.
func uploads(r *http.Request) bool {
	return r.Method == http.MethodPut || r.Method == http.MethodPost
}

// proofs are the lists by which a backup is proven stored before its manifest is
// written: they ask for what lies on its path.
func proofs(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Count(r.URL.Query().Get("prefix"), "/") == 3
}

func deletions(r *http.Request) bool { return r.Method == http.MethodDelete }

// afterFirst matches what matches does, but for the first time.
func afterFirst(matches func(*http.Request) bool) func(*http.Request) bool {
	var mu sync.Mutex
	seen := false
	return func(r *http.Request) bool {
		if !matches(r) {
			return false
		}
		mu.Lock()
		defer mu.Unlock()
		before := seen
		seen = true
		return before
	}
}

// hold keeps the requests that match waiting until it lets go, and breaks them off
// then: whoever made them is gone.
type hold struct {
	matches func(*http.Request) bool
	reached chan struct{} // closed once one waits
	gone    chan struct{}
	first   sync.Once
	last    sync.Once
}

func holding(t *testing.T, front *storagetest.Front, matches func(*http.Request) bool) *hold {
	t.Helper()
	h := &hold{matches: matches, reached: make(chan struct{}), gone: make(chan struct{})}
	t.Cleanup(h.letGo)
	front.Intercept(h.answer)
	return h
}

func (h *hold) answer(_ http.ResponseWriter, r *http.Request, _ http.Handler) bool {
	select {
	case <-h.gone:
		return false
	default:
	}
	if !h.matches(r) {
		return false
	}
	h.first.Do(func() { close(h.reached) })
	<-h.gone
	panic(http.ErrAbortHandler)
}

// letGo lets every later request pass. It may be called again.
func (h *hold) letGo() { h.last.Do(func() { close(h.gone) }) }

// await waits until a request is held.
func (h *hold) await(t *testing.T) {
	t.Helper()
	select {
	case <-h.reached:
	case <-harness.Patience():
		require.Fail(t, "nothing came to be held")
	}
}

// requireStored requires that a place holds one backup, whole, and nothing else,
// soon.
func requireStored(t *testing.T, s *harness.Server, p place, e harness.JSON) {
	t.Helper()
	require.Equal(t, "completed", e.Text("status"), "%s", e)
	want := int(e.Int("files_count")) + 1
	harness.Eventually(t, func() bool { return len(p.keys(t)) == want }, "%s holds more or less than %d objects of %s", p.name, want, e)
	require.Equal(t, want, p.on(t, e.Text("backup_path")))
	requireCopies(t, s, e, 1)
}
