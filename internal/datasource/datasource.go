// Package datasource keeps the databases that are backed up: how to reach them
// and whether they answer.
package datasource

import (
	"context"
	"time"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/paging"
)

// Status of a datasource by its health checks.
type Status string

// Statuses, from good to bad; Unknown until the first check.
const (
	Healthy  Status = "healthy"
	Warning  Status = "warning"
	Critical Status = "critical"
	Unknown  Status = "unknown"
)

// Datasource is a database to back up. Conn holds its password in the clear:
// it must reach engines only.
type Datasource struct {
	ID                string
	Name              string
	Type              engine.Type
	Status            Status
	Enabled           bool
	Protected         bool // a restore over it asks for a confirmation
	Tags              []string
	Conn              engine.Conn // zero in lists
	LastHealthCheckAt *time.Time
	CreatedAt         time.Time
	UpdatedAt         time.Time
}

// Filter narrows a list; zero fields do not.
type Filter struct {
	Type    engine.Type
	Status  Status
	Enabled *bool
	Tag     string
}

// Store keeps datasources. Passwords are encrypted at rest, bound to their row.
// Every method fails with NotFound (CodeNotFound) for an id that is not there.
type Store interface {
	// Create stores d under its ID. A taken name fails with Exists (CodeConflict).
	Create(ctx context.Context, d Datasource) (Datasource, error)
	// Get returns one datasource with its connection.
	Get(ctx context.Context, id string) (Datasource, error)
	// List returns a page by name, without connections, and the rows in all.
	List(ctx context.Context, f Filter, p paging.Page) ([]Datasource, int, error)
	// Update locks the row, lets change edit it, and stores the result. An error of
	// change is returned as it is and nothing is stored.
	Update(ctx context.Context, id string, change func(*Datasource) error) (Datasource, error)
	// Delete removes a datasource that no job, active execution or available backup
	// needs; else Conflict (CodeResourceInUse) with details "jobs" and "backups".
	// Its credentials are wiped; its name stays on past executions.
	Delete(ctx context.Context, id string) error
}
