package storage_test

import (
	"path"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/dataguardian/dataguardian/storage"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestAnyNameBecomesASegmentThatIsAKey(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		name := string(rapid.SliceOfN(rapid.Byte(), 0, 600).Draw(r, "name"))
		s := storage.Segment(name)
		require.NoError(r, storage.CheckKey(s))
		require.LessOrEqual(r, len(s), 200)
		require.NotContains(r, s, "/")
		require.Equal(r, s, storage.Segment(name))
	})
}

func TestDifferentNamesBecomeDifferentSegments(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		name := rapid.OneOf(rapid.String(), rapid.StringMatching(`[a/.%~]{0,400}`))
		a, b := name.Draw(r, "a"), name.Draw(r, "b")
		require.Equal(r, a == b, storage.Segment(a) == storage.Segment(b))
	})
	for _, pair := range [][2]string{{"", "\x00"}, {"%00", "\x00"}, {"a", "A"}, {".", ".."}, {"a%2F", "a/"}} {
		require.NotEqual(t, storage.Segment(pair[0]), storage.Segment(pair[1]), "%q", pair)
	}
}

func FuzzAnAcceptedKeyStaysBelowWhatItIsJoinedTo(f *testing.F) {
	for _, seed := range []string{"a", "a/b", "../a", "/a", "a//b", `a\b`, "a/./b", "a\x00", "é", "\xff", "..", "a/..", strings.Repeat("a/", 600)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, key string) {
		if storage.CheckKey(key) != nil {
			return
		}
		require.Equal(t, "root/"+key, path.Join("root", key), "joining changes nothing")
		require.True(t, utf8.ValidString(key))
		require.NotContains(t, key, "\x00")
		require.LessOrEqual(t, len(key), storage.MaxKeyBytes)
		require.NoError(t, storage.CheckPrefix(key))
		require.NoError(t, storage.CheckPrefix(key+"/"))
	})
}
