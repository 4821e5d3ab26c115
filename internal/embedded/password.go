package embedded

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// loadPassword returns the superuser's password, which is in a file of its own
// (0600). It is durable there before a cluster with it exists.
func loadPassword(dataDir string, clusterExists bool) (string, error) {
	path := filepath.Join(dataDir, "postgres-password")
	text, err := readPrivate(path)
	password := strings.TrimSpace(text)
	switch {
	case err == nil && password != "":
		return password, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return "", unreadable(path, err)
	case clusterExists:
		return "", errs.New(errs.Invalid, CodeDataDir,
			"the password file %q of the private PostgreSQL is missing or empty; bring it back from a backup of the data directory", path)
	}
	if password, err = randomHex(24); err != nil {
		return "", err
	}
	if err := replacePrivate(path, password+"\n"); err != nil {
		return "", errs.Wrap(err, errs.Unavailable, CodeDataDir, "the password file %q cannot be written; check the rights and the disk", path)
	}
	return password, nil
}

// readPrivate reads a small file and takes it back from others' eyes should its
// mode have been widened.
func readPrivate(path string) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW, 0) //nolint:gosec // a file of ours
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // nothing was written
	if err := f.Chmod(0o600); err != nil {
		return "", err
	}
	buffer := make([]byte, 256)
	n, err := f.ReadAt(buffer, 0)
	if n == len(buffer) {
		return "", errors.New("the file is too long for a password")
	}
	if n == 0 && err == nil {
		return "", nil
	}
	return string(buffer[:n]), nil
}

// writePrivate makes a new file, durably.
func writePrivate(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // a file of ours
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Sync(), f.Close())
}

// replacePrivate makes or replaces a file, whole or not at all.
func replacePrivate(path, text string) error {
	temporary := path + ".new"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := writePrivate(temporary, text); err != nil {
		return err
	}
	if err := os.Rename(temporary, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}
