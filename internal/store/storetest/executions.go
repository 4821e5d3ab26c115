package storetest

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/location"
	"github.com/dataguardian/dataguardian/internal/paging"
)

// newRestore describes the restore of a backup over its own datasource.
func newRestore(of execution.Execution) execution.New {
	return execution.New{
		ID: id(), JobID: of.JobID, DatasourceID: of.DatasourceID, StorageLocationID: of.StorageLocationID,
		Operation: execution.Restore, Trigger: execution.Manual, MaxAttempts: 1, LockKey: "restore:" + of.DatasourceID,
		Request: execution.Request{SourceExecutionID: of.ID, Restore: &execution.RestoreRequest{DropExisting: true}},
	}
}

func newVerify(of execution.Execution) execution.New {
	return execution.New{
		ID: id(), JobID: of.JobID, DatasourceID: of.DatasourceID, StorageLocationID: of.StorageLocationID,
		Operation: execution.Verify, Trigger: execution.Manual, MaxAttempts: 2, LockKey: "verify:" + of.ID,
		Request: execution.Request{SourceExecutionID: of.ID},
	}
}

func (w *world) queueRestore(t testing.TB, of execution.Execution) execution.Execution {
	t.Helper()
	e, err := w.Executions().Create(t.Context(), newRestore(of))
	require.NoError(t, err)
	return e
}

