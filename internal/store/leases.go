package store

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/logs"
	"github.com/dataguardian/dataguardian/internal/store/db"
)

// A worker that comes back after its lease ran out, but before anybody took the
// execution from it, may go on: its fence is still the newest.

func (s executions) Claim(ctx context.Context, c execution.Claimant, ops []execution.Operation, lease time.Duration) (execution.Execution, bool, error) {
	var e execution.Execution
	found := false
	err := s.tx(ctx, func(q *db.Queries) error {
		id, err := claim(ctx, q, db.ClaimExecutionParams{
			WorkerID: &c.WorkerID, Spool: c.Spool, Lease: lease, Operations: each(ops, func(o execution.Operation) string { return string(o) }),
		}, c.Limits)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		found = true
		e, err = getExecution(ctx, q, id, nil)
		return err
	})
	if err != nil || !found {
		return execution.Execution{}, false, err
	}
	return e, true, nil
}

// claimLock is the advisory lock of whoever claims within limits.
const claimLock = 0x6461746167756103

// claim takes an execution and returns its id, or pgx.ErrNoRows.
func claim(ctx context.Context, q *db.Queries, p db.ClaimExecutionParams, limits execution.Limits) (string, error) {
	if limits.None() {
		return q.ClaimExecution(ctx, p)
	}
	if err := q.TakeClaimTurn(ctx, claimLock); err != nil {
		return "", err
	}
	id, err := q.ClaimExecutionWithin(ctx, db.ClaimExecutionWithinParams{
		WorkerID: p.WorkerID, Spool: p.Spool, Lease: p.Lease, Operations: p.Operations,
		PerHost: int64(limits.PerHost), PerStorage: int64(limits.PerStorage),
	})
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return "", err
	}
	marked := q.MarkWaiting(ctx, db.MarkWaitingParams{
		Operations: p.Operations, PerHost: int64(limits.PerHost), PerStorage: int64(limits.PerStorage),
	})
	if marked != nil {
		return "", marked
	}
	return id, err
}

func (s executions) Heartbeat(ctx context.Context, l execution.Lease, lease time.Duration, p execution.Progress) (bool, error) {
	progress, err := encodeStorable(p)
	if err != nil {
		return false, err
	}
	cancel, err := s.q.Heartbeat(ctx, db.HeartbeatParams{
		ID: l.ExecutionID, Fence: l.Fence, WorkerID: &l.WorkerID, Lease: lease, Phase: filter(p.Phase), Progress: progress,
	})
	return cancel, held(err)
}

func (s executions) SaveLogs(ctx context.Context, l execution.Lease, lines []logs.Line) error {
	text, err := storedLines(lines)
	if err != nil {
		return err
	}
	return heldRows(s.q.SaveLogs(ctx, db.SaveLogsParams{ID: l.ExecutionID, Fence: l.Fence, WorkerID: &l.WorkerID, Logs: text}))
}

func (s executions) BeginCopy(ctx context.Context, l execution.Lease, storageLocationID, path string) error {
	return s.tx(ctx, func(q *db.Queries) error {
		if _, err := q.HoldLease(ctx, db.HoldLeaseParams{ID: l.ExecutionID, Fence: l.Fence, WorkerID: &l.WorkerID}); err != nil {
			return held(err)
		}
		begun, err := q.BeginCopy(ctx, db.BeginCopyParams{ExecutionID: l.ExecutionID, StorageLocationID: storageLocationID, Path: path, Fence: l.Fence})
		if err == nil && begun == 0 {
			return errs.New(errs.Conflict, errs.CodeConflict, "the path %q holds a copy of this execution already, or one that is being removed", path)
		}
		return err
	})
}

func (s executions) Finish(ctx context.Context, l execution.Lease, r execution.Result) error {
	if !r.Status.Terminal() {
		return errs.New(errs.Internal, errs.CodeInternal, "an execution cannot end as %s", r.Status)
	}
	return s.telling(ctx, func(q *db.Queries) error {
		r, err := withDump(ctx, q, l.ExecutionID, r)
		if err != nil {
			return err
		}
		end, err := ending(l, r)
		if err != nil {
			return err
		}
		if err := heldRows(q.FinishExecution(ctx, end)); err != nil {
			return err
		}
		if err := replaceChunks(ctx, q, l.ExecutionID, r.Parts); err != nil {
			return err
		}
		if err := settleCopies(ctx, q, l, r.Copies); err != nil {
			return err
		}
		return ended(ctx, q, l.ExecutionID, r.Copies)
	})
}

// withDump adds what is known of the dump to the end of a retried upload that did not
// come as far as reading it: the copies there are still need it.
func withDump(ctx context.Context, q *db.Queries, id string, r execution.Result) (execution.Result, error) {
	if len(r.Parts) > 0 {
		return r, nil
	}
	before, err := getExecution(ctx, q, id, nil)
	if errs.KindOf(err) == errs.NotFound {
		return r, nil // its lease is lost, as the next statement says
	}
	if err != nil || !before.Request.RetryUpload || len(before.Parts) == 0 {
		return r, err
	}
	r.Parts, r.SizeBytes, r.StoredBytes = before.Parts, before.SizeBytes, before.StoredBytes
	if before.BackupPath != nil {
		r.BackupPath = *before.BackupPath
	}
	record := before.Record
	record.WorkerHost, record.UploadRetry = r.Record.WorkerHost, r.Record.UploadRetry
	r.Record = record
	return r, nil
}

