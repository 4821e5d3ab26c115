package store_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/paging"
	"github.com/dataguardian/dataguardian/internal/store"
	"github.com/dataguardian/dataguardian/internal/store/db"
	"github.com/dataguardian/dataguardian/internal/store/storetest"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

const (
	datasourceID = "00000000-0000-4000-8000-0000000000d1"
	locationID   = "00000000-0000-4000-8000-0000000000f1"
	jobID        = "00000000-0000-4000-8000-000000000001"
)

// crowd is 8 datasources, 4 locations and as many jobs.
const crowd = `
insert into datasources (id, name, type, status, enabled, protected, tags, connection_config)
select ('00000000-0000-4000-8000-0000000000d' || n)::uuid, 'shop ' || n, 'postgres', 'healthy', true, false, '{}', '{}' from generate_series(1, 8) n;
insert into storage_locations (id, name, type, config, is_default, status)
select ('00000000-0000-4000-8000-0000000000f' || n)::uuid, 'disk ' || n, 'local', '{}', n = 1, 'healthy' from generate_series(1, 4) n;
insert into backup_jobs (id, name, datasource_id, storage_location_id, schedule_cron, schedule_timezone, enabled, retention_policy, backup_options, next_execution_at)
select ('00000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'job ' || n, '` + datasourceID + `', '` + locationID + `', '@hourly', 'UTC', true,
	'{"max_backups":3,"auto_delete":true}', '{"compression":"zstd"}', case when n <= %d then now() - interval '1 minute' else now() + interval '1 hour' end
from generate_series(1, %d) n;
analyze;`

// history is as many executions, over 200 jobs and 1,000 hours, each with some lines.
const history = `
insert into backup_executions (id, job_id, datasource_id, storage_location_id, operation, status, trigger, max_attempts, request, created_at, finished_at, metadata)
select gen_random_uuid(), ('00000000-0000-4000-8000-' || lpad(to_hex(n %% 200 + 1), 12, '0'))::uuid,
	('00000000-0000-4000-8000-0000000000d' || n %% 8 + 1)::uuid, ('00000000-0000-4000-8000-0000000000f' || n %% 4 + 1)::uuid,
	case when n %% 47 = 0 then 'restore' else 'backup' end, case when n %% 19 = 0 then 'failed' else 'completed' end, 'schedule', 2, '{}',
	now() - n * interval '36 seconds', now(),
	'{"server_version": "15.18", "tools": {"pg_dump": "15.18"}, "execution_logs": [%s]}'
from generate_series(1, %d) n;`

const line = `{"seq": 1, "ts": "2026-01-02T03:04:05Z", "level": "info", "message": "dumping the table public.orders"}`

func newScaled(t testing.TB, due, jobs, executions int) (*store.Store, *pgx.Conn) {
	t.Helper()
	server := testkit.Postgres(t)
	name := server.NewDatabase(t)
	s := storetest.New(t, server.DSN(name))
	server.Exec(t, name, fmt.Sprintf(crowd, due, jobs))
	if executions > 0 {
		server.Exec(t, name, fmt.Sprintf(history, line+strings.Repeat(","+line, 9), executions))
	}
	server.Exec(t, name, "vacuum analyze")
	return s, conn(t, server, name)
}