func executions(t *testing.T, w *world) {
	s := w.Executions()
	t.Run("what is queued is read back", func(t *testing.T) {
		j := w.newJob(t)
		e := w.queue(t, j)
		require.False(t, e.CreatedAt.IsZero())
		require.Equal(t, execution.Execution{
			ID: e.ID, JobID: j.ID, DatasourceID: j.DatasourceID, StorageLocationID: j.StorageLocationID, Operation: execution.Backup,
			Status: execution.Queued, Trigger: execution.Manual, MaxAttempts: execution.BackupAttempts, CreatedAt: e.CreatedAt,
			Request: execution.Request{Options: &j.Options}, JobName: j.Name, JobCron: j.ScheduleCron, DatasourceName: j.DatasourceName,
			DatasourceType: engine.Postgres, StorageName: j.StorageName, StorageType: location.Local,
			Copies: []backup.Copy{}, Parts: []backup.Part{}, Logs: lines(0),
		}, e)
		w.drain(t)
	})
	t.Run("absent ones are not found", func(t *testing.T) {
		for _, gone := range absent() {
			_, err := s.Get(t.Context(), gone)
			requireNotFound(t, err)
			_, err = s.RequestCancel(t.Context(), gone)
			requireNotFound(t, err)
			requireNotFound(t, s.Delete(t.Context(), gone))
		}
	})
	t.Run("parts that are not there are named", func(t *testing.T) {
		for field, edit := range map[string]func(*execution.New){
			"job_id":              func(n *execution.New) { n.JobID = id() },
			"datasource_id":       func(n *execution.New) { n.DatasourceID = id() },
			"storage_location_id": func(n *execution.New) { n.StorageLocationID = id() },
		} {
			n := execution.NewBackup(w.newJob(t), execution.Manual, nil)
			edit(&n)
			_, err := s.Create(t.Context(), n)
			requireCode(t, err, errs.Invalid, errs.CodeValidation)
			requireField(t, err, field)
		}
	})
	t.Run("one job runs once at a time, however many ask", func(t *testing.T) {
		j := w.newJob(t)
		var group sync.WaitGroup
		failed := make([]error, 8)
		for i := range failed {
			group.Go(func() { _, failed[i] = s.Create(t.Context(), execution.NewBackup(j, execution.Manual, nil)) })
		}
		group.Wait()
		rows, _, err := s.List(t.Context(), execution.Filter{JobID: j.ID}, firstPage)
		require.NoError(t, err)
		require.Len(t, rows, 1)
		made := 0
		for _, err := range failed {
			if err == nil {
				made++
				continue
			}
			requireCode(t, err, errs.Conflict, errs.CodeExecutionRunning)
			require.Equal(t, rows[0].ID, detail(err, "execution_id"))
		}
		require.Equal(t, 1, made)
		_, l := w.claim(t, "worker-1")
		_, err = s.Create(t.Context(), execution.NewBackup(j, execution.Manual, nil))
		requireCode(t, err, errs.Conflict, errs.CodeExecutionRunning)
		require.NoError(t, s.Finish(t.Context(), l, failedResult("DUMP_FAILED")))
		w.queue(t, j)
		w.drain(t)
	})
	t.Run("a slot is taken once, also after its execution ended", func(t *testing.T) {
		j := w.newJob(t)
		_, err := s.Create(t.Context(), execution.NewBackup(j, execution.Schedule, &epoch))
		require.NoError(t, err)
		w.drain(t)
		_, err = s.Create(t.Context(), execution.NewBackup(j, execution.Schedule, &epoch))
		requireCode(t, err, errs.Exists, errs.CodeConflict)
		requireField(t, err, "scheduled_for")
	})
	t.Run("a restore needs a completed backup with a copy", func(t *testing.T) {
		j := w.newJob(t)
		e, l := w.run(t, j)
		_, err := s.Create(t.Context(), newRestore(e))
		requireNotFound(t, err)
		require.NoError(t, s.Finish(t.Context(), l, goodResult(j, "p")))
		first := w.queueRestore(t, e)
		_, err = s.Create(t.Context(), newRestore(e))
		requireCode(t, err, errs.Conflict, errs.CodeExecutionRunning)
		require.Equal(t, first.ID, detail(err, "execution_id"))
		w.drain(t)
		marked, err := w.Catalogue().MarkDeleting(t.Context(), []string{e.ID})
		require.NoError(t, err)
		require.Equal(t, []string{e.ID}, marked)
		_, err = s.Create(t.Context(), newRestore(e))
		requireCode(t, err, errs.Unavailable, errs.CodeBackupUnavailable)
	})
	t.Run("cancelling ends a queued one, asks a running one, refuses an ended one", func(t *testing.T) {
		j := w.newJob(t)
		e := w.queue(t, j)
		status, err := s.RequestCancel(t.Context(), e.ID)
		require.NoError(t, err)
		require.Equal(t, execution.Cancelled, status)
		e, err = s.Get(t.Context(), e.ID)
		require.NoError(t, err)
		require.Equal(t, execution.Cancelled, e.Status)
		require.NotNil(t, e.FinishedAt)
		require.Equal(t, string(errs.CodeCancelled), *e.ErrorCode)
		_, err = s.RequestCancel(t.Context(), e.ID)
		requireCode(t, err, errs.Conflict, errs.CodeExecutionNotCancelable)

		e, l := w.run(t, j)
		status, err = s.RequestCancel(t.Context(), e.ID)
		require.NoError(t, err)
		require.Equal(t, execution.Running, status)
		first, err := s.Get(t.Context(), e.ID)
		require.NoError(t, err)
		_, err = s.RequestCancel(t.Context(), e.ID)
		require.NoError(t, err)
		second, err := s.Get(t.Context(), e.ID)
		require.NoError(t, err)
		require.Equal(t, first.CancelRequestedAt, second.CancelRequestedAt)
		cancel, err := s.Heartbeat(t.Context(), l, minute, execution.Progress{})
		require.NoError(t, err)
		require.True(t, cancel)
		before := notes(t, w)
		require.NoError(t, s.Finish(t.Context(), l, execution.Result{Status: execution.Cancelled}))
		require.Len(t, notes(t, w), len(before), "who cancels knows")
	})
	t.Run("deleting takes only what ended and has nothing left", func(t *testing.T) { deleteExecutions(t, w) })
	t.Run("lists are filtered, newest first, in pages", func(t *testing.T) { listExecutions(t, w) })
}

