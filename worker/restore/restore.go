// Package restore brings backups back, and proves that they can be: it restores
// into a database, and verifies artifacts without one.
package restore

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"

	"filippo.io/age"

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

// Datasources is what a restore needs of datasources.
type Datasources interface {
	Get(ctx context.Context, id string) (datasource.Datasource, error)
}

// Vault opens storages.
type Vault interface {
	Open(ctx context.Context, locationID string) (location.Location, storage.Driver, error)
}

// Identities finds the secret keys that open encrypted backups. They never leave
// the worker.
type Identities interface {
	// Load returns the identities of a reference; the empty one is the default.
	Load(reference string) ([]age.Identity, error)
}

// Catalogue is what a restore needs of the catalogue.
type Catalogue interface {
	Get(ctx context.Context, executionID string) (backup.Backup, error)
	MarkMissing(ctx context.Context, c backup.Copy, why string) error
	MarkFound(ctx context.Context, c backup.Copy) error
}

// Restores is what a restore holds and may leave behind.
type Restores interface {
	HoldTarget(ctx context.Context, l execution.Lease, key string) error
	NoteLeftovers(ctx context.Context, l execution.Lease, x execution.Leftovers) error
	ForgetLeftovers(ctx context.Context, executionID string) error
}

// Runner restores and verifies. Its Work belongs into a worker.Claimer.
type Runner struct {
	Desk         attempt.Desk
	Datasources  Datasources
	Catalogue    Catalogue
	Restores     Restores
	Engines      map[engine.Type]engine.Engine
	Vault        Vault
	Identities   Identities
	StallTimeout time.Duration
}

// run is one attempt at one restore or verification.
type run struct {
	*Runner
	*attempt.Attempt
	target     datasource.Datasource
	backup     backup.Backup
	request    execution.RestoreRequest
	identities []age.Identity
	sources    []execution.SourceAttempt // what came of the copies so far
	noted      bool                      // the books say what may be left behind
	touched    bool                      // the target may have been changed
	unsettled  string                    // what a person has to know, when the target may not be what it was
}

// Work does one leased execution and books how it ended.
func (r *Runner) Work(ctx context.Context, l *worker.Leased) error {
	run, err := r.begin(ctx, l)
	if err != nil {
		return err // nothing is known of the execution: its lease runs out
	}
	result, err := run.work(ctx)
	if errors.Is(err, engine.ErrUnsettled) {
		run.unsettled = errs.Message(err)
	}
	if err == nil && ctx.Err() != nil {
		run.Log.Logf(engine.LevelWarn, "Everything was done already when this came: %s", errs.Message(context.Cause(ctx)))
	}
	err = attempt.Cause(ctx, err)
	ending, cancel := attempt.Ending()
	defer cancel()
	switch {
	case errors.Is(err, execution.ErrLeaseLost):
		run.Abandon(ending)
	case errors.Is(err, worker.ErrShutdown) && !run.touched:
		run.Release(ending, "The worker is shutting down; another one starts again")
	default:
		run.finish(ending, result, err)
	}
	return err
}

func (r *Runner) begin(ctx context.Context, l *worker.Leased) (*run, error) {
	full, err := r.Desk.Executions.Get(ctx, l.Execution.ID)
	if err != nil {
		return nil, err
	}
	target, err := r.Datasources.Get(ctx, full.DatasourceID)
	if err != nil && errs.KindOf(err) != errs.NotFound {
		return nil, err
	}
	source, err := r.Catalogue.Get(ctx, full.Request.SourceExecutionID)
	if err != nil && errs.KindOf(err) != errs.NotFound {
		return nil, err
	}
	label := "RESTORE"
	if full.Operation == execution.Verify {
		label = "VERIFY"
	}
	a, err := r.Desk.Begin(l, full, label, target.Conn.Password)
	if err != nil {
		return nil, err
	}
	run := &run{Runner: r, Attempt: a, target: target, backup: source}
	if full.Request.Restore != nil {
		run.request = *full.Request.Restore
	}
	return run, nil
}

// work walks from the storage to the proven or restored backup.
func (r *run) work(ctx context.Context) (execution.Result, error) {
	result := execution.Result{Status: execution.Completed, Record: execution.Record{WorkerHost: attempt.Host(), Encrypted: r.backup.Encrypted}}
	r.Phase(execution.Connecting, "")
	if r.backup.ExecutionID == "" {
		return result, errs.New(errs.NotFound, errs.CodeBackupUnavailable, "the backup was deleted before this began; choose another one")
	}
	if err := r.loadIdentities(); err != nil {
		return result, err
	}
	if r.Execution.Operation == execution.Verify {
		return r.verify(ctx, result)
	}
	return r.restore(ctx, result)
}

// loadIdentities finds the secret keys of an encrypted backup. A restore without
// them ends here, before anything else; a verification proves what it can. Who names
// one for a backup that is not encrypted expects it to be, and is told.
func (r *run) loadIdentities() error {
	if !r.backup.Encrypted {
		if r.request.Identity != "" {
			r.Log.Logf(engine.LevelWarn, "The backup is not encrypted: the identity %q is not needed and not used. New backups are encrypted when the job has recipients", r.request.Identity)
		}
		return nil
	}
	identities, err := r.Identities.Load(r.request.Identity)
	switch {
	case err == nil:
	case r.request.Identity != "", r.Execution.Operation == execution.Restore:
		return err
	default:
		r.onlyStored(err)
	}
	r.identities = identities
	return nil
}

// finish books the end.
func (r *run) finish(ctx context.Context, result execution.Result, err error) {
	took := time.Since(r.Started).Round(100 * time.Millisecond)
	if err != nil {
		if errors.Is(err, worker.ErrShutdown) {
			err = errs.New(errs.Unavailable, errs.CodeRestoreInterrupted, "the worker was shut down in the middle of the restore; %s",
				cmp.Or(r.unsettled, "start it again"))
		}
		r.Failure(&result, err)
		if unsettled := r.Log.Clean(r.unsettled); !strings.Contains(result.ErrorMessage, unsettled) {
			result.ErrorMessage += ". The target needs a look: " + unsettled // a cancellation says nothing of it
		}
	}
	switch result.Status {
	case execution.Completed:
		r.Log.Logf(engine.LevelSuccess, "Completed in %s", took)
	case execution.Cancelled:
		r.Log.Logf(engine.LevelWarn, "Cancelled after %s", took)
	default:
		r.Log.Logf(engine.LevelError, "Failed after %s: %s (%s)", took, result.ErrorMessage, result.ErrorCode)
	}
	r.Finish(ctx, result)
}
