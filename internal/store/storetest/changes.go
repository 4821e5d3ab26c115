package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/execution"
)

func changes(t *testing.T, w *world) {
	c := w.Changes()
	// statusSince returns the status of an execution that has changed since.
	statusSince := func(t *testing.T, at time.Time, id string) execution.Status {
		page, err := c.Changed(t.Context(), execution.MarkAt(at), 1000)
		require.NoError(t, err)
		for _, change := range page {
			if change.ID == id {
				require.False(t, change.ChangedAt.Before(at))
				return change.Status
			}
		}
		return ""
	}
	t.Run("every change of a status is found behind the horizon that was read before it", func(t *testing.T) {
		for _, step := range []struct {
			want   execution.Status
			change func(e execution.Execution, l execution.Lease) error
		}{
			{execution.Queued, func(_ execution.Execution, l execution.Lease) error {
				return w.Executions().Release(t.Context(), l, 0, false, nil)
			}},
			{execution.Failed, func(_ execution.Execution, l execution.Lease) error {
				return w.Executions().Finish(t.Context(), l, failedResult("X"))
			}},
		} {
			j := w.newJob(t)
			horizon := w.horizon(t)
			e, l := w.run(t, j)
			require.Equal(t, execution.Running, statusSince(t, horizon, e.ID))
			horizon = w.horizon(t)
			require.NoError(t, step.change(e, l))
			require.Equal(t, step.want, statusSince(t, horizon, e.ID))
			if step.want == execution.Queued {
				_, err := w.Executions().RequestCancel(t.Context(), e.ID)
				require.NoError(t, err)
				require.Equal(t, execution.Cancelled, statusSince(t, horizon, e.ID))
			}
		}
	})
	t.Run("a change of a transaction that commits late lies behind every horizon until then", func(t *testing.T) {
		e := w.queue(t, w.newJob(t))
		tx, err := w.conn.Begin(t.Context())
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), "update backup_executions set status = 'cancelled', finished_at = now() where id = $1", e.ID)
		require.NoError(t, err)
		var changed time.Time
		require.NoError(t, tx.QueryRow(t.Context(), "select changed_at from backup_executions where id = $1", e.ID).Scan(&changed))
		// The horizon goes back further than a moment: until then the transaction must
		// be what holds it.
		require.Eventually(t, func() bool {
			var now time.Time
			require.NoError(t, tx.QueryRow(t.Context(), "select clock_timestamp()").Scan(&now))
			return now.Sub(changed) > 3*time.Second
		}, time.Minute, 100*time.Millisecond)
		require.False(t, w.horizon(t).After(changed))
		require.NoError(t, tx.Commit(context.WithoutCancel(t.Context())))
	})
	t.Run("pages go on behind a mark", func(t *testing.T) {
		horizon := w.horizon(t)
		want := map[string]bool{}
		for range 5 {
			want[w.queue(t, w.newJob(t)).ID] = true
		}
		changed, active := map[string]bool{}, map[string]bool{}
		for mark := execution.MarkAt(horizon); ; {
			page, err := c.Changed(t.Context(), mark, 2)
			require.NoError(t, err)
			for _, change := range page {
				require.False(t, changed[change.ID])
				changed[change.ID] = true
				mark = execution.Mark{Time: change.ChangedAt, ID: change.ID}
			}
			if len(page) < 2 {
				break
			}
		}
		for mark := execution.MarkAt(time.Unix(1, 0)); ; {
			page, err := c.Active(t.Context(), mark, 2)
			require.NoError(t, err)
			for _, e := range page {
				require.False(t, active[e.ID])
				require.False(t, e.Status.Terminal())
				require.NotEmpty(t, e.JobName)
				active[e.ID] = true
				mark = execution.Mark{Time: e.CreatedAt, ID: e.ID}
			}
			if len(page) < 2 {
				break
			}
		}
		for id := range want {
			require.True(t, changed[id] && active[id], id)
		}
	})
	t.Run("a heartbeat is no change", func(t *testing.T) {
		w.drain(t)
		e, l := w.run(t, w.newJob(t))
		read := func() (at time.Time) {
			require.NoError(t, w.conn.QueryRow(t.Context(), "select changed_at from backup_executions where id = $1", e.ID).Scan(&at))
			return at
		}
		before := read()
		_, err := w.Executions().Heartbeat(t.Context(), l, minute, execution.Progress{})
		require.NoError(t, err)
		require.Equal(t, before, read())
		require.NoError(t, w.Executions().Finish(t.Context(), l, failedResult("X")))
	})
}

func (w *world) horizon(t testing.TB) time.Time {
	t.Helper()
	at, err := w.Changes().Horizon(t.Context())
	require.NoError(t, err)
	return at
}
