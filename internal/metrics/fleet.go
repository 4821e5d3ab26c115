package metrics

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dataguardian/dataguardian/internal/health"
	"github.com/dataguardian/dataguardian/internal/location"
)

// scrapeTimeout bounds what one scrape asks the database.
const scrapeTimeout = 5 * time.Second

// scrapeKept is how long what the database said is good for the next scrapes: whoever
// may scrape must not be able to keep the database busy.
const scrapeKept = 2 * time.Second

// Fleet knows the state of the whole control plane.
type Fleet interface {
	Get(ctx context.Context) health.Report
	Gauges(ctx context.Context) (health.Gauges, error)
}

// Watch adds what only the whole control plane knows; scrapes ask for it, one at a
// time and at most every two seconds. One kind of process is enough: every one would
// show the same.
func (m *Metrics) Watch(f Fleet) { m.registry.MustRegister(&fleet{source: f}) }

// fleet collects the state of the control plane.
type fleet struct {
	source Fleet

	mu    sync.Mutex // held while the database is asked
	asked time.Time
	last  state
}

// state is what the whole control plane said.
type state struct {
	health.Report

	gauges health.Gauges
}

// state asks for the state, unless somebody just did.
func (f *fleet) state() state {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.asked.IsZero() && time.Since(f.asked) < scrapeKept {
		return f.last
	}
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	s := state{Report: f.source.Get(ctx)}
	if s.DatabaseOK {
		var err error
		s.gauges, err = f.source.Gauges(ctx)
		s.DatabaseOK = err == nil
	}
	f.last, f.asked = s, time.Now()
	return s
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(namespace+"_"+name, help, labels, nil)
}

var (
	databaseUp  = describe("database_up", "1 when the metadata database answers.")
	redisUp     = describe("redis_up", "1 when Redis answers.")
	workers     = describe("worker_instances", "Live worker instances.", "role", "state")
	datasources = describe("datasources", "Datasources by their health.", "status")
	jobs        = describe("jobs", "Backup jobs.", "enabled")
	queued      = describe("queue_executions", "Executions that wait for a worker.", "operation")
	oldest      = describe("queue_oldest_seconds", "How long the oldest waiting execution could have run; 0 when none waits.", "operation")
	running     = describe("running_executions", "Executions that run.", "operation")
	waiting     = describe("notification_pending", "Deliveries of notifications that wait for enabled channels.", "channel_type")
	waited      = describe("notification_oldest_pending_seconds", "How long the oldest of them has waited; 0 when none waits.", "channel_type")
	available   = describe("storage_available_bytes", "Bytes that can still be stored, by the newest check; absent where the storage does not say.", "storage")
	healthy     = describe("storage_healthy", "1 when the storage takes backups, by its newest checks.", "storage")
	lastSuccess = describe("job_last_success_timestamp_seconds", "End of the newest good backup of an enabled job; absent before the first.", "backup_job", "datasource")
	created     = describe("job_created_timestamp_seconds", "When an enabled job was made.", "backup_job", "datasource")
)

// Describe implements prometheus.Collector.
func (f *fleet) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		databaseUp, redisUp, workers, datasources, jobs, queued, oldest, running, waiting, waited, available, healthy, lastSuccess, created,
	} {
		out <- d
	}
}

// sink takes gauges.
type sink chan<- prometheus.Metric

func (out sink) gauge(d *prometheus.Desc, value float64, labels ...string) {
	out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
}

// Collect implements prometheus.Collector.
func (f *fleet) Collect(to chan<- prometheus.Metric) {
	out, r := sink(to), f.state()
	out.gauge(databaseUp, flag(r.DatabaseOK))
	out.gauge(redisUp, flag(r.RedisOK))
	for role, w := range r.Workers {
		out.gauge(workers, float64(w.Instances), string(role), string(w.State))
	}
	if !r.DatabaseOK {
		return // the rest is unknown, which is not zero
	}
	out.gauge(datasources, float64(r.Stats.DatasourcesHealthy), "healthy")
	out.gauge(datasources, float64(r.Stats.DatasourcesCritical), "critical")
	out.gauge(datasources, float64(r.Stats.DatasourcesTotal-r.Stats.DatasourcesHealthy-r.Stats.DatasourcesCritical), "other")
	out.gauge(jobs, float64(r.Stats.JobsEnabled), "true")
	out.gauge(jobs, float64(r.Stats.JobsTotal-r.Stats.JobsEnabled), "false")
	out.work(r.gauges)
}

func (out sink) work(g health.Gauges) {
	known := map[string]health.QueueGauge{}
	for _, q := range g.Queues {
		known[string(q.Operation)] = q
	}
	for _, operation := range operations {
		q := known[operation]
		out.gauge(queued, float64(q.Queued), operation)
		out.gauge(oldest, q.Oldest.Seconds(), operation)
		out.gauge(running, float64(q.Running), operation)
	}
	for _, o := range g.Outbox {
		out.gauge(waiting, float64(o.Pending), o.ChannelType)
		out.gauge(waited, o.Oldest.Seconds(), o.ChannelType)
	}
	for _, s := range g.Storages {
		out.gauge(healthy, flag(s.Status == location.Healthy), s.Name)
		if s.AvailableBytes != nil {
			out.gauge(available, float64(*s.AvailableBytes), s.Name)
		}
	}
	for _, j := range g.Jobs {
		out.gauge(created, seconds(j.CreatedAt), j.Name, j.Datasource)
		if j.LastSuccess != nil {
			out.gauge(lastSuccess, seconds(*j.LastSuccess), j.Name, j.Datasource)
		}
	}
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