func plan(t *testing.T, conn *pgx.Conn, query string, args ...any) string {
	t.Helper()
	_, query, _ = strings.Cut(query, "\n") // the name of the query
	rows, err := conn.Query(t.Context(), "explain (costs off) "+query, args...)
	require.NoError(t, err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return strings.Join(lines, "\n")
}

func TestEveryListAndTotalOfAHundredThousandExecutionsComesFromAnIndex(t *testing.T) {
	s, conn := newScaled(t, 0, 200, 100_000)
	since := time.Now().Add(-500 * time.Hour)
	filters := map[string]execution.Filter{
		"all":                  {},
		"job":                  {JobID: jobID},
		"datasource":           {DatasourceID: datasourceID},
		"storage":              {StorageLocationID: locationID},
		"status":               {Status: execution.Failed},
		"operation":            {Operation: execution.Restore},
		"time":                 {From: &since},
		"job and status":       {JobID: jobID, Status: execution.Failed},
		"status and operation": {Status: execution.Completed, Operation: execution.Backup},
		"everything": {
			JobID: jobID, DatasourceID: datasourceID, StorageLocationID: locationID, Status: execution.Completed,
			Operation: execution.Backup, From: &since,
		},
	}
	for name, f := range filters {
		t.Run(name, func(t *testing.T) {
			args := []any{optional(f.JobID), optional(f.DatasourceID), optional(f.StorageLocationID), optional(f.Status), optional(f.Operation), f.From, f.To, []string(nil)}
			total := plan(t, conn, db.CountExecutions, args...)
			require.Contains(t, total, "Index Only Scan", total)
			require.NotContains(t, total, "Seq Scan", total)
			page := plan(t, conn, db.ListExecutions, append(args, int64(40), int64(20))...)
			require.Contains(t, page, "Index Only Scan", page)
			require.NotContains(t, page, "Seq Scan on backup_executions", page)

			begin := time.Now()
			rows, _, err := s.Executions().List(t.Context(), f, paging.Page{})
			require.NoError(t, err)
			require.NotEmpty(t, rows)
			require.Less(t, time.Since(begin), 2*time.Second)
			t.Log(time.Since(begin))
		})
	}
	t.Run("one", func(t *testing.T) {
		for _, scope := range [][]string{nil, {"prod"}} {
			one := plan(t, conn, db.GetExecution, uuid.NewString(), scope)
			require.Contains(t, one, "backup_executions_pkey", one)
			require.NotContains(t, one, "Seq Scan on backup_executions", one)
		}
	})
	t.Run("the overview", func(t *testing.T) {
		overview := plan(t, conn, db.Overview, int64(10), int64(10), int64(100), int32(14))
		require.NotContains(t, overview, "Seq Scan on backup_executions", overview)
		page, err := s.Dashboard().Overview(t.Context())
		require.NoError(t, err)
		require.Len(t, page.Recent, 10)
		require.Positive(t, page.Days[0].Total)
	})
	t.Run("the queue and its leases", func(t *testing.T) {
		claim := plan(t, conn, db.ClaimExecution, "w", time.Minute, []string{"backup"}, "spool")
		require.NotContains(t, claim, "Seq Scan", claim)
		expired := plan(t, conn, db.ListExpired, time.Minute, int64(10))
		require.NotContains(t, expired, "Seq Scan on backup_executions", expired)
	})
	t.Run("the notifications of a scope", func(t *testing.T) {
		scope := []string{"mine"}
		for _, p := range []string{
			plan(t, conn, db.LastNotificationSeqInScope, scope),
			plan(t, conn, db.NotificationsAfter, int64(1), scope, int64(10)),
			plan(t, conn, db.CountUnreadNotifications, scope),
			plan(t, conn, db.ListNotifications, nil, nil, nil, scope, int64(0), int64(10)),
		} {
			require.Contains(t, p, "hashed SubPlan", "looked up once, not for every notification: %s", p)
		}
	})
}

func optional[T ~string](v T) *T {
	if v == "" {
		return nil
	}
	return &v
}

func TestAThousandOfAHundredThousandJobsAreEnqueuedWithinFiveSeconds(t *testing.T) {
	s, conn := newScaled(t, 1000, 100_000, 0)
	idle := plan(t, conn, strings.TrimSuffix(strings.TrimSpace(db.LockDueJobs), "for update of j skip locked"), int64(100))
	require.Contains(t, idle, "backup_jobs_due_idx", idle)
	require.NotContains(t, idle, "Seq Scan on backup_jobs", idle)

	next := time.Now().Add(time.Hour)
	visit := func(ctx context.Context, tx backup.DueTx, j backup.Job) (*time.Time, error) {
		_, queued, err := tx.Queue(ctx, j.ID, *j.NextExecutionAt)
		require.True(t, queued)
		return &next, err
	}
	begin, handled := time.Now(), 0
	for n := 1; n > 0; handled += n {
		var err error
		n, err = s.Jobs().Due(t.Context(), 250, visit)
		require.NoError(t, err)
	}
	took := time.Since(begin)
	require.Equal(t, 1000, handled)
	require.Less(t, took, 5*time.Second)
	t.Log(took)
}

func BenchmarkGetExecutionOfAHundredThousand(b *testing.B) {
	s, conn := newScaled(b, 0, 200, 100_000)
	var id string
	require.NoError(b, conn.QueryRow(b.Context(), "select id from backup_executions limit 1").Scan(&id))
	for b.Loop() {
		_, err := s.Executions().Get(b.Context(), id)
		require.NoError(b, err)
	}
}

func BenchmarkOverviewOfAHundredThousand(b *testing.B) {
	s, _ := newScaled(b, 0, 1000, 100_000)
	for b.Loop() {
		_, err := s.Dashboard().Overview(b.Context())
		require.NoError(b, err)
	}
}

func BenchmarkListExecutionsOfAHundredThousand(b *testing.B) {
	s, _ := newScaled(b, 0, 200, 100_000)
	for name, f := range map[string]execution.Filter{"all": {}, "job": {JobID: jobID}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				_, _, err := s.Executions().List(b.Context(), f, paging.Page{})
				require.NoError(b, err)
			}
		})
	}
}

// conn plans as the store's own sessions do.
func conn(t testing.TB, server *testkit.PG, name string) *pgx.Conn {
	t.Helper()
	c := server.Conn(t, name)
	_, err := c.Exec(t.Context(), "set plan_cache_mode = force_custom_plan; set random_page_cost = 1.1", pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
	return c
}
