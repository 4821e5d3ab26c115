package local_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/dataguardian/dataguardian/storage"
	"github.com/dataguardian/dataguardian/storage/local"
	"github.com/stretchr/testify/require"
)

func TestAFolderShowsNoLinksNoTemporaryFilesAndNothingEmpty(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	d := open(t, local.Config{Path: dir})
	require.NoError(t, os.WriteFile(filepath.Join(outside, "secret"), nil, 0o600))
	for _, empty := range []string{".dataguardian-tmp", "empty/of/all", "full/empty", "full/deep/deeper"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, empty), 0o700))
	}
	for _, file := range []string{".dataguardian-tmp/left", "full/deep/deeper/file"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, file), nil, 0o600))
	}
	for _, link := range []string{"link", "full/link", "empty/link"} {
		require.NoError(t, os.Symlink(outside, filepath.Join(dir, link)))
	}
	folder := func(path string) (got []string) {
		for e, err := range storage.ListFolder(t.Context(), d, path) {
			require.NoError(t, err)
			got = append(got, e.Key)
		}
		return got
	}
	require.Equal(t, []string{"full/"}, folder(""))
	require.Equal(t, []string{"full/deep/"}, folder("full"))
	require.Empty(t, folder("empty"))
	for _, link := range []string{"link", "full/link", "full/link/more"} {
		var err error
		for _, err = range storage.ListFolder(t.Context(), d, link) {
			break
		}
		require.ErrorIs(t, err, storage.ErrBadKey, link)
	}
}
