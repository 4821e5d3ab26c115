package worker

import (
	"context"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/health"
)

// Registry tells everybody how the workers of this process do. It is a Service:
// it reports at its interval, on every change of state, and withdraws at the end.
type Registry struct {
	store    health.Store
	interval time.Duration
	logger   *slog.Logger
	changed  chan struct{}

	mu        sync.Mutex
	instances map[health.Role]health.Instance
}

// ttlFactor is how many reports an instance may miss before it counts as gone.
const ttlFactor = 4

// NewRegistry returns a registry that reports every interval.
func NewRegistry(store health.Store, interval time.Duration, logger *slog.Logger) *Registry {
	return &Registry{
		store: store, interval: interval, logger: logger, changed: make(chan struct{}, 1),
		instances: map[health.Role]health.Instance{},
	}
}

// Name implements Service.
func (r *Registry) Name() string { return "worker registry" }

// Run implements Service.
func (r *Registry) Run(ctx context.Context) error {
	ticker := time.NewTicker(r.interval)
	defer ticker.Stop()
	for ctx.Err() == nil {
		if err := r.store.Report(ctx, ttlFactor*r.interval, r.snapshot()...); err != nil && ctx.Err() == nil {
			r.logger.WarnContext(ctx, "the state of the workers could not be reported", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		case <-r.changed:
		}
	}
	return r.withdraw(context.WithoutCancel(ctx))
}

func (r *Registry) withdraw(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var ids []string
	for _, i := range r.snapshot() {
		ids = append(ids, i.ID)
	}
	if err := r.store.Withdraw(ctx, ids...); err != nil {
		r.logger.WarnContext(ctx, "the workers could not be withdrawn, they expire by themselves", "error", err)
	}
	return nil
}

func (r *Registry) snapshot() []health.Instance {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Values(r.instances))
}

// Register adds a role of this process, stopped until its first SetState.
func (r *Registry) Register(role health.Role) *Entry {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	i := health.Instance{ID: uuid.NewString(), Role: role, Host: host, PID: os.Getpid(), State: health.WorkerStopped}
	r.update(role, func(*health.Instance) health.Instance { return i })
	return &Entry{registry: r, role: role}
}

func (r *Registry) update(role health.Role, change func(*health.Instance) health.Instance) {
	r.mu.Lock()
	before := r.instances[role]
	after := change(&before)
	stateChanged := r.instances[role].State != after.State
	r.instances[role] = after
	r.mu.Unlock()
	if stateChanged {
		select {
		case r.changed <- struct{}{}:
		default:
		}
	}
}

// Entry is one role of this process. It may be used concurrently.
type Entry struct {
	registry  *Registry
	role      health.Role
	unclaimed bool // the error that is shown is of Claimed; the registry's lock guards it
}

// SetSpool names the spool of a backup worker: what waits there waits for it.
func (e *Entry) SetSpool(id string) {
	e.registry.update(e.role, func(i *health.Instance) health.Instance {
		i.Spool = id
		return *i
	})
}

// SetState says how the worker does.
func (e *Entry) SetState(state health.WorkerState) {
	e.registry.update(e.role, func(i *health.Instance) health.Instance {
		i.State = state
		return *i
	})
}

// Started notes that a piece of work has begun.
func (e *Entry) Started() {
	now := time.Now().UTC()
	e.registry.update(e.role, func(i *health.Instance) health.Instance {
		i.LastStartedAt = &now
		return *i
	})
}

// Finished notes that a piece of work has ended, and how.
func (e *Entry) Finished(err error) {
	now := time.Now().UTC()
	e.registry.update(e.role, func(i *health.Instance) health.Instance {
		i.LastFinishedAt = &now
		i.LastError = ""
		if err != nil {
			i.LastError = errs.Message(err)
		}
		e.unclaimed = false
		return *i
	})
}

// Claimed notes whether work could be asked for. An error is shown until it can, or a
// piece of work ends.
func (e *Entry) Claimed(err error) {
	e.registry.update(e.role, func(i *health.Instance) health.Instance {
		switch {
		case err != nil:
			i.LastError = errs.Message(err)
		case e.unclaimed:
			i.LastError = ""
		}
		e.unclaimed = err != nil
		return *i
	})
}
