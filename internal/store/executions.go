package store

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/dataguardian/dataguardian/internal/auth"
	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/location"
	"github.com/dataguardian/dataguardian/internal/logs"
	"github.com/dataguardian/dataguardian/internal/paging"
	"github.com/dataguardian/dataguardian/internal/store/db"
)

const (
	executionNoun  = "execution"
	lockConstraint = "backup_executions_lock_key"
	// How often Create looks for the holder of a lock that was taken and is free again.
	createTries = 5
)

type executions struct{ *Store }

var _ execution.Store = executions{}

// Executions keeps executions and their leases.
func (s *Store) Executions() execution.Store { return executions{s} }

func (s executions) Get(ctx context.Context, id string) (execution.Execution, error) {
	return getExecution(ctx, s.q, id, nil)
}

func (s executions) GetInScope(ctx context.Context, id string) (execution.Execution, error) {
	return getExecution(ctx, s.q, id, auth.ScopeOf(ctx))
}

func (s executions) Look(ctx context.Context, ids []string) (map[string]execution.Look, error) {
	rows, err := s.q.LookAtExecutions(ctx, ids)
	if err != nil {
		return nil, failure(err)
	}
	seen := make(map[string]execution.Look, len(rows))
	for _, row := range rows {
		seen[row.ID] = execution.Look{Status: execution.Status(row.Status), Last: row.LastLine}
	}
	return seen, nil
}

// getExecution reads an execution; scope is that of auth.ScopeOf, nil means everything.
func getExecution(ctx context.Context, q *db.Queries, id string, scope []string) (execution.Execution, error) {
	row, err := q.GetExecution(ctx, db.GetExecutionParams{ID: id, Scope: scope})
	if err != nil {
		return execution.Execution{}, missing(err, executionNoun, id)
	}
	e, err := detailed(row.ExecutionView, row.Logs)
	if err != nil {
		return e, err
	}
	copies, err := q.ListCopies(ctx, []string{e.ID})
	if err != nil {
		return e, failure(err)
	}
	e.Copies = each(copies, copyOf)
	parts, err := q.ListChunks(ctx, []string{e.ID})
	if err != nil {
		return e, failure(err)
	}
	e.Parts = each(parts, partOf)
	return e, nil
}

func (s executions) List(ctx context.Context, f execution.Filter, p paging.Page) ([]execution.Execution, int, error) {
	where := db.CountExecutionsParams{
		JobID: filter(f.JobID), DatasourceID: filter(f.DatasourceID), StorageLocationID: filter(f.StorageLocationID),
		Status: filter(f.Status), Operation: filter(f.Operation), FromTime: f.From, ToTime: f.To, Scope: auth.ScopeOf(ctx),
	}
	total, err := s.q.CountExecutions(ctx, where)
	if err != nil {
		return nil, 0, failure(err)
	}
	limit, offset := window(p)
	rows, err := s.q.ListExecutions(ctx, db.ListExecutionsParams{
		JobID: where.JobID, DatasourceID: where.DatasourceID, StorageLocationID: where.StorageLocationID,
		Status: where.Status, Operation: where.Operation, FromTime: where.FromTime, ToTime: where.ToTime, Scope: where.Scope,
		PageLimit: limit, PageOffset: offset,
	})
	if err != nil {
		return nil, 0, failure(err)
	}
	found, err := eachOrError(rows, executionOf)
	if err != nil || len(found) == 0 {
		return found, int(total), err
	}
	copies, err := s.q.ListCopies(ctx, each(found, func(e execution.Execution) string { return e.ID }))
	if err != nil {
		return nil, 0, failure(err)
	}
	byID := copiesByExecution(copies)
	for i := range found {
		found[i].Copies = byID[found[i].ID]
	}
	return found, int(total), nil
}

// another says what keeps an execution from being made.
func another(o execution.Operation) string {
	switch o {
	case execution.Restore:
		return "a restore into the same database"
	case execution.Verify:
		return "a verification of the same backup"
	default:
		return "a backup of the same job"
	}
}