func deleteExecutions(t *testing.T, w *world) {
	s, j := w.Executions(), w.newJob(t)
	e := w.queue(t, j)
	requireCode(t, s.Delete(t.Context(), e.ID), errs.Conflict, errs.CodeExecutionNotDeletable)
	w.drain(t)
	require.NoError(t, s.Delete(t.Context(), e.ID))
	_, err := s.Get(t.Context(), e.ID)
	requireNotFound(t, err)

	done := w.complete(t, j)
	requireCode(t, s.Delete(t.Context(), done.ID), errs.Conflict, errs.CodeExecutionNotDeletable)
	restore := w.queueRestore(t, done)
	requireCode(t, s.Delete(t.Context(), done.ID), errs.Conflict, errs.CodeExecutionNotDeletable)
	w.drain(t)
	require.NoError(t, s.Delete(t.Context(), restore.ID))
	_, err = w.Catalogue().MarkDeleting(t.Context(), []string{done.ID})
	require.NoError(t, err)
	requireCode(t, s.Delete(t.Context(), done.ID), errs.Conflict, errs.CodeExecutionNotDeletable)
	require.NoError(t, w.Catalogue().MarkDeleted(t.Context(), done.Copies[0]))
	require.NoError(t, s.Delete(t.Context(), done.ID))
	var left int
	require.NoError(t, w.conn.QueryRow(t.Context(),
		"select (select count(*) from backup_chunks where execution_id = $1) + (select count(*) from backup_copies where execution_id = $1)", done.ID).Scan(&left))
	require.Zero(t, left)
}

func listExecutions(t *testing.T, w *world) {
	j, other := w.newJob(t), w.newJob(t)
	var made []string
	for range 3 {
		made = append(made, w.complete(t, j).ID)
	}
	done, err := w.Executions().Get(t.Context(), made[2])
	require.NoError(t, err)
	made = append(made, w.queueRestore(t, done).ID)
	w.queue(t, other)
	list := func(f execution.Filter, p paging.Page) (ids []string, total int) {
		rows, total, err := w.Executions().List(t.Context(), f, p)
		require.NoError(t, err)
		require.NotNil(t, rows)
		for _, e := range rows {
			require.Empty(t, e.Logs)
			require.Empty(t, e.Parts)
			if e.Status == execution.Completed {
				require.Len(t, e.Copies, 1)
				require.Equal(t, "15.18", e.Record.ServerVersion)
			}
			ids = append(ids, e.ID)
		}
		return ids, total
	}
	newest := []string{made[3], made[2], made[1], made[0]}
	mine := func(edit func(*execution.Filter)) execution.Filter {
		f := execution.Filter{JobID: j.ID}
		edit(&f)
		return f
	}
	for name, c := range map[string]struct {
		filter execution.Filter
		page   paging.Page
		want   []string
		total  int
	}{
		"by job":        {execution.Filter{JobID: j.ID}, firstPage, newest, 4},
		"by datasource": {execution.Filter{DatasourceID: j.DatasourceID}, firstPage, newest, 4},
		"by storage":    {execution.Filter{StorageLocationID: j.StorageLocationID}, firstPage, newest, 4},
		"second page":   {execution.Filter{JobID: j.ID}, paging.Page{Number: 2, Limit: 3}, newest[3:], 4},
		"past the end":  {execution.Filter{JobID: j.ID}, paging.Page{Number: 1 << 40, Limit: 100}, nil, 4},
		"by status":     {mine(func(f *execution.Filter) { f.Status = execution.Completed }), firstPage, newest[1:], 3},
		"by operation":  {mine(func(f *execution.Filter) { f.Operation = execution.Restore }), firstPage, newest[:1], 1},
		"from":          {mine(func(f *execution.Filter) { f.From = &done.CreatedAt }), firstPage, newest[:2], 2},
		"to":            {mine(func(f *execution.Filter) { f.To = &done.CreatedAt }), firstPage, newest[2:], 2},
		"nothing":       {execution.Filter{JobID: id()}, firstPage, nil, 0},
		"future":        {mine(func(f *execution.Filter) { f.From = ptr(time.Now().Add(time.Hour)) }), firstPage, nil, 0},
	} {
		ids, total := list(c.filter, c.page)
		require.Equal(t, c.want, ids, name)
		require.Equal(t, c.total, total, name)
	}
	w.drain(t)
}
