package artifact

import (
	"context"
	"sync"

	"github.com/dataguardian/dataguardian/internal/engine"
	"golang.org/x/sync/errgroup"
)

// uploads moves finished parts from the spool to the targets while more are
// made, and ends every target that has taken them all with the manifest.
type uploads struct {
	cfg      Config
	spool    *spool
	counters *counters
	// ctx ends with the reason why nothing more may be written anywhere.
	ctx  context.Context
	stop context.CancelCauseFunc
	// resumed parts may be in a target already.
	resumed bool
	// done is closed when every target has ended.
	done chan struct{}

	deliveries []*delivery

	mu       sync.Mutex
	changed  sync.Cond // any field below
	parts    []*part   // in the order they were finished
	waiting  []*part   // of parts: still in a bounded spool
	live     uint32    // set of the targets that are still wanted
	manifest []byte    // set once no part will be added
}

// startUploads begins to deliver. The caller adds parts, then calls finish or
// stop, then waits for done.
func startUploads(ctx context.Context, stop context.CancelCauseFunc, cfg Config, s *spool, c *counters) *uploads {
	u := newUploads(ctx, stop, cfg, s, c)
	u.start()
	return u
}

func newUploads(ctx context.Context, stop context.CancelCauseFunc, cfg Config, s *spool, c *counters) *uploads {
	u := &uploads{cfg: cfg, spool: s, counters: c, ctx: ctx, stop: stop, done: make(chan struct{})}
	u.changed.L = &u.mu
	for i, t := range cfg.Targets {
		u.deliveries = append(u.deliveries, &delivery{u: u, target: t, bit: 1 << i})
	}
	if cfg.Strategy == Replicate {
		for _, d := range u.deliveries {
			u.live |= d.bit
		}
	} else {
		u.live = u.deliveries[0].bit
	}
	return u
}

func (u *uploads) start() {
	unhook := context.AfterFunc(u.ctx, u.wake)
	go func() {
		defer close(u.done)
		defer unhook()
		if u.cfg.Strategy == Replicate {
			u.replicate()
		} else {
			u.fallback()
		}
		u.exhausted()
	}()
}

// cause is why nothing more may be written.
func (u *uploads) cause() error { return context.Cause(u.ctx) }

func (u *uploads) wake() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.changed.Broadcast()
}

func (u *uploads) replicate() {
	var g errgroup.Group
	for _, d := range u.deliveries {
		g.Go(func() error {
			u.settle(d, d.run(u.ctx))
			return nil
		})
	}
	g.Wait() //nolint:errcheck,gosec // every delivery keeps its own outcome
}

func (u *uploads) fallback() {
	for i, d := range u.deliveries {
		err := d.run(u.ctx)
		last := i == len(u.deliveries)-1
		if err != nil && !last && u.ctx.Err() == nil && u.complete(d) {
			u.cfg.Log(engine.LevelWarn, "Moving on to "+quoted(u.deliveries[i+1].target))
			u.replace(d, err, u.deliveries[i+1])
			continue
		}
		u.settle(d, err)
		return
	}
}

// complete reports whether the spool still holds every part, so that another
// target can take over from d.
func (u *uploads) complete(d *delivery) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.cfg.Spool == SpoolFull || d.confirmed == 0
}

// replace makes next the target that is wanted instead of d.
func (u *uploads) replace(d *delivery, err error, next *delivery) {
	u.mu.Lock()
	defer u.mu.Unlock()
	d.end(err)
	u.live = next.bit
}

// settle ends a delivery. Parts that only it still needed may go.
func (u *uploads) settle(d *delivery, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	d.end(err)
	if err != nil {
		u.live &^= d.bit
	}
	u.release()
}

// exhausted ends the dump too when every target has failed and the spool could
// not keep what is missing.
func (u *uploads) exhausted() {
	u.mu.Lock()
	none := u.live == 0
	u.mu.Unlock()
	if none && u.cfg.Spool == SpoolBounded {
		u.stop(u.failure())
	}
}

// add queues a finished part. With a bounded spool it waits until there is room.
func (u *uploads) add(ctx context.Context, p *part) error {
	defer context.AfterFunc(ctx, u.wake)()
	u.mu.Lock()
	defer u.mu.Unlock()
	for len(u.waiting) >= boundedParts && u.ctx.Err() == nil && ctx.Err() == nil {
		u.changed.Wait()
	}
	if u.ctx.Err() != nil {
		return u.cause()
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	u.parts = append(u.parts, p)
	if u.cfg.Spool == SpoolBounded {
		u.waiting = append(u.waiting, p)
	}
	u.changed.Broadcast()
	return nil
}

// finish says that no part will be added and what the manifest is.
func (u *uploads) finish(manifest []byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.manifest = manifest
	u.changed.Broadcast()
}

// take returns the next part for d, waiting for it, or nil when there are no
// more.
func (u *uploads) take(ctx context.Context, d *delivery) (*part, error) {
	defer context.AfterFunc(ctx, u.wake)()
	u.mu.Lock()
	defer u.mu.Unlock()
	for {
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case d.next < len(u.parts):
			p := u.parts[d.next]
			d.next++
			return p, nil
		case u.manifest != nil:
			return nil, nil
		}
		u.changed.Wait()
	}
}

// confirm notes that d has p.
func (u *uploads) confirm(d *delivery, p *part) {
	u.mu.Lock()
	defer u.mu.Unlock()
	d.confirmed++
	p.have |= d.bit
	u.release()
}

// release removes parts from a bounded spool that every wanted target has. The
// caller holds mu.
func (u *uploads) release() {
	if u.live == 0 {
		return
	}
	kept := u.waiting[:0]
	for _, p := range u.waiting {
		if p.have&u.live != u.live {
			kept = append(kept, p)
			continue
		}
		if err := u.spool.root.Remove(p.file); err != nil {
			u.cfg.Log(engine.LevelWarn, "A part stays in the spool until the backup ends: "+err.Error())
		}
	}
	clear(u.waiting[len(kept):])
	u.waiting = kept
	u.changed.Broadcast()
}
