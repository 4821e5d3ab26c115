package storetest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/logs"
	"github.com/dataguardian/dataguardian/internal/notification"
)

func failedResult(code errs.Code) execution.Result {
	return execution.Result{Status: execution.Failed, ErrorCode: code, ErrorMessage: "it did not work"}
}

func leases(t *testing.T, w *world) {
	s := w.Executions()
	t.Run("there is nothing to claim", func(t *testing.T) {
		_, ok, err := s.Claim(t.Context(), execution.Claimant{WorkerID: "worker-1"}, allOperations, minute)
		require.NoError(t, err)
		require.False(t, ok)
	})
	t.Run("a claim starts a lease under a new fence", func(t *testing.T) {
		j := w.newJob(t)
		e, l := w.run(t, j)
		require.Equal(t, execution.Running, e.Status)
		require.Equal(t, execution.Lease{ExecutionID: e.ID, WorkerID: "worker-1", Fence: 1}, l)
		require.Equal(t, 1, e.Attempt)
		require.NotNil(t, e.StartedAt)
		require.WithinDuration(t, e.StartedAt.Add(minute), *e.LeaseExpiresAt, time.Second)
		require.NoError(t, s.Finish(t.Context(), l, failedResult("X")))
	})
	t.Run("a claim takes the oldest of its operations that is ready", func(t *testing.T) {
		first, second, third := w.queue(t, w.newJob(t)), w.queue(t, w.newJob(t)), w.queue(t, w.newJob(t))
		w.exec(t, "update backup_executions set available_at = now() + interval '1 hour' where id = $1", first.ID)
		_, ok, err := s.Claim(t.Context(), execution.Claimant{WorkerID: "worker-1"}, []execution.Operation{execution.Restore, execution.Verify}, minute)
		require.NoError(t, err)
		require.False(t, ok)
		for _, want := range []string{second.ID, third.ID} {
			e, l := w.claim(t, "worker-1")
			require.Equal(t, want, e.ID)
			require.NoError(t, s.Finish(t.Context(), l, failedResult("X")))
		}
		_, ok, err = s.Claim(t.Context(), execution.Claimant{WorkerID: "worker-1"}, allOperations, minute)
		require.NoError(t, err)
		require.False(t, ok, "not ready yet")
		w.drain(t)
	})
	t.Run("a heartbeat extends the lease and stores progress", func(t *testing.T) {
		e, l := w.run(t, w.newJob(t))
		p := execution.Progress{Phase: execution.Dumping, BytesDone: 5, BytesTotal: ptr(int64(10)), Percent: ptr(50.0), Rate: 2.5, ETASeconds: ptr(2.0)}
		cancel, err := s.Heartbeat(t.Context(), l, time.Hour, p)
		require.NoError(t, err)
		require.False(t, cancel)
		after, err := s.Get(t.Context(), e.ID)
		require.NoError(t, err)
		require.Equal(t, p, after.Progress)
		require.True(t, after.LeaseExpiresAt.After(e.LeaseExpiresAt.Add(minute)))
		require.NoError(t, s.Finish(t.Context(), l, failedResult("X")))
	})
	t.Run("lines are stored whatever they hold", func(t *testing.T) {
		e, l := w.run(t, w.newJob(t))
		stored := lines(2)
		stored[1].Message = "\\u0000 nul \x00 broken \xff \u001b[31m <b>"
		require.NoError(t, s.SaveLogs(t.Context(), l, stored))
		got, err := s.Get(t.Context(), e.ID)
		require.NoError(t, err)
		stored[1].Message = "\\u0000 nul \uFFFD broken \uFFFD \u001b[31m <b>"
		require.Equal(t, stored, got.Logs)
		require.NoError(t, s.SaveLogs(t.Context(), l, lines(1)))
		got, err = s.Get(t.Context(), e.ID)
		require.NoError(t, err)
		require.Len(t, got.Logs, 1, "the stored lines are replaced")
		require.NoError(t, s.SaveLogs(t.Context(), l, lines(3)))
		fresh := w.queue(t, w.newJob(t))
		look := func() map[string]execution.Look {
			seen, err := s.Look(t.Context(), []string{e.ID, id(), fresh.ID})
			require.NoError(t, err)
			return seen
		}
		require.Equal(t, map[string]execution.Look{e.ID: {Status: execution.Running, Last: 3}, fresh.ID: {Status: execution.Queued}}, look())
		require.NoError(t, s.Finish(t.Context(), l, failedResult("X")))
		require.Equal(t, execution.Failed, look()[e.ID].Status)
		w.drain(t)
	})
	t.Run("heartbeats do not rewrite the lines", func(t *testing.T) { heartbeatsAreSmall(t, w) })
	t.Run("every write under an old fence, or by another worker, changes nothing", func(t *testing.T) { oldFences(t, w) })
	t.Run("a late worker goes on while nobody took its execution", func(t *testing.T) {
		e, l := w.run(t, w.newJob(t))
		w.expire(t, e.ID)
		_, err := s.Heartbeat(t.Context(), l, minute, execution.Progress{})
		require.NoError(t, err)
		expired, err := s.Expired(t.Context(), minute, 10)
		require.NoError(t, err)
		require.Empty(t, expired)
		w.expire(t, e.ID)
		require.NoError(t, s.Finish(t.Context(), l, failedResult("X")))
	})
	t.Run("a path is booked before its first object, and again by the same execution", func(t *testing.T) {
		j := w.newJob(t)
		e, l := w.run(t, j)
		require.NoError(t, s.BeginCopy(t.Context(), l, j.StorageLocationID, "p"))
		require.NoError(t, s.BeginCopy(t.Context(), l, j.StorageLocationID, "p"))
		got, err := s.Get(t.Context(), e.ID)
		require.NoError(t, err)
		require.Len(t, got.Copies, 1)
		require.Equal(t, backup.CopyPending, got.Copies[0].Status)
		require.Equal(t, j.StorageName, got.Copies[0].StorageName)
		err = s.BeginCopy(t.Context(), l, id(), "p")
		requireCode(t, err, errs.Invalid, errs.CodeValidation)
		requireField(t, err, "storage_location_id")
		w.exec(t, "update backup_copies set status = 'deleting' where execution_id = $1", e.ID)
		requireCode(t, s.BeginCopy(t.Context(), l, j.StorageLocationID, "p"), errs.Conflict, errs.CodeConflict)
		require.NoError(t, s.Finish(t.Context(), l, failedResult("X")))
	})
	t.Run("an end is stored whole", func(t *testing.T) { finish(t, w) })
	t.Run("an execution ends in a terminal state only", func(t *testing.T) {
		_, l := w.run(t, w.newJob(t))
		for _, status := range []execution.Status{"", execution.Queued, execution.Running} {
			require.Error(t, s.Finish(t.Context(), l, execution.Result{Status: status}))
		}
		require.NoError(t, s.Finish(t.Context(), l, failedResult("X")))
	})
	t.Run("ends are told once, to people", func(t *testing.T) { endsAreTold(t, w) })
	t.Run("a verification dates its backup", func(t *testing.T) {
		j := w.newJob(t)
		done := w.complete(t, j)
		e, err := s.Create(t.Context(), newVerify(done))
		require.NoError(t, err)
		_, l := w.claim(t, "worker-1")
		require.Equal(t, e.ID, l.ExecutionID)
		require.NoError(t, s.Finish(t.Context(), l, execution.Result{Status: execution.Completed}))
		b, err := w.Catalogue().Get(t.Context(), done.ID)
		require.NoError(t, err)
		require.NotNil(t, b.VerifiedAt)
	})
	t.Run("a released one goes back, and counts only when it should", func(t *testing.T) { release(t, w) })
}

