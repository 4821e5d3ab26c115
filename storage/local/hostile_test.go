package local_test

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dataguardian/dataguardian/storage"
	"github.com/dataguardian/dataguardian/storage/local"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestPlantedSymbolicLinksAreRefused(t *testing.T) {
	outside, inside := t.TempDir(), t.TempDir()
	secret := filepath.Join(outside, "secret")
	require.NoError(t, os.WriteFile(secret, []byte("secret"), 0o600))
	d := open(t, local.Config{Path: inside})
	_, err := d.Put(t.Context(), "real/file", strings.NewReader("x"), storage.PutOptions{Size: 1})
	require.NoError(t, err)

	links := map[string]string{
		"dir": outside, "file": secret, "up": "..", "real/up": "../..", "dangling": filepath.Join(outside, "new"),
		"within": "real", "real/self": "file", "loop": "loop",
	}
	for name, target := range links {
		require.NoError(t, os.Symlink(target, filepath.Join(inside, name)))
	}
	for name := range links {
		for _, key := range []string{name, name + "/secret", name + "/file", name + "/new/deep"} {
			for _, exclusive := range []bool{false, true} {
				_, err := d.Put(t.Context(), key, strings.NewReader("evil"), storage.PutOptions{Size: -1, IfAbsent: exclusive})
				require.ErrorIs(t, err, storage.ErrBadKey, "put %s", key)
			}
			_, err = d.Open(t.Context(), key, 0, -1)
			require.ErrorIs(t, err, storage.ErrBadKey, "open %s", key)
			_, err = d.Stat(t.Context(), key)
			require.ErrorIs(t, err, storage.ErrBadKey, "stat %s", key)
			require.ErrorIs(t, d.Delete(t.Context(), key), storage.ErrBadKey, "delete %s", key)
		}
	}
	require.Equal(t, []string{"real/file"}, keys(t, d, ""))
	for _, err = range d.List(t.Context(), "dir/") {
		break
	}
	require.ErrorIs(t, err, storage.ErrBadKey, "a list does not follow links")
	require.Equal(t, []string{"secret"}, tree(t, outside))
	body, err := os.ReadFile(secret)
	require.NoError(t, err)
	require.Equal(t, "secret", string(body))
}

func TestATemporaryAreaThatLeadsOutsideIsRefused(t *testing.T) {
	outside, inside := t.TempDir(), t.TempDir()
	require.NoError(t, os.Symlink(outside, filepath.Join(inside, ".dataguardian-tmp")))
	d := open(t, local.Config{Path: inside})
	_, err := d.Put(t.Context(), "key", strings.NewReader("x"), storage.PutOptions{Size: 1})
	require.Error(t, err)
	require.Empty(t, tree(t, outside))
	_, err = d.Sweep(t.Context(), "", 0)
	require.Error(t, err)
}

func TestTheTemporaryAreaIsNoPlaceForObjects(t *testing.T) {
	d := open(t, local.Config{Path: t.TempDir()})
	for _, key := range []string{".dataguardian-tmp", ".dataguardian-tmp/x", ".DataGuardian-TMP/x"} {
		_, err := d.Put(t.Context(), key, strings.NewReader("x"), storage.PutOptions{Size: 1})
		require.ErrorIs(t, err, storage.ErrBadKey)
	}
}

func TestSpecialFilesAreNotObjects(t *testing.T) {
	dir := t.TempDir()
	d := open(t, local.Config{Path: dir})
	require.NoError(t, unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	_, err := d.Open(t.Context(), "pipe", 0, -1)
	require.ErrorIs(t, err, storage.ErrBadKey, "and opening it does not block")
	require.Empty(t, keys(t, d, ""))
}

func TestFilesAndFoldersAreForTheirOwnerOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made")
	d := open(t, local.Config{Path: dir})
	_, err := d.Put(t.Context(), "a/b/c", strings.NewReader("x"), storage.PutOptions{Size: 1})
	require.NoError(t, err)
	for path, mode := range map[string]os.FileMode{"": 0o700, "a": 0o700, "a/b": 0o700, ".dataguardian-tmp": 0o700, "a/b/c": 0o600} {
		info, err := os.Stat(filepath.Join(dir, path))
		require.NoError(t, err)
		require.Equal(t, mode, info.Mode().Perm(), path)
	}
}

func TestDeletingPrunesEmptyFoldersButNotTheRoot(t *testing.T) {
	dir := t.TempDir()
	d := open(t, local.Config{Path: dir})
	for _, key := range []string{"a/b/c/1", "a/b/2"} {
		_, err := d.Put(t.Context(), key, strings.NewReader("x"), storage.PutOptions{Size: 1})
		require.NoError(t, err)
	}
	require.NoError(t, d.Delete(t.Context(), "a/b/c/1"))
	require.Equal(t, []string{".dataguardian-tmp", "a", "a/b", "a/b/2"}, tree(t, dir))
	require.NoError(t, d.Delete(t.Context(), "a/b/2"))
	require.Equal(t, []string{".dataguardian-tmp"}, tree(t, dir))
	require.DirExists(t, dir)
}

func TestOpeningADirectoryThatCannotServeFailsTyped(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	for path, want := range map[string]error{
		filepath.Join(dir, "no", "parent"): storage.ErrNoBucket,
		file:                               storage.ErrNoBucket,
		filepath.Join(file, "below"):       storage.ErrNoBucket,
		"relative":                         storage.ErrConfig,
		"":                                 storage.ErrConfig,
	} {
		_, err := local.New(local.Config{Path: path})
		require.ErrorIs(t, err, want, "%q", path)
	}
	_, err := local.New(local.Config{Path: dir, MaxBytes: -1})
	require.ErrorIs(t, err, storage.ErrConfig)
}

func TestADeletedDirectoryIsNotMistakenForAbsentObjects(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "root")
	d := open(t, local.Config{Path: dir})
	_, err := d.Put(t.Context(), "a/b", strings.NewReader("x"), storage.PutOptions{Size: 1})
	require.NoError(t, err)
	require.NoError(t, os.RemoveAll(dir))

	_, err = d.Stat(t.Context(), "a/b")
	require.ErrorIs(t, err, storage.ErrNoBucket)
	require.NotErrorIs(t, err, storage.ErrNotExist)
	_, err = d.Put(t.Context(), "a/b", strings.NewReader("x"), storage.PutOptions{Size: 1})
	require.ErrorIs(t, err, storage.ErrNoBucket)
	var listErr error
	for _, listErr = range d.List(t.Context(), "") {
		break
	}
	require.ErrorIs(t, listErr, storage.ErrNoBucket)
}

func TestATruncatedFileEndsInAnUnexpectedEOF(t *testing.T) {
	dir := t.TempDir()
	d := open(t, local.Config{Path: dir})
	_, err := d.Put(t.Context(), "key", strings.NewReader(strings.Repeat("x", 100_000)), storage.PutOptions{Size: -1})
	require.NoError(t, err)
	r, err := d.Open(t.Context(), "key", 0, -1)
	require.NoError(t, err)
	defer r.Close()
	require.NoError(t, os.Truncate(filepath.Join(dir, "key"), 70_000))
	_, err = io.ReadAll(r)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

func keys(t *testing.T, d storage.Driver, prefix string) []string {
	t.Helper()
	keys := []string{}
	for o, err := range d.List(t.Context(), prefix) {
		require.NoError(t, err)
		keys = append(keys, o.Key)
	}
	return keys
}
