package server

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/dataguardian/dataguardian/internal/auth"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// watchEvery is how often the callers of open streams are looked at. With what the
// authenticator remembers a stream ends within five seconds of its credential.
const watchEvery = 2 * time.Second

// watch ends open streams whose caller may not call any more. It asks once for each
// credential, however many streams it has.
type watch struct {
	still func(ctx context.Context, c *call) error

	mu      sync.Mutex
	streams map[credential]map[*call]context.CancelCauseFunc
}

func newWatch(still func(ctx context.Context, c *call) error) *watch {
	return &watch{still: still, streams: map[credential]map[*call]context.CancelCauseFunc{}}
}

// over watches over a stream until the returned function is called. A call without
// a credential is not watched.
func (w *watch) over(c *call, end context.CancelCauseFunc) (done func()) {
	if c.principal.Role == auth.Nobody {
		return func() {}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.streams[c.shown] == nil {
		w.streams[c.shown] = map[*call]context.CancelCauseFunc{}
	}
	w.streams[c.shown][c] = end
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.streams[c.shown], c)
		if len(w.streams[c.shown]) == 0 {
			delete(w.streams, c.shown)
		}
	}
}

// run looks at the callers until ctx ends.
func (w *watch) run(ctx context.Context) {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			w.look(ctx)
		}
	}
}

func (w *watch) look(ctx context.Context) {
	for _, c := range w.callers() {
		err := w.still(ctx, c)
		if kind := errs.KindOf(err); err == nil || kind != errs.Unauthenticated && kind != errs.Denied {
			continue // whether a credential is good cannot be said now
		}
		w.mu.Lock()
		for _, end := range w.streams[c.shown] {
			end(err)
		}
		w.mu.Unlock()
	}
}

// callers returns one call of each credential.
func (w *watch) callers() []*call {
	w.mu.Lock()
	defer w.mu.Unlock()
	var one []*call
	for _, calls := range w.streams {
		for c := range calls {
			one = append(one, c)
			break
		}
	}
	return one
}

// still fails when the caller of a stream is not the one any more who began it.
func (g *guard) still(ctx context.Context, c *call) error {
	now, err := g.who(ctx, c.shown)
	switch {
	case err != nil:
		return err
	case now.Role < c.principal.Role || !slices.Equal(now.Scope, c.principal.Scope):
		return errs.New(errs.Denied, errs.CodeForbidden, "the role of %q was lowered; connect again", now.Name)
	}
	return nil
}
