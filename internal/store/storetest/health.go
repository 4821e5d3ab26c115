package storetest

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/datasource"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/health"
	"github.com/dataguardian/dataguardian/internal/location"
	"github.com/dataguardian/dataguardian/internal/notification"
	"github.com/dataguardian/dataguardian/internal/paging"
)

func healthChecks(t *testing.T, w *world) {
	s := w.Health()
	t.Run("the database answers", func(t *testing.T) { require.NoError(t, s.Ping(t.Context())) })
	t.Run("instances live as long as they report", func(t *testing.T) { instances(t, s) })
	t.Run("stats count the living, and today", func(t *testing.T) {
		j := w.newJob(t)
		w.newJob(t, func(j *backup.Job) { j.Enabled = false })
		require.NoError(t, s.RecordDatasource(t.Context(), health.Check{EntityID: j.DatasourceID, Outcome: health.OK}, atOnce))
		gone := w.newDatasource(t)
		require.NoError(t, w.Datasources().Delete(t.Context(), gone.ID))
		w.complete(t, j)
		_, l := w.run(t, j)
		require.NoError(t, w.Executions().Finish(t.Context(), l, failedResult("X")))
		old := w.queue(t, j)
		w.exec(t, "update backup_executions set created_at = now() - interval '2 days' where id = $1", old.ID)
		w.drain(t)
		stats, err := s.Stats(t.Context())
		require.NoError(t, err)
		require.Equal(t, health.Stats{
			DatasourcesTotal: 2, DatasourcesHealthy: 1, JobsTotal: 2, JobsEnabled: 1, ExecutionsToday: 2, ExecutionsFailedToday: 1,
		}, stats)
	})
	t.Run("gauges tell of queues, storages and jobs", func(t *testing.T) { gauges(t, w) })
	t.Run("checks of datasources are kept, newest first", func(t *testing.T) {
		d := w.newDatasource(t)
		bad := health.Check{
			EntityID: d.ID, Outcome: health.AuthFailed, LatencyMS: ptr(12), ErrorMessage: "no\x00 entry", Metadata: map[string]any{"version": "15"},
		}
		require.NoError(t, s.RecordDatasource(t.Context(), health.Check{EntityID: d.ID, Outcome: health.OK}, atOnce))
		require.NoError(t, s.RecordDatasource(t.Context(), bad, atOnce))
		rows, total, err := s.Datasources(t.Context(), health.CheckFilter{EntityID: d.ID}, paging.Page{Number: 1, Limit: 1})
		require.NoError(t, err)
		require.Equal(t, 2, total)
		require.Len(t, rows, 1)
		bad.ID, bad.CheckedAt, bad.EntityName, bad.DatasourceType, bad.ErrorMessage = rows[0].ID, rows[0].CheckedAt, d.Name, engine.Postgres, "no\uFFFD entry"
		require.Equal(t, bad, rows[0])
		got, err := w.Datasources().Get(t.Context(), d.ID)
		require.NoError(t, err)
		require.Equal(t, datasource.Critical, got.Status)
		require.NotNil(t, got.LastHealthCheckAt)
		rows, total, err = s.Datasources(t.Context(), health.CheckFilter{EntityID: d.ID, From: &bad.CheckedAt}, firstPage)
		require.NoError(t, err)
		require.Len(t, rows, 1)
		require.Equal(t, 1, total)
		_, total, err = s.Datasources(t.Context(), health.CheckFilter{EntityID: d.ID, To: past(-time.Hour)}, firstPage)
		require.NoError(t, err)
		require.Equal(t, 2, total)
	})
	t.Run("checks of storages are kept, newest first", func(t *testing.T) {
		l := w.newLocation(t)
		c := health.Check{ID: id(), EntityID: l.ID, Outcome: health.OK, AvailableBytes: ptr(int64(1 << 40))}
		require.NoError(t, s.RecordStorage(t.Context(), c, atOnce))
		rows, total, err := s.Storages(t.Context(), health.CheckFilter{EntityID: l.ID, From: past(time.Hour), To: past(-time.Hour)}, firstPage)
		require.NoError(t, err)
		require.Equal(t, 1, total)
		c.CheckedAt, c.EntityName, c.StorageType = rows[0].CheckedAt, l.Name, location.Local
		require.Equal(t, []health.Check{c}, rows)
		got, err := w.Locations().Get(t.Context(), l.ID)
		require.NoError(t, err)
		require.Equal(t, c.AvailableBytes, got.AvailableBytes)
	})
	t.Run("a change is told, a state is not", func(t *testing.T) { changesAreTold(t, w) })
	t.Run("one flake is no news", func(t *testing.T) { oneFlakeIsNoNews(t, w) })
	t.Run("turns are taken once", func(t *testing.T) { turnsAreTakenOnce(t, w) })
	t.Run("absent ones are not found", func(t *testing.T) {
		for _, gone := range absent() {
			requireNotFound(t, s.RecordDatasource(t.Context(), health.Check{EntityID: gone, Outcome: health.OK}, atOnce))
			requireNotFound(t, s.RecordStorage(t.Context(), health.Check{EntityID: gone, Outcome: health.OK}, atOnce))
		}
	})
	t.Run("old checks are pruned", func(t *testing.T) {
		d, l := w.newDatasource(t), w.newLocation(t)
		require.NoError(t, s.RecordDatasource(t.Context(), health.Check{EntityID: d.ID, Outcome: health.OK}, atOnce))
		require.NoError(t, s.RecordStorage(t.Context(), health.Check{EntityID: l.ID, Outcome: health.OK}, atOnce))
		w.exec(t, "update health_checks set checked_at = now() - interval '2 hours' where datasource_id = $1", d.ID)
		w.exec(t, "update storage_health_checks set checked_at = now() - interval '2 hours' where storage_location_id = $1", l.ID)
		pruned, err := s.PruneChecks(t.Context(), time.Hour)
		require.NoError(t, err)
		require.Equal(t, 2, pruned)
	})
}

