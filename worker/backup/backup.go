// Package backup makes backups: it dumps a database through its engine into an
// artifact on the storages of its job, and commits it.
package backup

import (
	"context"
	"errors"
	"time"

	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/datasource"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/location"
	"github.com/dataguardian/dataguardian/storage"
	"github.com/dataguardian/dataguardian/worker"
	"github.com/dataguardian/dataguardian/worker/attempt"
)

// Datasources is what a backup needs of datasources.
type Datasources interface {
	Get(ctx context.Context, id string) (datasource.Datasource, error)
}

// Jobs is what a backup needs of jobs.
type Jobs interface {
	Get(ctx context.Context, id string) (backup.Job, error)
}

// Vault reaches into storages.
type Vault interface {
	Open(ctx context.Context, locationID string) (location.Location, storage.Driver, error)
	Remove(ctx context.Context, copies []backup.Copy) error
	RemoveUnlessWhole(ctx context.Context, copies []backup.Copy) (kept []backup.Copy, err error)
}

// Runner makes backups. Its Work belongs into a worker.Claimer.
type Runner struct {
	Desk           attempt.Desk
	Jobs           Jobs
	Datasources    Datasources
	Catalogue      backup.Catalogue
	Engines        map[engine.Type]engine.Engine
	Vault          Vault
	SpoolDir       string
	SpoolID        string        // names this machine's spool, see execution.Claimant
	StallTimeout   time.Duration // no bytes for so long ends a dump; 0: the engine's default
	UploadAttempts int           // tries of an upload before its storage counts as failed; 0: 10
	UploadBackoff  time.Duration // before the second try, doubling from there; 0: 500 ms
	SpoolKeep      time.Duration // how long a failed upload can be retried; 0: 24 hours
}

// Work makes the backup of one leased execution and books how it ended. The
// error is what went wrong with it, for the worker's state.
func (r *Runner) Work(ctx context.Context, l *worker.Leased) error {
	run, err := r.begin(ctx, l)
	if err != nil {
		return err // nothing is known of the execution: its lease runs out and it is tried again
	}
	out, err := run.work(ctx)
	err = attempt.Cause(ctx, err) // what the work met on its way out is not why it ended
	ending, cancel := attempt.Ending()
	defer cancel()
	switch {
	case errors.Is(err, execution.ErrLeaseLost):
		run.abort(ending)
		run.Abandon(ending)
	case errors.Is(err, worker.ErrShutdown):
		run.abort(ending)
		run.Release(ending, "The worker is shutting down; the backup starts again on another one")
	case errs.CodeOf(err) == errs.CodeDatabaseUnavailable:
		run.abort(ending)
		run.Postpone(ending, "The metadata database did not answer; the backup starts again now that it does")
	default:
		run.finish(ending, out, err)
	}
	run.closeTargets()
	return err
}

// begin loads what the run needs and opens its log.
func (r *Runner) begin(ctx context.Context, l *worker.Leased) (*run, error) {
	full, err := r.Desk.Executions.Get(ctx, l.Execution.ID)
	if err != nil {
		return nil, err
	}
	source, err := r.Datasources.Get(ctx, full.DatasourceID)
	if err != nil && errs.KindOf(err) != errs.NotFound {
		return nil, err
	}
	options := backup.Options{}
	if full.Request.Options != nil {
		options = *full.Request.Options
	}
	a, err := r.Desk.Begin(l, full, "BACKUP", source.Conn.Password)
	if err != nil {
		return nil, err
	}
	return &run{Runner: r, Attempt: a, source: source, options: options.WithDefaults()}, nil
}
