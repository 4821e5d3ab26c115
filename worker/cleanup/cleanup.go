// Package cleanup applies retention between backups and removes what nothing
// owns any more: doomed copies, stale spools, leftovers of interrupted writes.
package cleanup

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/health"
	"github.com/dataguardian/dataguardian/internal/location"
	"github.com/dataguardian/dataguardian/internal/paging"
	"github.com/dataguardian/dataguardian/storage"
	"github.com/dataguardian/dataguardian/worker"
)

const (
	// doomedLimit bounds the copies of one cycle.
	doomedLimit = 500
	// defaultGrace is how old what nothing owns must be before it is removed.
	defaultGrace = 24 * time.Hour
)

// Vault is what cleaning up needs of storages.
type Vault interface {
	Remove(ctx context.Context, copies []backup.Copy) error
	Open(ctx context.Context, locationID string) (location.Location, storage.Driver, error)
	Reconcile(ctx context.Context, locationID string, grace time.Duration) (backup.Findings, error)
}

// Spool removes the spools of executions that do not need them any more.
type Spool interface {
	Sweep(ctx context.Context) (removed int, err error)
}

// Notes removes notifications that are older than age.
type Notes interface {
	Prune(ctx context.Context, age time.Duration) (removed int, err error)
}

// Cleaner is a worker.Service.
type Cleaner struct {
	Jobs        backup.JobStore
	Catalogue   backup.Catalogue
	Locations   location.Store
	Vault       Vault
	Restores    Restores
	Datasources Datasources
	Engines     map[engine.Type]engine.Engine
	Spool       Spool
	Health      health.Store
	Notes       Notes
	Entry       *worker.Entry
	Logger      *slog.Logger
	Interval    time.Duration // 5 min
	Grace       time.Duration // how old what nothing owns must be to be removed; 24 hours
	KeepChecks  time.Duration // how long health checks are kept; 30 days
	KeepNotes   time.Duration // how long notifications are kept; 90 days
	lastSweep   time.Time
	sweepPeriod time.Duration
}

// Name implements worker.Service.
func (c *Cleaner) Name() string { return "cleanup worker" }

// Run implements worker.Service.
func (c *Cleaner) Run(ctx context.Context) error {
	if c.Interval == 0 {
		c.Interval = 5 * time.Minute
	}
	if c.Grace == 0 {
		c.Grace = defaultGrace
	}
	if c.KeepChecks == 0 {
		c.KeepChecks = 30 * 24 * time.Hour
	}
	if c.KeepNotes == 0 {
		c.KeepNotes = 90 * 24 * time.Hour
	}
	c.sweepPeriod = max(min(time.Hour, c.Grace), c.Interval)
	c.Entry.SetState(health.WorkerRunning)
	defer c.Entry.SetState(health.WorkerStopped)
	worker.Every(ctx, c.Interval, c.cycle)
	return nil
}

// cycle does every duty once; one that fails does not keep the others from it.
func (c *Cleaner) cycle(ctx context.Context) {
	c.Entry.Started()
	var failures []error
	for _, duty := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"retention", c.retention},
		{"doomed copies", c.doomed},
		{"stale spools", c.spools},
		{"leftovers of restores", c.restores},
		{"old health checks", c.checks},
		{"old notifications", c.notes},
		{"counts of executions", c.Health.FoldCounts},
		{"what nothing owns", c.leftovers},
	} {
		if err := duty.do(ctx); err != nil && ctx.Err() == nil {
			c.Logger.WarnContext(ctx, "a part of cleaning up failed and is tried again", "part", duty.name, "error", err)
			failures = append(failures, err)
		}
	}
	c.Entry.Finished(errors.Join(failures...))
}

// retention applies the policy of every job: it matters when a deletion failed
// before, or when backups grow out of a calendar rule.
func (c *Cleaner) retention(ctx context.Context) error {
	var failures []error
	for page := (paging.Page{Number: 1, Limit: paging.MaxLimit}); ; page.Number++ {
		jobs, total, err := c.Jobs.List(ctx, backup.JobFilter{}, page)
		if err != nil {
			return errors.Join(append(failures, err)...)
		}
		for _, j := range jobs {
			if _, err := backup.ApplyRetention(ctx, c.Catalogue, c.Vault, j); err != nil {
				failures = append(failures, err)
			}
		}
		if page.Number >= page.Pages(total) {
			return errors.Join(failures...)
		}
	}
}

// doomed removes copies that were marked, given up or left behind.
func (c *Cleaner) doomed(ctx context.Context) error {
	copies, err := c.Catalogue.Doomed(ctx, nil, doomedLimit)
	if err != nil || len(copies) == 0 {
		return err
	}
	err = c.Vault.Remove(ctx, copies)
	if err == nil {
		c.Logger.InfoContext(ctx, "copies that nothing needs were removed", "copies", len(copies))
	}
	return err
}

func (c *Cleaner) spools(ctx context.Context) error { return sweepSpools(ctx, c.Spool, c.Logger) }

func sweepSpools(ctx context.Context, s Spool, logger *slog.Logger) error {
	removed, err := s.Sweep(ctx)
	if removed > 0 {
		logger.InfoContext(ctx, "stale spools were removed", "spools", removed)
	}
	return err
}

func (c *Cleaner) notes(ctx context.Context) error {
	_, err := c.Notes.Prune(ctx, c.KeepNotes)
	return err
}

func (c *Cleaner) checks(ctx context.Context) error {
	_, err := c.Health.PruneChecks(ctx, c.KeepChecks)
	return err
}

// leftovers compares the storages with the catalogue, now and then: what
// interrupted writes left goes, what is gone is recorded.
func (c *Cleaner) leftovers(ctx context.Context) error {
	if time.Since(c.lastSweep) < c.sweepPeriod {
		return nil
	}
	c.lastSweep = time.Now()
	var failures []error
	for page := (paging.Page{Number: 1, Limit: paging.MaxLimit}); ; page.Number++ {
		locations, total, err := c.Locations.List(ctx, location.Filter{}, page)
		if err != nil {
			return errors.Join(append(failures, err)...)
		}
		for _, l := range locations {
			if err := c.sweep(ctx, l.ID); err != nil {
				failures = append(failures, err)
			}
		}
		if page.Number >= page.Pages(total) {
			return errors.Join(failures...)
		}
	}
}

func (c *Cleaner) sweep(ctx context.Context, locationID string) error {
	l, driver, err := c.Vault.Open(ctx, locationID)
	if err != nil {
		return err
	}
	if sweeper, ok := driver.(storage.Sweeper); ok {
		removed, sweepErr := sweeper.Sweep(ctx, "", c.Grace)
		if removed > 0 {
			c.Logger.InfoContext(ctx, "leftovers of interrupted writes were removed", "storage", l.Name, "count", removed)
		}
		err = sweepErr
	}
	if err := errors.Join(err, driver.Close()); err != nil {
		return err
	}
	found, err := c.Vault.Reconcile(ctx, locationID, c.Grace)
	for _, path := range found.Removed {
		c.Logger.InfoContext(ctx, "objects that nothing owned were removed", "storage", l.Name, "path", path)
	}
	for _, path := range found.Missing {
		c.Logger.WarnContext(ctx, "a backup has lost objects", "storage", l.Name, "path", path)
	}
	for _, path := range found.Foreign {
		c.Logger.InfoContext(ctx, "a whole backup is not in the catalogue and is kept", "storage", l.Name, "path", path)
	}
	return err
}
