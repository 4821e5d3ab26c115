package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/embedded"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/health"
	"github.com/dataguardian/dataguardian/internal/logs"
	"github.com/dataguardian/dataguardian/internal/metrics"
	"github.com/dataguardian/dataguardian/internal/paging"
	"github.com/dataguardian/dataguardian/internal/queue"
	"github.com/dataguardian/dataguardian/internal/secret"
	"github.com/dataguardian/dataguardian/internal/store"
	"github.com/dataguardian/dataguardian/worker"
)

// Aims.
const (
	queuedLimit  = 5 * time.Second
	claimedLimit = 100 * time.Millisecond
)

const (
	idleWorkers = 8
	// batchOfDue is how many due jobs the scheduler takes at once.
	batchOfDue = 200
	// fleetLimit bounds each wait for the server.
	fleetLimit = 2 * time.Minute
)

// copiesOfJob makes $1 more jobs of the only one, due in a year.
const copiesOfJob = `
insert into backup_jobs (id, name, datasource_id, storage_location_id, schedule_cron, schedule_timezone, enabled, retention_policy, backup_options, next_execution_at)
select gen_random_uuid(), j.name || ' ' || n, j.datasource_id, j.storage_location_id, '0 3 * * *', 'UTC', true, j.retention_policy, j.backup_options, now() + interval '1 year'
from (select * from backup_jobs limit 1) j, generate_series(1, $1) n`

// fleet measures what many jobs and many workers cost.
func fleet(ctx context.Context, b *bench) (t table, err error) {
	const name = "fleet"
	control, err := b.startControl(ctx, b.servers[0].path, name, "api,scheduler")
	if err != nil {
		return t, err
	}
	stopped := false
	defer func() {
		if !stopped {
			err = errors.Join(err, control.stop())
		}
	}()
	if _, err := control.job(ctx, b.cluster, "postgres", "only"); err != nil {
		return t, err
	}
	b.say("making %d jobs", b.jobs)
	if err := b.cluster.in(ctx, name, func(conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, copiesOfJob, b.jobs-1); err != nil {
			return err
		}
		return execute(ctx, conn, "VACUUM ANALYZE", "CHECKPOINT")
	}); err != nil {
		return t, err
	}
	t = table{
		title: fmt.Sprintf("A fleet with %d jobs", b.jobs),
		notes: []string{fmt.Sprintf("The scheduler and its PostgreSQL share the machine. From run to claimed: %d idle workers, over an in-process Redis.", idleWorkers)},
		head:  []string{"what", "value", "aim", "reached"},
	}
	queued, err := b.untilQueued(ctx, name, control)
	if err != nil {
		return t, err
	}
	t.add(fmt.Sprintf("%d due at once, all queued after", b.due), seconds(queued), seconds(queuedLimit), verdict(queued < queuedLimit))
	stopped = true
	if err := control.stop(); err != nil { // its scheduler has done its part
		return t, err
	}
	err = b.inProcess(ctx, name, filepath.Join(control.dir, "keyset.json"), &t)
	return t, err
}

// untilQueued lets jobs come due in one moment and waits until each has its
// execution.
func (b *bench) untilQueued(ctx context.Context, name string, c *control) (took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, fleetLimit)
	defer cancel()
	err = b.cluster.in(ctx, name, func(conn *pgx.Conn) error {
		began := time.Now()
		// The job that the others are copies of has no schedule of its own, and may be among them.
		if _, err := conn.Exec(ctx, "update backup_jobs set next_execution_at = now(), schedule_cron = '0 3 * * *', schedule_timezone = 'UTC' where id in (select id from backup_jobs order by id limit $1)", b.due); err != nil {
			return err
		}
		for n := 0; n < b.due; {
			if err := c.pause(ctx); err != nil {
				return err
			}
			if err := conn.QueryRow(ctx, "select count(*) from backup_executions where status = 'queued'").Scan(&n); err != nil {
				return err
			}
		}
		took = time.Since(began)
		return execute(ctx, conn, "update backup_executions set status = 'cancelled', finished_at = now() where status = 'queued'", "VACUUM ANALYZE backup_executions, backup_jobs")
	})
	b.say("%d due jobs were queued in %s", b.due, took)
	return took, err
}

