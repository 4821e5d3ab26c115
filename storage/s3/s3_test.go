package s3_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/dataguardian/dataguardian/storage"
	"github.com/dataguardian/dataguardian/storage/s3"
	"github.com/dataguardian/dataguardian/storage/storagetest"
	"github.com/stretchr/testify/require"
)

const partSize = 5 << 20

func config(s *storagetest.S3Server, bucket string) s3.Config {
	return s3.Config{
		Endpoint: s.Endpoint, Bucket: bucket, Region: s.Region, AccessKeyID: s.AccessKey, SecretAccessKey: s.SecretKey,
		ForcePathStyle: true, PartSize: partSize,
	}
}

func open(t *testing.T, c s3.Config) *s3.Driver {
	t.Helper()
	d, err := s3.New(t.Context(), c)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

func TestS3KeepsTheContractOfADriver(t *testing.T) {
	server := storagetest.StartS3(t)
	buckets := map[storage.Driver]string{}
	storagetest.Run(t, storagetest.Options{
		PartSize: partSize,
		New: func(t *testing.T) storage.Driver {
			c := config(server, server.NewBucket(t))
			c.Prefix = "/backups/of us/"
			d, err := s3.New(t.Context(), c)
			require.NoError(t, err)
			buckets[d] = c.Bucket
			return d
		},
		Leftovers: func(t *testing.T, d storage.Driver) []string { return server.OpenUploads(t, buckets[d]) },
	})
}

func TestS3KeepsPrefixesApart(t *testing.T) {
	server := storagetest.StartS3(t)
	c := config(server, server.NewBucket(t))
	storagetest.RunPrefixes(t, func(t *testing.T, prefix string) storage.Driver {
		c.Prefix = prefix
		return open(t, c)
	})
}

func TestS3SurvivesFaultsOfServerAndNetwork(t *testing.T) {
	server := storagetest.StartS3(t)
	buckets := map[storage.Driver]string{}
	storagetest.RunFaults(t, storagetest.FaultOptions{
		Server:  server.Endpoint,
		BigSize: 2*partSize + 12_345,
		New: func(t *testing.T, endpoint string, stall time.Duration) storage.Driver {
			c := config(server, server.NewBucket(t))
			c.Endpoint, c.StallTimeout = endpoint, stall
			d, err := s3.New(t.Context(), c)
			require.NoError(t, err)
			buckets[d] = c.Bucket
			return d
		},
		Leftovers: func(t *testing.T, d storage.Driver) []string { return server.OpenUploads(t, buckets[d]) },
		Commits: func(r *http.Request) bool {
			return r.Method == http.MethodPut && !r.URL.Query().Has("uploadId") ||
				r.Method == http.MethodPost && r.URL.Query().Has("uploadId")
		},
		Reads: func(r *http.Request) bool { return r.Method == http.MethodGet && !r.URL.Query().Has("list-type") },
	})
}
