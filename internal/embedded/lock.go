package embedded

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// makeDataDir makes the data directory. As root it can be searched by others,
// so that the account PostgreSQL runs as reaches its cluster; the files in it
// are private by their own modes.
func makeDataDir(dir string) error {
	mode := os.FileMode(0o700)
	if os.Geteuid() == 0 {
		mode = 0o711
	}
	if err := os.MkdirAll(dir, mode); err != nil {
		return errs.Wrap(err, errs.Invalid, CodeDataDir, "the data directory %q cannot be made; check its parent and the rights on it", dir)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return errs.Wrap(err, errs.Invalid, CodeDataDir, "the data directory %q cannot be read; check the rights on it", dir)
	}
	if missing := mode &^ info.Mode().Perm(); missing != 0 {
		if err := os.Chmod(dir, info.Mode().Perm()|mode); err != nil {
			return errs.Wrap(err, errs.Invalid, CodeDataDir, "the data directory %q needs mode %o and cannot be changed; chmod it", dir, mode)
		}
	}
	return nil
}

// lockFile holds path for as long as the returned file stays open; the kernel
// lets go of it when the process dies. The holder's process id is in the file.
func lockFile(path, dataDir string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600) //nolint:gosec // a file of ours
	if err != nil {
		return nil, errs.Wrap(err, errs.Invalid, CodeDataDir, "the lock file %q cannot be opened; check the rights on the data directory", path)
	}
	if err := flock(f); err != nil {
		holder := heldBy(f)
		if err := f.Close(); err != nil {
			return nil, err
		}
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, inUse(dataDir, holder)
		}
		return nil, errs.Wrap(err, errs.Internal, CodeDataDir, "the lock file %q cannot be locked; use a file system that knows flock", path)
	}
	if err := writePID(f); err != nil {
		return nil, errors.Join(errs.Wrap(err, errs.Unavailable, CodeDataDir, "the lock file %q cannot be written; check the disk", path), f.Close())
	}
	return f, nil
}

// lockDir holds a cluster directory that two data directories may point to.
func lockDir(dir string) (*os.File, error) {
	f, err := os.Open(dir) //nolint:gosec // the cluster's own directory
	if err != nil {
		return nil, errs.Wrap(err, errs.Invalid, CodeDataDir, "the cluster directory %q cannot be opened; check the rights on it", dir)
	}
	if err := flock(f); err != nil {
		if err := f.Close(); err != nil {
			return nil, err
		}
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, inUse(dir, "")
		}
		return nil, errs.Wrap(err, errs.Internal, CodeDataDir, "the cluster directory %q cannot be locked; use a file system that knows flock", dir)
	}
	return f, nil
}

func inUse(dir, holder string) error {
	return errs.New(errs.Conflict, CodeInUse,
		"the data directory %q is in use by another dataguardian%s; stop it, or choose another --data-dir", dir, holder)
}

func flock(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// heldBy returns " (process N)", or nothing when the file does not say.
func heldBy(f *os.File) string {
	text, err := io.ReadAll(io.LimitReader(f, 32))
	if err != nil {
		return ""
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return ""
	}
	return fmt.Sprintf(" (process %d)", pid)
}
