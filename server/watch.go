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

// watch ends open streams whose caller may not call any more, and the live ones when the
// server stops. It asks once for each credential, however many streams it has.
type watch struct {
	still func(ctx context.Context, c *call) error

	mu      sync.Mutex
	streams map[credential]map[*call]watched
	stopped error // why live streams end; nil while they go on
}

// watched is an open stream.
type watched struct {
	end  context.CancelCauseFunc
	live bool // it goes on until it is told to stop
}

func newWatch(still func(ctx context.Context, c *call) error) *watch {
	return &watch{still: still, streams: map[credential]map[*call]watched{}}
}

// over watches over a stream until the returned function is called. Whoever may call
// as nobody may go on, whatever becomes of what it shows.
func (w *watch) over(c *call, s watched) (done func()) {
	shown := c.shown
	if c.principal.Role == auth.Nobody {
		shown = credential{}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.live && w.stopped != nil {
		s.end(w.stopped)
	}
	if w.streams[shown] == nil {
		w.streams[shown] = map[*call]watched{}
	}
	w.streams[shown][c] = s
	return func() { w.gone(shown, c) }
}

func (w *watch) gone(shown credential, c *call) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if delete(w.streams[shown], c); len(w.streams[shown]) > 0 {
		return
	}
	if delete(w.streams, shown); len(w.streams) == 0 {
		w.streams = map[credential]map[*call]watched{} // a map keeps the room for all it ever held
	}
}

// run looks at the callers until ctx ends, whose cause then ends the live streams.
func (w *watch) run(ctx context.Context) {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			w.stop(context.Cause(ctx))
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
		for _, s := range w.streams[c.shown] {
			s.end(err)
		}
		w.mu.Unlock()
	}
}

// stop ends the live streams, and each that begins later.
func (w *watch) stop(why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = why
	for _, streams := range w.streams {
		for _, s := range streams {
			if s.live {
				s.end(why)
			}
		}
	}
}

// callers returns one call of each credential.
func (w *watch) callers() []*call {
	w.mu.Lock()
	defer w.mu.Unlock()
	var one []*call
	for shown, calls := range w.streams {
		for c := range calls {
			if shown != (credential{}) {
				one = append(one, c)
			}
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
