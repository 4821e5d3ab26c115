package gcs_test

import (
	"testing"

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
	for name, prefix := range map[string]string{"without a prefix": "", "below a prefix": "/backups/of us/"} {
		t.Run(name, func(t *testing.T) {
			storagetest.Run(t, storagetest.Options{
				PartSize: 8 << 20,
				New: func(t *testing.T) storage.Driver {
					d, err := gcs.New(t.Context(), gcs.Config{Endpoint: server.Endpoint, Bucket: server.NewBucket(t), Prefix: prefix})
					require.NoError(t, err)
					return d
				},
			})
		})
	}
}
