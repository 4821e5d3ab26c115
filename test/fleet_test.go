package test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/testkit"
	"github.com/dataguardian/dataguardian/test/harness"
)

// fleet is a control plane of several processes on a PostgreSQL and a Redis of
// its own.
type fleet struct {
	*harness.Plane
	api        *harness.Server
	metadata   *testkit.PG
	victim     *harness.Process
	workers    []*harness.Process
	source     harness.Source
	datasource string
	storage    string
}

// startFleet starts one API, two schedulers and three workers; the source of the
// backups is elsewhere.
func startFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{metadata: testkit.NewPostgres(t)}
	f.Plane = harness.NewPlaneOn(t, f.metadata)
	f.Redis = testkit.Redis(t)
	f.api = f.Serve(t, "api", "--roles", "api")
	for i := range 2 {
		f.Worker(t, fmt.Sprint("scheduler", i), "--roles", "scheduler,cleanup,health", "--orphan-grace", "5s", "--metrics-addr", "127.0.0.1:0")
	}
	f.victim = f.StartWorker(t, "victim", "--roles", "backup,restore", "--lease", shortLease)
	for i := range 2 {
		f.workers = append(f.workers, f.Worker(t, fmt.Sprint("worker", i), "--roles", "backup,restore"))
	}
	f.source = f.NewSource(t, 1)
	f.datasource, f.storage = f.api.AddDatasource(t, f.source.Config()), f.api.AddStorage(t, f.api.StorageDir(t))
	return f
}

// eventually waits as long as a busy machine may need.
func eventually(t *testing.T, condition func() bool, message string, args ...any) {
	t.Helper()
	require.Eventually(t, condition, 2*time.Minute, 100*time.Millisecond, append([]any{message}, args...)...)
}

// awaitWorkers waits until the API shows a role as it should be.
func (f *fleet) awaitWorkers(t *testing.T, role, state string, instances int64) {
	t.Helper()
	eventually(t, func() bool {
		h := harness.ParseJSON(t, f.api.Do(t, http.MethodGet, "/api/health", nil).Text)
		return h.Text("services.workers."+role) == state && h.Int("worker_details."+role+".instances") == instances
	}, "%s is not %s %d times", role, state, instances)
}

// ask reads a number from the metadata, over a connection of its own: the server
// restarts meanwhile.
func (f *fleet) ask(t *testing.T, query string, args ...any) (n int) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), f.DSN)
	if err != nil {
		return -1
	}
	defer func() { require.NoError(t, conn.Close(context.Background())) }()
	require.NoError(t, conn.QueryRow(context.Background(), query, args...).Scan(&n))
	return n
}

// makeDue lets all jobs come due in the same second and returns it.
func (f *fleet) makeDue(t *testing.T) (slot time.Time) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), f.DSN)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(context.Background())) }()
	require.NoError(t, conn.QueryRow(context.Background(), "SELECT date_trunc('second', now())").Scan(&slot))
	_, err = conn.Exec(context.Background(), "UPDATE backup_jobs SET next_execution_at = $1", slot)
	require.NoError(t, err)
	return slot
}

