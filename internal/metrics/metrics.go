// Package metrics tells Prometheus what an operator needs for alerts.
package metrics

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/dataguardian/dataguardian/internal/execution"
)

const namespace = "dataguardian"

var operations = []string{string(execution.Backup), string(execution.Restore), string(execution.Verify)}

// Metrics of one process. It may be used concurrently.
type Metrics struct {
	registry *prometheus.Registry
	ended    *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	dumped   prometheus.Counter
	stored   prometheus.Counter
	missed   prometheus.Counter
	lost     *prometheus.CounterVec
	reaped   *prometheus.CounterVec
	retried  prometheus.Counter
	attempts *prometheus.CounterVec
	lag      prometheus.Histogram
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help})
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
}

// New returns the metrics of a process of the given version.
func New(version string) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		ended:    counters("executions_ended_total", "Executions that ended in this process.", "operation", "status"),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: namespace, Name: "execution_duration_seconds",
			Help: "How long executions of this process took.", Buckets: prometheus.ExponentialBuckets(1, 3, 10)}, []string{"operation", "status"}),
		dumped:   counter("dumped_bytes_total", "Raw bytes of completed dumps of this process."),
		stored:   counter("stored_bytes_total", "Bytes of completed backups of this process as stored, one copy counted."),
		missed:   counter("missed_runs_total", "Due times of jobs that nothing ran for in time, found by the scheduler of this process."),
		lost:     counters("lease_losses_total", "Executions that this process had to let go because it lost its lease.", "operation"),
		reaped:   counters("reaped_executions_total", "Executions that the scheduler of this process took from silent workers, by what became of them.", "operation", "status"),
		retried:  counter("upload_retries_total", "Tries of uploads after their first, in this process."),
		attempts: counters("notification_attempts_total", "Tries of this process to deliver a notification, by what came of them.", "channel_type", "result"),
		lag: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Name: "log_lag_seconds",
			Help: "How old the oldest log line was whenever lines were sent to Redis.", Buckets: prometheus.ExponentialBuckets(0.001, 4, 9)}),
	}
	info := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: "build_info",
		Help: "Always 1; the label is the version.", ConstLabels: prometheus.Labels{"version": version}})
	info.Set(1)
	m.registry.MustRegister(m.ended, m.seconds, m.dumped, m.stored, m.missed, m.lost, m.reaped, m.retried, m.attempts, m.lag, info,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.begin()
	return m
}

// begin makes the series that alerts need before something happens: a counter that
// appears with its first event has not increased.
func (m *Metrics) begin() {
	for _, operation := range operations {
		m.lost.WithLabelValues(operation)
		for _, status := range []execution.Status{execution.Completed, execution.Failed, execution.Cancelled} {
			m.ended.WithLabelValues(operation, string(status))
		}
		for _, status := range []execution.Status{execution.Queued, execution.Failed, execution.Cancelled} {
			m.reaped.WithLabelValues(operation, string(status))
		}
	}
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

// Results of tries to deliver a notification.
const (
	delivered = "delivered"
	failed    = "failed"
	givenUp   = "given_up"
)

// Channels makes the series of these types of channels before anything is sent.
func (m *Metrics) Channels(types ...string) {
	for _, t := range types {
		for _, result := range []string{delivered, failed, givenUp} {
			m.attempts.WithLabelValues(t, result)
		}
	}
}

// Attempted counts a try to deliver a notification: err is what came of it, gaveUp
// says that it was the last one.
func (m *Metrics) Attempted(channelType string, err error, gaveUp bool) {
	result := delivered
	switch {
	case gaveUp:
		result = givenUp
	case err != nil:
		result = failed
	}
	m.attempts.WithLabelValues(channelType, result).Inc()
}

// Missed counts due times that nothing ran for.
func (m *Metrics) Missed(slots int) { m.missed.Add(float64(slots)) }

// LeaseLost counts an execution that this process had to let go.
func (m *Metrics) LeaseLost(op execution.Operation) { m.lost.WithLabelValues(string(op)).Inc() }

// Reaped counts an execution that was taken from a silent worker.
func (m *Metrics) Reaped(op execution.Operation, after execution.Status) {
	m.reaped.WithLabelValues(string(op), string(after)).Inc()
}

// UploadRetried counts a try of an upload after its first.
func (m *Metrics) UploadRetried() { m.retried.Inc() }

// LogLag notes how old the oldest line was when lines were sent to Redis.
func (m *Metrics) LogLag(age time.Duration) { m.lag.Observe(age.Seconds()) }

// Handler answers scrapes.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}
