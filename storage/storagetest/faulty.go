package storagetest

import (
	"context"
	"errors"
	"io"
	"iter"
	"sync"
	"time"

	"github.com/dataguardian/dataguardian/storage"
)

// Method names a method of storage.Driver.
type Method string

// The methods faults can be injected into.
const (
	Put       Method = "put"
	Open      Method = "open"
	Stat      Method = "stat"
	Delete    Method = "delete"
	List      Method = "list"
	Available Method = "available"
	Sweep     Method = "sweep"
)

// Fault says what goes wrong, and when.
type Fault struct {
	// Method it strikes; empty means all.
	Method Method
	// Key it strikes (the prefix for List and Sweep); nil means all.
	Key func(key string) bool
	// Skip lets that many matching calls pass first.
	Skip int
	// Times bounds how many calls it strikes; 0 means all.
	Times int

	// Delay before the call, or until its context ends.
	Delay time.Duration
	// Do runs before the call; an error fails it.
	Do func(ctx context.Context, key string) error
	// Err fails the call. With AfterBytes, the body of a Put or Open fails with
	// it after that many bytes instead.
	Err        error
	AfterBytes int64
	// Truncate makes Put store that many bytes less and report success, as a
	// store does that loses data.
	Truncate int64
	// Corrupt flips a bit of the first byte that Put stores or Open returns,
	// silently.
	Corrupt bool
}

// Faulty wraps a driver and injects faults. It is safe for concurrent use. It
// is a storage.Spacer and storage.Sweeper; both answer
// errors.ErrUnsupported when the wrapped driver is not.
type Faulty struct {
	driver storage.Driver

	mu     sync.Mutex
	faults []*injected
	calls  map[Method]int
}

type injected struct {
	Fault
	seen int
}

var (
	_ storage.Driver   = (*Faulty)(nil)
	_ storage.Spacer   = (*Faulty)(nil)
	_ storage.Sweeper  = (*Faulty)(nil)
	_ storage.Foldered = (*Faulty)(nil)
)

// NewFaulty wraps d. Closing it closes d.
func NewFaulty(d storage.Driver, faults ...Fault) *Faulty {
	f := &Faulty{driver: d, calls: map[Method]int{}}
	for _, fault := range faults {
		f.Inject(fault)
	}
	return f
}

// Inject adds a fault.
func (f *Faulty) Inject(fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(f.faults, &injected{Fault: fault})
}

// Heal removes all faults.
func (f *Faulty) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = nil
}

// Calls returns how often m was called.
func (f *Faulty) Calls(m Method) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[m]
}

// strike counts a call and returns the first fault that hits it.
func (f *Faulty) strike(m Method, key string) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[m]++
	for _, i := range f.faults {
		if i.Method != "" && i.Method != m || i.Key != nil && !i.Key(key) {
			continue
		}
		i.seen++
		if i.seen > i.Skip && (i.Times == 0 || i.seen <= i.Skip+i.Times) {
			return i.Fault
		}
	}
	return Fault{}
}

func (f *Faulty) before(ctx context.Context, m Method, key string) (Fault, error) {
	fault := f.strike(m, key)
	if fault.Delay > 0 {
		timer := time.NewTimer(fault.Delay)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return fault, ctx.Err()
		case <-timer.C:
		}
	}
	if fault.Do != nil {
		if err := fault.Do(ctx, key); err != nil {
			return fault, err
		}
	}
	if fault.AfterBytes == 0 {
		return fault, fault.Err
	}
	return fault, nil
}

// Put stores what the fault leaves of r.
func (f *Faulty) Put(ctx context.Context, key string, r io.Reader, opts storage.PutOptions) (storage.Object, error) {
	fault, err := f.before(ctx, Put, key)
	if err != nil {
		return storage.Object{}, err
	}
	if fault.Err != nil {
		r = &failing{r: r, left: fault.AfterBytes, err: fault.Err}
	}
	if fault.Truncate == 0 && !fault.Corrupt {
		return f.driver.Put(ctx, key, r, opts)
	}
	return f.putDamaged(ctx, key, r, opts, fault)
}

// putDamaged reports what should have been stored.
func (f *Faulty) putDamaged(ctx context.Context, key string, r io.Reader, opts storage.PutOptions, fault Fault) (storage.Object, error) {
	body, err := io.ReadAll(r)
	if err != nil {
		return storage.Object{}, err
	}
	honest := storage.Object{Key: key, Size: int64(len(body)), SHA256: Digest(body)}
	body = body[:max(0, int64(len(body))-fault.Truncate)]
	if fault.Corrupt && len(body) > 0 {
		body[0] ^= 1
	}
	opts.Size, opts.SHA256 = int64(len(body)), ""
	o, err := f.driver.Put(ctx, key, newUnseekable(body), opts)
	honest.Modified = o.Modified
	return honest, err
}

// Open reads an object, with the fault's damage.
func (f *Faulty) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	fault, err := f.before(ctx, Open, key)
	if err != nil {
		return nil, err
	}
	rc, err := f.driver.Open(ctx, key, offset, length)
	if err != nil {
		return nil, err
	}
	var r io.Reader = rc
	if fault.Err != nil {
		r = &failing{r: r, left: fault.AfterBytes, err: fault.Err}
	}
	if fault.Corrupt {
		r = &flipping{r: r}
	}
	return readCloser{r, rc}, nil
}

// Stat describes an object.
func (f *Faulty) Stat(ctx context.Context, key string) (storage.Object, error) {
	if _, err := f.before(ctx, Stat, key); err != nil {
		return storage.Object{}, err
	}
	return f.driver.Stat(ctx, key)
}

// Delete removes an object.
func (f *Faulty) Delete(ctx context.Context, key string) error {
	if _, err := f.before(ctx, Delete, key); err != nil {
		return err
	}
	return f.driver.Delete(ctx, key)
}

// List yields objects; a fault ends the sequence.
func (f *Faulty) List(ctx context.Context, prefix string) iter.Seq2[storage.Object, error] {
	return func(yield func(storage.Object, error) bool) {
		if _, err := f.before(ctx, List, prefix); err != nil {
			yield(storage.Object{}, err)
			return
		}
		f.driver.List(ctx, prefix)(yield)
	}
}

// ListFolder yields what lies in a folder; faults of List strike it.
func (f *Faulty) ListFolder(ctx context.Context, folder string) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		if _, err := f.before(ctx, List, folder); err != nil {
			yield(storage.Entry{}, err)
			return
		}
		storage.ListFolder(ctx, f.driver, folder)(yield)
	}
}

// Available returns the wrapped driver's room.
func (f *Faulty) Available(ctx context.Context) (int64, error) {
	if _, err := f.before(ctx, Available, ""); err != nil {
		return 0, err
	}
	if s, ok := f.driver.(storage.Spacer); ok {
		return s.Available(ctx)
	}
	return 0, errors.ErrUnsupported
}

// Sweep sweeps the wrapped driver.
func (f *Faulty) Sweep(ctx context.Context, prefix string, age time.Duration) (int, error) {
	if _, err := f.before(ctx, Sweep, prefix); err != nil {
		return 0, err
	}
	if s, ok := f.driver.(storage.Sweeper); ok {
		return s.Sweep(ctx, prefix, age)
	}
	return 0, errors.ErrUnsupported
}

// Close closes the wrapped driver.
func (f *Faulty) Close() error { return f.driver.Close() }
