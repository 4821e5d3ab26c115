package storetest

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/execution"
)

func restores(t *testing.T, w *world) {
	s := w.Restores()
	// begin is a restore that runs.
	begin := func(t *testing.T, of execution.Execution, lock string) (execution.Execution, execution.Lease) {
		t.Helper()
		_, err := w.Executions().Create(t.Context(), execution.New{
			ID: uuid.NewString(), DatasourceID: of.DatasourceID, Operation: execution.Restore, Trigger: execution.Manual, MaxAttempts: 1, LockKey: lock,
			Request: execution.Request{SourceExecutionID: of.ID, Restore: &execution.RestoreRequest{}},
		})
		require.NoError(t, err)
		return w.claim(t, "worker-1")
	}
	done := w.complete(t, w.newJob(t))

	t.Run("a database is held once, by whatever name it was asked for", func(t *testing.T) {
		first, a := begin(t, done, "restore:localhost:5432/shop")
		_, b := begin(t, done, "restore:db.internal:5432/shop")
		key := execution.TargetKey("postgres:1", "shop")
		require.NoError(t, s.HoldTarget(t.Context(), a, key))
		require.NoError(t, s.HoldTarget(t.Context(), a, key), "again, for another copy")
		err := s.HoldTarget(t.Context(), b, key)
		requireCode(t, err, errs.Conflict, errs.CodeExecutionRunning)
		require.Equal(t, first.ID, errs.As(err).Details["execution_id"])
		require.NoError(t, s.HoldTarget(t.Context(), b, execution.TargetKey("postgres:2", "shop")))
		require.NoError(t, w.Executions().Finish(t.Context(), a, failedResult("X")))
		require.NoError(t, s.HoldTarget(t.Context(), b, key), "the other one has ended")
		require.NoError(t, w.Executions().Finish(t.Context(), b, failedResult("X")))
		require.ErrorIs(t, s.HoldTarget(t.Context(), b, key), execution.ErrLeaseLost)
	})
	t.Run("nothing is restored over the records themselves", func(t *testing.T) {
		_, l := begin(t, done, "restore:records")
		var server, database string
		require.NoError(t, w.conn.QueryRow(t.Context(), "SELECT 'postgres:' || system_identifier, current_database() FROM pg_control_system()").Scan(&server, &database))
		err := s.HoldTarget(t.Context(), l, execution.TargetKey(server, database))
		requireCode(t, err, errs.Conflict, errs.CodeRestoreNotSupported)
		require.NoError(t, s.HoldTarget(t.Context(), l, execution.TargetKey(server, database+"2")), "another one on the same server")
		require.NoError(t, w.Executions().Finish(t.Context(), l, failedResult("X")))
	})
	t.Run("what a restore may leave behind is known until it is gone", func(t *testing.T) {
		e, l := begin(t, done, "restore:a")
		x := execution.Leftovers{ExecutionID: e.ID, DatasourceID: e.DatasourceID, Database: "shop_verify_1"}
		require.NoError(t, s.NoteLeftovers(t.Context(), l, x))
		require.NoError(t, s.NoteLeftovers(t.Context(), l, x))
		none, err := s.Abandoned(t.Context(), 10)
		require.NoError(t, err)
		require.Empty(t, none, "it runs")
		require.NoError(t, w.Executions().Finish(t.Context(), l, failedResult("X")))
		require.ErrorIs(t, s.NoteLeftovers(t.Context(), l, x), execution.ErrLeaseLost)
		left, err := s.Abandoned(t.Context(), 10)
		require.NoError(t, err)
		require.Equal(t, []execution.Leftovers{x}, left)

		require.NoError(t, s.NoteSweepFailure(t.Context(), e.ID, "it is locked"))
		require.NoError(t, w.Executions().Delete(t.Context(), e.ID))
		left, err = s.Abandoned(t.Context(), 10)
		require.NoError(t, err)
		require.Len(t, left, 1, "it outlives its execution")
		require.Equal(t, "it is locked", left[0].Error)
		require.NoError(t, s.ForgetLeftovers(t.Context(), e.ID))
		left, err = s.Abandoned(t.Context(), 10)
		require.NoError(t, err)
		require.Empty(t, left)
	})
	t.Run("a copy that was taken for damaged and is whole counts again", func(t *testing.T) {
		c := w.Catalogue()
		require.NoError(t, c.MarkMissing(t.Context(), done.Copies[0], "a part has other bytes"))
		require.NoError(t, c.MarkFound(t.Context(), done.Copies[0]))
		b, err := c.Get(t.Context(), done.ID)
		require.NoError(t, err)
		require.Equal(t, backup.CopyAvailable, b.Copies[0].Status)
		require.Empty(t, b.Copies[0].Error)
	})
}
