package local

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/dataguardian/dataguardian/storage"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// listWith lists with windows of the given size.
func (d *Driver) listWith(t require.TestingT, prefix string, window int) []string {
	keys := []string{}
	w := &walk{window: window, ctx: context.Background(), yield: func(o storage.Object, err error) bool {
		require.NoError(t, err)
		keys = append(keys, o.Key)
		return true
	}}
	w.descend = w.all
	end := strings.LastIndexByte(prefix, '/')
	dir, stem := prefix[:max(end, 0)], prefix[end+1:]
	require.NoError(t, d.walkFrom(w, dir, stem))
	return keys
}

func TestAListIsTheSortedKeysWithThePrefixWhateverTheWindow(t *testing.T) {
	base := t.TempDir()
	rapid.Check(t, func(r *rapid.T) {
		dir, err := os.MkdirTemp(base, "run")
		require.NoError(r, err)
		d, err := New(Config{Path: dir})
		require.NoError(r, err)
		defer func() { require.NoError(r, d.Close()) }()
		key := rapid.StringMatching(`[ab.\-0]{1,3}(/[ab.\-0]{1,2}){0,2}`)
		stored := map[string]bool{}
		for _, k := range rapid.SliceOfN(key, 0, 40).Draw(r, "keys") {
			if _, err := d.Put(r.Context(), k, strings.NewReader(k), storage.PutOptions{Size: -1}); err == nil {
				stored[k] = true
			} else {
				require.ErrorIs(r, err, storage.ErrBadKey)
			}
		}
		prefix := rapid.OneOf(rapid.Just(""), key, rapid.Map(key, func(k string) string { return k + "/" })).Draw(r, "prefix")
		if storage.CheckPrefix(prefix) != nil {
			prefix = ""
		}
		want := []string{}
		for k := range stored {
			if strings.HasPrefix(k, prefix) {
				want = append(want, k)
			}
		}
		slices.Sort(want)
		for _, window := range []int{1, 2, 7, 1000} {
			require.Equal(r, want, d.listWith(r, prefix, window), "prefix %q, window %d", prefix, window)
		}
	})
}
