package store

import (
	"context"
	"time"

	"github.com/dataguardian/dataguardian/internal/auth"
	"github.com/dataguardian/dataguardian/internal/dashboard"
	"github.com/dataguardian/dataguardian/internal/datasource"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/health"
	"github.com/dataguardian/dataguardian/internal/store/db"
)

const (
	shownRecent      = 10
	shownUpcoming    = 10
	shownDatasources = 100
)

type dashboardStore struct{ *Store }

var _ dashboard.Store = dashboardStore{}

// Dashboard reads the page that sums up everything.
func (s *Store) Dashboard() dashboard.Store { return dashboardStore{s} }

func (s dashboardStore) Overview(ctx context.Context) (dashboard.Snapshot, error) {
	row, err := s.overview(ctx)
	if err != nil {
		return dashboard.Snapshot{}, failure(err)
	}
	return snapshot(row)
}

func (s dashboardStore) overview(ctx context.Context) (db.OverviewRow, error) {
	if scope := auth.ScopeOf(ctx); scope != nil {
		row, err := s.q.OverviewInScope(ctx, db.OverviewInScopeParams{
			Scope: scope, Recent: shownRecent, Upcoming: shownUpcoming, Datasources: shownDatasources, Days: dashboard.Days,
		})
		return db.OverviewRow(row), err //nolint:wrapcheck // the caller does
	}
	row, err := s.q.Overview(ctx, db.OverviewParams{
		Recent: shownRecent, Upcoming: shownUpcoming, Datasources: shownDatasources, Days: dashboard.Days,
	})
	return row, err //nolint:wrapcheck // the caller does
}

// What the query builds, by the names it gives.
type (
	overviewStats struct {
		DatasourcesTotal   int `json:"datasources_total"`
		DatasourcesHealthy int `json:"datasources_healthy"`
		JobsTotal          int `json:"jobs_total"`
		JobsEnabled        int `json:"jobs_enabled"`
		StoragesTotal      int `json:"storages_total"`
		StoragesHealthy    int `json:"storages_healthy"`
		Created24h         int `json:"created_24h"`
		Ended24h           int `json:"ended_24h"`
		Completed24h       int `json:"completed_24h"`
	}
	overviewRecent struct {
		ID             string     `json:"id"`
		DatasourceName string     `json:"datasource_name"`
		DatasourceType string     `json:"datasource_type"`
		JobName        string     `json:"job_name"`
		Operation      string     `json:"operation"`
		Status         string     `json:"status"`
		SizeBytes      *int64     `json:"size_bytes"`
		StoredBytes    *int64     `json:"stored_bytes"`
		StartedAt      *time.Time `json:"started_at"`
		FinishedAt     *time.Time `json:"finished_at"`
		CreatedAt      time.Time  `json:"created_at"`
	}
	overviewUpcoming struct {
		ID               string    `json:"id"`
		Name             string    `json:"name"`
		ScheduleCron     string    `json:"schedule_cron"`
		ScheduleTimezone string    `json:"schedule_timezone"`
		NextExecutionAt  time.Time `json:"next_execution_at"`
		Enabled          bool      `json:"enabled"`
		DatasourceName   string    `json:"datasource_name"`
		DatasourceType   string    `json:"datasource_type"`
	}
	overviewDatasource struct {
		ID            string     `json:"id"`
		Name          string     `json:"name"`
		Status        string     `json:"status"`
		LatencyMS     *int       `json:"latency_ms"`
		Outcome       *string    `json:"outcome"`
		LastCheckedAt *time.Time `json:"last_health_check_at"`
	}
	overviewCount struct {
		Day    string `json:"day"`
		Status string `json:"status"`
		N      int    `json:"n"`
	}
	overviewInstance struct {
		ID             string     `json:"id"`
		Role           string     `json:"role"`
		Host           string     `json:"host"`
		PID            int        `json:"pid"`
		State          string     `json:"state"`
		LastStartedAt  *time.Time `json:"last_started_at"`
		LastFinishedAt *time.Time `json:"last_finished_at"`
		LastError      string     `json:"last_error"`
	}
)

