package audit

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/dataguardian/dataguardian/internal/paging"
)

const (
	// window is how long refusals of the same kind are one entry.
	window = 10 * time.Minute
	// maxKinds bounds the entries of refusals in a window, for each actor and for those
	// without a credential together. What comes on top is one entry.
	maxKinds = 32
	// maxActors bounds the memory of refusals; actors have good credentials.
	maxActors = 1000
	// countEvery is how often counts are written.
	countEvery = 5 * time.Second
	// pruneEvery is how often old entries are removed.
	pruneEvery = time.Hour
	// writeTimeout bounds a write after a call, whose own time may be over.
	writeTimeout = 10 * time.Second
)

// Elsewhere is the address of an entry that stands for several.
const Elsewhere = "various"

// Trail writes entries. It is safe for concurrent use.
type Trail struct {
	store Store
	keep  time.Duration
	log   *slog.Logger

	mu       sync.Mutex
	refusals map[string]map[kind]*refusal // by actor
}

// kind is what makes refusals the same.
type kind struct{ action, address, outcome string }

type refusal struct {
	id      string
	since   time.Time
	pending int // not written yet
}

// NewTrail returns a trail whose entries are kept for so long.
func NewTrail(store Store, keep time.Duration, logger *slog.Logger) *Trail {
	return &Trail{store: store, keep: keep, log: logger, refusals: map[string]map[kind]*refusal{}}
}

// Begin writes down what is about to be done, and fails when it cannot: nothing
// is done that is not written down.
func (t *Trail) Begin(ctx context.Context, e Entry) (id string, err error) {
	e.ID, e.Outcome, e.Count = uuid.NewString(), Started, 1
	return e.ID, t.store.Create(ctx, e)
}

// End says what became of it; the call's context may be over.
func (t *Trail) End(ctx context.Context, id, outcome, entityID string) {
	t.late(ctx, func(ctx context.Context) error { return t.store.Finish(ctx, id, outcome, entityID) })
}

// Done writes down what was done without Begin.
func (t *Trail) Done(ctx context.Context, e Entry) {
	e.ID, e.Count = uuid.NewString(), 1
	t.late(ctx, func(ctx context.Context) error { return t.store.Create(ctx, e) })
}

// Refused writes down what was not let through. However often that happens, the
// entries stay few: those of the same kind are one, with a count.
func (t *Trail) Refused(ctx context.Context, e Entry) {
	entry, first := t.count(e)
	if first {
		t.late(ctx, func(ctx context.Context) error { return t.store.Create(ctx, entry) })
	}
}

// count adds a refusal to its entry; the first one of a kind must be written.
func (t *Trail) count(e Entry) (Entry, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	kinds := t.refusals[e.Actor]
	if kinds == nil {
		if len(t.refusals) >= maxActors {
			clear(t.refusals)
		}
		kinds = map[kind]*refusal{}
		t.refusals[e.Actor] = kinds
	}
	k := kind{e.Action, e.Address, e.Outcome}
	if kinds[k] == nil && len(kinds) >= maxKinds {
		k = kind{action: "api.refused", address: Elsewhere, outcome: e.Outcome}
		e.Action, e.Address, e.EntityType, e.EntityID, e.RequestID, e.Metadata = k.action, k.address, "api", "", "", nil
	}
	if r := kinds[k]; r != nil {
		r.pending++
		return e, false
	}
	e.ID, e.Count = uuid.NewString(), 1
	kinds[k] = &refusal{id: e.ID, since: time.Now()}
	return e, true
}

// late writes after a call. The call is over and cannot be undone: a failure goes
// to the log.
func (t *Trail) late(ctx context.Context, write func(ctx context.Context) error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	if err := write(ctx); err != nil {
		t.log.ErrorContext(ctx, "an entry of the audit log could not be written", "error", err)
	}
}

// List returns a page of entries, newest first, and the rows in all.
func (t *Trail) List(ctx context.Context, f Filter, p paging.Page) ([]Entry, int, error) {
	return t.store.List(ctx, f, p)
}

// Run writes counts and removes old entries until ctx ends.
func (t *Trail) Run(ctx context.Context) error {
	counting, pruning := time.NewTicker(countEvery), time.NewTicker(pruneEvery)
	defer counting.Stop()
	defer pruning.Stop()
	t.prune(ctx)
	for {
		select {
		case <-ctx.Done():
			t.writeCounts(ctx)
			return nil
		case <-counting.C:
			t.writeCounts(ctx)
		case <-pruning.C:
			t.prune(ctx)
		}
	}
}

func (t *Trail) writeCounts(ctx context.Context) {
	for id, more := range t.takeCounts(time.Now()) {
		t.late(ctx, func(ctx context.Context) error { return t.store.Add(ctx, id, more) })
	}
}

// takeCounts returns what is not written yet and forgets the kinds whose window is
// over.
func (t *Trail) takeCounts(now time.Time) map[string]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	counts := map[string]int{}
	for actor, kinds := range t.refusals {
		for k, r := range kinds {
			if r.pending > 0 {
				counts[r.id], r.pending = r.pending, 0
			}
			if now.Sub(r.since) >= window {
				delete(kinds, k)
			}
		}
		if len(kinds) == 0 {
			delete(t.refusals, actor)
		}
	}
	return counts
}

func (t *Trail) prune(ctx context.Context) {
	for {
		removed, err := t.store.Prune(ctx, t.keep)
		if err != nil && ctx.Err() == nil {
			t.log.WarnContext(ctx, "old entries of the audit log could not be removed; they are tried again in an hour", "error", err)
		}
		if err != nil || removed == 0 {
			return
		}
	}
}
