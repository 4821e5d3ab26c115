package s3

import (
	"testing"

	"github.com/dataguardian/dataguardian/storage"
	"github.com/stretchr/testify/require"
)

// maxObject is the largest object of Amazon S3.
const maxObject = 5 << 40

func TestPartsGrowSoThatTheLargestObjectFits(t *testing.T) {
	for _, size := range []int64{-1, 0, 1, defaultPartSize, 100 << 30, maxObject} {
		w := &write{d: &Driver{partSize: defaultPartSize}, opts: storage.PutOptions{Size: size}}
		var total int64
		for n := int32(1); n <= maxParts; n++ {
			part := w.partSize(n)
			require.GreaterOrEqual(t, part, int64(minPartSize))
			if size >= 0 {
				require.Equal(t, w.partSize(1), part, "parts of a known body have one size")
			}
			total += part
		}
		require.GreaterOrEqual(t, total, max(size, int64(0)))
		if size < 0 {
			require.GreaterOrEqual(t, total, int64(maxObject))
		}
	}
}