func instances(t *testing.T, s health.Store) {
	a := health.Instance{ID: "h-1-backup", Role: health.RoleBackup, Host: "h", PID: 1, State: health.WorkerRunning, LastStartedAt: &epoch}
	b := health.Instance{ID: "h-1-health", Role: health.RoleHealth, Host: "h", PID: 1, State: health.WorkerError, LastFinishedAt: &epoch, LastError: "x"}
	require.NoError(t, s.Report(t.Context(), minute))
	require.NoError(t, s.Report(t.Context(), minute, a, b))
	got, err := s.Instances(t.Context())
	require.NoError(t, err)
	require.Equal(t, []health.Instance{a, b}, got)
	a.State, a.LastStartedAt = health.WorkerStopped, nil
	require.NoError(t, s.Report(t.Context(), minute, a))
	require.NoError(t, s.Report(t.Context(), -minute, b))
	got, err = s.Instances(t.Context())
	require.NoError(t, err)
	require.Equal(t, []health.Instance{a}, got, "one that has not reported in time is gone")
	require.NoError(t, s.Withdraw(t.Context(), a.ID, "nobody"))
	require.NoError(t, s.Withdraw(t.Context()))
	got, err = s.Instances(t.Context())
	require.NoError(t, err)
	require.Empty(t, got)
}

