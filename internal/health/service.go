package health

import (
	"context"
	"time"

	"github.com/dataguardian/dataguardian/internal/paging"
)

// Queue says whether Redis answers.
type Queue interface{ Up() bool }

// Service answers how everything does.
type Service struct {
	store   Store
	queue   Queue
	version string
	started time.Time
}

// NewService returns a service; started is when the process began.
func NewService(store Store, queue Queue, version string, started time.Time) *Service {
	return &Service{store: store, queue: queue, version: version, started: started}
}

// RoleReport is one worker role over all processes.
type RoleReport struct {
	State          WorkerState
	LastStartedAt  *time.Time
	LastFinishedAt *time.Time
	LastError      string
	Instances      int
}

// Report is the state of the control plane.
type Report struct {
	OK         bool
	Version    string
	Uptime     time.Duration
	DatabaseOK bool
	RedisOK    bool
	Workers    map[Role]RoleReport // every role is there
	Stats      Stats
}

// Get returns the state. A database that is down is part of the answer.
func (s *Service) Get(ctx context.Context) Report {
	r := Report{Version: s.version, Uptime: time.Since(s.started), RedisOK: s.queue.Up()}
	instances, err := s.store.Instances(ctx)
	if err == nil {
		r.Stats, err = s.store.Stats(ctx)
	}
	r.DatabaseOK = err == nil
	r.Workers = Summarise(instances)
	r.OK = r.DatabaseOK && r.RedisOK
	for role, w := range r.Workers {
		// Nobody is to take the control plane out of service because a chat is down.
		r.OK = r.OK && (w.State == WorkerRunning || role == RoleOutbox)
	}
	return r
}

// Gauges returns the work at this moment.
func (s *Service) Gauges(ctx context.Context) (Gauges, error) { return s.store.Gauges(ctx) }

// Summarise folds instances into one report per role: an error of any instance
// shows, else a running one wins.
func Summarise(instances []Instance) map[Role]RoleReport {
	reports := make(map[Role]RoleReport, len(WorkerRoles))
	for _, role := range WorkerRoles {
		reports[role] = RoleReport{State: WorkerStopped}
	}
	for _, i := range instances {
		r, known := reports[i.Role]
		if !known {
			continue
		}
		r.Instances++
		if i.State == WorkerError || i.State == WorkerRunning && r.State == WorkerStopped {
			r.State = i.State
		}
		r.LastStartedAt = later(r.LastStartedAt, i.LastStartedAt)
		r.LastFinishedAt = later(r.LastFinishedAt, i.LastFinishedAt)
		if i.LastError != "" {
			r.LastError = i.LastError
		}
		reports[i.Role] = r
	}
	return reports
}

func later(a, b *time.Time) *time.Time {
	if a == nil || b != nil && b.After(*a) {
		return b
	}
	return a
}

// Datasources lists checks of datasources, newest first, and the rows in all.
func (s *Service) Datasources(ctx context.Context, f CheckFilter, p paging.Page) ([]Check, int, error) {
	return s.store.Datasources(ctx, f, p)
}

// Storages lists checks of storage locations, newest first, and the rows in all.
func (s *Service) Storages(ctx context.Context, f CheckFilter, p paging.Page) ([]Check, int, error) {
	return s.store.Storages(ctx, f, p)
}