// claims is a suite of its own: nobody else's executions may be in the queue.
func claims(t *testing.T, w *world) {
	t.Run("eight workers share two hundred executions and take none twice", func(t *testing.T) {
		const all, workers = 200, 8
		d, l := w.newDatasource(t), w.newLocation(t)
		for range all {
			n := execution.New{
				ID: id(), DatasourceID: d.ID, StorageLocationID: l.ID, Operation: execution.Backup, Trigger: execution.Manual, MaxAttempts: 2,
			}
			_, err := w.Executions().Create(t.Context(), n)
			require.NoError(t, err)
		}
		var (
			group sync.WaitGroup
			lock  sync.Mutex
			taken = map[string]string{}
		)
		failed := make([]error, workers)
		for i := range workers {
			name := fmt.Sprint("worker-", i)
			group.Go(func() {
				for {
					e, ok, err := w.Executions().Claim(t.Context(), execution.Claimant{WorkerID: name}, allOperations, minute)
					if err != nil || !ok {
						failed[i] = err
						return
					}
					lock.Lock()
					if other, twice := taken[e.ID]; twice {
						t.Errorf("%s has %s, which %s took", name, e.ID, other)
					}
					taken[e.ID] = name
					lock.Unlock()
				}
			})
		}
		group.Wait()
		for _, err := range failed {
			require.NoError(t, err)
		}
		require.Len(t, taken, all)
	})
}

