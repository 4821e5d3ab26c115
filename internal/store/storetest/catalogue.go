package storetest

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/notification"
)

func catalogue(t *testing.T, w *world) {
	s := w.Catalogue()
	t.Run("its clock is the database's", func(t *testing.T) {
		now, err := s.Now(t.Context())
		require.NoError(t, err)
		require.WithinDuration(t, time.Now(), now, minute)
	})
	t.Run("a completed backup is there with copies and parts", func(t *testing.T) {
		j := w.newJob(t)
		done := w.complete(t, j)
		b, err := s.Get(t.Context(), done.ID)
		require.NoError(t, err)
		require.Equal(t, backup.Backup{
			ExecutionID: done.ID, JobID: j.ID, JobName: j.Name, DatasourceID: j.DatasourceID, DatasourceName: j.DatasourceName,
			DatasourceType: j.DatasourceType, CreatedAt: done.CreatedAt, StartedAt: done.StartedAt, FinishedAt: done.FinishedAt,
			SizeBytes: *done.SizeBytes, StoredBytes: *done.StoredBytes, Path: *done.BackupPath, Copies: done.Copies, Parts: done.Parts,
		}, b)
	})
	t.Run("lists go newest first, by datasource and by job", func(t *testing.T) {
		j := w.newJob(t)
		first, second := w.complete(t, j), w.complete(t, j)
		_, l := w.run(t, j)
		require.NoError(t, w.Executions().Finish(t.Context(), l, failedResult("X")))
		byDatasource, err := s.OfDatasource(t.Context(), j.DatasourceID)
		require.NoError(t, err)
		require.Equal(t, []string{second.ID, first.ID}, backupIDs(byDatasource))
		require.Len(t, byDatasource[0].Parts, 2)
		byJob, err := s.OfJob(t.Context(), j.ID)
		require.NoError(t, err)
		require.Equal(t, []string{second.ID, first.ID}, backupIDs(byJob))
		require.Len(t, byJob[0].Copies, 1)
		require.Nil(t, byJob[0].Parts)
		counted := countsOf(t, s, j.DatasourceID)
		require.Equal(t, 2, counted.Backups)
		require.Equal(t, &second.CreatedAt, counted.Newest)
		require.Equal(t, j.DatasourceName, counted.Name)
	})
	t.Run("a datasource without backups counts none", func(t *testing.T) {
		d := w.newDatasource(t)
		counted := countsOf(t, s, d.ID)
		require.Zero(t, counted.Backups)
		require.Nil(t, counted.Newest)
		list, err := s.OfDatasource(t.Context(), d.ID)
		require.NoError(t, err)
		require.NotNil(t, list)
		require.Empty(t, list)
	})
	t.Run("absent ones are not found", func(t *testing.T) {
		for _, gone := range absent() {
			_, err := s.Get(t.Context(), gone)
			requireNotFound(t, err)
			_, err = s.OfDatasource(t.Context(), gone)
			requireNotFound(t, err)
		}
		list, err := s.OfJob(t.Context(), id())
		require.NoError(t, err)
		require.Empty(t, list)
		marked, err := s.MarkDeleting(t.Context(), absent())
		require.NoError(t, err)
		require.Empty(t, marked)
	})
	t.Run("a backup goes in order: marked, doomed, deleted", func(t *testing.T) {
		j := w.newJob(t)
		done := w.complete(t, j)
		c := done.Copies[0]
		requireCode(t, s.MarkDeleted(t.Context(), c), errs.Conflict, errs.CodeConflict)
		marked, err := s.MarkDeleting(t.Context(), []string{done.ID, done.ID})
		require.NoError(t, err)
		require.Equal(t, []string{done.ID}, marked)
		marked, err = s.MarkDeleting(t.Context(), []string{done.ID})
		require.NoError(t, err)
		require.Empty(t, marked, "somebody else deletes it already")
		_, err = s.Get(t.Context(), done.ID)
		requireNotFound(t, err)
		doomed, err := s.Doomed(t.Context(), nil, 10)
		require.NoError(t, err)
		require.Len(t, doomed, 1)
		require.Equal(t, backup.CopyDeleting, doomed[0].Status)
		require.Equal(t, c.Path, doomed[0].Path)
		require.Equal(t, j.StorageName, doomed[0].StorageName)
		require.NoError(t, s.NoteDeleteFailure(t.Context(), c, "the bucket is away"))
		doomed, err = s.Doomed(t.Context(), []string{c.StorageLocationID}, 10)
		require.NoError(t, err)
		require.Equal(t, "the bucket is away", doomed[0].Error)
		elsewhere, err := s.Doomed(t.Context(), []string{id()}, 10)
		require.NoError(t, err)
		require.Empty(t, elsewhere)
		nowhere, err := s.Doomed(t.Context(), []string{}, 10)
		require.NoError(t, err)
		require.Empty(t, nowhere)
		require.NoError(t, s.MarkDeleted(t.Context(), c))
		require.NoError(t, s.MarkDeleted(t.Context(), c), "a second time changes nothing")
		doomed, err = s.Doomed(t.Context(), nil, 10)
		require.NoError(t, err)
		require.Empty(t, doomed)
		requireCode(t, s.NoteDeleteFailure(t.Context(), c, "x"), errs.Conflict, errs.CodeConflict)
	})
	t.Run("a copy that was never available can be left to nobody", func(t *testing.T) {
		j := w.newJob(t)
		e, l := w.run(t, j)
		require.NoError(t, w.Executions().BeginCopy(t.Context(), l, j.StorageLocationID, "whole"))
		c := backup.Copy{ExecutionID: e.ID, StorageLocationID: j.StorageLocationID, StorageName: j.StorageName, Path: "whole", Status: backup.CopyFailed}
		requireCode(t, s.Release(t.Context(), c), errs.Conflict, errs.CodeConflict) // it is being written
		r := failedResult("X")
		r.Copies = []backup.Copy{c}
		require.NoError(t, w.Executions().Finish(t.Context(), l, r))
		before, err := w.Executions().Get(t.Context(), e.ID)
		require.NoError(t, err)
		doomed, err := s.Doomed(t.Context(), nil, 10)
		require.NoError(t, err)
		require.Len(t, doomed, 1)
		require.True(t, doomed[0].GivenUp)
		require.NoError(t, s.Release(t.Context(), doomed[0]))
		requireCode(t, s.Release(t.Context(), doomed[0]), errs.Conflict, errs.CodeConflict)
		after, err := w.Executions().Get(t.Context(), e.ID)
		require.NoError(t, err)
		require.Empty(t, after.Copies)
		require.Equal(t, before.Logs, after.Logs[:len(before.Logs)])
		require.Len(t, after.Logs, len(before.Logs)+1)
		require.Contains(t, after.Logs[len(before.Logs)].Message, "whole backup")
		require.Equal(t, int64(len(after.Logs)), after.Logs[len(before.Logs)].Seq)
	})
	t.Run("what somebody deletes is not left to nobody, nor what failed once and was imported", func(t *testing.T) {
		j := w.newJob(t)
		done := w.complete(t, j)
		requireCode(t, s.Release(t.Context(), done.Copies[0]), errs.Conflict, errs.CodeConflict)
		_, err := w.conn.Exec(t.Context(), "update backup_copies set given_up = true where execution_id = $1", done.ID)
		require.NoError(t, err)
		_, err = s.MarkDeleting(t.Context(), []string{done.ID})
		require.NoError(t, err)
		doomed, err := s.Doomed(t.Context(), nil, 10)
		require.NoError(t, err)
		require.Len(t, doomed, 1)
		require.False(t, doomed[0].GivenUp)
		requireCode(t, s.Release(t.Context(), doomed[0]), errs.Conflict, errs.CodeConflict)
		require.NoError(t, s.MarkDeleted(t.Context(), doomed[0]))
	})
	t.Run("a backup that is being read is not taken", func(t *testing.T) {
		j := w.newJob(t)
		busy, free := w.complete(t, j), w.complete(t, j)
		w.queueRestore(t, busy)
		marked, err := s.MarkDeleting(t.Context(), []string{busy.ID, free.ID})
		require.NoError(t, err)
		require.Equal(t, []string{free.ID}, marked)
		w.drain(t)
		marked, err = s.MarkDeleting(t.Context(), []string{busy.ID})
		require.NoError(t, err)
		require.Equal(t, []string{busy.ID}, marked)
		w.forget(t, busy.ID, free.ID)
	})
	t.Run("a restore and a deletion at once: one of them", func(t *testing.T) { restoreOrDelete(t, w) })
	t.Run("what a lost or failed attempt left is doomed, what is being written is not", func(t *testing.T) { doomed(t, w) })
	t.Run("a missing copy still shows, but counts for nothing", func(t *testing.T) {
		j := w.newJob(t)
		done := w.complete(t, j)
		before := len(notes(t, w))
		require.NoError(t, s.MarkMissing(t.Context(), done.Copies[0], "part 2 is gone"))
		require.NoError(t, s.MarkMissing(t.Context(), done.Copies[0], "part 1 is gone too"))
		news := notes(t, w)[before:]
		require.Equal(t, []notification.Type{notification.BackupLost}, types(news), "it is told once")
		require.Contains(t, news[0].Message, "part 2 is gone. ")
		require.Equal(t, done.ID, news[0].Metadata["execution_id"])
		b, err := s.Get(t.Context(), done.ID)
		require.NoError(t, err)
		require.Equal(t, backup.CopyMissing, b.Copies[0].Status)
		require.Equal(t, "part 1 is gone too", b.Copies[0].Error)
		byDatasource, err := s.OfDatasource(t.Context(), j.DatasourceID)
		require.NoError(t, err)
		require.Len(t, byDatasource, 1)
		byJob, err := s.OfJob(t.Context(), j.ID)
		require.NoError(t, err)
		require.Empty(t, byJob)
		require.Equal(t, 1, countsOf(t, s, j.DatasourceID).Backups)
		marked, err := s.MarkDeleting(t.Context(), []string{done.ID})
		require.NoError(t, err)
		require.Equal(t, []string{done.ID}, marked)
		requireCode(t, s.MarkMissing(t.Context(), done.Copies[0], "x"), errs.Conflict, errs.CodeConflict)
		w.forget(t, done.ID)
	})
	t.Run("a retention run is told when it deleted something", func(t *testing.T) {
		j := w.newJob(t)
		before := notes(t, w)
		require.NoError(t, s.NoteCleanup(t.Context(), j, nil))
		require.Len(t, notes(t, w), len(before))
		require.NoError(t, s.NoteCleanup(t.Context(), j, []backup.Backup{{ExecutionID: "a", StoredBytes: 3 << 19}, {ExecutionID: "b"}}))
		news := notes(t, w)[len(before):]
		require.Equal(t, []notification.Type{notification.CleanupCompleted}, types(news))
		require.Equal(t, j.ID, news[0].EntityID)
		require.Contains(t, news[0].Message, "2 backups")
		require.Contains(t, news[0].Message, "1.5 MiB")
	})
}

