package local

import (
	"errors"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// moveNew renames from to to unless to exists, in one step. File systems that
// cannot do that get a hard link instead, which is as exclusive.
func (d *Driver) moveNew(from, to string) error {
	err := d.renameNew(from, to)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		return d.linkNew(from, to)
	}
	return err
}

func (d *Driver) renameNew(from, to string) error {
	source, err := d.root.Open(path.Dir(from))
	if err != nil {
		return err
	}
	defer forget(source)
	target, err := d.root.Open(path.Dir(to))
	if err != nil {
		return err
	}
	defer forget(target)
	for {
		err := unix.Renameat2(int(source.Fd()), path.Base(from), int(target.Fd()), path.Base(to), unix.RENAME_NOREPLACE)
		if err != unix.EINTR {
			return os.NewSyscallError("renameat2", err)
		}
	}
}

// reserve allocates size bytes, so that a full disk shows before they are
// written. File systems that cannot are left alone.
func reserve(f *os.File, size int64) error {
	if size <= 0 {
		return nil
	}
	for {
		err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size)
		switch err {
		case unix.EINTR:
		case unix.EOPNOTSUPP, unix.ENOSYS, unix.EINVAL:
			return nil
		default:
			return os.NewSyscallError("fallocate", err)
		}
	}
}

// startWriteback sends n written bytes towards the disk without waiting, so
// that the final sync has little left to do. It is a hint: errors show there.
func startWriteback(f *os.File, offset, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), offset, n, unix.SYNC_FILE_RANGE_WRITE)
}