func heartbeatsAreSmall(t *testing.T, w *world) {
	s := w.Executions()
	e, l := w.run(t, w.newJob(t))
	long := lines(2000)
	for i := range long {
		long[i].Message = strings.Repeat(id(), 10)
	}
	require.NoError(t, s.SaveLogs(t.Context(), l, long))
	var before, after int64
	position := "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint"
	w.exec(t, "checkpoint") // the full page images come now or later, but not in between
	_, err := s.Heartbeat(t.Context(), l, minute, execution.Progress{})
	require.NoError(t, err)
	require.NoError(t, w.conn.QueryRow(t.Context(), position).Scan(&before))
	for range 20 {
		_, err := s.Heartbeat(t.Context(), l, minute, execution.Progress{Phase: execution.Dumping, BytesDone: 1})
		require.NoError(t, err)
	}
	require.NoError(t, w.conn.QueryRow(t.Context(), position).Scan(&after))
	require.Less(t, after-before, int64(1_000_000), "20 heartbeats beside %d lines", len(long))
	require.NoError(t, s.Finish(t.Context(), l, failedResult("X")))
	require.NoError(t, s.Delete(t.Context(), e.ID))
}

func oldFences(t *testing.T, w *world) {
	s, j := w.Executions(), w.newJob(t)
	e, old := w.run(t, j)
	require.NoError(t, s.Release(t.Context(), old, 0, false, lines(1)))
	w.ready(t, e.ID)
	_, current := w.claim(t, "worker-2")
	require.Greater(t, current.Fence, old.Fence)
	stranger := current
	stranger.WorkerID = "worker-3"
	nobody := current
	nobody.ExecutionID = id()
	before, err := s.Get(t.Context(), e.ID)
	require.NoError(t, err)
	for _, l := range []execution.Lease{old, stranger, nobody} {
		_, err := s.Heartbeat(t.Context(), l, time.Hour, execution.Progress{BytesDone: 99})
		require.ErrorIs(t, err, execution.ErrLeaseLost)
		require.ErrorIs(t, s.SaveLogs(t.Context(), l, lines(9)), execution.ErrLeaseLost)
		require.ErrorIs(t, s.BeginCopy(t.Context(), l, j.StorageLocationID, "stale"), execution.ErrLeaseLost)
		require.ErrorIs(t, s.Finish(t.Context(), l, goodResult(j, "stale")), execution.ErrLeaseLost)
		require.ErrorIs(t, s.Release(t.Context(), l, 0, true, nil), execution.ErrLeaseLost)
	}
	after, err := s.Get(t.Context(), e.ID)
	require.NoError(t, err)
	require.Equal(t, before, after)
	require.NoError(t, s.Finish(t.Context(), current, failedResult("X")))
	require.ErrorIs(t, s.Finish(t.Context(), current, goodResult(j, "late")), execution.ErrLeaseLost, "an end is final")
}

