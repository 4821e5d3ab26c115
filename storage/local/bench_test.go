package local_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/dataguardian/dataguardian/storage"
	"github.com/dataguardian/dataguardian/storage/local"
	"github.com/dataguardian/dataguardian/storage/storagetest"
	"github.com/stretchr/testify/require"
)

func BenchmarkPut(b *testing.B) {
	for _, size := range []int{4 << 10, 128 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			d, err := local.New(local.Config{Path: b.TempDir()})
			require.NoError(b, err)
			b.Cleanup(func() { require.NoError(b, d.Close()) })
			body := storagetest.Bytes(1, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				_, err := d.Put(b.Context(), fmt.Sprintf("bench/%d", i%8), bytes.NewReader(body), storage.PutOptions{Size: int64(size), IfAbsent: false})
				require.NoError(b, err)
			}
		})
	}
}
