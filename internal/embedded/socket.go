package embedded

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/dataguardian/dataguardian/internal/errs"
)

const (
	socketDirName = "run"
	// sun_path is 108 bytes, the last of which is NUL.
	socketPathMax = 107
)

// socketDir returns a private directory for the unix socket, made and checked:
// beside the cluster when the path is short enough and the account reaches it,
// else one in the temporary directory whose name comes from the data directory.
func socketDir(ctx context.Context, c Config, h home, i install) (string, error) {
	sum := sha256.Sum256([]byte(c.DataDir))
	private := "dataguardian-" + hex.EncodeToString(sum[:8])
	candidates := []string{
		filepath.Join(os.TempDir(), private),
		filepath.Join("/tmp", private),
	}
	beside := filepath.Join(c.DataDir, socketDirName)
	if base := filepath.Dir(h.dir); filepath.Dir(base) == resolved(c.FallbackRoot) {
		beside = filepath.Join(base, socketDirName)
	}
	for _, dir := range append([]string{beside}, candidates...) {
		if !fits(dir) {
			continue
		}
		reached, err := h.account.reaches(ctx, i.postgres(), filepath.Dir(dir))
		if err != nil {
			return "", errs.Wrap(err, errs.Unavailable, CodeDataDir, "it cannot be told whether PostgreSQL's account reaches %q", dir)
		}
		if !reached {
			continue
		}
		if err := makeSocketDir(dir, h.account); err != nil {
			return "", err
		}
		return dir, nil
	}
	return "", errs.New(errs.Invalid, CodeDataDir,
		"no directory short enough for a unix socket can be reached by PostgreSQL's account (uid %d); choose a shorter --data-dir, or point TMPDIR to a short path", h.account.uid)
}

// fits tells whether the socket's path is within the kernel's limit. A comma
// separates hosts in connection strings, so that it cannot be in one.
func fits(dir string) bool {
	return len(filepath.Join(dir, fmt.Sprintf(".s.PGSQL.%d", socketPort))) <= socketPathMax && !strings.Contains(dir, ",")
}

func resolved(dir string) string {
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		return real
	}
	return dir
}

// makeSocketDir makes dir, or proves that an existing one is the account's own
// and nobody else's: in a shared directory anybody may have planted it.
func makeSocketDir(dir string, a account) error {
	err := os.Mkdir(dir, 0o700)
	if err == nil {
		err = a.give(dir)
	} else if errors.Is(err, fs.ErrExist) {
		return checkSocketDir(dir, a)
	}
	if err != nil {
		return errs.Wrap(err, errs.Unavailable, CodeDataDir, "the directory %q for the unix socket cannot be made; check the rights and the disk", dir)
	}
	return nil
}

func checkSocketDir(dir string, a account) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return unreadable(dir, err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || info.Mode().Perm() != 0o700 {
		return planted(dir)
	}
	if stat.Uid == a.uid {
		return nil
	}
	if int(stat.Uid) != os.Geteuid() {
		return planted(dir)
	}
	// Ours: a start was killed before it gave the directory away.
	if err := a.give(dir); err != nil {
		return errs.Wrap(err, errs.Unavailable, CodeDataDir, "the directory %q for the unix socket cannot be given to PostgreSQL's account; remove it", dir)
	}
	return nil
}

func planted(dir string) error {
	return errs.New(errs.Invalid, CodeDataDir,
		"%q is not a private directory (mode 0700) of PostgreSQL's account, so that somebody else may listen there; remove it and start again", dir)
}
