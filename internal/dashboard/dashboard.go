// Package dashboard sums up everything on one page.
package dashboard

import (
	"context"
	"time"

	"github.com/dataguardian/dataguardian/internal/datasource"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/health"
	"github.com/dataguardian/dataguardian/internal/machine"
)

// Days is how many days the page looks back, today included.
const Days = 14

// Stats are counts.
type Stats struct {
	DatasourcesTotal, DatasourcesHealthy   int
	JobsTotal, JobsEnabled                 int
	StoragesTotal, StoragesHealthy         int
	ExecutionsToday, ExecutionsFailedToday int // created since midnight UTC
	Created24h, Ended24h, Completed24h     int // in the last 24 hours; Completed24h are those of Ended24h that went well
}

// SuccessRate is the percentage of the executions that ended in the last 24 hours
// and ended well; false when none ended.
func (s Stats) SuccessRate() (float64, bool) {
	if s.Ended24h == 0 {
		return 0, false
	}
	return 100 * float64(s.Completed24h) / float64(s.Ended24h), true
}

// Recent is one of the newest executions.
type Recent struct {
	ID             string
	DatasourceName string
	DatasourceType engine.Type
	JobName        string
	Operation      execution.Operation
	Status         execution.Status
	SizeBytes      *int64
	StoredBytes    *int64
	StartedAt      *time.Time
	FinishedAt     *time.Time
	CreatedAt      time.Time
}

// Upcoming is one of the jobs that are due next.
type Upcoming struct {
	ID, Name         string
	ScheduleCron     string
	ScheduleTimezone string
	NextExecutionAt  time.Time
	Enabled          bool
	DatasourceName   string
	DatasourceType   engine.Type
}

// DatasourceHealth is a datasource with its newest check.
type DatasourceHealth struct {
	ID, Name      string
	Status        datasource.Status
	LatencyMS     *int
	Outcome       health.Outcome // of the newest check; empty without one
	LastCheckedAt *time.Time
}

// Day counts the executions that were created on one day, by how they stand now.
type Day struct {
	Date                                                 string // YYYY-MM-DD, UTC
	Total, Completed, Failed, Cancelled, Running, Queued int
}

// Overview is the page.
type Overview struct {
	GeneratedAt time.Time // by the database's clock
	Stats       Stats
	Recent      []Recent           // the newest 10, newest first
	Upcoming    []Upcoming         // the next 10, soonest first
	Datasources []DatasourceHealth // at most 100, the worst first
	Days        []Day              // the last Days days, oldest first, days without executions included
	Services    health.Report      // without Stats
	Performance machine.Performance
}

// Snapshot is what the database knows of the page.
type Snapshot struct {
	Overview
	Instances []health.Instance
}

// Store reads a page.
type Store interface {
	// Overview reads all of it in one round trip, as of one moment. With
	// auth.WithScope, only what lies in the scope: storages are those that its jobs
	// write to, and what went wrong with workers is left out.
	Overview(ctx context.Context) (Snapshot, error)
}

// Queue says whether Redis answers.
type Queue interface{ Up() bool }

// Service makes the page.
type Service struct {
	store   Store
	queue   Queue
	sampler *machine.Sampler
}

// NewService returns a service; the sampler watches the process that answers.
func NewService(store Store, queue Queue, sampler *machine.Sampler) *Service {
	return &Service{store: store, queue: queue, sampler: sampler}
}

// Overview returns the page.
func (s *Service) Overview(ctx context.Context) (Overview, error) {
	snapshot, err := s.store.Overview(ctx)
	if err != nil {
		return Overview{}, err
	}
	page := snapshot.Overview
	page.Services = health.Report{DatabaseOK: true, RedisOK: s.queue.Up(), Workers: health.Summarise(snapshot.Instances)}
	page.Performance = s.sampler.Performance()
	return page, nil
}