// One topology for all of it: processes are what costs.
func TestAFleetSurvivesTheLossOfAWorkerOfRedisAndOfItsDatabase(t *testing.T) {
	t.Parallel()
	const jobs = 40
	f := startFleet(t)
	for role, instances := range map[string]int64{"backup": 3, "restore": 3, "scheduler": 2, "cleanup": 2, "health": 2} {
		f.awaitWorkers(t, role, "running", instances)
	}
	manual := f.api.AddJob(t, f.datasource, f.storage, config{"schedule_cron": "0 0 29 2 *"})
	f.followAndCancel(t, manual)
	// Only the slot that is put in comes due: the clock comes to it on the 29th of February.
	for range jobs - 1 {
		f.api.AddJob(t, f.datasource, f.storage, config{"schedule_cron": "0 0 29 2 *"})
	}
	slot := f.makeDue(t)
	done := func() int {
		return f.ask(t, "SELECT count(*) FROM backup_executions WHERE scheduled_for = $1 AND status = 'completed'", slot)
	}

	victims := fmt.Sprintf("%%/%d/%%", f.victim.Pid)
	eventually(t, func() bool {
		return f.ask(t, "SELECT count(*) FROM backup_executions WHERE status = 'running' AND worker_id LIKE $1", victims) > 0
	}, "the worker that is to be killed got nothing")
	f.victim.Kill(t)
	eventually(t, func() bool { return done() >= jobs/4 }, "the others do not go on")
	f.Redis.Stop(t)
	f.Redis.Start(t)
	eventually(t, func() bool { return done() >= jobs/2 }, "nothing goes on after Redis was restarted")
	f.metadata.Stop(t)
	f.metadata.Start(t)
	eventually(t, func() bool { return done() == jobs }, "not every slot has run")

	require.Equal(t, jobs, f.ask(t, "SELECT count(*) FROM backup_executions WHERE scheduled_for = $1", slot))
	require.Equal(t, jobs, f.ask(t, "SELECT count(DISTINCT job_id) FROM backup_executions WHERE scheduled_for = $1", slot))
	require.Equal(t, jobs+1, f.ask(t, "SELECT count(*) FROM backup_executions"))
	f.awaitWorkers(t, "backup", "running", 2)
	f.withoutRedis(t, manual)
	f.withoutDatabaseForLongerThanALease(t, manual)
}

// withoutDatabaseForLongerThanALease takes the metadata away until the only worker has
// ended its dump by itself.
func (f *fleet) withoutDatabaseForLongerThanALease(t *testing.T, job string) {
	t.Helper()
	for _, w := range f.workers {
		w.Stop(t)
	}
	f.Worker(t, "unheard", "--roles", "backup", "--lease", "15s") // long enough for a busy machine
	release := f.source.Lock(t)
	var id string
	eventually(t, func() bool { // the API forgets workers that were stopped, then knows the new one
		answer := f.api.Do(t, http.MethodPost, "/api/backup-jobs/"+job+"/run", nil)
		if answer.Status == http.StatusAccepted {
			id = harness.ParseJSON(t, answer.Text).Text("execution_id")
		}
		return id != ""
	}, "the job does not run")
	f.source.AwaitDump(t)
	f.metadata.Stop(t)
	f.source.AwaitNoDump(t) // it is not heard, so it must not go on
	f.metadata.Start(t)
	release()
	eventually(t, func() bool {
		return f.ask(t, "SELECT count(*) FROM backup_executions WHERE id = $1 AND status = 'completed' AND attempt = 2", id) == 1
	}, "the backup is not taken up again")
	require.Equal(t, 1, f.ask(t, "SELECT count(*) FROM backup_copies WHERE execution_id = $1 AND status = 'available'", id))
}

// followAndCancel runs a job whose process is not the API's.
func (f *fleet) followAndCancel(t *testing.T, job string) {
	t.Helper()
	release := f.source.Lock(t)
	id := f.api.Run(t, job)
	stream := f.api.Stream(t, "/api/executions/"+id+"/logs/stream")
	f.source.AwaitDump(t)
	e := f.api.Get(t, "/api/executions/"+id)
	require.Equal(t, "running", e.Text("status"))
	require.NotEmpty(t, f.api.Get(t, "/api/executions/"+id+"/logs").List("logs"))
	f.api.Post(t, "/api/executions/"+id+"/cancel", nil, http.StatusOK)
	events := stream.Events()
	require.Equal(t, "cancelled", events[len(events)-1].Text("end.status"))
	release()
	f.source.AwaitNoDump(t)
}

// awaitRedis waits until the API's process shows Redis as it is.
func (f *fleet) awaitRedis(t *testing.T, state string) {
	t.Helper()
	eventually(t, func() bool {
		return harness.ParseJSON(t, f.api.Do(t, http.MethodGet, "/api/health", nil).Text).Text("services.redis") == state
	}, "the API does not show Redis as %s", state)
}

