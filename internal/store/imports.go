package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"

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
	metadata, err := metadataOf(execution.Record{
		ServerVersion: f.ServerVersion, Tools: f.Tools, Format: f.Format, Encrypted: b.Encrypted, Compression: f.Compression, Tables: f.Tables,
	}, []logs.Line{{Seq: 1, Time: now, Level: engine.LevelInfo, Message: fmt.Sprintf("Imported: the backup was found at %s", b.Path)}})
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
		if err := joins(ctx, q, b); err != nil {
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

// joins refuses what is not one more copy of the backup that has its id.
func joins(ctx context.Context, q *db.Queries, b backup.Backup) error {
	if _, err := q.LockExecution(ctx, b.ExecutionID); err != nil {
		return missing(err, executionNoun, b.ExecutionID)
	}
	known, err := getExecution(ctx, q, b.ExecutionID, nil)
	if err != nil {
		return err
	}
	if known.Operation != execution.Backup || known.Status != execution.Completed {
		return errs.New(errs.Conflict, errs.CodeConflict, "execution %s is known as a %s that is %s, not as a completed backup", b.ExecutionID, known.Operation, known.Status)
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
