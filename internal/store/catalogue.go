package store

import (
	"context"
	"slices"
	"time"

	"github.com/dataguardian/dataguardian/internal/auth"
	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/datasource"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/logs"
	"github.com/dataguardian/dataguardian/internal/store/db"
)

type catalogue struct{ *Store }

var _ backup.Catalogue = catalogue{}

// Catalogue answers which backups there are. The copies of a backup are those
// that were committed and not removed, and those that failed.
func (s *Store) Catalogue() backup.Catalogue { return catalogue{s} }

func (s catalogue) Now(ctx context.Context) (time.Time, error) {
	now, err := s.q.Now(ctx)
	return now, failure(err)
}

func (s catalogue) Datasources(ctx context.Context) ([]backup.DatasourceBackups, error) {
	rows, err := s.q.BackupDatasources(ctx, auth.ScopeOf(ctx))
	if err != nil {
		return nil, failure(err)
	}
	return each(rows, func(row db.BackupDatasourcesRow) backup.DatasourceBackups {
		d := backup.DatasourceBackups{
			ID: row.ID, Name: row.Name, Type: engine.Type(row.Type), Status: datasource.Status(row.Status),
			Enabled: row.Enabled, Backups: int(row.Backups), UpdatedAt: row.UpdatedAt,
		}
		if row.Backups > 0 {
			d.Newest = &row.Newest
		}
		return d
	}), nil
}

func (s catalogue) OfDatasource(ctx context.Context, datasourceID string) ([]backup.Backup, error) {
	if _, err := s.q.GetDatasource(ctx, datasourceID); err != nil {
		return nil, missing(err, "datasource", datasourceID)
	}
	rows, err := s.q.BackupsOfDatasource(ctx, datasourceID)
	if err != nil {
		return nil, failure(err)
	}
	return s.whole(ctx, rows)
}

func (s catalogue) OfJob(ctx context.Context, jobID string) ([]backup.Backup, error) {
	rows, err := s.q.BackupsOfJob(ctx, &jobID)
	if err != nil {
		return nil, failure(err)
	}
	return s.withCopies(ctx, rows)
}

func (s catalogue) Get(ctx context.Context, executionID string) (backup.Backup, error) {
	row, err := s.q.GetBackup(ctx, executionID)
	if err != nil {
		return backup.Backup{}, missing(err, "backup", executionID)
	}
	found, err := s.whole(ctx, []db.ExecutionView{row})
	if err != nil {
		return backup.Backup{}, err
	}
	return found[0], nil
}

// whole turns rows into backups with copies and parts.
func (s catalogue) whole(ctx context.Context, rows []db.ExecutionView) ([]backup.Backup, error) {
	found, err := s.withCopies(ctx, rows)
	if err != nil || len(found) == 0 {
		return found, err
	}
	chunks, err := s.q.ListChunks(ctx, each(found, executionID))
	if err != nil {
		return nil, failure(err)
	}
	byID := map[string][]backup.Part{}
	for _, c := range chunks {
		byID[c.ExecutionID] = append(byID[c.ExecutionID], partOf(c))
	}
	for i := range found {
		found[i].Parts = byID[found[i].ExecutionID]
	}
	return found, nil
}

func (s catalogue) withCopies(ctx context.Context, rows []db.ExecutionView) ([]backup.Backup, error) {
	found, err := eachOrError(rows, backupOf)
	if err != nil || len(found) == 0 {
		return found, err
	}
	copies, err := s.q.ListCopies(ctx, each(found, executionID))
	if err != nil {
		return nil, failure(err)
	}
	byID := copiesByExecution(copies)
	for i := range found {
		found[i].Copies = slices.DeleteFunc(byID[found[i].ExecutionID], func(c backup.Copy) bool {
			return c.Status != backup.CopyAvailable && c.Status != backup.CopyMissing && c.Status != backup.CopyFailed
		})
	}
	return found, nil
}

func executionID(b backup.Backup) string { return b.ExecutionID }

func backupOf(row db.ExecutionView) (backup.Backup, error) {
	e, err := executionOf(row)
	if err != nil {
		return backup.Backup{}, err
	}
	b := backup.Backup{
		ExecutionID: e.ID, JobID: e.JobID, JobName: e.JobName, DatasourceID: e.DatasourceID, DatasourceName: e.DatasourceName,
		DatasourceType: e.DatasourceType, CreatedAt: e.CreatedAt, StartedAt: e.StartedAt, FinishedAt: e.FinishedAt,
		Path: text(e.BackupPath), Encrypted: e.Record.Encrypted, VerifiedAt: row.VerifiedAt,
	}
	if e.SizeBytes != nil {
		b.SizeBytes = *e.SizeBytes
	}
	if e.StoredBytes != nil {
		b.StoredBytes = *e.StoredBytes
	}
	return b, nil
}