// withoutRedis takes Redis away for as long as it takes everybody to notice.
func (f *fleet) withoutRedis(t *testing.T, job string) {
	t.Helper()
	rows := f.ask(t, "SELECT count(*) FROM backup_executions")
	backup := f.api.Get(t, "/api/executions?status=completed&limit=1").Text("data.0.id")
	f.Redis.Stop(t)
	for _, role := range []string{"backup", "restore", "scheduler"} {
		f.awaitWorkers(t, role, "stopped", 2)
	}
	f.awaitRedis(t, "error") // each process asks for itself
	h := f.api.Do(t, http.MethodGet, "/api/health", nil).Expect(t, http.StatusServiceUnavailable)
	require.Equal(t, "ok", h.Text("services.database"))
	require.Equal(t, "running", h.Text("services.workers.health"))
	require.Equal(t, "running", h.Text("services.workers.cleanup"))
	f.api.Do(t, http.MethodPost, "/api/backup-jobs/"+job+"/run", nil).Refused(t, http.StatusServiceUnavailable, "REDIS_UNAVAILABLE")
	f.api.Do(t, http.MethodPost, "/api/backups/"+backup+"/restore", nil).Refused(t, http.StatusServiceUnavailable, "REDIS_UNAVAILABLE")
	conn, err := pgx.Connect(context.Background(), f.DSN)
	require.NoError(t, err)
	_, err = conn.Exec(context.Background(), "UPDATE backup_jobs SET next_execution_at = now() WHERE id = $1", job)
	require.NoError(t, err)
	require.NoError(t, conn.Close(context.Background()))
	require.Equal(t, rows, f.ask(t, "SELECT count(*) FROM backup_executions"), "no row is made")

	f.Redis.Start(t)
	for _, role := range []string{"backup", "restore", "scheduler"} {
		f.awaitWorkers(t, role, "running", 2)
	}
	eventually(t, func() bool {
		return f.ask(t, "SELECT count(*) FROM backup_executions WHERE status = 'completed'") == rows
	}, "the slot that came due meanwhile does not run") // rows has the cancelled one
	require.Equal(t, rows+1, f.ask(t, "SELECT count(*) FROM backup_executions"))
	f.awaitRedis(t, "ok")
	require.Equal(t, "ok", f.api.Get(t, "/api/health").Text("status"))
	overview := f.api.Get(t, "/api/dashboard/overview")
	require.EqualValues(t, rows+1, overview.Int("stats.executions_24h_total"))
	require.Len(t, overview.List("executions_by_day"), 14)
	require.Equal(t, "running", overview.Text("services.workers.backup"))
}

func TestAWorkerServesItsMetricsAndListensToNoOtherEnvironment(t *testing.T) {
	t.Parallel()
	p := harness.NewSharedRedisPlane(t)
	surroundings := []string{"PGHOST=192.0.2.1", "PGPORT=1", "PGSERVICE=none", "PGSERVICEFILE=/nonexistent", "PGOPTIONS=-c nonsense=1", "PGSSLMODE=verify-full"}
	again := harness.Start(t, p.Dir, "again", surroundings, "migrate", "--database-url", p.DSN)
	require.Zero(t, again.Code, again.Stderr)
	require.Contains(t, again.Stderr, "PGHOST PGOPTIONS PGPORT PGSERVICE PGSERVICEFILE PGSSLMODE")

	token := writeFile(t, "scrape-me")
	w := p.Worker(t, "worker", "--roles", "scheduler", "--metrics-addr", "127.0.0.1:0", "--metrics-token-file", token)
	var line struct{ Address string }
	require.NoError(t, json.Unmarshal([]byte(w.Await(t, w.Stderr, "metrics are served")), &line))
	get := func(path, bearer string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+line.Address+path, nil)
		require.NoError(t, err)
		if bearer != "" {
			r.Header.Set("Authorization", "Bearer "+bearer)
		}
		answer, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		return answer.StatusCode, string(body)
	}
	status, _ := get("/metrics", "")
	require.Equal(t, http.StatusUnauthorized, status)
	status, body := get("/metrics", "scrape-me")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, "dataguardian_missed_runs_total 0\n")
	status, _ = get("/health", "")
	require.Equal(t, http.StatusOK, status)
	for _, entry := range w.Stderr.Lines() {
		require.NotContains(t, strings.ToLower(entry), "redis does not answer", "a healthy start warns of nothing")
	}
}
