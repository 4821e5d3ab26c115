package backup_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/backup"
)

func TestPartsOfASmallDatabaseAreSmallerUnlessTheJobSaysHowLarge(t *testing.T) {
	const mb = int64(1) << 20
	for _, c := range []struct{ named, database, want int64 }{
		{0, 0, 128 * mb}, // nobody knows how large it is
		{0, 1, 16 * mb},
		{0, 2048 * mb, 32 * mb},
		{0, 8192 * mb, 128 * mb},
		{0, 1 << 50, 128 * mb},
		{1, 2048 * mb, mb},
		{5120, 2048 * mb, 5120 * mb},
	} {
		require.Equal(t, c.want, backup.Options{PartSizeMB: int(c.named)}.WithDefaults().PartSize(c.database), "%+v", c)
	}
}
