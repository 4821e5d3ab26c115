package s3_test

import (
	"testing"

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
	for name, prefix := range map[string]string{"without a prefix": "", "below a prefix": "/backups/of us/"} {
		t.Run(name, func(t *testing.T) {
			buckets := map[storage.Driver]string{}
			storagetest.Run(t, storagetest.Options{
				PartSize: partSize,
				New: func(t *testing.T) storage.Driver {
					c := config(server, server.NewBucket(t))
					c.Prefix = prefix
					d, err := s3.New(t.Context(), c)
					require.NoError(t, err)
					buckets[d] = c.Bucket
					return d
				},
				Leftovers: func(t *testing.T, d storage.Driver) []string { return server.OpenUploads(t, buckets[d]) },
			})
		})
	}
}