func finish(t *testing.T, w *world) {
	s := w.Executions()
	second := w.newLocation(t)
	j := w.newJob(t)
	e, l := w.run(t, j)
	require.NoError(t, s.BeginCopy(t.Context(), l, j.StorageLocationID, "p"))
	r := goodResult(j, "p")
	r.Copies = append(r.Copies, backup.Copy{StorageLocationID: second.ID, Path: "p", Status: backup.CopyFailed, Error: "disk\x00 on fire"})
	r.Record.UploadRetry = &execution.UploadRetry{Possible: true, Reason: "one copy is missing", SpoolExpiresAt: &epoch}
	r.Record.Checked = map[string]any{"tables": 7.0, "odd": "\x00"}
	require.NoError(t, s.Finish(t.Context(), l, r))
	got, err := s.Get(t.Context(), e.ID)
	require.NoError(t, err)
	require.Equal(t, execution.Completed, got.Status)
	require.NotNil(t, got.FinishedAt)
	require.Nil(t, got.LeaseExpiresAt)
	require.Nil(t, got.ErrorCode)
	require.Equal(t, r.SizeBytes, got.SizeBytes)
	require.Equal(t, r.StoredBytes, got.StoredBytes)
	require.Equal(t, "p", *got.BackupPath)
	require.Equal(t, 2, *got.PartsCount)
	require.Equal(t, r.Parts, got.Parts)
	require.Equal(t, r.Progress, got.Progress)
	require.Equal(t, r.Logs, got.Logs)
	r.Record.Checked["odd"] = "\uFFFD"
	require.Equal(t, r.Record, got.Record)
	statuses := map[string]backup.Copy{}
	for _, c := range got.Copies {
		statuses[c.StorageLocationID] = c
	}
	require.Equal(t, backup.CopyAvailable, statuses[j.StorageLocationID].Status)
	require.Equal(t, backup.CopyFailed, statuses[second.ID].Status)
	require.Equal(t, "disk\uFFFD on fire", statuses[second.ID].Error)
	news := notes(t, w)
	last := news[len(news)-1]
	require.Equal(t, notification.BackupSuccess, last.Type)
	require.Equal(t, notification.Warning, last.Severity, "a copy is missing")
	require.Contains(t, last.Message, second.Name)
	require.Contains(t, last.Message, "Retry the upload")
	var inMetadata int
	require.NoError(t, w.conn.QueryRow(t.Context(), "select jsonb_array_length(metadata -> 'execution_logs') from backup_executions where id = $1", e.ID).Scan(&inMetadata))
	require.Equal(t, len(r.Logs), inMetadata)
}