func gauges(t *testing.T, w *world) {
	j := w.newJob(t)
	done := w.complete(t, j)
	never := w.newJob(t)
	waiting := w.queue(t, never)
	w.exec(t, "update backup_executions set created_at = now() - interval '1 hour', available_at = now() - interval '1 minute' where id = $1", waiting.ID)
	told, off := w.newChannel(t), w.newChannel(t, func(c *notification.Channel) { c.Enabled = false })
	require.NoError(t, w.Health().RecordDatasource(t.Context(), health.Check{EntityID: j.DatasourceID, Outcome: health.Unreachable}, atOnce))
	w.exec(t, "update notification_deliveries set created_at = now() - interval '1 minute' where channel_id = $1", told.ID)
	w.exec(t, "insert into notification_deliveries (channel_id, notification_id, seq) select $1, notification_id, seq from notification_deliveries where channel_id = $2", off.ID, told.ID)
	g, err := w.Health().Gauges(t.Context())
	require.NoError(t, err)
	require.Len(t, g.Queues, 1)
	require.Equal(t, execution.Backup, g.Queues[0].Operation)
	require.Equal(t, 1, g.Queues[0].Queued)
	require.GreaterOrEqual(t, g.Queues[0].Oldest, time.Minute)
	require.Less(t, g.Queues[0].Oldest, time.Hour)
	require.Len(t, g.Outbox, 1)
	require.Equal(t, health.OutboxGauge{ChannelType: told.Type, Pending: 1, Oldest: g.Outbox[0].Oldest}, g.Outbox[0])
	require.GreaterOrEqual(t, g.Outbox[0].Oldest, time.Minute)
	stats, err := w.Health().Stats(t.Context())
	require.NoError(t, err)
	require.Equal(t, []int{1, 0}, []int{stats.NotificationsPending, stats.NotificationsStuck}, "a channel that is off lets nobody wait")
	w.exec(t, "update notification_deliveries set created_at = now() - interval '16 minutes' where channel_id = $1", told.ID)
	stats, err = w.Health().Stats(t.Context())
	require.NoError(t, err)
	require.Equal(t, []int{1, 1}, []int{stats.NotificationsPending, stats.NotificationsStuck})
	require.NoError(t, w.Channels().Delete(t.Context(), told.ID))
	require.NoError(t, w.Channels().Delete(t.Context(), off.ID))
	require.Contains(t, g.Storages, health.StorageGauge{Name: j.StorageName, Status: location.Healthy})
	require.Contains(t, g.Jobs, health.JobGauge{Name: j.Name, Datasource: j.DatasourceName, CreatedAt: j.CreatedAt, LastSuccess: done.FinishedAt})
	require.Contains(t, g.Jobs, health.JobGauge{Name: never.Name, Datasource: never.DatasourceName, CreatedAt: never.CreatedAt})
	w.drain(t)
}

// atOnce are rules by which every check counts by itself.
var atOnce = health.Rules{Failures: 1, Successes: 1, Slow: time.Second, FullBelow: 100, LowBelow: 1000}

func changesAreTold(t *testing.T, w *world) {
	s, d, l := w.Health(), w.newDatasource(t), w.newLocation(t)
	before := len(notes(t, w))
	ok := health.Check{EntityID: d.ID, Outcome: health.OK, LatencyMS: ptr(3)}
	slow := health.Check{EntityID: d.ID, Outcome: health.OK, LatencyMS: ptr(2300)}
	closed := health.Check{EntityID: d.ID, Outcome: health.Unreachable, ErrorMessage: "the port is closed"}
	for _, check := range []health.Check{ok, ok, closed, closed, ok, slow, slow, ok, closed} {
		require.NoError(t, s.RecordDatasource(t.Context(), check, atOnce))
	}
	news := notes(t, w)[before:]
	require.Equal(t, []notification.Type{
		notification.ConnectionLost, notification.ConnectionRestored, notification.HealthDegraded, notification.ConnectionRestored, notification.ConnectionLost,
	}, types(news))
	require.Equal(t, d.ID, news[0].EntityID)
	require.Equal(t, notification.Critical, news[0].Severity)
	require.Contains(t, news[0].Message, d.Name)
	require.Contains(t, news[0].Message, "the port is closed.")
	require.Contains(t, news[2].Message, "2.3s")
	before += len(news)
	space := func(bytes int64) health.Check {
		return health.Check{EntityID: l.ID, Outcome: health.OK, LatencyMS: ptr(3), AvailableBytes: &bytes}
	}
	gone := health.Check{EntityID: l.ID, Outcome: health.Error, ErrorMessage: "no route"}
	for _, check := range []health.Check{space(5000), gone, gone, space(5000), space(900), space(900), space(50), space(50), space(5000), space(1100), space(900), space(5000)} {
		require.NoError(t, s.RecordStorage(t.Context(), check, atOnce))
	}
	require.Equal(t, []notification.Type{
		notification.StorageUnreachable, notification.StorageRestored, // gone, and back
		notification.HealthDegraded, notification.StorageFull, notification.StorageRestored, // low, full, free
		notification.HealthDegraded, notification.StorageRestored, // low again, and enough
	}, types(notes(t, w)[before:]))
}