func restoreOrDelete(t *testing.T, w *world) {
	j := w.newJob(t)
	for range 20 {
		done := w.complete(t, j)
		var (
			group  sync.WaitGroup
			failed error
			marked []string
		)
		group.Go(func() { _, failed = w.Executions().Create(t.Context(), newRestore(done)) })
		var err error
		group.Go(func() { marked, err = w.Catalogue().MarkDeleting(t.Context(), []string{done.ID}) })
		group.Wait()
		require.NoError(t, err)
		if failed == nil {
			require.Empty(t, marked, "restored and deleted")
		} else {
			requireCode(t, failed, errs.Unavailable, errs.CodeBackupUnavailable)
			require.Len(t, marked, 1)
		}
		w.drain(t)
		w.forget(t, done.ID)
	}
}

func doomed(t *testing.T, w *world) {
	s, j := w.Executions(), w.newJob(t)
	paths := func() (paths []string) {
		copies, err := w.Catalogue().Doomed(t.Context(), nil, 100)
		require.NoError(t, err)
		for _, c := range copies {
			paths = append(paths, c.Path)
		}
		return paths
	}
	e, l := w.run(t, j)
	require.NoError(t, s.BeginCopy(t.Context(), l, j.StorageLocationID, "first"))
	require.Empty(t, paths(), "it is being written")
	got, err := s.Get(t.Context(), e.ID)
	require.NoError(t, err)
	requireCode(t, w.Catalogue().MarkDeleted(t.Context(), got.Copies[0]), errs.Conflict, errs.CodeConflict)
	w.expire(t, e.ID)
	_, err = s.Reap(t.Context(), got, nil)
	require.NoError(t, err)
	require.Empty(t, paths(), "its worker is lost; the next one may go on with it")
	w.ready(t, e.ID)
	_, l = w.claim(t, "worker-2")
	require.NoError(t, s.BeginCopy(t.Context(), l, j.StorageLocationID, "second"))
	require.Empty(t, paths(), "the second attempt is at work, and removes what the first one left")
	r := failedResult("UPLOAD_FAILED")
	r.Copies = []backup.Copy{{StorageLocationID: j.StorageLocationID, Path: "second", Status: backup.CopyFailed, Error: "no space"}}
	require.NoError(t, s.Finish(t.Context(), l, r))
	require.ElementsMatch(t, []string{"first", "second"}, paths())
	one, err := w.Catalogue().Doomed(t.Context(), nil, 1)
	require.NoError(t, err)
	require.Len(t, one, 1)
	got, err = s.Get(t.Context(), e.ID)
	require.NoError(t, err)
	for _, c := range got.Copies {
		require.NoError(t, w.Catalogue().MarkDeleted(t.Context(), c))
	}
	require.Empty(t, paths())
	require.NoError(t, s.Delete(t.Context(), e.ID))
}

// forget closes the books on backups, so that they are doomed no more.
func (w *world) forget(t testing.TB, ids ...string) {
	t.Helper()
	for _, id := range ids {
		w.exec(t, "update backup_copies set status = 'deleted' where execution_id = $1", id)
	}
}

func backupIDs(backups []backup.Backup) []string {
	ids := make([]string, 0, len(backups))
	for _, b := range backups {
		ids = append(ids, b.ExecutionID)
	}
	return ids
}

func countsOf(t *testing.T, s backup.Catalogue, datasourceID string) backup.DatasourceBackups {
	t.Helper()
	all, err := s.Datasources(t.Context())
	require.NoError(t, err)
	for _, d := range all {
		if d.ID == datasourceID {
			return d
		}
	}
	require.Fail(t, "the datasource is not listed")
	return backup.DatasourceBackups{}
}
