package artifact

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/dataguardian/dataguardian/storage"
)

// Retry is exponential backoff with jitter. A zero value means the default.
type Retry struct {
	Attempts int           // tries in all; default 10
	Base     time.Duration // before the second try; doubles from there; default 500ms
	Max      time.Duration // upper bound of one wait; default 30s
	// Sleep waits or returns the cause of the end of ctx; default a timer.
	Sleep func(ctx context.Context, d time.Duration) error
	// Again hears of every try after the first, before its wait; default nobody. It
	// is called from several goroutines.
	Again func()
}

func (r Retry) withDefaults() Retry {
	orDefault(&r.Attempts, 10)
	orDefault(&r.Base, 500*time.Millisecond)
	orDefault(&r.Max, 30*time.Second)
	if r.Sleep == nil {
		r.Sleep = sleep
	}
	if r.Again == nil {
		r.Again = func() {}
	}
	return r
}

// delay after the n-th try: between half and all of the doubled base.
func (r Retry) delay(n int) time.Duration {
	d := r.Max
	if n < 32 && r.Base < r.Max>>(n-1) {
		d = r.Base << (n - 1)
	}
	return d/2 + rand.N(d/2+1) //nolint:gosec // jitter, not a secret
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// hopeless reports whether another try cannot help. A timeout inside a driver
// can: the caller's own context is looked at first.
func hopeless(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return false
	}
	return errors.Is(err, errObjectLost) || storage.Permanent(err)
}
