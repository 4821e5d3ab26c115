package storagetest

import (
	"testing"
	"time"

	"github.com/dataguardian/dataguardian/storage"
	"github.com/stretchr/testify/require"
)

// RunPrefixes proves that drivers with different prefixes over one empty bucket
// see their own objects only, and the one without a prefix sees all.
func RunPrefixes(t *testing.T, open func(t *testing.T, prefix string) storage.Driver) {
	t.Helper()
	all, a, ab := fixture{Driver: open(t, "")}, fixture{Driver: open(t, "a")}, fixture{Driver: open(t, "/ab/c/")}
	all.put(t, "top", []byte("top"))
	a.put(t, "key", []byte("in a"))
	ab.put(t, "key", []byte("in ab"))
	ab.put(t, "key2", []byte("in ab"))

	require.Equal(t, []string{"a/key", "ab/c/key", "ab/c/key2", "top"}, all.keys(t, ""))
	require.Equal(t, []string{"a/key", "ab/c/key", "ab/c/key2"}, all.keys(t, "a"))
	require.Equal(t, []string{"key"}, a.keys(t, ""))
	require.Equal(t, []string{"key", "key2"}, ab.keys(t, "k"))
	a.requireObject(t, "key", []byte("in a"))
	ab.requireObject(t, "key", []byte("in ab"))
	all.requireObject(t, "ab/c/key", []byte("in ab"))
	a.requireAbsent(t, "key2")
	if s, ok := a.Driver.(storage.Sweeper); ok {
		_, err := s.Sweep(t.Context(), "", time.Hour)
		require.NoError(t, err)
	}
	require.NoError(t, a.Delete(t.Context(), "key"))
	require.Len(t, all.keys(t, ""), 3)
}