func oneFlakeIsNoNews(t *testing.T, w *world) {
	s, d := w.Health(), w.newDatasource(t)
	before := len(notes(t, w))
	status := func(outcome health.Outcome, want datasource.Status) {
		t.Helper()
		require.NoError(t, s.RecordDatasource(t.Context(), health.Check{EntityID: d.ID, Outcome: outcome}, health.Rules{}))
		got, err := w.Datasources().Get(t.Context(), d.ID)
		require.NoError(t, err)
		require.Equal(t, want, got.Status)
	}
	status(health.OK, datasource.Healthy)
	for range 3 {
		status(health.Timeout, datasource.Healthy)
		status(health.Timeout, datasource.Healthy)
		status(health.OK, datasource.Healthy)
	}
	require.Len(t, notes(t, w), before)
	status(health.Timeout, datasource.Healthy)
	status(health.Timeout, datasource.Healthy)
	status(health.Timeout, datasource.Critical)
	status(health.OK, datasource.Critical)
	status(health.OK, datasource.Healthy)
	require.Len(t, notes(t, w), before+2)
}

// Several processes take turns of many things at once.
func turnsAreTakenOnce(t *testing.T, w *world) {
	s := w.Health()
	clear := func() {
		_, err := s.TakeDatasources(t.Context(), 1000, time.Hour)
		require.NoError(t, err)
		_, err = s.TakeStorages(t.Context(), 1000, time.Hour)
		require.NoError(t, err)
	}
	clear()
	want := map[string]int{}
	for range 24 {
		want[w.newDatasource(t).ID] = 1
	}
	w.newDatasource(t, func(d *datasource.Datasource) { d.Enabled = false })
	var (
		group sync.WaitGroup
		lock  sync.Mutex
		got   = map[string]int{}
	)
	failed := make([]error, 4)
	for i := range failed {
		group.Go(func() {
			for ids := []string{""}; len(ids) > 0 && failed[i] == nil; {
				ids, failed[i] = s.TakeDatasources(t.Context(), 3, time.Minute)
				lock.Lock()
				for _, id := range ids {
					got[id]++
				}
				lock.Unlock()
			}
		})
	}
	group.Wait()
	for _, err := range failed {
		require.NoError(t, err)
	}
	require.Equal(t, want, got)

	d, l := w.newDatasource(t), w.newLocation(t)
	taken, err := s.TakeStorages(t.Context(), 10, -time.Second)
	require.NoError(t, err)
	require.Equal(t, []string{l.ID}, taken)
	taken, err = s.TakeStorages(t.Context(), 10, time.Minute)
	require.NoError(t, err)
	require.Equal(t, []string{l.ID}, taken, "whoever had the turn was gone for too long")
	require.NoError(t, s.RecordDatasource(t.Context(), health.Check{EntityID: d.ID, Outcome: health.OK}, health.Rules{}))
	taken, err = s.TakeDatasources(t.Context(), 10, time.Minute)
	require.NoError(t, err)
	require.Empty(t, taken, "it was checked just now")
	_, err = w.Datasources().Update(t.Context(), d.ID, func(d *datasource.Datasource) error { d.Conn.Host = "elsewhere"; return nil })
	require.NoError(t, err)
	taken, err = s.TakeDatasources(t.Context(), 10, time.Minute)
	require.NoError(t, err)
	require.Equal(t, []string{d.ID}, taken, "what was changed is checked soon")
}
