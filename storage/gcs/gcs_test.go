package gcs_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dataguardian/dataguardian/storage"
	"github.com/dataguardian/dataguardian/storage/gcs"
	"github.com/dataguardian/dataguardian/storage/storagetest"
	"github.com/stretchr/testify/require"
)

func open(t *testing.T, c gcs.Config) *gcs.Driver {
	t.Helper()
	d, err := gcs.New(t.Context(), c)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

func TestGCSKeepsTheContractOfADriver(t *testing.T) {
	server := storagetest.StartGCS(t)
	storagetest.Run(t, storagetest.Options{
		PartSize: 8 << 20,
		New: func(t *testing.T) storage.Driver {
			d, err := gcs.New(t.Context(), gcs.Config{Endpoint: server.Endpoint, Bucket: server.NewBucket(t), Prefix: "/backups/of us/"})
			require.NoError(t, err)
			return d
		},
	})
}

func TestGCSKeepsPrefixesApart(t *testing.T) {
	server := storagetest.StartGCS(t)
	bucket := server.NewBucket(t)
	storagetest.RunPrefixes(t, func(t *testing.T, prefix string) storage.Driver {
		return open(t, gcs.Config{Endpoint: server.Endpoint, Bucket: bucket, Prefix: prefix})
	})
}

func TestGCSSurvivesFaultsOfServerAndNetwork(t *testing.T) {
	server := storagetest.StartGCS(t)
	storagetest.RunFaults(t, storagetest.FaultOptions{
		Server:  server.Endpoint,
		BigSize: 20 << 20,
		New: func(t *testing.T, endpoint string, stall time.Duration) storage.Driver {
			d, err := gcs.New(t.Context(), gcs.Config{Endpoint: endpoint, Bucket: server.NewBucket(t), StallTimeout: stall})
			require.NoError(t, err)
			return d
		},
		Commits: func(r *http.Request) bool {
			of := r.Header.Get("Content-Range")
			return r.URL.Query().Get("uploadType") == "multipart" || of != "" && !strings.HasSuffix(of, "/*")
		},
		Reads: func(r *http.Request) bool { return r.URL.Query().Get("alt") == "media" },
	})
}
