package embedded

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// home is where a cluster lives, or will.
type home struct {
	link    string // DataDir/postgres: the directory itself, or a link to it
	dir     string // the directory, links resolved
	exists  bool
	major   int
	account account
}

// findHome looks for a cluster under the data directory and touches nothing.
// What is neither a cluster nor empty is refused.
func findHome(c Config) (home, error) {
	h := home{link: filepath.Join(c.DataDir, "postgres")}
	entry, err := os.Lstat(h.link)
	if errors.Is(err, fs.ErrNotExist) {
		h.account, err = newClusterAccount()
		return h, err
	}
	if err != nil {
		return h, unreadable(h.link, err)
	}
	if h.dir, err = filepath.EvalSymlinks(h.link); err != nil {
		return h, errs.Wrap(err, errs.Invalid, CodeDataDir,
			"the cluster link %q leads nowhere; mount or bring back the directory it names, or remove the link to begin with an empty cluster", h.link)
	}
	info, err := os.Stat(h.dir)
	if err != nil {
		return h, unreadable(h.dir, err)
	}
	if !info.IsDir() {
		return h, errs.New(errs.Invalid, CodeDataDir, "%q is not a directory, so that it cannot hold a cluster; move it away", h.link)
	}
	files, err := os.ReadDir(h.dir)
	if err != nil {
		return h, unreadable(h.dir, err)
	}
	if len(files) == 0 {
		return h.empty(entry)
	}
	if h.major, err = clusterMajor(h.dir); err != nil {
		return h, err
	}
	h.exists = true
	h.account, err = ownerAccount(h.dir, info)
	return h, err
}

// empty decides about a directory with nothing in it: a plain one is as good as
// none, behind a link it is more likely a disk that is not mounted.
func (h home) empty(entry os.FileInfo) (home, error) {
	if entry.Mode()&os.ModeSymlink != 0 {
		return h, errs.New(errs.Invalid, CodeDataDir,
			"the cluster directory %q, behind the link %q, is empty; mount its disk, or remove the link to begin with an empty cluster", h.dir, h.link)
	}
	var err error
	h.account, err = newClusterAccount()
	return h, err
}

// clusterMajor reads PG_VERSION: "15", or "9.6" before PostgreSQL 10.
func clusterMajor(dir string) (int, error) {
	text, err := os.ReadFile(filepath.Join(dir, "PG_VERSION")) //nolint:gosec // the cluster's own directory
	if errors.Is(err, fs.ErrNotExist) {
		return 0, errs.New(errs.Invalid, CodeDataDir,
			"the directory %q holds files but no PostgreSQL cluster (no PG_VERSION); nothing was touched; move it away, or choose another --data-dir", dir)
	}
	if err != nil {
		return 0, unreadable(dir, err)
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(text)), ".")
	major, err := strconv.Atoi(first)
	if err != nil {
		return 0, errs.Wrap(err, errs.Invalid, CodeDataDir,
			"the file PG_VERSION in %q does not hold a version; nothing was touched; bring the cluster back from a backup", dir)
	}
	return major, nil
}

func unreadable(path string, err error) error {
	return errs.Wrap(err, errs.Invalid, CodeDataDir, "%q cannot be read; check the rights on it", path)
}
