package health

import (
	"time"

	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/location"
)

// Gauges are what only the database knows of the work at one moment.
type Gauges struct {
	Queues   []QueueGauge
	Outbox   []OutboxGauge
	Storages []StorageGauge
	Jobs     []JobGauge // enabled ones, by name, at most MaxJobGauges
}

// MaxJobGauges bounds the jobs of Gauges.
const MaxJobGauges = 10_000

// QueueGauge is how much of one operation waits and runs.
type QueueGauge struct {
	Operation       execution.Operation
	Queued, Running int
	Oldest          time.Duration // how long the oldest queued one could have run; 0 without one
}

// OutboxGauge is what waits for the enabled channels of one type.
type OutboxGauge struct {
	ChannelType string
	Pending     int           // deliveries
	Oldest      time.Duration // how long the oldest one has waited; 0 without one
}

// StorageGauge is a storage location by its newest check.
type StorageGauge struct {
	Name           string
	Status         location.Status
	AvailableBytes *int64
}

// JobGauge says when a job last made a good backup.
type JobGauge struct {
	Name, Datasource string
	CreatedAt        time.Time
	LastSuccess      *time.Time // end of the newest completed backup
}
