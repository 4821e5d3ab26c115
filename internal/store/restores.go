package store

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/store/db"
)

type restores struct{ *Store }

var _ execution.RestoreStore = restores{}

// Restores keeps what restores hold and may leave behind.
func (s *Store) Restores() execution.RestoreStore { return restores{s} }

func (s restores) HoldTarget(ctx context.Context, l execution.Lease, key string) error {
	if err := s.refuseOwn(ctx, key); err != nil {
		return err
	}
	rows, err := s.q.HoldTarget(ctx, db.HoldTargetParams{ID: l.ExecutionID, Fence: l.Fence, WorkerID: &l.WorkerID, LockKey: &key})
	if !violates(err, lockConstraint) {
		return heldRows(rows, err)
	}
	conflict := errs.New(errs.Conflict, errs.CodeExecutionRunning,
		"another restore into the same database runs, which this one reaches by another name; wait for its end or cancel it")
	holder, err := s.q.LockHolder(ctx, &key)
	switch {
	case err == nil:
		return conflict.With("execution_id", holder)
	case errors.Is(err, pgx.ErrNoRows):
		return conflict // it ended just now
	}
	return failure(err)
}

// refuseOwn keeps restores out of the database that this is. Who may not ask which one
// that is (PostgreSQL lets everybody, unless told otherwise) is not kept from restoring.
func (s restores) refuseOwn(ctx context.Context, key string) error {
	own, err := s.q.OwnDatabase(ctx)
	switch {
	case denied(err):
		return nil
	case err != nil:
		return failure(err)
	case key != execution.TargetKey("postgres:"+own.Server, own.Database):
		return nil
	}
	return errs.New(errs.Conflict, errs.CodeRestoreNotSupported,
		"database %q is where DataGuardian itself keeps its records, this restore among them: restore into a database of another name, or stop DataGuardian and restore it by hand as docs/recovery.md tells",
		own.Database)
}

func (s restores) NoteLeftovers(ctx context.Context, l execution.Lease, x execution.Leftovers) error {
	return s.tx(ctx, func(q *db.Queries) error {
		if _, err := q.HoldLease(ctx, db.HoldLeaseParams{ID: l.ExecutionID, Fence: l.Fence, WorkerID: &l.WorkerID}); err != nil {
			return held(err)
		}
		return q.NoteLeftovers(ctx, db.NoteLeftoversParams{ExecutionID: l.ExecutionID, DatasourceID: x.DatasourceID, Database: x.Database})
	})
}

func (s restores) ForgetLeftovers(ctx context.Context, executionID string) error {
	return failure(s.q.ForgetLeftovers(ctx, executionID))
}

func (s restores) Abandoned(ctx context.Context, limit int) ([]execution.Leftovers, error) {
	rows, err := s.q.AbandonedLeftovers(ctx, int64(limit))
	if err != nil {
		return nil, failure(err)
	}
	return each(rows, func(row db.AbandonedLeftoversRow) execution.Leftovers {
		return execution.Leftovers{ExecutionID: row.ExecutionID, DatasourceID: row.DatasourceID, Database: row.Database, Error: row.Error}
	}), nil
}

func (s restores) NoteSweepFailure(ctx context.Context, executionID, why string) error {
	return failure(s.q.NoteSweepFailure(ctx, db.NoteSweepFailureParams{ExecutionID: executionID, Error: storable(why)}))
}