func (s executions) Create(ctx context.Context, n execution.New) (execution.Execution, error) {
	for range createTries {
		err := s.create(ctx, n)
		if !violates(err, lockConstraint) {
			if err != nil {
				return execution.Execution{}, err
			}
			return s.Get(ctx, n.ID)
		}
		holder, err := s.q.LockHolder(ctx, &n.LockKey)
		if err == nil {
			return execution.Execution{}, errs.New(errs.Conflict, errs.CodeExecutionRunning,
				"%s is queued or running (execution %s): wait for its end, or cancel it", another(n.Operation), holder).With("execution_id", holder)
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			return execution.Execution{}, failure(err)
		}
		// It ended just now.
	}
	return execution.Execution{}, errs.New(errs.Conflict, errs.CodeExecutionRunning, "other executions of this kind come and go; try again")
}

func (s executions) create(ctx context.Context, n execution.New) error {
	request, err := encode(n.Request)
	if err != nil {
		return err
	}
	return s.tx(ctx, func(q *db.Queries) error {
		if err := holdExecutionParts(ctx, q, n); err != nil {
			return err
		}
		return q.CreateExecution(ctx, db.CreateExecutionParams{
			ID: n.ID, JobID: filter(n.JobID), DatasourceID: n.DatasourceID, StorageLocationID: filter(n.StorageLocationID),
			SourceExecutionID: filter(n.Request.SourceExecutionID), Operation: string(n.Operation), Trigger: string(n.Trigger),
			ScheduledFor: n.ScheduledFor, MaxAttempts: int64(max(n.MaxAttempts, 1)), LockKey: filter(n.LockKey), Request: request,
		})
	})
}

// holdExecutionParts keeps what an execution needs from being deleted before the
// execution itself does.
func holdExecutionParts(ctx context.Context, q *db.Queries, n execution.New) error {
	h := holder{q: q}
	if n.JobID != "" {
		h.job(ctx, "job_id", n.JobID)
	}
	h.datasource(ctx, "datasource_id", n.DatasourceID)
	if n.StorageLocationID != "" {
		h.location(ctx, "storage_location_id", n.StorageLocationID)
	}
	if n.Request.Options != nil {
		h.targets(ctx, "storage_targets", n.Request.Options.Targets)
	}
	if err := h.result(); err != nil {
		return err
	}
	return holdSource(ctx, q, n.Request.SourceExecutionID)
}

// holdSource keeps the backup that is going to be read.
func holdSource(ctx context.Context, q *db.Queries, id string) error {
	if id == "" {
		return nil
	}
	if _, err := q.HoldBackup(ctx, id); err != nil {
		return missing(err, "completed backup", id)
	}
	there, err := q.HasCopy(ctx, id)
	if err == nil && !there {
		return errs.New(errs.Unavailable, errs.CodeBackupUnavailable, "no storage location has a copy of this backup any more; choose another backup")
	}
	return err
}

func (s executions) Delete(ctx context.Context, id string) error {
	return s.tx(ctx, func(q *db.Queries) error {
		row, err := q.LockExecution(ctx, id)
		if err != nil {
			return missing(err, executionNoun, id)
		}
		if status := execution.Status(row.Status); !status.Terminal() {
			return errs.New(errs.Conflict, errs.CodeExecutionNotDeletable, "the execution is %s; cancel it first", status)
		}
		readers, err := q.ActiveReaders(ctx, &id)
		if err != nil {
			return err
		}
		if readers > 0 {
			return errs.New(errs.Conflict, errs.CodeExecutionNotDeletable, "the backup is being restored or verified; wait for the end of that")
		}
		left, err := q.CopiesLeft(ctx, id)
		if err != nil {
			return err
		}
		if left > 0 {
			return errs.New(errs.Conflict, errs.CodeExecutionNotDeletable, "%s of the backup may still have objects in storage; they are removed first", count(left, "record"))
		}
		return q.DeleteExecution(ctx, id)
	})
}

