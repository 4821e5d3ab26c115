package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/logs"
	"github.com/dataguardian/dataguardian/internal/store/db"
)

// Expired returns executions with their stored lines.
func (s executions) Expired(ctx context.Context, stranded time.Duration, limit int) ([]execution.Execution, error) {
	rows, err := s.q.ListExpired(ctx, db.ListExpiredParams{Stranded: stranded, PageLimit: int64(limit)})
	if err != nil {
		return nil, failure(err)
	}
	return eachOrError(rows, func(row db.ListExpiredRow) (execution.Execution, error) { return detailed(row.ExecutionView, row.Logs) })
}

func (s executions) Reap(ctx context.Context, e execution.Execution, lines []logs.Line) (execution.Status, error) {
	text, err := storedLines(lines)
	if err != nil {
		return "", err
	}
	var after execution.Status
	err = s.telling(ctx, func(q *db.Queries) error {
		row, err := q.LockExpired(ctx, db.LockExpiredParams{ID: e.ID, Fence: e.Fence})
		if errors.Is(err, pgx.ErrNoRows) {
			return execution.ErrLeaseLost
		}
		if err != nil {
			return err
		}
		end := fate(row)
		after = execution.Status(end.Status)
		if after == execution.Queued {
			return q.RequeueExpired(ctx, db.RequeueExpiredParams{ID: e.ID, Logs: text})
		}
		end.ID, end.Logs = e.ID, text
		if err := q.EndExpired(ctx, end); err != nil {
			return err
		}
		return ended(ctx, q, e.ID, nil)
	})
	if err != nil {
		return "", err
	}
	return after, nil
}

// fate says what becomes of an execution whose worker vanished.
func fate(row db.LockExpiredRow) db.EndExpiredParams {
	op := execution.Operation(row.Operation)
	switch {
	case execution.Status(row.Status) == execution.Queued:
		return db.EndExpiredParams{Status: string(execution.Failed), ErrorCode: filter(errs.CodeSpoolLost), ErrorMessage: filter(stranded(row.WorkerHost))}
	case row.CancelRequestedAt != nil:
		return db.EndExpiredParams{Status: string(execution.Cancelled), ErrorCode: filter(errs.CodeCancelled), ErrorMessage: filter(cancelMessage)}
	case op != execution.Restore && row.Attempt < row.MaxAttempts:
		return db.EndExpiredParams{Status: string(execution.Queued)}
	default:
		code, message := reaped(op, row.Touched)
		return db.EndExpiredParams{Status: string(execution.Failed), ErrorCode: filter(code), ErrorMessage: filter(message)}
	}
}

// stranded says why a retried upload that no worker took has failed.
func stranded(host string) string {
	if host == "" {
		host = "that made the backup"
	}
	return fmt.Sprintf("the dump of this backup waits on the machine %s, and no backup worker there took the upload: "+
		"start its worker with the same data directory and retry the upload, or run the job again", host)
}
