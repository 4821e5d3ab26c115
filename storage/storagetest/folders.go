package storagetest

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/dataguardian/dataguardian/storage"
	"github.com/stretchr/testify/require"
)

// plain hides everything but storage.Driver, so that storage.ListFolder has to
// make do with List.
type plain struct{ storage.Driver }

// names are the keys of entries, sorted.
func names(t *testing.T, entries iter.Seq2[storage.Entry, error]) []string {
	t.Helper()
	got := []string{}
	for e, err := range entries {
		require.NoError(t, err)
		require.Equal(t, e.Folder, strings.HasSuffix(e.Key, "/"), e.Key)
		got = append(got, e.Key)
	}
	slices.Sort(got)
	return got
}

func (f fixture) folder(t *testing.T, folder string) []string {
	t.Helper()
	return names(t, storage.ListFolder(t.Context(), f.Driver, folder))
}

func folders(t *testing.T, f fixture) {
	for _, key := range []string{
		"top", "a.b", "a/0", "a/b/c/d", "a/b-c", "a/b.c/d", "a/ä", "b/only/deep/down", "é/e\u0301", "with space/x y/z", "%2F/x", "?/y", "b0",
	} {
		f.put(t, key, []byte(key))
	}
	for folder, want := range map[string][]string{
		"":                 {"%2F/", "?/", "a.b", "a/", "b/", "b0", "top", "with space/", "é/"},
		"a":                {"a/0", "a/b-c", "a/b.c/", "a/b/", "a/ä"},
		"a/b":              {"a/b/c/"},
		"a/b/c":            {"a/b/c/d"},
		"b":                {"b/only/"},
		"b/only/deep":      {"b/only/deep/down"},
		"é":                {"é/e\u0301"},
		"with space":       {"with space/x y/"},
		"%2F":              {"%2F/x"},
		"a/b/c/d":          {}, // an object
		"top":              {},
		"nothing/of/this":  {},
		"on":               {},
		"with space/x y/z": {},
	} {
		require.Equal(t, want, f.folder(t, folder), "folder %q", folder)
	}
	for e, err := range storage.ListFolder(t.Context(), f.Driver, "a") {
		require.NoError(t, err)
		if e.Folder {
			require.Equal(t, storage.Entry{Object: storage.Object{Key: e.Key}, Folder: true}, e)
			continue
		}
		require.EqualValues(t, len(e.Key), e.Size, e.Key)
		require.False(t, e.Modified.IsZero(), e.Key)
	}
	for _, folder := range []string{"/", "a/", "..", "a/..", "a//b", `a\b`, "a\x00", "a\nb", strings.Repeat("x/", 511) + "xx"} {
		var err error
		for _, err = range storage.ListFolder(t.Context(), f.Driver, folder) {
			break
		}
		require.ErrorIs(t, err, storage.ErrBadKey, "folder %q", folder)
	}
}

// collapsedFolders compares folders with what the plain list says.
func collapsedFolders(t *testing.T, f fixture) {
	random := rand.New(rand.NewPCG(1, 2))
	segment := func() string { return []string{"a", "a.", "a-", "b", "b0", "é"}[random.IntN(6)] }
	all := map[string]bool{"": true}
	for range 60 {
		key := segment()
		for range random.IntN(4) {
			key += "/" + segment()
		}
		if _, err := f.Put(t.Context(), key, bytes.NewReader(nil), storage.PutOptions{Size: 0}); err != nil {
			require.ErrorIs(t, err, storage.ErrBadKey, "it lies below another object")
			continue
		}
		for i, c := range key {
			if c == '/' {
				all[key[:i]] = true
			}
		}
		all[key] = true
	}
	for folder := range all {
		require.Equal(t, names(t, storage.ListFolder(t.Context(), plain{f.Driver}, folder)), f.folder(t, folder), "folder %q", folder)
	}
}

// largeFolders has more entries than the page of 1,000 of the usual stores, and
// reads none of what lies in the folders.
func largeFolders(t *testing.T, f fixture) {
	want := []string{}
	keys := []string{}
	for i := range 1100 {
		keys = append(keys, fmt.Sprintf("large/%04d", 2*i), fmt.Sprintf("large/%04d/x/y", 2*i+1))
		want = append(want, fmt.Sprintf("large/%04d", 2*i), fmt.Sprintf("large/%04d/", 2*i+1))
	}
	f.putEmpty(t, keys)
	slices.Sort(want)
	require.Equal(t, want, f.folder(t, "large"))
	require.Equal(t, []string{"large/"}, f.folder(t, ""))

	var seen []string
	for e, err := range storage.ListFolder(t.Context(), f.Driver, "large") {
		require.NoError(t, err)
		if seen = append(seen, e.Key); len(seen) == 3 {
			break
		}
	}
	require.Subset(t, want, seen)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var last error
	for _, err := range storage.ListFolder(ctx, f.Driver, "large") {
		last = err
	}
	require.ErrorIs(t, last, context.Canceled)
}