func snapshot(row db.OverviewRow) (s dashboard.Snapshot, err error) {
	var read struct {
		stats       overviewStats
		recent      []overviewRecent
		upcoming    []overviewUpcoming
		datasources []overviewDatasource
		counts      []overviewCount
		instances   []overviewInstance
	}
	for _, part := range []struct {
		text []byte
		into any
	}{
		{row.Stats, &read.stats}, {row.Recent, &read.recent}, {row.Upcoming, &read.upcoming},
		{row.Datasources, &read.datasources}, {row.Days, &read.counts}, {row.Instances, &read.instances},
	} {
		if err := decode(part.text, part.into); err != nil {
			return s, err
		}
	}
	s.GeneratedAt = row.GeneratedAt
	s.Recent, s.Upcoming = each(read.recent, recentOf), each(read.upcoming, upcomingOf)
	s.Datasources, s.Instances = each(read.datasources, datasourceHealthOf), each(read.instances, instanceOf)
	s.Days = daysOf(row.GeneratedAt, read.counts)
	s.Stats = statsOf(read.stats, s.Days[len(s.Days)-1])
	return s, nil
}

func statsOf(r overviewStats, today dashboard.Day) dashboard.Stats {
	return dashboard.Stats{
		DatasourcesTotal: r.DatasourcesTotal, DatasourcesHealthy: r.DatasourcesHealthy, JobsTotal: r.JobsTotal, JobsEnabled: r.JobsEnabled,
		StoragesTotal: r.StoragesTotal, StoragesHealthy: r.StoragesHealthy, ExecutionsToday: today.Total, ExecutionsFailedToday: today.Failed,
		Created24h: r.Created24h, Ended24h: r.Ended24h, Completed24h: r.Completed24h,
	}
}

func recentOf(r overviewRecent) dashboard.Recent {
	return dashboard.Recent{
		ID: r.ID, DatasourceName: r.DatasourceName, DatasourceType: engine.Type(r.DatasourceType), JobName: r.JobName,
		Operation: execution.Operation(r.Operation), Status: execution.Status(r.Status), SizeBytes: r.SizeBytes, StoredBytes: r.StoredBytes,
		StartedAt: inUTC(r.StartedAt), FinishedAt: inUTC(r.FinishedAt), CreatedAt: r.CreatedAt.UTC(),
	}
}

func upcomingOf(r overviewUpcoming) dashboard.Upcoming {
	return dashboard.Upcoming{
		ID: r.ID, Name: r.Name, ScheduleCron: r.ScheduleCron, ScheduleTimezone: r.ScheduleTimezone, NextExecutionAt: r.NextExecutionAt.UTC(),
		Enabled: r.Enabled, DatasourceName: r.DatasourceName, DatasourceType: engine.Type(r.DatasourceType),
	}
}

func datasourceHealthOf(r overviewDatasource) dashboard.DatasourceHealth {
	return dashboard.DatasourceHealth{
		ID: r.ID, Name: r.Name, Status: datasource.Status(r.Status), LatencyMS: r.LatencyMS, Outcome: health.Outcome(text(r.Outcome)),
		LastCheckedAt: inUTC(r.LastCheckedAt),
	}
}

func instanceOf(r overviewInstance) health.Instance {
	return health.Instance{
		ID: r.ID, Role: health.Role(r.Role), Host: r.Host, PID: r.PID, State: health.WorkerState(r.State),
		LastStartedAt: inUTC(r.LastStartedAt), LastFinishedAt: inUTC(r.LastFinishedAt), LastError: r.LastError,
	}
}

// daysOf lays counts out over the days up to now.
func daysOf(now time.Time, counts []overviewCount) []dashboard.Day {
	days := make([]dashboard.Day, dashboard.Days)
	byDate := make(map[string]*dashboard.Day, len(days))
	for i := range days {
		days[i].Date = now.UTC().AddDate(0, 0, i-dashboard.Days+1).Format(time.DateOnly)
		byDate[days[i].Date] = &days[i]
	}
	for _, c := range counts {
		day := byDate[c.Day]
		if day == nil {
			continue // of a later day: a clock was set back
		}
		day.Total += c.N
		switch execution.Status(c.Status) {
		case execution.Completed:
			day.Completed += c.N
		case execution.Failed:
			day.Failed += c.N
		case execution.Cancelled:
			day.Cancelled += c.N
		case execution.Running:
			day.Running += c.N
		case execution.Queued:
			day.Queued += c.N
		}
	}
	return days
}

func inUTC(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	utc := t.UTC()
	return &utc
}
