package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/dataguardian/dataguardian/storage"
)

// failed adds the sentinel of package storage that a file system error means.
func (d *Driver) failed(err error) error {
	if err == nil {
		return nil
	}
	target := meaning(err)
	if errors.Is(target, storage.ErrNotExist) && d.removed() {
		target = storage.ErrNoBucket
	}
	if target == nil || errors.Is(err, target) {
		return err
	}
	return fmt.Errorf("%w: %w", target, err)
}

// removed reports whether the storage's directory itself was deleted: then an
// absent file says nothing about the object.
func (d *Driver) removed() bool {
	info, err := d.root.Stat(".")
	if err != nil {
		return true
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Nlink == 0
}

// rootError is failed for the directory itself.
func rootError(err error) error {
	target := meaning(err)
	switch {
	case target == nil:
		return err
	case errors.Is(target, storage.ErrNotExist), errors.Is(target, storage.ErrExist), errors.Is(target, storage.ErrBadKey):
		return fmt.Errorf("%w: %w", storage.ErrNoBucket, err)
	default:
		return fmt.Errorf("%w: %w", target, err)
	}
}

func meaning(err error) error {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return escape(err)
	}
	switch errno {
	case syscall.ENOENT, syscall.ENOTDIR:
		return storage.ErrNotExist
	case syscall.EEXIST:
		return storage.ErrExist
	case syscall.ENOSPC, syscall.EDQUOT:
		return storage.ErrFull
	case syscall.EACCES, syscall.EPERM, syscall.EROFS:
		return storage.ErrPermission
	case syscall.ENAMETOOLONG, syscall.EISDIR, syscall.ENOTEMPTY, syscall.ELOOP:
		return storage.ErrBadKey
	}
	return nil
}

// escape recognises os.Root's refusal of a path that leads outside: a path
// error with neither a system error nor one of package fs behind it.
func escape(err error) error {
	for _, ours := range []error{
		storage.ErrNotExist, storage.ErrExist, storage.ErrChecksum, storage.ErrBadKey,
		storage.ErrPermission, storage.ErrNoBucket, storage.ErrFull,
	} {
		if errors.Is(err, ours) {
			return ours
		}
	}
	var pathErr *fs.PathError
	var linkErr *os.LinkError
	if (errors.As(err, &pathErr) || errors.As(err, &linkErr)) && !errors.Is(err, fs.ErrClosed) {
		return storage.ErrBadKey
	}
	return nil
}
