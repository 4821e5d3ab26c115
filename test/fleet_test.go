package test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/testkit"
	"github.com/dataguardian/dataguardian/test/harness"
)

// fleetJobs come due in the same second.
const fleetJobs = 200

// fleet is a control plane of several processes on a PostgreSQL and a Redis of
// its own.
type fleet struct {
	*harness.Plane
	api      *harness.Server
	metadata *testkit.PG
	conn     *pgx.Conn // to the metadata; nil after it failed
	victim   *harness.Process
	workers  []*harness.Process // that stay
	source   harness.Source
	storage  string
}

// startFleet starts one API, two schedulers and three workers; the sources of the
// backups are elsewhere. They look seldom by themselves: whatever is to happen at once
// must be told.
func startFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{metadata: testkit.NewPostgres(t)}
	f.Plane = harness.NewPlaneOn(t, f.metadata)
	f.Redis = testkit.Redis(t)
	t.Cleanup(func() {
		if f.conn != nil {
			_ = f.conn.Close(context.Background()) // it may be broken
		}
	})
	client, err := exec.LookPath("mariadb-dump")
	require.NoError(t, err)
	seldom := []string{
		"--poll-interval", "2s", "--sweep-interval", "1s", "--heartbeat", "1s", "--database-url", f.DSN + "&pool_max_conns=5",
		"--postgres-bin-dir", f.metadata.BinDir, "--mysql-bin-dir", filepath.Dir(client), // not asked for their versions in every other place
	}
	f.api = f.Serve(t, "api", append(seldom, "--roles", "api")...)
	for i := range 2 {
		f.Worker(t, fmt.Sprint("scheduler", i), append(seldom, "--roles", "scheduler,cleanup,health", "--orphan-grace", "5s", "--metrics-addr", "127.0.0.1:0")...)
	}
	f.victim = f.StartWorker(t, "victim", append(seldom, "--roles", "backup,restore", "--lease", shortLease)...)
	for i := range 2 {
		f.workers = append(f.workers, f.Worker(t, fmt.Sprint("worker", i), append(seldom, "--roles", "backup,restore")...))
	}
	f.source, f.storage = f.NewSource(t, 1), f.api.AddStorage(t, f.api.StorageDir(t))
	return f
}

// addJobs makes so many jobs whose time comes on a 29th of February, unless it is put
// in. Most are of MariaDB, which a dump of an empty table costs a tenth of what it
// costs PostgreSQL.
func (f *fleet) addJobs(t *testing.T, n int) {
	t.Helper()
	m := testkit.MariaDB(t)
	database := m.NewDatabase(t)
	m.Exec(t, database, "CREATE TABLE notes (id bigint PRIMARY KEY, body longtext NOT NULL)")
	sources := []string{addDatasource(t, f.api, "postgres", "postgres", f.source.Config())}
	for i := range 9 {
		sources = append(sources, addDatasource(t, f.api, fmt.Sprint("mariadb ", i), "mariadb", mariaConfig(m, database)))
	}
	for i := range n {
		f.api.AddJob(t, sources[i%len(sources)], f.storage, leapDay)
	}
}

// leapDay is the schedule of jobs that come due only when they are made so.
var leapDay = config{"schedule_cron": "0 0 29 2 *"}

// fleetPatience is for what six processes do on a machine that has others to serve.
const fleetPatience = 3 * time.Minute

// eventually waits as long as a busy machine may need. It asks from the test's own
// goroutine and not often: asking costs, too.
func eventually(t *testing.T, condition func() bool, message string, args ...any) {
	t.Helper()
	for limit := time.Now().Add(fleetPatience); !condition(); <-time.After(200 * time.Millisecond) {
		require.True(t, time.Now().Before(limit), append([]any{message}, args...)...)
	}
}

// awaitWorkers waits until the API shows a role as it should be.
func (f *fleet) awaitWorkers(t *testing.T, role, state string, instances int64) {
	t.Helper()
	eventually(t, func() bool {
		h := harness.ParseJSON(t, f.api.Do(t, http.MethodGet, "/api/health", nil).Text)
		return h.Text("services.workers."+role) == state && h.Int("worker_details."+role+".instances") == instances
	}, "%s is not %s %d times", role, state, instances)
}

