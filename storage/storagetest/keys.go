package storagetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/dataguardian/dataguardian/storage"
	"github.com/stretchr/testify/require"
)

// oddNames mean something to a shell, a URL, a header or a file system, and
// nothing to a key. Both forms of é are there: they are different keys.
var oddNames = []string{
	" leading", "trailing ", "trailing.", ".hidden", "...", "..a", "a..", "-rf", "--", "~", "*", "?", "[a]", "{a,b}",
	"$(reboot)", "`id`", "$HOME", "!", "#", "%", "%2e%2e", "%2F", "%00", "%zz", "a+b", "a%20b", "a b", "a&b=c", "a;b", "a:b", "a|b",
	"<a>", `"quoted"`, "'quoted'", "@", "=", ",", "CON", "NUL.txt", "\u00e9", "e\u0301", "ß", "ёжик", "数据库", "🐘🦭", "\u202egnp.exe",
	"\u00a0", "\ufeff", "a\u200bb", "?versionId=null", "?uploads", "?acl", "index.html", "..%2f..%2fetc",
	"UPPER", "upper",
}

func oddKeys(t *testing.T, f fixture) {
	keys := []string{strings.Repeat("n", 255), strings.Repeat("é", 127), strings.Repeat(strings.Repeat("d", 199)+"/", 4) + "f"}
	for _, name := range oddNames {
		keys = append(keys, "odd/"+name+"/"+name, "flat/"+name)
	}
	for _, key := range keys {
		require.NoError(t, storage.CheckKey(key), "%q", key)
		f.put(t, key, []byte(key))
	}
	for _, key := range keys {
		f.requireObjectBytes(t, key, []byte(key))
	}
	slices.Sort(keys)
	require.Equal(t, keys, f.keys(t, ""))
	for _, name := range oddNames {
		require.Equal(t, []string{"odd/" + name + "/" + name}, f.keys(t, "odd/"+name+"/"), "%q", name)
	}
	for _, key := range keys {
		require.NoError(t, f.Delete(t.Context(), key), "%q", key)
	}
	require.Empty(t, f.keys(t, ""))
}

func (f fixture) requireObjectBytes(t *testing.T, key string, want []byte) {
	t.Helper()
	o, err := f.Stat(t.Context(), key)
	require.NoError(t, err, "%q", key)
	require.Equal(t, key, o.Key)
	require.Equal(t, want, f.get(t, key, 0, -1), "%q", key)
}

func badKeys(t *testing.T, f fixture) {
	for _, key := range []string{
		"", ".", "..", "/", "/abs", "../up", "a/../../up", "a/..", "a//b", "a/", "./a", "a/./b", `a\b`, `..\up`,
		"nul\x00", "line\nfeed", "tab\t", "\x7f", "\xff\xfe", "\u0085", strings.Repeat("a", 256), strings.Repeat("a/", 512) + "a",
	} {
		_, err := f.Put(t.Context(), key, strings.NewReader("x"), storage.PutOptions{Size: 1})
		require.ErrorIs(t, err, storage.ErrBadKey, "put %q", key)
		_, err = f.Open(t.Context(), key, 0, -1)
		require.ErrorIs(t, err, storage.ErrBadKey, "open %q", key)
		_, err = f.Stat(t.Context(), key)
		require.ErrorIs(t, err, storage.ErrBadKey, "stat %q", key)
		require.ErrorIs(t, f.Delete(t.Context(), key), storage.ErrBadKey, "delete %q", key)
	}
	require.Empty(t, f.keys(t, ""))
}

func nestedKeys(t *testing.T, f fixture) {
	for _, order := range [][2]string{{"x/a", "x/a/b"}, {"y/a/b", "y/a"}} {
		first, second := order[0], order[1]
		f.put(t, first, []byte(first))
		for _, exclusive := range []bool{false, true} {
			_, err := f.Put(t.Context(), second, strings.NewReader(second), storage.PutOptions{Size: -1, IfAbsent: exclusive})
			if err == nil {
				f.requireObject(t, second, []byte(second))
				require.NoError(t, f.Delete(t.Context(), second))
			} else {
				require.ErrorIs(t, err, storage.ErrBadKey)
			}
			f.requireAbsent(t, second)
			f.requireObject(t, first, []byte(first))
		}
	}
}

// manyObjects exceeds the page of 1,000 of the usual stores twice.
const manyObjects = 2500

// putEmpty stores an empty object under each key, several at once.
func (f fixture) putEmpty(t *testing.T, keys []string) {
	t.Helper()
	todo := make(chan string)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for key := range todo {
				if _, err := f.Put(t.Context(), key, bytes.NewReader(nil), storage.PutOptions{Size: 0}); err != nil {
					t.Errorf("put %s: %v", key, err)
				}
			}
		})
	}
	for _, key := range keys {
		todo <- key
	}
	close(todo)
	wg.Wait()
}

func longLists(t *testing.T, f fixture) {
	want := make([]string, manyObjects)
	for i := range want {
		want[i] = fmt.Sprintf("long/%04d", i)
	}
	f.putEmpty(t, want)
	require.Equal(t, want, f.keys(t, "long/"))
	require.Equal(t, want, f.keys(t, ""))
	require.Equal(t, want[1000:1100], f.keys(t, "long/10"))

	var err error
	for o, listErr := range f.List(t.Context(), "long/") {
		err = errors.Join(err, listErr, f.Delete(t.Context(), o.Key))
	}
	require.NoError(t, err, "deleting while listing")
	require.Empty(t, f.keys(t, ""))
}
