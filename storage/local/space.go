package local

import (
	"context"
	"fmt"
	"io/fs"
	"math"
	"os"
	"sync"
	"time"

	"github.com/dataguardian/dataguardian/storage"
	"golang.org/x/sys/unix"
)

// Available returns what the file system still takes, or the rest of the cap
// when that is less.
func (d *Driver) Available(ctx context.Context) (int64, error) {
	free, err := d.free()
	if err != nil {
		return 0, d.failed(err)
	}
	left, err := d.quota.left(ctx)
	if err != nil {
		return 0, err
	}
	return min(free, left), nil
}

func (d *Driver) free() (int64, error) {
	f, err := d.root.Open(".")
	if err != nil {
		return 0, err
	}
	defer forget(f)
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return 0, os.NewSyscallError("statfs", err)
	}
	blocks, size := uint64(st.Bavail), uint64(st.Bsize) //nolint:unconvert,gosec // the types differ between systems
	if size != 0 && blocks > math.MaxInt64/size {
		return math.MaxInt64, nil
	}
	return int64(blocks * size), nil //nolint:gosec // checked above
}

// measureEvery bounds how long changes by other processes stay unnoticed.
const measureEvery = time.Minute

// quota keeps what is stored under a cap. It counts what this process writes
// and deletes, and measures the directory again from time to time because other
// processes do so too. A nil quota has no cap.
type quota struct {
	max     int64
	measure func(context.Context) (int64, error)

	mu       sync.Mutex
	used     int64
	measured time.Time
}

// left returns the bytes under the cap that are free.
func (q *quota) left(ctx context.Context) (int64, error) {
	if q == nil {
		return math.MaxInt64, nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.measured.IsZero() || time.Since(q.measured) > measureEvery {
		used, err := q.measure(ctx)
		if err != nil {
			return 0, err
		}
		q.used, q.measured = used, time.Now()
	}
	return max(q.max-q.used, 0), nil
}

// admit refuses a body of size bytes that cannot fit; size may be -1.
func (q *quota) admit(ctx context.Context, size int64) error {
	left, err := q.left(ctx)
	if err != nil {
		return err
	}
	if size > left {
		return fmt.Errorf("%w: %d bytes do not fit into the %d that are left of the limit", storage.ErrFull, size, left)
	}
	return nil
}

// take counts n more bytes, or refuses them.
func (q *quota) take(n int64) error {
	if q == nil {
		return nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.used += n
	if q.used > q.max {
		q.used -= n
		return fmt.Errorf("%w: its limit of %d bytes is reached", storage.ErrFull, q.max)
	}
	return nil
}

func (q *quota) release(n int64) {
	if q == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.used = max(q.used-n, 0)
}

// measure sums the sizes of all files, temporary ones included.
func (d *Driver) measure(ctx context.Context) (int64, error) {
	var total int64
	err := fs.WalkDir(d.root.FS(), ".", func(_ string, entry fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil || !entry.Type().IsRegular() {
			return ignoreAbsent(err)
		}
		info, err := entry.Info()
		if err == nil {
			total += info.Size()
		}
		return ignoreAbsent(err)
	})
	return total, d.failed(err)
}
