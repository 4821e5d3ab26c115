package testkit

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

const scratchPrefix = "dgtest-"

// Dir returns a new directory that other accounts can search, removed at the
// end of the test. t.TempDir is private: a server with an account of its own
// does not reach it.
func Dir(t testing.TB) string {
	t.Helper()
	s, err := newScratch()
	if err != nil {
		t.Fatalf("testkit: %v", err)
	}
	t.Cleanup(func() {
		if err := s.remove(); err != nil {
			t.Errorf("testkit: %v", err)
		}
	})
	dir := filepath.Join(s.dir, "d")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatalf("testkit: %v", err)
	}
	return dir
}

// scratch is a directory that its owner holds by a lock; one without a holder
// belongs to a binary that died.
type scratch struct {
	dir  string
	lock *os.File
}

func newScratch() (*scratch, error) {
	// Both places, whichever is chosen now: what is left in memory is what makes it scarce.
	for _, place := range []string{memory, os.TempDir()} {
		if err := sweepScratch(place); err != nil {
			return nil, err
		}
	}
	dir, err := os.MkdirTemp(scratchParent(), scratchPrefix)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	return &scratch{dir, lock}, syscall.Flock(int(lock.Fd()), syscall.LOCK_EX)
}

func (s *scratch) remove() error { return errors.Join(os.RemoveAll(s.dir), s.lock.Close()) }

const (
	memory       = "/dev/shm"
	memoryMagic  = 0x01021994 // of tmpfs, see statfs(2)
	memoryWanted = 4 << 30
)

// scratchParent is in memory where there is much of it, unless TMPDIR says where: a
// database is hundreds of files, and a disk spends most of a test making and removing
// those. Programs that are no tests measure, and use the disk.
func scratchParent() string {
	var fs syscall.Statfs_t
	if !testing.Testing() || os.Getenv("TMPDIR") != "" || syscall.Statfs(memory, &fs) != nil || !serves(&fs) {
		return os.TempDir()
	}
	return memory
}

// serves reports whether a file system is in memory, has room and runs programs, which
// tests put there, too.
func serves(fs *syscall.Statfs_t) bool {
	return fs.Type == memoryMagic && fs.Flags&syscall.MS_NOEXEC == 0 && fs.Bavail*uint64(fs.Bsize) >= memoryWanted
}

// sweepScratch removes directories of binaries that died. Young ones may not be
// locked yet.
func sweepScratch(parent string) error {
	dirs, err := filepath.Glob(filepath.Join(parent, scratchPrefix+"*"))
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		info, err := os.Stat(filepath.Join(dir, "lock"))
		if err != nil || time.Since(info.ModTime()) < time.Minute {
			continue
		}
		lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR, 0)
		if err != nil {
			continue // another user's, or just removed
		}
		if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			err = os.RemoveAll(dir)
		}
		if err := errors.Join(err, lock.Close()); err != nil {
			return err
		}
	}
	return nil
}

// FreePort returns a loopback TCP port nobody listens on. It is below the range
// the kernel takes outgoing ports from, so that only another listener can take
// it meanwhile.
func FreePort(t testing.TB) int {
	t.Helper()
	port, err := freePort()
	if err != nil {
		t.Fatalf("testkit: %v", err)
	}
	return port
}

func freePort() (int, error) {
	const low, span = 20000, 12000
	var last error
	for range 50 {
		n, err := rand.Int(rand.Reader, big.NewInt(span))
		if err != nil {
			return 0, err
		}
		port := low + int(n.Int64())
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return port, l.Close()
		}
		last = err
	}
	return 0, fmt.Errorf("no free loopback port: %w", last)
}

func randomHex(bytes int) string {
	b := make([]byte, bytes)
	rand.Read(b) // never fails: the runtime ends the program instead
	return hex.EncodeToString(b)
}