// ending is what Finish writes into the row.
func ending(l execution.Lease, r execution.Result) (db.FinishExecutionParams, error) {
	progress, err := encodeStorable(r.Progress)
	if err != nil {
		return db.FinishExecutionParams{}, err
	}
	metadata, err := metadataOf(r.Record, r.Logs)
	if err != nil {
		return db.FinishExecutionParams{}, err
	}
	end := db.FinishExecutionParams{
		ID: l.ExecutionID, Fence: l.Fence, WorkerID: &l.WorkerID, Status: string(r.Status),
		ErrorCode: filter(r.ErrorCode), ErrorMessage: filter(storable(r.ErrorMessage)), SizeBytes: r.SizeBytes, StoredBytes: r.StoredBytes,
		BackupPath: filter(r.BackupPath), Phase: filter(r.Progress.Phase), Progress: progress, Metadata: metadata,
	}
	if len(r.Parts) > 0 {
		parts := len(r.Parts)
		end.PartsCount = toInt64(&parts)
	}
	return end, nil
}

// proves reports whether a completed execution has proven the backup it read.
func proves(e execution.Execution) bool {
	verified := e.Operation == execution.Verify || e.Request.Restore != nil && e.Request.Restore.VerificationMode
	return verified && e.Status == execution.Completed && e.Request.SourceExecutionID != ""
}

func replaceChunks(ctx context.Context, q *db.Queries, id string, parts []backup.Part) error {
	if err := q.DeleteChunks(ctx, id); err != nil || len(parts) == 0 {
		return err
	}
	rows := db.CreateChunksParams{ExecutionID: id}
	for _, p := range parts {
		rows.Numbers = append(rows.Numbers, int64(p.Number))
		rows.Paths = append(rows.Paths, p.Key)
		rows.Sizes = append(rows.Sizes, p.Size)
		rows.Checksums = append(rows.Checksums, p.SHA256)
	}
	return q.CreateChunks(ctx, rows)
}

func settleCopies(ctx context.Context, q *db.Queries, l execution.Lease, copies []backup.Copy) error {
	if len(copies) == 0 {
		return nil
	}
	rows := db.SettleCopiesParams{ExecutionID: l.ExecutionID, Fence: l.Fence}
	for _, c := range copies {
		rows.StorageLocationIds = append(rows.StorageLocationIds, c.StorageLocationID)
		rows.Paths = append(rows.Paths, c.Path)
		rows.Statuses = append(rows.Statuses, string(c.Status))
		rows.Errors = append(rows.Errors, storable(c.Error))
	}
	return q.SettleCopies(ctx, rows)
}

// ended does what follows from the end of an execution: a proven backup is dated,
// people are told.
func ended(ctx context.Context, q *db.Queries, id string, copies []backup.Copy) error {
	row, err := q.ReadExecution(ctx, id)
	if err != nil {
		return err
	}
	e, err := executionOf(row)
	if err != nil {
		return err
	}
	if proves(e) {
		if err := q.SetVerified(ctx, e.Request.SourceExecutionID); err != nil {
			return err
		}
	}
	named, err := withNames(ctx, q, id, copies)
	if err != nil {
		return err
	}
	if err := notify(ctx, q, endNotes(e, named)...); err != nil {
		return err
	}
	return q.EndUploadRetry(ctx, id)
}

// withNames fills in the storage names of copies.
func withNames(ctx context.Context, q *db.Queries, id string, copies []backup.Copy) ([]backup.Copy, error) {
	if len(copies) == 0 {
		return nil, nil
	}
	rows, err := q.ListCopies(ctx, []string{id})
	if err != nil {
		return nil, err
	}
	names := map[string]string{}
	for _, row := range rows {
		names[row.StorageLocationID] = row.StorageName
	}
	return each(copies, func(c backup.Copy) backup.Copy {
		c.StorageName = names[c.StorageLocationID]
		return c
	}), nil
}

// Release also ends an execution that somebody asked to cancel: nobody would tell
// its next worker.
func (s executions) Release(ctx context.Context, l execution.Lease, delay time.Duration, burn bool, lines []logs.Line) error {
	text, err := storedLines(lines)
	if err != nil {
		return err
	}
	_, err = s.q.ReleaseExecution(ctx, db.ReleaseExecutionParams{
		ID: l.ExecutionID, Fence: l.Fence, WorkerID: &l.WorkerID, Delay: delay, Burn: burn, Logs: text,
		CancelCode: string(errs.CodeCancelled), CancelMessage: cancelMessage,
	})
	return held(err)
}

// held is failure for a write under a lease: no row means that it is lost.
func held(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return execution.ErrLeaseLost
	}
	return failure(err)
}

func heldRows(rows int64, err error) error {
	if err == nil && rows == 0 {
		return execution.ErrLeaseLost
	}
	return failure(err)
}

const logsKey = "execution_logs"

// metadataOf is the record with the lines beside it.
func metadataOf(r execution.Record, lines []logs.Line) ([]byte, error) {
	record, err := encodeStorable(r)
	if err != nil {
		return nil, err
	}
	all := map[string]json.RawMessage{}
	if err := decode(record, &all); err != nil {
		return nil, err
	}
	if all[logsKey], err = storedLines(lines); err != nil {
		return nil, err
	}
	return encode(all)
}

func storedLines(lines []logs.Line) ([]byte, error) {
	return encode(each(lines, func(l logs.Line) logs.Line {
		l.Message = storable(l.Message)
		return l
	}))
}
