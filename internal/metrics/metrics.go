// Package metrics tells Prometheus what an operator needs for alerts.
package metrics

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/health"
)

const namespace = "dataguardian"

// scrapeTimeout bounds what one scrape asks the database.
const scrapeTimeout = 5 * time.Second

// Metrics of one process. It may be used concurrently.
type Metrics struct {
	registry *prometheus.Registry
	ended    *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	dumped   prometheus.Counter
	stored   prometheus.Counter
}

// New returns the metrics of a process of the given version.
func New(version string) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: "executions_ended_total",
			Help: "Executions that ended in this process."}, []string{"operation", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: namespace, Name: "execution_duration_seconds",
			Help: "How long executions of this process took.", Buckets: prometheus.ExponentialBuckets(1, 3, 10)}, []string{"operation", "status"}),
		dumped: prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: "dumped_bytes_total",
			Help: "Raw bytes of completed dumps of this process."}),
		stored: prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: "stored_bytes_total",
			Help: "Bytes of completed backups of this process as stored, one copy counted."}),
	}
	info := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: "build_info",
		Help: "Always 1; the label is the version.", ConstLabels: prometheus.Labels{"version": version}})
	info.Set(1)
	m.registry.MustRegister(m.ended, m.seconds, m.dumped, m.stored, info,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Ended counts an execution that ended here.
func (m *Metrics) Ended(e execution.Execution, r execution.Result, took time.Duration) {
	labels := []string{string(e.Operation), string(r.Status)}
	m.ended.WithLabelValues(labels...).Inc()
	m.seconds.WithLabelValues(labels...).Observe(took.Seconds())
	if r.Status == execution.Completed && r.SizeBytes != nil && r.StoredBytes != nil {
		m.dumped.Add(float64(*r.SizeBytes))
		m.stored.Add(float64(*r.StoredBytes))
	}
}

// Watch adds what only the whole control plane knows; each scrape asks for it.
func (m *Metrics) Watch(report func(ctx context.Context) health.Report) {
	m.registry.MustRegister(&fleet{report: report})
}

// Handler answers scrapes.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// fleet collects the state of the control plane.
type fleet struct {
	report func(ctx context.Context) health.Report
}

var (
	databaseUp  = prometheus.NewDesc(namespace+"_database_up", "1 when the metadata database answers.", nil, nil)
	redisUp     = prometheus.NewDesc(namespace+"_redis_up", "1 when Redis answers.", nil, nil)
	workers     = prometheus.NewDesc(namespace+"_worker_instances", "Live worker instances.", []string{"role", "state"}, nil)
	datasources = prometheus.NewDesc(namespace+"_datasources", "Datasources by their health.", []string{"status"}, nil)
	jobs        = prometheus.NewDesc(namespace+"_jobs", "Backup jobs.", []string{"enabled"}, nil)
)

// Describe implements prometheus.Collector.
func (f *fleet) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{databaseUp, redisUp, workers, datasources, jobs} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (f *fleet) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	r := f.report(ctx)
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	gauge(databaseUp, flag(r.DatabaseOK))
	gauge(redisUp, flag(r.RedisOK))
	for role, w := range r.Workers {
		gauge(workers, float64(w.Instances), string(role), string(w.State))
	}
	if !r.DatabaseOK {
		return // counts are unknown, which is not zero
	}
	gauge(datasources, float64(r.Stats.DatasourcesHealthy), "healthy")
	gauge(datasources, float64(r.Stats.DatasourcesCritical), "critical")
	gauge(datasources, float64(r.Stats.DatasourcesTotal-r.Stats.DatasourcesHealthy-r.Stats.DatasourcesCritical), "other")
	gauge(jobs, float64(r.Stats.JobsEnabled), "true")
	gauge(jobs, float64(r.Stats.JobsTotal-r.Stats.JobsEnabled), "false")
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
