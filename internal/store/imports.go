package store

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/logs"
	"github.com/dataguardian/dataguardian/internal/store/db"
)

type imports struct{ *Store }

var _ backup.Importer = imports{}

// Imports takes backups into the catalogue that it does not know.
func (s *Store) Imports() backup.Importer { return imports{s} }

func (s imports) Import(ctx context.Context, f backup.Found) error {
	return s.telling(ctx, func(q *db.Queries) error { return importInto(ctx, q, f) })
}

func (s imports) CanImport(ctx context.Context, f backup.Found) error {
	undone := errors.New("undone")
	err := s.tx(ctx, func(q *db.Queries) error { return cmp.Or(importInto(ctx, q, f), undone) })
	if errors.Is(err, undone) {
		return nil
	}
	return err
}

func (s imports) OwnerOf(ctx context.Context, executionID string) (string, error) {
	id, err := s.q.OwnerOf(ctx, executionID)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	return id, failure(err)
}

func importInto(ctx context.Context, q *db.Queries, f backup.Found) error {
	b := f.Backup
	if !isUUID(b.ExecutionID) {
		return errs.New(errs.Invalid, errs.CodeValidation, "%q is not the id of an execution", b.ExecutionID)
	}
	h := holder{q: q}
	h.datasource(ctx, "datasource_id", b.DatasourceID)
	h.location(ctx, "storage_location_id", f.StorageLocationID)
	if err := h.result(); err != nil {
		return err
	}
	now, err := q.Now(ctx)
	if err != nil {
		return err
	}
	metadata, err := importedMetadata(f, now, nil)
	if err != nil {
		return err
	}
	made, err := q.ImportExecution(ctx, db.ImportExecutionParams{
		ID: b.ExecutionID, DatasourceID: b.DatasourceID, StorageLocationID: filter(f.StorageLocationID), StartedAt: b.StartedAt, FinishedAt: b.FinishedAt,
		SizeBytes: &b.SizeBytes, StoredBytes: &b.StoredBytes, BackupPath: filter(b.Path), PartsCount: new(int64(len(b.Parts))),
		Metadata: metadata, CreatedAt: b.CreatedAt,
	})
	if err != nil {
		return err
	}
	if made == 0 {
		if err := joins(ctx, q, f, now); err != nil {
			return err
		}
		if err := q.AdoptExecution(ctx, db.AdoptExecutionParams{ID: b.ExecutionID, DatasourceID: b.DatasourceID}); err != nil {
			return err
		}
	} else if err := replaceChunks(ctx, q, b.ExecutionID, b.Parts); err != nil {
		return err
	}
	return q.ImportCopy(ctx, db.ImportCopyParams{ExecutionID: b.ExecutionID, StorageLocationID: f.StorageLocationID, Path: b.Path})
}

// importedMetadata is what the manifest tells of an execution, and its log with one line more.
func importedMetadata(f backup.Found, now time.Time, before []logs.Line) ([]byte, error) {
	seq := int64(1)
	if len(before) > 0 {
		seq = before[len(before)-1].Seq + 1
	}
	return metadataOf(execution.Record{
		ServerVersion: f.ServerVersion, Tools: f.Tools, Format: f.Format, Encrypted: f.Backup.Encrypted, Compression: f.Compression, Tables: f.Tables,
	}, append(before, logs.Line{Seq: seq, Time: now, Level: engine.LevelInfo, Message: "Imported: the backup was found at " + f.Backup.Path}))
}

// joins refuses what is not one more copy of the backup that has its id. One that failed
// or was cancelled by the records is completed: its manifest proves that an attempt was not.
func joins(ctx context.Context, q *db.Queries, f backup.Found, now time.Time) error {
	b := f.Backup
	if _, err := q.LockExecution(ctx, b.ExecutionID); err != nil {
		return missing(err, executionNoun, b.ExecutionID)
	}
	known, err := getExecution(ctx, q, b.ExecutionID, nil)
	switch {
	case err != nil:
		return err
	case known.Operation != execution.Backup:
		return errs.New(errs.Conflict, errs.CodeConflict, "execution %s is known as a %s, not as a backup", b.ExecutionID, known.Operation)
	case !known.Status.Terminal():
		return errs.New(errs.Conflict, errs.CodeConflict, "execution %s is %s; wait for its end and import again", b.ExecutionID, known.Status)
	case known.Status != execution.Completed:
		return completeImported(ctx, q, f, now, known.Logs)
	}
	if len(known.Parts) == 0 {
		if err := replaceChunks(ctx, q, b.ExecutionID, b.Parts); err != nil {
			return err
		}
	}
	if why := (backup.Backup{ExecutionID: known.ID, Parts: known.Parts}).Differs(b.ExecutionID, b.Parts); why != "" {
		return errs.New(errs.Conflict, errs.CodeConflict, "the backup of that id is known with other parts: %s", why)
	}
	return q.LeaveJob(ctx, b.ExecutionID)
}

func completeImported(ctx context.Context, q *db.Queries, f backup.Found, now time.Time, before []logs.Line) error {
	b := f.Backup
	metadata, err := importedMetadata(f, now, before)
	if err != nil {
		return err
	}
	if err := q.CompleteImported(ctx, db.CompleteImportedParams{
		ID: b.ExecutionID, StartedAt: b.StartedAt, FinishedAt: b.FinishedAt, SizeBytes: &b.SizeBytes, StoredBytes: &b.StoredBytes,
		BackupPath: filter(b.Path), PartsCount: new(int64(len(b.Parts))), Metadata: metadata,
	}); err != nil {
		return err
	}
	if err := replaceChunks(ctx, q, b.ExecutionID, b.Parts); err != nil {
		return err
	}
	return q.LeaveJob(ctx, b.ExecutionID)
}
