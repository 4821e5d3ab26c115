package store

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/store/db"
)

func (s executions) RetryUpload(ctx context.Context, id string) (execution.Execution, error) {
	err := s.tx(ctx, func(q *db.Queries) error {
		row, err := q.LockUploadRetry(ctx, id)
		if err != nil {
			return missing(err, executionNoun, id)
		}
		status := execution.Status(row.Status)
		if row.Retrying && !status.Terminal() {
			return nil // somebody was faster: it goes on as it is
		}
		if why := notRetriable(row, status); why != "" {
			return errs.New(errs.Conflict, errs.CodeExecutionNotRetriable, "the upload cannot be retried: %s", why)
		}
		if row.JobID != nil { // a scheduler that has the job at hand must see the retry, or come before it
			if _, err := q.HoldJob(ctx, *row.JobID); err != nil && !errors.Is(err, pgx.ErrNoRows) {
				return err
			}
		}
		return q.QueueUploadRetry(ctx, db.QueueUploadRetryParams{ID: id, MaxAttempts: execution.BackupAttempts})
	})
	if err != nil {
		return execution.Execution{}, busy(err)
	}
	return s.Get(ctx, id)
}

// notRetriable says why an upload cannot be retried; empty when it can.
func notRetriable(row db.LockUploadRetryRow, status execution.Status) string {
	switch {
	case row.Operation != string(execution.Backup):
		return "the execution is no backup"
	case status == execution.Queued || status == execution.Running:
		return "the backup is still " + string(status)
	case status == execution.Cancelled:
		return "the backup was cancelled; run the job again"
	case row.Expired:
		return "the dump was kept on the worker for its time, and is gone; run the job again"
	case !row.Possible && row.Reason != "":
		return row.Reason
	case !row.Possible:
		return "there is nothing left to upload"
	}
	return ""
}

// busy explains that the lock of the job is taken.
func busy(err error) error {
	if violates(err, lockConstraint) {
		return errs.Wrap(err, errs.Conflict, errs.CodeExecutionRunning, "another backup of the job is queued or running; retry the upload when it has ended")
	}
	return err
}
