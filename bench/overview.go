package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
)

// overviewLimit is what 95 of 100 pages may take at most.
const overviewLimit = 50 * time.Millisecond

// manyExecutions is a history of $1 executions of one job, the newest now: one a
// minute, as much as fits into no cache of anything but counts.
const manyExecutions = `
insert into backup_executions (id, job_id, datasource_id, storage_location_id, operation, status, trigger, started_at, finished_at,
	size_bytes, stored_bytes, attempt, max_attempts, fence, request, created_at)
select gen_random_uuid(), j.id, j.datasource_id, j.storage_location_id, 'backup', case when n % 20 = 7 then 'failed' else 'completed' end, 'schedule',
	now() - n * interval '1 minute', now() - n * interval '1 minute' + interval '30 seconds', 900000000, 200000000, 1, 2, 1, '{}', now() - n * interval '1 minute'
from (select * from backup_jobs limit 1) j, generate_series(1, $1) n`

// overview measures the page that sums up everything.
func overview(ctx context.Context, b *bench) (t table, err error) {
	const name = "overview"
	control, err := b.startControl(ctx, b.servers[0].path, name, "api,scheduler,health,cleanup")
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, control.stop()) }()
	if _, err := control.job(ctx, b.cluster, "postgres", "only"); err != nil {
		return t, err
	}
	b.say("making %d executions", b.history)
	err = b.cluster.in(ctx, name, func(conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, manyExecutions, b.history); err != nil {
			return err
		}
		return execute(ctx, conn, "VACUUM ANALYZE", "CHECKPOINT")
	})
	if err != nil {
		return t, err
	}
	t = table{
		title: fmt.Sprintf("The overview, with %d executions in the table", b.history),
		notes: []string{fmt.Sprintf("GetOverview over gRPC, one client, %d rounds of %s. Aim: p95 under %s.", b.rounds, b.window, millis(overviewLimit))},
		head:  []string{"request", "answers", "p50", "p95", "p99", "under the limit"},
	}
	client := pb.NewDashboardServiceClient(control.conn)
	var all []time.Duration
	for range b.rounds {
		times, err := repeat(ctx, b.window, func(ctx context.Context) error {
			_, err := client.GetOverview(control.authorized(ctx), &pb.GetOverviewRequest{})
			return err
		})
		if err != nil {
			return t, err
		}
		all = append(all, times...)
	}
	t.add("GetOverview", fmt.Sprint(len(all)), millis(percentile(all, 50)), millis(percentile(all, 95)), millis(percentile(all, 99)),
		verdict(percentile(all, 95) < overviewLimit))
	return t, nil
}

// repeat asks one after the other for a while, after one answer that does not
// count, and returns how long each took.
func repeat(ctx context.Context, window time.Duration, ask func(ctx context.Context) error) (times []time.Duration, err error) {
	if err := ask(ctx); err != nil {
		return nil, err
	}
	for began := time.Now(); time.Since(began) < window; {
		asked := time.Now()
		if err := ask(ctx); err != nil {
			return nil, err
		}
		times = append(times, time.Since(asked))
	}
	return times, nil
}

// percentile of values that need not be in order.
func percentile(values []time.Duration, percent int) time.Duration {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[(len(sorted)-1)*percent/100]
}

func verdict(ok bool) string {
	if ok {
		return "yes"
	}
	return "no"
}
