package local_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/dataguardian/dataguardian/storage"
	"github.com/dataguardian/dataguardian/storage/local"
	"github.com/dataguardian/dataguardian/storage/storagetest"
	"github.com/stretchr/testify/require"
)

func open(t *testing.T, c local.Config) *local.Driver {
	t.Helper()
	d, err := local.New(c)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

// tree returns the path of every file and folder below dir.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	paths := []string{}
	require.NoError(t, filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		if p != dir {
			rel, relErr := filepath.Rel(dir, p)
			require.NoError(t, relErr)
			paths = append(paths, rel)
		}
		return err
	}))
	return paths
}

func suite(config func(t *testing.T) local.Config) storagetest.Options {
	places := map[storage.Driver]string{}
	return storagetest.Options{
		New: func(t *testing.T) storage.Driver {
			c := config(t)
			d, err := local.New(c)
			require.NoError(t, err)
			places[d] = c.Path
			return d
		},
		Leftovers: func(t *testing.T, d storage.Driver) []string {
			return leftovers(t, places[d])
		},
	}
}

// leftovers are temporary files and empty folders.
func leftovers(t *testing.T, dir string) []string {
	t.Helper()
	var left []string
	for _, p := range tree(t, dir) {
		entries, err := os.ReadDir(filepath.Join(dir, p))
		if filepath.Dir(p) == ".dataguardian-tmp" || err == nil && len(entries) == 0 && p != ".dataguardian-tmp" {
			left = append(left, p)
		}
	}
	return left
}

func TestLocalKeepsTheContractOfADriver(t *testing.T) {
	storagetest.Run(t, suite(func(t *testing.T) local.Config {
		return local.Config{Path: t.TempDir()}
	}))
}

func TestLocalWithACapKeepsTheContractOfADriver(t *testing.T) {
	storagetest.Run(t, suite(func(t *testing.T) local.Config {
		return local.Config{Path: filepath.Join(t.TempDir(), "made on demand"), MaxBytes: 1 << 30}
	}))
}
