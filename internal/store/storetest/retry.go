package storetest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/health"
	"github.com/dataguardian/dataguardian/internal/notification"
)

// interrupted is how a backup ends whose dump waits in the spool "here".
func interrupted(status execution.Status, expires time.Time, copies ...backup.Copy) execution.Result {
	r := failedResult(errs.CodeUploadFailed)
	r.Status, r.Copies = status, copies
	if status == execution.Completed {
		r.ErrorCode, r.ErrorMessage = "", ""
	}
	r.Record.UploadRetry = &execution.UploadRetry{Possible: true, Reason: "it waits", SpoolExpiresAt: &expires, Spool: "here"}
	r.Record.WorkerHost = "machine"
	return r
}

func retries(t *testing.T, w *world) {
	s := w.Executions()
	later := time.Now().Add(time.Hour)
	fail := func(t *testing.T, expires time.Time) (execution.Execution, backup.Job) {
		j := w.newJob(t)
		e, l := w.run(t, j)
		require.NoError(t, s.BeginCopy(t.Context(), l, j.StorageLocationID, "p"))
		copied := backup.Copy{StorageLocationID: j.StorageLocationID, Path: "p", Status: backup.CopyFailed, Error: "away"}
		require.NoError(t, s.Finish(t.Context(), l, interrupted(execution.Failed, expires, copied)))
		return e, j
	}
	mine := execution.Claimant{WorkerID: "worker-1", Spool: "here"}

	t.Run("only the worker that has the dump goes on, under the same id", func(t *testing.T) {
		e, j := fail(t, later)
		copies, err := w.Catalogue().Doomed(t.Context(), []string{j.StorageLocationID}, 10)
		require.NoError(t, err)
		require.Empty(t, copies, "what a retry may still complete is left alone")
		queued, err := s.RetryUpload(t.Context(), e.ID)
		require.NoError(t, err)
		require.Equal(t, execution.Queued, queued.Status)
		require.Equal(t, execution.Retry, queued.Trigger)
		require.True(t, queued.Request.RetryUpload)
		again, err := s.RetryUpload(t.Context(), e.ID)
		require.NoError(t, err, "a second call answers with the first")
		require.Equal(t, execution.Queued, again.Status)
		copies, err = w.Catalogue().Doomed(t.Context(), []string{j.StorageLocationID}, 10)
		require.NoError(t, err)
		require.Empty(t, copies)

		_, ok, err := s.Claim(t.Context(), execution.Claimant{WorkerID: "worker-2", Spool: "elsewhere"}, allOperations, minute)
		require.NoError(t, err)
		require.False(t, ok)
		claimed, ok, err := s.Claim(t.Context(), mine, allOperations, minute)
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, e.ID, claimed.ID)
		l := execution.Lease{ExecutionID: e.ID, WorkerID: claimed.WorkerID, Fence: claimed.Fence}
		require.NoError(t, s.BeginCopy(t.Context(), l, j.StorageLocationID, "p"))
		done := execution.Result{Status: execution.Completed, BackupPath: "p", Copies: []backup.Copy{{StorageLocationID: j.StorageLocationID, Path: "p", Status: backup.CopyAvailable}}}
		require.NoError(t, s.Finish(t.Context(), l, done))
		_, err = s.RetryUpload(t.Context(), e.ID)
		requireCode(t, err, errs.Conflict, errs.CodeExecutionNotRetriable)
		w.forget(t, e.ID)
	})
	t.Run("a lost worker's copies are the next attempt's to go on with", func(t *testing.T) {
		e, j := fail(t, later)
		_, err := s.RetryUpload(t.Context(), e.ID)
		require.NoError(t, err)
		begin := func() {
			claimed, ok, err := s.Claim(t.Context(), mine, allOperations, minute)
			require.NoError(t, err)
			require.True(t, ok)
			l := execution.Lease{ExecutionID: e.ID, WorkerID: claimed.WorkerID, Fence: claimed.Fence}
			require.NoError(t, s.BeginCopy(t.Context(), l, j.StorageLocationID, "p"))
		}
		begin()
		w.expire(t, e.ID)
		_, err = s.Reap(t.Context(), onlyExpired(t, s), nil)
		require.NoError(t, err)
		copies, err := w.Catalogue().Doomed(t.Context(), nil, 10)
		require.NoError(t, err)
		require.Empty(t, copies)
		w.ready(t, e.ID)
		begin()
		w.exec(t, "update backup_executions set status = 'failed', finished_at = now(), lease_expires_at = null where id = $1", e.ID)
		w.forget(t, e.ID)
	})
	t.Run("a machine that does not come back strands it", func(t *testing.T) {
		stranded := func(t *testing.T, why string, happens func(id string)) {
			e, _ := fail(t, later)
			_, err := s.RetryUpload(t.Context(), e.ID)
			require.NoError(t, err)
			expired, err := s.Expired(t.Context(), minute, 10)
			require.NoError(t, err)
			require.Empty(t, expired, "it has just begun to wait")
			happens(e.ID)
			status, err := s.Reap(t.Context(), onlyExpired(t, s), lines(4))
			require.NoError(t, err, why)
			require.Equal(t, execution.Failed, status)
			requireEnd(t, w, e.ID, errs.CodeSpoolLost, notification.BackupFailed)
			w.forget(t, e.ID)
		}
		wait := func(id string) {
			w.exec(t, "update backup_executions set available_at = now() - interval '2 minutes' where id = $1", id)
		}
		stranded(t, "no worker", wait)
		stranded(t, "the spool's time is over", func(id string) {
			w.exec(t, `update backup_executions set metadata = jsonb_set(metadata, '{upload_retry,spool_expires_at}', to_jsonb(now() - interval '1 second')) where id = $1`, id)
		})

		e, _ := fail(t, later)
		queued, err := s.RetryUpload(t.Context(), e.ID)
		require.NoError(t, err)
		wait(e.ID)
		there := health.Instance{ID: id(), Role: health.RoleBackup, Host: "renamed", Spool: "here", State: health.WorkerRunning}
		require.NoError(t, w.Health().Report(t.Context(), time.Minute, there))
		expired, err := s.Expired(t.Context(), minute, 10)
		require.NoError(t, err)
		require.Empty(t, expired, "its machine is there, and busy")
		require.NoError(t, w.Health().Withdraw(t.Context(), there.ID))
		there.Spool = "" // a worker of an earlier version does not tell
		require.NoError(t, w.Health().Report(t.Context(), time.Minute, there))
		expired, err = s.Expired(t.Context(), minute, 10)
		require.NoError(t, err)
		require.Len(t, expired, 1, "its host is another one")
		there.Host = "machine"
		require.NoError(t, w.Health().Report(t.Context(), time.Minute, there))
		expired, err = s.Expired(t.Context(), minute, 10)
		require.NoError(t, err)
		require.Empty(t, expired)
		claimed, ok, err := s.Claim(t.Context(), mine, allOperations, minute)
		require.NoError(t, err)
		require.True(t, ok)
		_, err = s.Reap(t.Context(), queued, nil)
		require.ErrorIs(t, err, execution.ErrLeaseLost, "its worker came back in time")
		require.NoError(t, s.Finish(t.Context(), execution.Lease{ExecutionID: e.ID, WorkerID: claimed.WorkerID, Fence: claimed.Fence}, failedResult("X")))
		require.NoError(t, w.Health().Withdraw(t.Context(), there.ID))
		w.forget(t, e.ID)
	})
	t.Run("a good copy makes it a good backup, however a later upload ends", func(t *testing.T) {
		j, second := w.newJob(t), w.newLocation(t)
		e, l := w.run(t, j)
		good := backup.Copy{StorageLocationID: j.StorageLocationID, Path: "p", Status: backup.CopyAvailable}
		bad := backup.Copy{StorageLocationID: second.ID, Path: "p", Status: backup.CopyFailed, Error: "away"}
		whole := interrupted(execution.Completed, later, good, bad)
		size, stored := int64(70), int64(7)
		whole.BackupPath, whole.SizeBytes, whole.StoredBytes = "p", &size, &stored
		whole.Parts = []backup.Part{{Number: 1, Key: "p/a", Size: 7, SHA256: "ab"}}
		whole.Record.ServerVersion, whole.Record.Tables = "17.2", 12
		require.NoError(t, s.Finish(t.Context(), l, whole))
		for _, end := range []func(){
			func() {
				_, err := s.RequestCancel(t.Context(), e.ID)
				require.NoError(t, err)
			},
			func() {
				claimed, ok, err := s.Claim(t.Context(), mine, allOperations, minute)
				require.NoError(t, err)
				require.True(t, ok)
				l := execution.Lease{ExecutionID: e.ID, WorkerID: claimed.WorkerID, Fence: claimed.Fence}
				require.NoError(t, s.Finish(t.Context(), l, interrupted(execution.Failed, later, bad)))
			},
		} {
			_, err := s.RetryUpload(t.Context(), e.ID)
			require.NoError(t, err)
			end()
			after, err := s.Get(t.Context(), e.ID)
			require.NoError(t, err)
			require.Equal(t, execution.Completed, after.Status)
			require.Nil(t, after.ErrorCode)
			require.Equal(t, whole.Parts, after.Parts, "the good copy is compared with them")
			require.Equal(t, []any{"p", size, stored, 1}, []any{*after.BackupPath, *after.SizeBytes, *after.StoredBytes, *after.PartsCount})
			require.Equal(t, []any{"17.2", 12}, []any{after.Record.ServerVersion, after.Record.Tables})
			require.True(t, after.Record.UploadRetry.Possible)
		}
		w.forget(t, e.ID)
	})
	t.Run("what cannot be retried says why", func(t *testing.T) {
		expired, _ := fail(t, time.Now().Add(-time.Minute))
		good := w.complete(t, w.newJob(t))
		running, _ := w.run(t, w.newJob(t))
		for id, why := range map[string]string{expired.ID: "kept on the worker for its time", good.ID: "nothing left to upload", running.ID: "still running"} {
			_, err := s.RetryUpload(t.Context(), id)
			requireCode(t, err, errs.Conflict, errs.CodeExecutionNotRetriable)
			require.ErrorContains(t, err, why)
		}
		_, err := s.RetryUpload(t.Context(), "00000000-0000-4000-8000-000000000000")
		requireCode(t, err, errs.NotFound, errs.CodeNotFound)
		copies, err := w.Catalogue().Doomed(t.Context(), []string{}, 10)
		require.NoError(t, err)
		require.Empty(t, copies)
		w.forget(t, expired.ID, good.ID)
	})
	t.Run("while another backup of the job runs it waits", func(t *testing.T) {
		e, j := fail(t, later)
		w.queue(t, j)
		_, err := s.RetryUpload(t.Context(), e.ID)
		requireCode(t, err, errs.Conflict, errs.CodeExecutionRunning)
		w.drain(t)
		w.forget(t, e.ID)
	})
}
