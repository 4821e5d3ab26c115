package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/dataguardian/dataguardian/storage"
	"golang.org/x/sys/unix"
)

// temporaryDir is the area for files that are being written. It is no object's.
const temporaryDir = ".dataguardian-tmp"

func checkKey(key string) error {
	if err := storage.CheckKey(key); err != nil {
		return err
	}
	first, _, _ := strings.Cut(key, "/")
	if strings.EqualFold(first, temporaryDir) {
		return fmt.Errorf("%w: %q is reserved", storage.ErrBadKey, first)
	}
	return nil
}

// lookup describes what lies at key and refuses symbolic links on the way and
// at the end. The error may be a bare fs.ErrNotExist or ENOTDIR.
func (d *Driver) lookup(key string) (fs.FileInfo, error) {
	for end := 0; ; end++ {
		next := strings.IndexByte(key[end:], '/')
		if next < 0 {
			break
		}
		end += next
		info, err := d.root.Lstat(key[:end])
		if err != nil {
			return nil, err
		}
		if err := refuseLink(key[:end], info); err != nil {
			return nil, err
		}
		if !info.IsDir() {
			return nil, syscall.ENOTDIR
		}
	}
	info, err := d.root.Lstat(key)
	if err != nil {
		return nil, err
	}
	return info, refuseLink(key, info)
}

func refuseLink(name string, info fs.FileInfo) error {
	if info.Mode()&fs.ModeSymlink == 0 {
		return nil
	}
	return fmt.Errorf("%w: %q is a symbolic link, which is not followed", storage.ErrBadKey, name)
}

// object finds the regular file of key.
func (d *Driver) object(ctx context.Context, key string) (fs.FileInfo, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := checkKey(key); err != nil {
		return nil, err
	}
	info, err := d.lookup(key)
	switch {
	case err != nil:
		return nil, d.failed(err)
	case info.IsDir():
		return nil, fmt.Errorf("%w: %q is a folder", storage.ErrNotExist, key)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%w: %q is not a regular file", storage.ErrBadKey, key)
	}
	return info, nil
}

// makeDirs makes dir and its ancestors. It fails with fs.ErrNotExist when one
// was pruned meanwhile: the caller tries again.
func (d *Driver) makeDirs(dir string) error {
	if dir == "." {
		return nil
	}
	if err := d.makeDirs(path.Dir(dir)); err != nil {
		return err
	}
	err := d.root.Mkdir(dir, dirMode)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := d.root.Lstat(dir)
	switch {
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%w: %q is not a folder", storage.ErrBadKey, dir)
	}
	return nil
}

// syncDirs makes the entries of dir and its ancestors durable.
func (d *Driver) syncDirs(dir string) error {
	for {
		if err := d.syncDir(dir); err != nil {
			return err
		}
		if dir == "." {
			return nil
		}
		dir = path.Dir(dir)
	}
}

// syncDir is content with a directory that is gone, and with file systems that
// cannot sync directories.
func (d *Driver) syncDir(dir string) error {
	f, err := d.root.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	err = f.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		err = nil
	}
	return errors.Join(err, f.Close())
}

// unlink removes one entry of the directory above name: only a file without
// flags, only an empty directory with unix.AT_REMOVEDIR.
func (d *Driver) unlink(name string, flags int) error {
	dir, err := d.root.Open(path.Dir(name))
	if err != nil {
		return err
	}
	for {
		err = unix.Unlinkat(int(dir.Fd()), path.Base(name), flags)
		if !errors.Is(err, unix.EINTR) {
			return errors.Join(os.NewSyscallError("unlinkat", err), dir.Close())
		}
	}
}

// forget closes what was only read or looked at: nothing is lost by an error.
func forget(c io.Closer) { _ = c.Close() }

// prune removes dir and its ancestors as long as they are empty. It only
// tidies: whatever stops it leaves an empty folder that nobody sees.
func (d *Driver) prune(dir string) {
	for ; dir != "."; dir = path.Dir(dir) {
		if err := d.unlink(dir, unix.AT_REMOVEDIR); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return
		}
	}
}
