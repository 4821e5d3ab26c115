package restore

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/errs"
)

func TestARestoreThatHasNoRoomForItsFilesIsRefused(t *testing.T) {
	require.NoError(t, requireScratch(t.TempDir(), 1))
	require.NoError(t, requireScratch("/there is no such directory", math.MaxInt64), "what cannot be told refuses nothing")
	err := requireScratch(t.TempDir(), math.MaxInt64)
	require.Equal(t, errs.CodeSpoolFull, errs.CodeOf(err))
	require.Contains(t, errs.Message(err), "TMPDIR")
}