func endsAreTold(t *testing.T, w *world) {
	s, j := w.Executions(), w.newJob(t)
	done := w.complete(t, j)
	end := func(n execution.New, r execution.Result) []notification.Notification {
		before := len(notes(t, w))
		_, err := s.Create(t.Context(), n)
		require.NoError(t, err)
		_, l := w.claim(t, "worker-1")
		require.NoError(t, s.Finish(t.Context(), l, r))
		require.ErrorIs(t, s.Finish(t.Context(), l, r), execution.ErrLeaseLost)
		return notes(t, w)[before:]
	}
	good := execution.Result{Status: execution.Completed}
	newBackup := func() execution.New { return execution.NewBackup(j, execution.Manual, nil) }
	for name, c := range map[string]struct {
		n        execution.New
		r        execution.Result
		kind     notification.Type
		severity notification.Severity
		entity   string
	}{
		"good backup":    {newBackup(), goodResult(j, "q"), notification.BackupSuccess, notification.Info, j.ID},
		"failed backup":  {newBackup(), failedResult("DUMP_FAILED"), notification.BackupFailed, notification.Critical, j.ID},
		"good restore":   {newRestore(done), good, notification.RestoreSuccess, notification.Info, j.DatasourceID},
		"failed restore": {newRestore(done), failedResult("RESTORE_FAILED"), notification.RestoreFailed, notification.Critical, j.DatasourceID},
		"failed verify":  {newVerify(done), failedResult("ARTIFACT_CORRUPT"), notification.VerifyFailed, notification.Critical, j.ID},
	} {
		news := end(c.n, c.r)
		require.Len(t, news, 1, name)
		require.Equal(t, c.kind, news[0].Type, name)
		require.Equal(t, c.severity, news[0].Severity, name)
		require.Equal(t, c.entity, news[0].EntityID, name)
		require.Equal(t, c.n.ID, news[0].Metadata["execution_id"], name)
		require.Contains(t, news[0].Title, j.DatasourceName, name)
		if c.r.Status == execution.Failed {
			require.Contains(t, news[0].Message, c.r.ErrorMessage, name)
			require.Equal(t, string(c.r.ErrorCode), news[0].Metadata["error_code"], name)
		}
		if c.n.Operation == execution.Backup {
			require.Contains(t, news[0].Message, j.Name, name)
		}
	}
	require.Empty(t, end(newVerify(done), good), "a verification that finds nothing wrong is no news")
	require.Empty(t, end(newBackup(), execution.Result{Status: execution.Cancelled}))
}

func release(t *testing.T, w *world) {
	s, j := w.Executions(), w.newJob(t)
	e, l := w.run(t, j)
	require.NoError(t, s.Release(t.Context(), l, 0, false, lines(2)))
	got, err := s.Get(t.Context(), e.ID)
	require.NoError(t, err)
	require.Equal(t, execution.Queued, got.Status)
	require.Equal(t, 0, got.Attempt)
	require.Nil(t, got.StartedAt)
	require.Nil(t, got.LeaseExpiresAt)
	require.Equal(t, lines(2), got.Logs)
	var soon bool
	require.NoError(t, w.conn.QueryRow(t.Context(),
		"select date_trunc('second', available_at) > date_trunc('second', now() - interval '1 second') from backup_executions where id = $1", e.ID).Scan(&soon))
	require.True(t, soon)
	w.ready(t, e.ID)
	got, l = w.claim(t, "worker-2")
	require.Equal(t, 1, got.Attempt)
	require.Equal(t, lines(2), got.Logs, "the next attempt goes on after the stored lines")
	require.NoError(t, s.Release(t.Context(), l, time.Hour, true, nil))
	_, ok, err := s.Claim(t.Context(), execution.Claimant{WorkerID: "worker-2"}, allOperations, minute)
	require.NoError(t, err)
	require.False(t, ok, "not before its delay")
	w.ready(t, e.ID)
	got, l = w.claim(t, "worker-2")
	require.Equal(t, 2, got.Attempt)
	_, err = s.RequestCancel(t.Context(), e.ID)
	require.NoError(t, err)
	require.NoError(t, s.Release(t.Context(), l, 0, false, []logs.Line{}))
	got, err = s.Get(t.Context(), e.ID)
	require.NoError(t, err)
	require.Equal(t, execution.Cancelled, got.Status, "a cancelled one does not go back")
	require.NotNil(t, got.FinishedAt)
}

// notes returns every notification, oldest first.
func notes(t testing.TB, w *world) []notification.Notification {
	t.Helper()
	all, err := w.Notifications().After(t.Context(), 0, 10_000)
	require.NoError(t, err)
	return all
}

func types(notes []notification.Notification) []notification.Type {
	return slices.Collect(func(yield func(notification.Type) bool) {
		for _, n := range notes {
			if !yield(n.Type) {
				return
			}
		}
	})
}
