package storetest

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/notification"
)

func reaping(t *testing.T, w *world) {
	s := w.Executions()
	// abandoned is an execution whose worker vanished.
	abandoned := func(t *testing.T, n execution.New) execution.Execution {
		t.Helper()
		_, err := s.Create(t.Context(), n)
		require.NoError(t, err)
		_, l := w.claim(t, "worker-1")
		require.Equal(t, n.ID, l.ExecutionID)
		require.NoError(t, s.SaveLogs(t.Context(), l, lines(2)))
		w.expire(t, n.ID)
		return onlyExpired(t, s)
	}
	newBackup := func(t *testing.T) execution.New { return execution.NewBackup(w.newJob(t), execution.Manual, nil) }

	t.Run("a live lease is not expired and cannot be reaped", func(t *testing.T) {
		e, l := w.run(t, w.newJob(t))
		expired, err := s.Expired(t.Context(), minute, 10)
		require.NoError(t, err)
		require.Empty(t, expired)
		_, err = s.Reap(t.Context(), e, nil)
		require.ErrorIs(t, err, execution.ErrLeaseLost)
		require.NoError(t, s.Finish(t.Context(), l, failedResult("X")))
	})
	t.Run("a backup goes back while attempts last, then it has failed", func(t *testing.T) {
		n := newBackup(t)
		e := abandoned(t, n)
		require.Equal(t, lines(2), e.Logs)
		before := notes(t, w)
		status, err := s.Reap(t.Context(), e, lines(3))
		require.NoError(t, err)
		require.Equal(t, execution.Queued, status)
		require.Len(t, notes(t, w), len(before))
		got, err := s.Get(t.Context(), n.ID)
		require.NoError(t, err)
		require.Equal(t, execution.Queued, got.Status)
		require.Equal(t, lines(3), got.Logs)
		require.Equal(t, 1, got.Attempt)
		_, ok, err := s.Claim(t.Context(), execution.Claimant{WorkerID: "worker-2"}, allOperations, minute)
		require.NoError(t, err)
		require.False(t, ok, "not in the same second: two attempts never share a path")

		w.ready(t, n.ID)
		w.claim(t, "worker-2")
		w.expire(t, n.ID)
		status, err = s.Reap(t.Context(), onlyExpired(t, s), lines(4))
		require.NoError(t, err)
		require.Equal(t, execution.Failed, status)
		requireEnd(t, w, n.ID, errs.CodeWorkerLost, notification.BackupFailed)
	})
	t.Run("a restore never runs again by itself", func(t *testing.T) {
		n := newRestore(w.complete(t, w.newJob(t)))
		n.MaxAttempts = 5
		status, err := s.Reap(t.Context(), abandoned(t, n), nil)
		require.NoError(t, err)
		require.Equal(t, execution.Failed, status)
		requireEnd(t, w, n.ID, errs.CodeRestoreInterrupted, notification.RestoreFailed)
		e, err := s.Get(t.Context(), n.ID)
		require.NoError(t, err)
		require.Contains(t, *e.ErrorMessage, "before the restore touched its target")
	})
	t.Run("a verification goes back", func(t *testing.T) {
		n := newVerify(w.complete(t, w.newJob(t)))
		status, err := s.Reap(t.Context(), abandoned(t, n), nil)
		require.NoError(t, err)
		require.Equal(t, execution.Queued, status)
		w.drain(t)
	})
	t.Run("one that was to be cancelled is", func(t *testing.T) {
		n := newBackup(t)
		e := abandoned(t, n)
		_, err := s.RequestCancel(t.Context(), n.ID)
		require.NoError(t, err)
		status, err := s.Reap(t.Context(), e, nil)
		require.NoError(t, err)
		require.Equal(t, execution.Cancelled, status)
	})
	t.Run("a worker that came back in time keeps it", func(t *testing.T) {
		e := abandoned(t, newBackup(t))
		_, err := s.Heartbeat(t.Context(), leaseOf(e), minute, execution.Progress{})
		require.NoError(t, err)
		_, err = s.Reap(t.Context(), e, nil)
		require.ErrorIs(t, err, execution.ErrLeaseLost)
		require.NoError(t, s.Finish(t.Context(), leaseOf(e), failedResult("X")))
	})
	t.Run("a worker that came back too late has lost it", func(t *testing.T) {
		e := abandoned(t, newBackup(t))
		_, err := s.Reap(t.Context(), e, nil)
		require.NoError(t, err)
		_, err = s.Heartbeat(t.Context(), leaseOf(e), minute, execution.Progress{})
		require.ErrorIs(t, err, execution.ErrLeaseLost)
		require.ErrorIs(t, s.Finish(t.Context(), leaseOf(e), execution.Result{Status: execution.Completed}), execution.ErrLeaseLost)
		w.drain(t)
	})
	t.Run("of many reapers one wins, and people are told once", func(t *testing.T) {
		n := newBackup(t)
		n.MaxAttempts = 1
		e := abandoned(t, n)
		before := len(notes(t, w))
		var group sync.WaitGroup
		failed := make([]error, 8)
		for i := range failed {
			group.Go(func() { _, failed[i] = s.Reap(t.Context(), e, nil) })
		}
		group.Wait()
		won := 0
		for _, err := range failed {
			if err == nil {
				won++
				continue
			}
			require.ErrorIs(t, err, execution.ErrLeaseLost)
		}
		require.Equal(t, 1, won)
		require.Len(t, notes(t, w)[before:], 1)
	})
	t.Run("expired ones come oldest first, as many as asked for", func(t *testing.T) {
		var order []string
		for i := range 3 {
			e, _ := w.run(t, w.newJob(t))
			w.exec(t, "update backup_executions set lease_expires_at = now() - make_interval(mins => $2) where id = $1", e.ID, 10-i)
			order = append(order, e.ID)
		}
		expired, err := s.Expired(t.Context(), minute, 2)
		require.NoError(t, err)
		require.Len(t, expired, 2)
		require.Equal(t, order[0], expired[0].ID)
		require.Equal(t, order[1], expired[1].ID)
	})
}

func onlyExpired(t *testing.T, s execution.Store) execution.Execution {
	t.Helper()
	expired, err := s.Expired(t.Context(), minute, 10)
	require.NoError(t, err)
	require.Len(t, expired, 1)
	return expired[0]
}

func requireEnd(t *testing.T, w *world, id string, code errs.Code, kind notification.Type) {
	t.Helper()
	e, err := w.Executions().Get(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, execution.Failed, e.Status)
	require.Equal(t, string(code), *e.ErrorCode)
	require.NotEmpty(t, *e.ErrorMessage)
	require.NotNil(t, e.FinishedAt)
	news := notes(t, w)
	last := news[len(news)-1]
	require.Equal(t, kind, last.Type)
	require.Equal(t, notification.Critical, last.Severity)
	require.Equal(t, id, last.Metadata["execution_id"])
}