// inProcess measures what needs no server of its own: an idle tick of the
// scheduler, and how soon a worker has what somebody runs.
func (b *bench) inProcess(ctx context.Context, name, keyFile string, t *table) (err error) {
	box, err := secret.Load(keyFile)
	if err != nil {
		return err
	}
	s, err := store.Open(ctx, store.Config{DSN: b.cluster.DSN(name), MaxConns: 2 * idleWorkers, Box: box})
	if err != nil {
		return err
	}
	defer s.Close()
	idle, err := repeat(ctx, b.window, func(ctx context.Context) error {
		taken, err := s.Jobs().Due(ctx, batchOfDue, func(context.Context, backup.DueTx, backup.Job) (*time.Time, error) { return nil, nil })
		if err == nil && taken > 0 {
			err = errors.New("a job is due")
		}
		return err
	})
	if err != nil {
		return err
	}
	t.add("an idle tick of the scheduler, p50", millis(percentile(idle, 50)), "-", "-")
	answers, latencies, err := b.untilClaimed(ctx, s)
	if err != nil {
		return err
	}
	t.add("from run to its answer, p50", millis(percentile(answers, 50)), "-", "-")
	t.add("from run to its answer, p99", millis(percentile(answers, 99)), "-", "-")
	t.add("from run to claimed, p50", millis(percentile(latencies, 50)), "-", "-")
	t.add("from run to claimed, p99", millis(percentile(latencies, 99)), millis(claimedLimit), verdict(percentile(latencies, 99) < claimedLimit))
	return nil
}

// wakeups is the queue as workers and callers see it.
type wakeups struct {
	*queue.Queue
	*queue.Monitor
}

// crew is idle workers, and what they have claimed.
type crew struct {
	store   *store.Store
	claimed chan string // ids
}

// take ends an execution as soon as it is claimed.
func (c *crew) take(ctx context.Context, l *worker.Leased) error {
	c.claimed <- l.Execution.ID
	return c.store.Executions().Finish(ctx, l.Lease, execution.Result{Status: execution.Cancelled})
}

// untilClaimed runs jobs one after the other.
func (b *bench) untilClaimed(ctx context.Context, s *store.Store) (answers, latencies []time.Duration, err error) {
	redis, err := embedded.StartRedis() //nolint:contextcheck // it lives until it is closed
	if err != nil {
		return nil, nil, err
	}
	client, err := queue.Connect(redis.ClientOption())
	if err != nil {
		return nil, nil, errors.Join(err, redis.Close())
	}
	w := wakeups{queue.New(client, queue.Config{}), queue.NewMonitor(client, queue.MonitorConfig{})}
	w.Ask(ctx)
	c := &crew{store: s, claimed: make(chan string, idleWorkers)}
	life, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	ended := make([]error, idleWorkers)
	for i := range ended {
		running.Go(func() { ended[i] = c.worker(i, w).Run(life) })
	}
	answers, latencies, err = b.runJobs(ctx, s, w, logs.NewHub(client, logs.HubConfig{}), c.claimed)
	stop()
	running.Wait()
	client.Close()
	return answers, latencies, errors.Join(append(ended, err, redis.Close())...)
}

func (c *crew) worker(n int, w wakeups) *worker.Claimer {
	logger := slog.New(slog.NewTextHandler(io.Discard, nil))
	return &worker.Claimer{
		Label: "bench worker", WorkerID: fmt.Sprint("bench-", n), Operations: []execution.Operation{execution.Backup}, Concurrency: 1,
		Store: c.store.Executions(), Queue: w, Entry: worker.NewRegistry(c.store.Health(), time.Minute, logger).Register(health.RoleBackup),
		Meter: metrics.New("bench"), Logger: logger, Work: c.take,
	}
}

// runJobs asks for one job after the other, each when the one before is claimed.
func (b *bench) runJobs(ctx context.Context, s *store.Store, w wakeups, hub logs.Hub, claimed <-chan string) (answers, latencies []time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, fleetLimit)
	defer cancel()
	jobs, _, err := s.Jobs().List(ctx, backup.JobFilter{}, paging.Page{Number: 1, Limit: paging.MaxLimit})
	if err != nil {
		return nil, nil, err
	}
	service := execution.NewService(execution.Config{
		Store: s.Executions(), Jobs: s.Jobs(), Datasources: s.Datasources(), Catalogue: s.Catalogue(), Queue: w, Hub: hub, Logger: slog.New(slog.DiscardHandler),
	})
	for n := range b.runs {
		asked := time.Now()
		e, err := service.RunJob(ctx, jobs[n%len(jobs)].ID)
		if err != nil {
			return nil, nil, err
		}
		answers = append(answers, time.Since(asked))
		select {
		case got := <-claimed:
			if got != e.ID {
				return nil, nil, fmt.Errorf("%s was claimed, not %s", got, e.ID)
			}
			latencies = append(latencies, time.Since(asked))
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		}
	}
	return answers, latencies, nil
}