func (s executions) RequestCancel(ctx context.Context, id string) (execution.Status, error) {
	var after execution.Status
	err := s.tx(ctx, func(q *db.Queries) error {
		row, err := q.LockExecution(ctx, id)
		if err != nil {
			return missing(err, executionNoun, id)
		}
		switch after = execution.Status(row.Status); after {
		case execution.Queued:
			after = execution.Cancelled
			if err := q.CancelQueued(ctx, db.CancelQueuedParams{ID: id, ErrorCode: filter(errs.CodeCancelled), ErrorMessage: filter(cancelMessage)}); err != nil {
				return err
			}
			return q.EndUploadRetry(ctx, id)
		case execution.Running:
			return q.CancelRunning(ctx, id)
		default:
			return errs.New(errs.Conflict, errs.CodeExecutionNotCancelable, "the execution has ended already (%s); there is nothing to cancel", after)
		}
	})
	if err != nil {
		return "", err
	}
	return after, nil
}

const cancelMessage = "the execution was cancelled on request"

// detailed is a row with its stored lines.
func detailed(row db.ExecutionView, lines []byte) (execution.Execution, error) {
	e, err := executionOf(row)
	if err != nil {
		return e, err
	}
	e.Logs = []logs.Line{}
	return e, decode(lines, &e.Logs)
}

func executionOf(row db.ExecutionView) (execution.Execution, error) {
	e := execution.Execution{
		ID: row.ID, JobID: text(row.JobID), DatasourceID: row.DatasourceID, StorageLocationID: text(row.StorageLocationID),
		Operation: execution.Operation(row.Operation), Status: execution.Status(row.Status), Trigger: execution.Trigger(row.Trigger),
		ScheduledFor: row.ScheduledFor, StartedAt: row.StartedAt, FinishedAt: row.FinishedAt,
		SizeBytes: row.SizeBytes, StoredBytes: row.StoredBytes, BackupPath: row.BackupPath, PartsCount: toInt(row.PartsCount),
		ErrorCode: row.ErrorCode, ErrorMessage: row.ErrorMessage, Attempt: int(row.Attempt), MaxAttempts: int(row.MaxAttempts),
		Fence: row.Fence, WorkerID: text(row.WorkerID), CancelRequestedAt: row.CancelRequestedAt, LeaseExpiresAt: row.LeaseExpiresAt,
		CreatedAt: row.CreatedAt, JobName: row.JobName, JobCron: row.JobCron, DatasourceName: row.DatasourceName,
		DatasourceType: engine.Type(row.DatasourceType), StorageName: row.StorageName, StorageType: location.Type(row.StorageType),
	}
	if err := decode(row.Progress, &e.Progress); err != nil {
		return e, err
	}
	if err := decode(row.Request, &e.Request); err != nil {
		return e, err
	}
	return e, decode(row.Record, &e.Record)
}

func copyOf(row db.CopyView) backup.Copy {
	return backup.Copy{
		ExecutionID: row.ExecutionID, StorageLocationID: row.StorageLocationID, StorageName: row.StorageName,
		StorageType: location.Type(row.StorageType), StorageStatus: location.Status(row.StorageStatus), Path: row.Path,
		Status: backup.CopyStatus(row.Status), Error: row.Error, UpdatedAt: row.UpdatedAt, GivenUp: row.GivenUp,
	}
}

func partOf(row db.Chunk) backup.Part {
	return backup.Part{Number: int(row.ChunkNumber), Key: row.FilePath, Size: row.SizeBytes, SHA256: row.Checksum}
}

func copiesByExecution(rows []db.CopyView) map[string][]backup.Copy {
	byID := map[string][]backup.Copy{}
	for _, row := range rows {
		byID[row.ExecutionID] = append(byID[row.ExecutionID], copyOf(row))
	}
	return byID
}
