package store

import (
	"context"
	"time"

	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/health"
	"github.com/dataguardian/dataguardian/internal/location"
	"github.com/dataguardian/dataguardian/internal/store/db"
)

func (s healthStore) Gauges(ctx context.Context) (health.Gauges, error) {
	queues, err := s.q.QueueGauges(ctx)
	if err != nil {
		return health.Gauges{}, failure(err)
	}
	storages, err := s.q.StorageGauges(ctx)
	if err != nil {
		return health.Gauges{}, failure(err)
	}
	outbox, err := s.q.OutboxGauges(ctx)
	if err != nil {
		return health.Gauges{}, failure(err)
	}
	jobs, err := s.q.JobGauges(ctx, health.MaxJobGauges)
	if err != nil {
		return health.Gauges{}, failure(err)
	}
	return health.Gauges{
		Queues: each(queues, func(row db.QueueGaugesRow) health.QueueGauge {
			return health.QueueGauge{
				Operation: execution.Operation(row.Operation), Queued: int(row.Queued), Running: int(row.Running),
				Oldest: age(row.OldestSeconds),
			}
		}),
		Outbox: each(outbox, func(row db.OutboxGaugesRow) health.OutboxGauge {
			return health.OutboxGauge{ChannelType: row.Type, Pending: int(row.Pending), Oldest: age(row.OldestSeconds)}
		}),
		Storages: each(storages, func(row db.StorageGaugesRow) health.StorageGauge {
			return health.StorageGauge{Name: row.Name, Status: location.Status(row.Status), AvailableBytes: row.AvailableBytes}
		}),
		Jobs: each(jobs, func(row db.JobGaugesRow) health.JobGauge {
			j := health.JobGauge{Name: row.Name, Datasource: row.Datasource, CreatedAt: row.CreatedAt}
			if row.Succeeded {
				j.LastSuccess = &row.LastSuccess
			}
			return j
		}),
	}, nil
}

// age is never negative: clocks are set back.
func age(seconds float64) time.Duration { return max(time.Duration(seconds*float64(time.Second)), 0) }
