package engine_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/engine"
)

func TestCount(t *testing.T) {
	t.Parallel()
	require.Equal(t, "0 tables", engine.Count(0, "table"))
	require.Equal(t, "1 table", engine.Count(1, "table"))
	require.Equal(t, "2 tables", engine.Count(int64(2), "table"))
	require.Equal(t, "1 copy", engine.Count(1, "copy"))
	require.Equal(t, "3 copies", engine.Count(3, "copy"))
}
