package storetest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/execution"
)

func imports(t *testing.T, w *world) {
	s := w.Imports()
	made := time.Date(2025, 1, 2, 3, 4, 5, 6000, time.UTC)
	found := func(executionID, datasourceID, locationID string) backup.Found {
		path := "shop/2025-01-02_030405_" + executionID[:8]
		return backup.Found{
			Backup: backup.Backup{
				ExecutionID: executionID, DatasourceID: datasourceID, CreatedAt: made, StartedAt: ptr(made.Add(time.Second)), FinishedAt: ptr(made.Add(time.Minute)),
				SizeBytes: 1000, StoredBytes: 300, Path: path, Encrypted: true,
				Parts: []backup.Part{{Number: 1, Key: path + "/backup.dump.zst.age.0001", Size: 200, SHA256: "aa"}, {Number: 2, Key: path + "/backup.dump.zst.age.0002", Size: 100, SHA256: "bb"}},
			},
			StorageLocationID: locationID, ServerVersion: "15.18", Tools: map[string]string{"pg_dump": "15.18"}, Format: "pg_dump-custom", Compression: "zstd", Tables: 7,
		}
	}
	t.Run("a backup becomes known, to no job", func(t *testing.T) {
		d, l, other := w.newDatasource(t), w.newLocation(t), w.newLocation(t)
		f := found(id(), d.ID, l.ID)
		require.NoError(t, s.CanImport(t.Context(), f))
		none, err := w.Catalogue().OfDatasource(t.Context(), d.ID)
		require.NoError(t, err)
		require.Empty(t, none, "it was only asked")
		require.NoError(t, s.Import(t.Context(), f))
		require.NoError(t, s.Import(t.Context(), f), "again changes nothing")
		f.StorageLocationID = other.ID
		require.NoError(t, s.Import(t.Context(), f), "a copy elsewhere")

		known, err := w.Catalogue().OfDatasource(t.Context(), d.ID)
		require.NoError(t, err)
		require.Len(t, known, 1)
		b := known[0]
		require.Equal(t, []string{f.Backup.ExecutionID, "", "", d.Name}, []string{b.ExecutionID, b.JobID, b.JobName, b.DatasourceName})
		require.Equal(t, f.Backup.Parts, b.Parts)
		require.True(t, b.Encrypted)
		require.Equal(t, []int64{1000, 300}, []int64{b.SizeBytes, b.StoredBytes})
		require.WithinDuration(t, made, b.CreatedAt, time.Microsecond)
		require.Len(t, b.Copies, 2)
		for _, c := range b.Copies {
			require.Equal(t, backup.CopyAvailable, c.Status)
			require.Equal(t, f.Backup.Path, c.Path)
		}
		e, err := w.Executions().Get(t.Context(), b.ExecutionID)
		require.NoError(t, err)
		require.Equal(t, execution.Completed, e.Status)
		require.Equal(t, "15.18", e.Record.ServerVersion)
		require.Len(t, e.Logs, 1)
		require.Contains(t, e.Logs[0].Message, f.Backup.Path)
		at, err := w.Catalogue().At(t.Context(), l.ID, "", 10)
		require.NoError(t, err)
		require.Len(t, at, 1)
	})
	t.Run("what there is of that id must be this backup", func(t *testing.T) {
		j := w.newJob(t)
		done := w.complete(t, j)
		f := found(done.ID, j.DatasourceID, j.StorageLocationID)
		requireCode(t, s.Import(t.Context(), f), errs.Conflict, errs.CodeConflict)
		requireCode(t, s.CanImport(t.Context(), f), errs.Conflict, errs.CodeConflict)
		for i := range f.Backup.Parts {
			f.Backup.Parts[i] = done.Parts[i]
		}
		require.NoError(t, s.Import(t.Context(), f), "its parts are the same")
		e, err := w.Executions().Get(t.Context(), done.ID)
		require.NoError(t, err)
		require.Equal(t, j.ID, e.JobID, "it has a copy, so it stays its job's")

		busy, l := w.run(t, j)
		err = s.Import(t.Context(), found(busy.ID, j.DatasourceID, j.StorageLocationID))
		requireCode(t, err, errs.Conflict, errs.CodeConflict)
		require.Contains(t, errs.Message(err), "running; wait for its end")
		require.NoError(t, w.Executions().Finish(t.Context(), l, failedResult("X")))
	})
	t.Run("what failed by the records completes by its manifest", func(t *testing.T) {
		j := w.newJob(t)
		failed, l := w.run(t, j)
		r := failedResult("X")
		r.Copies = []backup.Copy{{StorageLocationID: j.StorageLocationID, Path: "elsewhere", Status: backup.CopyFailed, Error: "away"}}
		require.NoError(t, w.Executions().Finish(t.Context(), l, r))
		before, err := w.Executions().Get(t.Context(), failed.ID)
		require.NoError(t, err)
		f := found(failed.ID, j.DatasourceID, j.StorageLocationID)
		require.NoError(t, s.CanImport(t.Context(), f))
		require.NoError(t, s.Import(t.Context(), f))
		e, err := w.Executions().Get(t.Context(), failed.ID)
		require.NoError(t, err)
		require.Equal(t, execution.Completed, e.Status)
		require.Empty(t, e.ErrorCode)
		require.Equal(t, f.Backup.Path, *e.BackupPath)
		require.Equal(t, f.Backup.Parts, e.Parts)
		require.Equal(t, int64(1000), *e.SizeBytes)
		require.WithinDuration(t, *f.Backup.FinishedAt, *e.FinishedAt, time.Microsecond)
		require.Equal(t, before.Logs, e.Logs[:len(before.Logs)])
		require.Contains(t, e.Logs[len(before.Logs)].Message, "Imported")
		require.Len(t, e.Copies, 2)
		b, err := w.Catalogue().Get(t.Context(), failed.ID)
		require.NoError(t, err)
		require.Len(t, b.Parts, 2)
		w.forget(t, failed.ID)
	})
	t.Run("what had been deleted everywhere and is back leaves its job", func(t *testing.T) {
		j := w.newJob(t)
		done := w.complete(t, j)
		w.forget(t, done.ID)
		f := found(done.ID, j.DatasourceID, j.StorageLocationID)
		f.Backup.Path, f.Backup.Parts = *done.BackupPath, done.Parts
		require.NoError(t, s.Import(t.Context(), f))
		b, err := w.Catalogue().Get(t.Context(), done.ID)
		require.NoError(t, err)
		require.Empty(t, b.JobID)
		require.Equal(t, backup.CopyAvailable, b.Copies[0].Status)
	})
	t.Run("what belongs to a datasource that was deleted gets another", func(t *testing.T) {
		j := w.newJob(t)
		done := w.complete(t, j)
		owner, err := s.OwnerOf(t.Context(), done.ID)
		require.NoError(t, err)
		require.Equal(t, j.DatasourceID, owner)
		f := found(done.ID, w.newDatasource(t).ID, j.StorageLocationID)
		f.Backup.Path, f.Backup.Parts = *done.BackupPath, done.Parts
		require.NoError(t, s.Import(t.Context(), f))
		b, err := w.Catalogue().Get(t.Context(), done.ID)
		require.NoError(t, err)
		require.Equal(t, j.DatasourceID, b.DatasourceID, "its own is there")

		w.forget(t, done.ID)
		require.NoError(t, w.Jobs().Delete(t.Context(), j.ID))
		require.NoError(t, w.Datasources().Delete(t.Context(), j.DatasourceID))
		owner, err = s.OwnerOf(t.Context(), done.ID)
		require.NoError(t, err)
		require.Empty(t, owner)
		require.NoError(t, s.Import(t.Context(), f))
		b, err = w.Catalogue().Get(t.Context(), done.ID)
		require.NoError(t, err)
		require.Equal(t, f.Backup.DatasourceID, b.DatasourceID)
		owner, err = s.OwnerOf(t.Context(), id())
		require.NoError(t, err)
		require.Empty(t, owner, "there is no such execution")
	})
	t.Run("what it refers to must be there", func(t *testing.T) {
		d, l := w.newDatasource(t), w.newLocation(t)
		require.Error(t, s.Import(t.Context(), found(id(), id(), l.ID)))
		require.Error(t, s.Import(t.Context(), found(id(), d.ID, id())))
		requireCode(t, s.Import(t.Context(), found("not-a-uuid", d.ID, l.ID)), errs.Invalid, errs.CodeValidation)
		known, err := w.Catalogue().OfDatasource(t.Context(), d.ID)
		require.NoError(t, err)
		require.Empty(t, known)
	})
}
