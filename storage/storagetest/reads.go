package storagetest

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	"github.com/dataguardian/dataguardian/storage"
	"github.com/stretchr/testify/require"
)

func ranges(t *testing.T, f fixture) {
	body := Bytes(6, 10_000)
	f.put(t, "ranged", body)
	for _, c := range []struct{ offset, length int64 }{
		{0, -1}, {0, 10_000}, {0, 1}, {0, 0}, {1, -1}, {9_999, -1}, {9_999, 1},
		{5_000, 123}, {10_000, -1}, {10_000, 0}, {3, 0}, {1, 9_999},
	} {
		want := body[c.offset:]
		if c.length >= 0 {
			want = want[:c.length]
		}
		require.True(t, bytes.Equal(want, f.get(t, "ranged", c.offset, c.length)), "range %d, %d", c.offset, c.length)
	}
	f.put(t, "empty", nil)
	require.Empty(t, f.get(t, "empty", 0, -1))
	require.Empty(t, f.get(t, "empty", 0, 0))

	_, err := f.Open(t.Context(), "ranged", -1, 5)
	require.Error(t, err, "a negative offset")
}

func beyondTheEnd(t *testing.T, f fixture) {
	body := Bytes(7, 1000)
	f.put(t, "short", body)
	for _, c := range []struct{ offset, length int64 }{
		{0, 1001}, {999, 2}, {1000, 1}, {1001, -1}, {1001, 1}, {1 << 40, -1}, {1 << 40, 7},
	} {
		got, err := f.tryGet(t.Context(), "short", c.offset, c.length)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF, "range %d, %d", c.offset, c.length)
		require.True(t, bytes.HasPrefix(body[min(c.offset, 1000):], got))
	}
}

func cancelledReads(t *testing.T, f fixture) {
	f.put(t, "long", Bytes(8, 4<<20))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := f.Open(ctx, "long", 0, -1)
	require.NoError(t, err)
	defer r.Close()
	_, err = io.ReadFull(r, make([]byte, 1000))
	require.NoError(t, err)
	cancel()
	_, err = io.Copy(io.Discard, r)
	require.ErrorIs(t, err, context.Canceled)
}

func absent(t *testing.T, f fixture) {
	f.put(t, "folder/there", []byte("x"))
	for _, key := range []string{"nothing", "folder", "folder/nothing", "folder/there/below", "no/such/folder", "folder/the", "folder/there2"} {
		_, err := f.Stat(t.Context(), key)
		require.ErrorIs(t, err, storage.ErrNotExist, key)
		require.True(t, storage.Permanent(err))
		for _, length := range []int64{-1, 0, 1} {
			_, err = f.tryGet(t.Context(), key, 0, length)
			require.ErrorIs(t, err, storage.ErrNotExist, "%s, %d bytes", key, length)
		}
		require.NoError(t, f.Delete(t.Context(), key), key)
	}
	f.requireObject(t, "folder/there", []byte("x"))
}

func deletes(t *testing.T, f fixture) {
	keys := []string{"a/b/c", "a/b/d", "a/e"}
	for _, key := range keys {
		f.put(t, key, []byte(key))
	}
	for i, key := range keys {
		require.NoError(t, f.Delete(t.Context(), key))
		f.requireAbsent(t, key)
		require.NoError(t, f.Delete(t.Context(), key), "again")
		require.Equal(t, keys[i+1:], f.keys(t, ""))
	}
	f.put(t, "a", []byte("a name that was a folder's"))
	f.requireObject(t, "a", []byte("a name that was a folder's"))
}

func lists(t *testing.T, f fixture) {
	sorted := []string{
		"a-b", "a-b/c", "a.b", "a/0", "a/b", "a/b-c", "a/b.c/d", "a/bc", "a/é", "aa", "b/c/d/e/f/g", "b0", "ä",
	}
	sizes := map[string]int64{}
	for i := len(sorted) - 1; i >= 0; i-- {
		if sorted[i] == "a-b" {
			continue // below which "a-b/c" lies
		}
		f.put(t, sorted[i], []byte(sorted[i]))
		sizes[sorted[i]] = int64(len(sorted[i]))
	}
	sorted = sorted[1:]
	for _, prefix := range []string{"", "a", "a/", "a/b", "a/b/", "a/b.", "a/b.c/", "aa", "b", "b/c/d", "ä", "zz", "a/bc/", "a-", "nothing/there", "a/b.c/d"} {
		want := []string{}
		for _, key := range sorted {
			if strings.HasPrefix(key, prefix) {
				want = append(want, key)
			}
		}
		require.Equal(t, want, f.keys(t, prefix), "prefix %q", prefix)
	}
	for o, err := range f.List(t.Context(), "") {
		require.NoError(t, err)
		require.Equal(t, sizes[o.Key], o.Size, o.Key)
		require.False(t, o.Modified.IsZero(), o.Key)
	}
	for _, prefix := range []string{"..", "/", "a//", "../", "/a", "a/../b"} {
		var err error
		for _, err = range f.List(t.Context(), prefix) {
			break
		}
		require.ErrorIs(t, err, storage.ErrBadKey, "prefix %q", prefix)
	}
}

func stoppedLists(t *testing.T, f fixture) {
	for _, key := range []string{"1", "2/a", "2/b", "3"} {
		f.put(t, key, nil)
	}
	var seen []string
	for o, err := range f.List(t.Context(), "") {
		require.NoError(t, err)
		if seen = append(seen, o.Key); len(seen) == 2 {
			break
		}
	}
	require.Equal(t, []string{"1", "2/a"}, seen)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var last error
	for _, err := range f.List(ctx, "") {
		last = err
	}
	require.ErrorIs(t, last, context.Canceled)
}

func endedContext(t *testing.T, f fixture) {
	f.put(t, "there", []byte("x"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := f.Put(ctx, "new", strings.NewReader("x"), storage.PutOptions{Size: -1})
	require.ErrorIs(t, err, context.Canceled)
	_, err = f.tryGet(ctx, "there", 0, -1)
	require.ErrorIs(t, err, context.Canceled)
	_, err = f.Stat(ctx, "there")
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, f.Delete(ctx, "there"), context.Canceled)
	f.requireObject(t, "there", []byte("x"))
	f.requireAbsent(t, "new")
}