// metadataConn is a connection to the metadata, made anew when the last one failed: the
// server restarts meanwhile.
func (f *fleet) metadataConn(ctx context.Context) (_ *pgx.Conn, err error) {
	if f.conn == nil || f.conn.IsClosed() {
		f.conn, err = pgx.Connect(ctx, f.DSN)
	}
	return f.conn, err
}

// ask reads a number from the metadata; -1 while it does not answer.
func (f *fleet) ask(t *testing.T, query string, args ...any) (n int) {
	t.Helper()
	conn, err := f.metadataConn(t.Context())
	if err != nil {
		return -1
	}
	if err := conn.QueryRow(t.Context(), query, args...).Scan(&n); err != nil {
		t.Logf("the metadata does not answer: %v", err)
		_ = conn.Close(t.Context()) // it is broken
		return -1
	}
	return n
}

// awaitDone waits until so many executions of a slot are completed. It gives up when
// there is no more of them for long: how long all take is the machine's business.
func (f *fleet) awaitDone(t *testing.T, slot time.Time, n int, message string) {
	t.Helper()
	last := -1
	done := func() int {
		return f.ask(t, "SELECT count(*) FROM backup_executions WHERE scheduled_for = $1 AND status = 'completed'", slot)
	}
	for last < n {
		eventually(t, func() bool {
			now := done()
			defer func() { last = max(last, now) }()
			return now > last
		}, "%s: %d of %d", message, last, n)
	}
}

// makeDue lets the jobs come due in the same second and returns it.
func (f *fleet) makeDue(t *testing.T) (slot time.Time) {
	t.Helper()
	conn, err := f.metadataConn(t.Context())
	require.NoError(t, err)
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT date_trunc('second', now())").Scan(&slot))
	_, err = conn.Exec(t.Context(), "UPDATE backup_jobs SET next_execution_at = $1", slot)
	require.NoError(t, err)
	return slot
}

// One topology for all of it: processes are what costs.
func TestAFleetSurvivesTheLossOfAWorkerOfRedisAndOfItsDatabase(t *testing.T) {
	t.Parallel()
	f := startFleet(t)
	for role, instances := range map[string]int64{"backup": 3, "restore": 3, "scheduler": 2, "cleanup": 2, "health": 2} {
		f.awaitWorkers(t, role, "running", instances)
	}
	f.addJobs(t, fleetJobs-1)
	manual := f.api.AddJob(t, f.api.AddDatasource(t, f.source.Config()), f.storage, leapDay)
	f.followAndCancel(t, manual)
	slot := f.makeDue(t)

	victims := fmt.Sprintf("%%/%d/%%", f.victim.Pid)
	eventually(t, func() bool {
		return f.ask(t, "SELECT count(*) FROM backup_executions WHERE status = 'running' AND worker_id LIKE $1", victims) > 0
	}, "the worker that is to be killed got nothing")
	f.victim.Kill(t)
	f.awaitDone(t, slot, fleetJobs/4, "the others do not go on")
	f.Redis.Stop(t)
	f.Redis.Start(t)
	f.awaitDone(t, slot, fleetJobs/2, "nothing goes on after Redis was restarted")
	f.metadata.Stop(t)
	f.metadata.Start(t)
	f.awaitDone(t, slot, fleetJobs, "not every slot has run")

	require.Equal(t, fleetJobs, f.ask(t, "SELECT count(*) FROM backup_executions WHERE scheduled_for = $1", slot))
	require.Equal(t, fleetJobs, f.ask(t, "SELECT count(DISTINCT job_id) FROM backup_executions WHERE scheduled_for = $1", slot))
	require.Equal(t, fleetJobs+1, f.ask(t, "SELECT count(*) FROM backup_executions"))
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
	_, err := f.conn.Exec(t.Context(), "UPDATE backup_jobs SET next_execution_at = now() WHERE id = $1", job)
	require.NoError(t, err)
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
