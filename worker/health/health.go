// Package health checks datasources and storage locations at their interval and
// keeps what it finds.
package health

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/dataguardian/dataguardian/internal/datasource"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/health"
	"github.com/dataguardian/dataguardian/internal/location"
	"github.com/dataguardian/dataguardian/internal/paging"
	"github.com/dataguardian/dataguardian/storage"
	"github.com/dataguardian/dataguardian/worker"
)

const (
	// checkTimeout bounds one check.
	checkTimeout = 15 * time.Second
	// parallel bounds the checks at once.
	parallel = 8
)

// Vault opens storages.
type Vault interface {
	Open(ctx context.Context, locationID string) (location.Location, storage.Driver, error)
}

// Checker is a worker.Service.
type Checker struct {
	Datasources datasource.Store
	Engines     map[engine.Type]engine.Engine
	Locations   location.Store
	Vault       Vault
	Store       health.Store
	Entry       *worker.Entry
	Logger      *slog.Logger
	Interval    time.Duration // 1 min
}

// Name implements worker.Service.
func (c *Checker) Name() string { return "health worker" }

// Run implements worker.Service.
func (c *Checker) Run(ctx context.Context) error {
	if c.Interval == 0 {
		c.Interval = time.Minute
	}
	c.Entry.SetState(health.WorkerRunning)
	defer c.Entry.SetState(health.WorkerStopped)
	worker.Every(ctx, c.Interval, func(ctx context.Context) {
		c.Entry.Started()
		err := c.cycle(ctx)
		if ctx.Err() != nil {
			return
		}
		c.Entry.Finished(err)
		if err != nil {
			c.Logger.WarnContext(ctx, "health checks could not be completed, trying again", "error", err)
		}
	})
	return nil
}

// cycle checks everything once, spread over a part of the interval.
func (c *Checker) cycle(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	if err := c.eachDatasource(ctx, func(d datasource.Datasource) {
		group.Go(func() error { return c.spread(ctx, func() error { return c.datasource(ctx, d) }) })
	}); err != nil {
		return err
	}
	if err := c.eachLocation(ctx, func(l location.Location) {
		group.Go(func() error { return c.spread(ctx, func() error { return c.location(ctx, l) }) })
	}); err != nil {
		return err
	}
	return group.Wait()
}

// spread waits a random moment first, so that many checks do not hit one host at
// the same time.
func (c *Checker) spread(ctx context.Context, check func() error) error {
	timer := time.NewTimer(time.Duration(rand.Int64N(int64(c.Interval)/20 + 1))) //nolint:gosec // jitter, not a secret
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return check()
	}
}

func (c *Checker) eachDatasource(ctx context.Context, each func(datasource.Datasource)) error {
	enabled := true
	for page := (paging.Page{Number: 1, Limit: paging.MaxLimit}); ; page.Number++ {
		rows, total, err := c.Datasources.List(ctx, datasource.Filter{Enabled: &enabled}, page)
		if err != nil {
			return err
		}
		for _, d := range rows {
			each(d)
		}
		if page.Number >= page.Pages(total) {
			return nil
		}
	}
}

func (c *Checker) eachLocation(ctx context.Context, each func(location.Location)) error {
	for page := (paging.Page{Number: 1, Limit: paging.MaxLimit}); ; page.Number++ {
		rows, total, err := c.Locations.List(ctx, location.Filter{}, page)
		if err != nil {
			return err
		}
		for _, l := range rows {
			each(l)
		}
		if page.Number >= page.Pages(total) {
			return nil
		}
	}
}

// datasource checks one database.
func (c *Checker) datasource(ctx context.Context, listed datasource.Datasource) error {
	d, err := c.Datasources.Get(ctx, listed.ID)
	if errs.KindOf(err) == errs.NotFound {
		return nil // deleted since it was listed
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
	return c.Store.RecordDatasource(ctx, check, next(d.Status, pingErr == nil))
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

// next is the status after a check. One failure of a healthy database is a
// warning, the second in a row is critical: a single lost packet wakes nobody.
func next(now datasource.Status, ok bool) datasource.Status {
	switch {
	case ok:
		return datasource.Healthy
	case now == datasource.Healthy:
		return datasource.Warning
	default:
		return datasource.Critical
	}
}

// location checks one storage location.
func (c *Checker) location(ctx context.Context, l location.Location) error {
	checkCtx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	started := time.Now()
	available, checkErr := c.try(checkCtx, l.ID)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errs.KindOf(checkErr) == errs.NotFound {
		return nil // deleted since it was listed
	}
	check := health.Check{ID: uuid.NewString(), EntityID: l.ID, Outcome: health.OK, AvailableBytes: available}
	result := location.TestResult{Err: checkErr}
	if checkErr != nil {
		check.Outcome, check.ErrorMessage = health.Error, errs.Message(checkErr)
	} else {
		latency := int(time.Since(started).Milliseconds())
		check.LatencyMS = &latency
	}
	return c.Store.RecordStorage(ctx, check, result.Status())
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
