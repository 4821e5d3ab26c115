package storetest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/dashboard"
	"github.com/dataguardian/dataguardian/internal/datasource"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/health"
)

func overview(t *testing.T, w *world) {
	read := func(t *testing.T) dashboard.Snapshot {
		t.Helper()
		s, err := w.Dashboard().Overview(t.Context())
		require.NoError(t, err)
		require.WithinDuration(t, time.Now(), s.GeneratedAt, time.Minute)
		require.Len(t, s.Days, dashboard.Days)
		return s
	}
	t.Run("an empty control plane has empty lists and fourteen empty days", func(t *testing.T) {
		s := read(t)
		require.Zero(t, s.Stats)
		require.Empty(t, s.Recent)
		require.Empty(t, s.Upcoming)
		require.Empty(t, s.Datasources)
		require.Empty(t, s.Instances)
		for _, d := range s.Days {
			require.Equal(t, dashboard.Day{Date: d.Date}, d)
		}
		require.Less(t, s.Days[0].Date, s.Days[1].Date)
		_, any := s.Stats.SuccessRate()
		require.False(t, any)
	})
	t.Run("everything is on it", func(t *testing.T) {
		next := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
		j := w.newJob(t, func(j *backup.Job) { j.NextExecutionAt = &next })
		w.newJob(t, func(j *backup.Job) { j.Enabled = false })
		require.NoError(t, w.Health().RecordDatasource(t.Context(), health.Check{EntityID: j.DatasourceID, Outcome: health.AuthFailed, LatencyMS: ptr(7)}, atOnce))
		instance := health.Instance{ID: "i", Role: health.RoleBackup, Host: "h", PID: 4, State: health.WorkerRunning, LastStartedAt: &epoch}
		require.NoError(t, w.Health().Report(t.Context(), minute, instance))
		good := w.complete(t, j)
		_, l := w.run(t, j)
		require.NoError(t, w.Executions().Finish(t.Context(), l, failedResult("X")))
		waiting := w.queue(t, j)

		s := read(t)
		require.Equal(t, dashboard.Stats{
			DatasourcesTotal: 2, JobsTotal: 2, JobsEnabled: 1, StoragesTotal: 2, StoragesHealthy: 2,
			ExecutionsToday: 3, ExecutionsFailedToday: 1, Created24h: 3, Ended24h: 2, Completed24h: 1,
		}, s.Stats)
		rate, _ := s.Stats.SuccessRate()
		require.InDelta(t, 50, rate, 0)
		require.Len(t, s.Recent, 3)
		require.Equal(t, waiting.ID, s.Recent[0].ID)
		require.Equal(t, dashboard.Recent{
			ID: good.ID, DatasourceName: good.DatasourceName, DatasourceType: good.DatasourceType, JobName: good.JobName, Operation: execution.Backup,
			Status: execution.Completed, SizeBytes: good.SizeBytes, StoredBytes: good.StoredBytes,
			StartedAt: good.StartedAt, FinishedAt: good.FinishedAt, CreatedAt: good.CreatedAt,
		}, s.Recent[2])
		require.Len(t, s.Upcoming, 1)
		require.Equal(t, j.ID, s.Upcoming[0].ID)
		require.Equal(t, next, s.Upcoming[0].NextExecutionAt)
		require.Len(t, s.Datasources, 2)
		require.Equal(t, datasource.Critical, s.Datasources[0].Status, "the worst comes first")
		require.Equal(t, health.AuthFailed, s.Datasources[0].Outcome)
		require.Equal(t, ptr(7), s.Datasources[0].LatencyMS)
		require.Empty(t, s.Datasources[1].Outcome)
		require.Equal(t, []health.Instance{instance}, s.Instances)
		today := s.Days[len(s.Days)-1]
		require.Equal(t, dashboard.Day{Date: today.Date, Total: 3, Completed: 1, Failed: 1, Queued: 1}, today)
	})
	t.Run("counts follow every change, folded or not", func(t *testing.T) {
		before := read(t)
		w.drain(t)
		w.exec(t, "update backup_executions set created_at = created_at - interval '3 days' where status = 'failed'")
		require.NoError(t, w.Health().FoldCounts(t.Context()))
		w.exec(t, "delete from backup_executions where status = 'cancelled'")
		after := read(t)
		require.NoError(t, w.Health().FoldCounts(t.Context()))
		require.Equal(t, after.Days, read(t).Days)
		last := len(after.Days) - 1
		require.Equal(t, before.Days[last].Total-2, after.Days[last].Total)
		require.Equal(t, 1, after.Days[last].Completed)
		require.Zero(t, after.Days[last].Queued+after.Days[last].Cancelled+after.Days[last].Failed)
		require.Equal(t, 1, after.Days[last-3].Failed)
		var rows, kinds int
		require.NoError(t, w.conn.QueryRow(t.Context(), "select count(*), count(distinct (day, status)) from execution_counts").Scan(&rows, &kinds))
		require.Equal(t, kinds, rows, "folded")
	})
}