func (s catalogue) MarkDeleting(ctx context.Context, executionIDs []string) ([]string, error) {
	ids := slices.DeleteFunc(slices.Clone(executionIDs), func(id string) bool { return !isUUID(id) })
	var marked []string
	err := s.tx(ctx, func(q *db.Queries) error {
		locked, err := q.LockBackups(ctx, ids)
		if err != nil || len(locked) == 0 {
			return err
		}
		marked, err = q.MarkDeleting(ctx, locked)
		return err
	})
	if err != nil {
		return nil, err
	}
	slices.Sort(marked)
	return slices.Compact(marked), nil
}

func (s catalogue) Doomed(ctx context.Context, locationIDs []string, limit int) ([]backup.Copy, error) {
	if err := s.q.DoomCopies(ctx, locationIDs); err != nil {
		return nil, failure(err)
	}
	rows, err := s.q.DoomedCopies(ctx, db.DoomedCopiesParams{LocationIds: locationIDs, PageLimit: int64(limit)})
	if err != nil {
		return nil, failure(err)
	}
	return each(rows, copyOf), nil
}

func (s catalogue) MarkDeleted(ctx context.Context, c backup.Copy) error {
	return settled(s.q.MarkDeleted(ctx, db.MarkDeletedParams{ExecutionID: c.ExecutionID, StorageLocationID: c.StorageLocationID, Path: c.Path}))
}

func (s catalogue) Release(ctx context.Context, c backup.Copy) error {
	return s.tx(ctx, func(q *db.Queries) error {
		if _, err := q.LockExecution(ctx, c.ExecutionID); err != nil {
			return missing(err, executionNoun, c.ExecutionID)
		}
		released, err := q.ReleaseCopy(ctx, db.ReleaseCopyParams{ExecutionID: c.ExecutionID, StorageLocationID: c.StorageLocationID, Path: c.Path})
		if err := settled(released, err); err != nil {
			return err
		}
		return addLine(ctx, q, c.ExecutionID, engine.LevelWarn, c.KeptWhole())
	})
}

// addLine appends to the log of an execution that has ended; that of another is its
// worker's. Runs after LockExecution.
func addLine(ctx context.Context, q *db.Queries, executionID string, level engine.Level, message string) error {
	looks, err := q.LookAtExecutions(ctx, []string{executionID})
	if err != nil || len(looks) == 0 || !execution.Status(looks[0].Status).Terminal() {
		return err
	}
	now, err := q.Now(ctx)
	if err != nil {
		return err
	}
	line, err := encode(logs.Line{Seq: looks[0].LastLine + 1, Time: now, Level: level, Message: storable(message)})
	if err != nil {
		return err
	}
	return q.AddLine(ctx, db.AddLineParams{ID: executionID, Line: line})
}

func (s catalogue) MarkMissing(ctx context.Context, c backup.Copy, why string) error {
	return s.tx(ctx, func(q *db.Queries) error {
		where := db.MarkMissingParams{ExecutionID: c.ExecutionID, StorageLocationID: c.StorageLocationID, Path: c.Path, Error: storable(why)}
		lost, err := q.MarkMissing(ctx, where)
		if err != nil {
			return err
		}
		if lost == 0 { // it was missing before, or is no copy any more
			return settled(q.MarkMissingStill(ctx, db.MarkMissingStillParams(where)))
		}
		row, err := q.ReadExecution(ctx, c.ExecutionID)
		if err != nil {
			return err
		}
		e, err := executionOf(row)
		if err != nil {
			return err
		}
		return notify(ctx, q, missingNote(e, c, why))
	})
}

func (s catalogue) MarkFound(ctx context.Context, c backup.Copy) error {
	return settled(s.q.MarkFound(ctx, db.MarkFoundParams{ExecutionID: c.ExecutionID, StorageLocationID: c.StorageLocationID, Path: c.Path}))
}

func (s catalogue) NoteDeleteFailure(ctx context.Context, c backup.Copy, why string) error {
	return settled(s.q.NoteDeleteFailure(ctx, db.NoteDeleteFailureParams{
		ExecutionID: c.ExecutionID, StorageLocationID: c.StorageLocationID, Path: c.Path, Error: storable(why),
	}))
}

// settled is failure for a change of one copy's state.
func settled(rows int64, err error) error {
	if err == nil && rows == 0 {
		return errs.New(errs.Conflict, errs.CodeConflict, "the copy is not there any more, or its state does not allow this")
	}
	return failure(err)
}

func (s catalogue) NoteCleanup(ctx context.Context, j backup.Job, deleted []backup.Backup) error {
	if len(deleted) == 0 {
		return nil
	}
	return s.telling(ctx, func(q *db.Queries) error { return notify(ctx, q, cleanupNote(j, deleted)) })
}
