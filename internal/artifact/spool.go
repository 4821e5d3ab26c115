package artifact

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"

	"github.com/dataguardian/dataguardian/internal/errs"
	"golang.org/x/sys/unix"
)

const (
	dirMode  fs.FileMode = 0o700
	fileMode fs.FileMode = 0o600
	partsDir             = "parts"
)

// spool is the directory of one execution: parts/NNNNNN and, once the dump is
// complete, manifest.json and state.json. It is locked while it is open, so
// that neither a second attempt nor a sweep works in it.
type spool struct {
	path    string
	root    *os.Root
	lock    *os.File
	reserve int64
}

// createSpool makes an empty spool. What an earlier attempt left is removed.
func createSpool(dir, executionID string, reserve int64) (*spool, error) {
	path := filepath.Join(dir, executionID)
	if err := os.MkdirAll(path, dirMode); err != nil {
		return nil, spoolFailure(err)
	}
	s, err := openSpool(dir, executionID, reserve)
	if err != nil {
		return nil, err
	}
	if err := s.empty(); err != nil {
		return nil, errors.Join(spoolFailure(err), s.close())
	}
	return s, nil
}

func (s *spool) empty() error {
	for _, name := range []string{stateFile, manifestFile, partsDir} {
		if err := s.root.RemoveAll(name); err != nil {
			return err
		}
	}
	return s.root.Mkdir(partsDir, dirMode)
}

// openSpool locks an existing spool.
func openSpool(dir, executionID string, reserve int64) (*spool, error) {
	path := filepath.Join(dir, executionID)
	root, err := os.OpenRoot(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, spoolAbsent(err)
	}
	if err != nil {
		return nil, spoolFailure(err)
	}
	lock, err := root.Open(".")
	if err != nil {
		return nil, errors.Join(spoolFailure(err), root.Close())
	}
	s := &spool{path: path, root: root, lock: lock, reserve: reserve}
	switch err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
	case errors.Is(err, unix.EWOULDBLOCK):
		busy := errs.Wrap(err, errs.Conflict, errs.CodeExecutionRunning, "another process works on this backup's spool: wait until it has ended")
		return nil, errors.Join(busy, s.close())
	case err != nil:
		return nil, errors.Join(spoolFailure(err), s.close())
	}
	return s, nil
}

// close releases the lock; the files stay.
func (s *spool) close() error {
	return errors.Join(s.lock.Close(), s.root.Close())
}

// remove deletes the directory and everything in it. The spool may be closed.
func (s *spool) remove() error { return os.RemoveAll(s.path) }

// file is a part's name in the spool.
func (s *spool) file(serial int) string { return fmt.Sprintf("%s/%06d", partsDir, serial) }

// create makes a part's file when the disk has room.
func (s *spool) create(name string) (*os.File, error) {
	if err := s.room(); err != nil {
		return nil, err
	}
	f, err := s.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return nil, spoolFailure(err)
	}
	return f, nil
}

// room fails with SPOOL_FULL once less than the reserve is free.
func (s *spool) room() error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(s.lock.Fd()), &st); err != nil {
		return spoolFailure(os.NewSyscallError("statfs", err))
	}
	blocks, size := uint64(st.Bavail), uint64(st.Bsize) //nolint:unconvert,gosec // the types differ between systems
	if size != 0 && blocks > math.MaxInt64/size {
		return nil
	}
	if free := int64(blocks * size); free < s.reserve { //nolint:gosec // checked above
		return spoolFull(fmt.Errorf("%d bytes are free and %d are reserved", free, s.reserve))
	}
	return nil
}

// check re-reads a part's file and compares it with what was written.
func (s *spool) check(p *part) error {
	f, err := s.root.Open(p.file)
	if err != nil {
		return spoolUnread(err, "a part of the spooled backup is missing or cannot be opened")
	}
	defer f.Close() //nolint:errcheck // only read
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return spoolUnread(err, "a part of the spooled backup cannot be read")
	}
	if n != p.size || hex.EncodeToString(h.Sum(nil)) != p.sha256 {
		return spoolLost(fmt.Errorf("%s differs", p.name), "a part of the spooled backup has changed on the disk")
	}
	return nil
}

// sync makes a spool that waits for a retry survive a power failure.
func (s *spool) sync(parts []*part) error {
	for _, p := range parts {
		if err := s.syncFile(p.file); err != nil {
			return err
		}
	}
	return errors.Join(s.syncFile(partsDir), s.syncFile("."))
}

func (s *spool) syncFile(name string) error {
	f, err := s.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// write stores a small file whole or not at all, and durably.
func (s *spool) write(name string, data []byte) error {
	temporary := name + ".new"
	f, err := s.root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, fileMode)
	if err != nil {
		return spoolFailure(err)
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return spoolFailure(err)
	}
	if err := s.root.Rename(temporary, name); err != nil {
		return spoolFailure(err)
	}
	if err := s.syncFile("."); err != nil {
		return spoolFailure(err)
	}
	return nil
}

// read returns a small file of at most limit bytes.
func (s *spool) read(name string, limit int64) ([]byte, error) {
	f, err := s.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	return readBounded(f, limit)
}

// readBounded reads r to its end, or fails when it has more than limit bytes.
func readBounded(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("it is larger than %d bytes", limit)
	}
	return data, nil
}
