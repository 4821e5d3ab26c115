// Package backup makes backups: it dumps a database through its engine into an
// artifact on the storages of its job, and commits it.
package backup

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/datasource"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/location"
	"github.com/dataguardian/dataguardian/internal/logs"
	"github.com/dataguardian/dataguardian/storage"
	"github.com/dataguardian/dataguardian/worker"
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
}

// Meter counts what was done.
type Meter interface {
	Ended(e execution.Execution, r execution.Result, took time.Duration)
}

// Runner makes backups. Its Work belongs into a worker.Claimer.
type Runner struct {
	Executions   execution.Store
	Jobs         Jobs
	Datasources  Datasources
	Catalogue    backup.Catalogue
	Engines      map[engine.Type]engine.Engine
	Vault        Vault
	Hub          logs.Hub
	Terminal     *logs.Terminal
	Meter        Meter
	SpoolDir     string
	StallTimeout time.Duration // no bytes for so long ends a dump; 0: the engine's default
	SpoolKeep    time.Duration // how long a failed upload can be retried; 0: 24 hours
	Logger       *slog.Logger
}

// Work makes the backup of one leased execution and books how it ended. The
// error is what went wrong with it, for the worker's state.
func (r *Runner) Work(ctx context.Context, l *worker.Leased) error {
	run, err := r.begin(ctx, l)
	if err != nil {
		return err // nothing is known of the execution: its lease runs out and it is tried again
	}
	defer run.cleanup()
	result, err := run.backup(ctx)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx) // what the work met on its way out is not why it ended
	}
	switch {
	case errors.Is(err, execution.ErrLeaseLost):
		run.abandon()
	case errors.Is(err, worker.ErrShutdown):
		run.release()
	default:
		run.finish(result, err)
	}
	return err
}

// begin loads what the run needs and opens its log.
func (r *Runner) begin(ctx context.Context, l *worker.Leased) (*run, error) {
	full, err := r.Executions.Get(ctx, l.Execution.ID)
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
	temp, err := os.MkdirTemp("", "dataguardian-")
	if err != nil {
		return nil, err
	}
	return &run{
		Runner: r, leased: l, execution: full, source: source, options: options.WithDefaults(), temp: temp, started: time.Now(),
		log: logs.NewRecorder(logs.RecorderConfig{
			ExecutionID: full.ID, Label: "BACKUP", Job: full.JobName, Stored: full.Logs, Hub: r.Hub, Terminal: r.Terminal,
			Redactor: logs.NewRedactor(source.Conn.Password),
			Save: func(ctx context.Context, lines []logs.Line) error {
				return r.Executions.SaveLogs(ctx, l.Lease, lines)
			},
			Report: func(err error) {
				r.Logger.Warn("a log line did not get through at once", "execution_id", full.ID, "error", err)
			},
		}),
	}, nil
}
