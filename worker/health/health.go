// Package health checks datasources and storage locations at their interval and
// keeps what it finds.
package health

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/dataguardian/dataguardian/internal/datasource"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/health"
	"github.com/dataguardian/dataguardian/internal/location"
	"github.com/dataguardian/dataguardian/storage"
	"github.com/dataguardian/dataguardian/worker"
)

const (
	// checkTimeout bounds one check.
	checkTimeout = 15 * time.Second
	// hold is how long a process may have a turn: the check, and then some.
	hold = 2*checkTimeout + 30*time.Second
	// parallel bounds the checks of one process at once.
	parallel = 16
	// lookEvery is how often due checks are looked for; at short intervals, more often.
	lookEvery = time.Second
)

// Vault opens storages.
type Vault interface {
	Open(ctx context.Context, locationID string) (location.Location, storage.Driver, error)
}

// Checker is a worker.Service. Any number of processes may run one: each check is
// done by the one that takes its turn.
type Checker struct {
	Datasources datasource.Store
	Engines     map[engine.Type]engine.Engine
	Vault       Vault
	Store       health.Store
	Entry       *worker.Entry
	Logger      *slog.Logger
	Rules       health.Rules
}

// Name implements worker.Service.
func (c *Checker) Name() string { return "health worker" }

// Run implements worker.Service.
func (c *Checker) Run(ctx context.Context) error {
	c.Rules = c.Rules.WithDefaults()
	c.Entry.SetState(health.WorkerRunning)
	defer c.Entry.SetState(health.WorkerStopped)
	r := round{Checker: c, slots: make(chan struct{}, parallel)}
	worker.Every(ctx, min(lookEvery, c.Rules.Interval/4), r.look)
	r.running.Wait()
	return nil
}

// round is the checks that run now.
type round struct {
	*Checker
	slots   chan struct{}
	running sync.WaitGroup
}

// look takes as many due checks as there is room for, and starts them.
func (r *round) look(ctx context.Context) {
	for _, kind := range []struct {
		take  func(ctx context.Context, limit int, hold time.Duration) ([]string, error)
		check func(ctx context.Context, id string) error
	}{
		{r.Store.TakeDatasources, r.datasource},
		{r.Store.TakeStorages, r.location},
	} {
		room := cap(r.slots) - len(r.slots)
		if room == 0 {
			return
		}
		ids, err := kind.take(ctx, room, hold)
		if err != nil {
			r.failed(ctx, err)
			return
		}
		for _, id := range ids {
			r.slots <- struct{}{}
			r.running.Go(func() {
				defer func() { <-r.slots }()
				r.one(ctx, id, kind.check)
			})
		}
	}
}

func (r *round) one(ctx context.Context, id string, check func(ctx context.Context, id string) error) {
	r.Entry.Started()
	if err := check(ctx, id); err != nil {
		r.failed(ctx, err)
		return
	}
	r.Entry.Finished(nil)
}

// failed notes that a check could not be done or kept; what a check found is no
// failure. Its turn comes again.
func (r *round) failed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	r.Entry.Finished(err)
	r.Logger.WarnContext(ctx, "a health check could not be completed, its turn comes again", "error", err)
}

// datasource checks one database.
func (c *Checker) datasource(ctx context.Context, id string) error {
	d, err := c.Datasources.Get(ctx, id)
	if errs.KindOf(err) == errs.NotFound {
		return nil // deleted since its turn came
	}
	if err != nil {
		return err
	}
	e, ok := c.Engines[d.Type]
	if !ok {
		return nil
	}
	pingCtx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	started := time.Now()
	info, pingErr := e.Ping(pingCtx, d.Conn)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	check := health.Check{ID: uuid.NewString(), EntityID: d.ID, Outcome: outcome(pingErr, pingCtx.Err() != nil)}
	if pingErr == nil {
		latency := int(time.Since(started).Milliseconds())
		check.LatencyMS = &latency
		check.Metadata = map[string]any{"server_version": info.Version}
	} else {
		check.ErrorMessage = errs.Message(pingErr)
	}
	return kept(c.Store.RecordDatasource(ctx, check, c.Rules))
}

func outcome(err error, timedOut bool) health.Outcome {
	switch {
	case err == nil:
		return health.OK
	case timedOut:
		return health.Timeout
	}
	switch errs.CodeOf(err) {
	case errs.CodeDatasourceAuth:
		return health.AuthFailed
	case errs.CodeDatasourceUnreachable:
		return health.Unreachable
	default:
		return health.Error
	}
}

// kept takes it for granted that what was deleted meanwhile keeps no checks.
func kept(err error) error {
	if errs.KindOf(err) == errs.NotFound {
		return nil
	}
	return err
}

// location checks one storage location.
func (c *Checker) location(ctx context.Context, id string) error {
	checkCtx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	started := time.Now()
	available, checkErr := c.try(checkCtx, id)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errs.KindOf(checkErr) == errs.NotFound {
		return nil // deleted since its turn came
	}
	check := health.Check{ID: uuid.NewString(), EntityID: id, Outcome: health.OK, AvailableBytes: available}
	if checkErr != nil {
		check.Outcome, check.ErrorMessage = health.Error, errs.Message(checkErr)
		check.Full = errs.CodeOf(checkErr) == errs.CodeStorageFull
	} else {
		latency := int(time.Since(started).Milliseconds())
		check.LatencyMS = &latency
	}
	return kept(c.Store.RecordStorage(ctx, check, c.Rules))
}

func (c *Checker) try(ctx context.Context, id string) (*int64, error) {
	_, driver, err := c.Vault.Open(ctx, id)
	if err != nil {
		return nil, err
	}
	report, err := storage.Validate(ctx, driver, storage.ValidateOptions{})
	if closeErr := driver.Close(); err == nil && closeErr != nil {
		err = storage.Explain(closeErr)
	}
	return report.Available, err
}
