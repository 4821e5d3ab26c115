// Package location keeps the places where backups are stored: their settings,
// and the way from settings to a storage driver.
package location

import (
	"context"
	"time"

	"github.com/dataguardian/dataguardian/internal/paging"
	"github.com/dataguardian/dataguardian/storage"
)

// Type of a storage location.
type Type string

// Supported types. MinIO is a dialect of S3.
const (
	Local Type = "local"
	S3    Type = "s3"
	MinIO Type = "minio"
	GCS   Type = "gcs"
)

// Status of a storage location by its last check.
type Status string

// Statuses.
const (
	Healthy     Status = "healthy"
	Full        Status = "full"
	Unreachable Status = "unreachable"
)

// Location is a place where backups are stored. Config holds its secrets in the
// clear: it must reach an Opener only.
type Location struct {
	ID             string
	Name           string
	Type           Type
	Config         Config // nil in lists
	IsDefault      bool
	AvailableBytes *int64
	Status         Status
	CreatedAt      time.Time
	UpdatedAt      time.Time
}

// Config is the typed settings of one location, see ParseConfig.
type Config map[string]any

// Filter narrows a list; zero fields do not.
type Filter struct {
	Type   Type
	Status Status
}

// Store keeps storage locations. Secret settings are encrypted at rest, bound to
// their row. Methods fail with NotFound for an id that is not there.
type Store interface {
	// Create stores l under its ID. A taken name fails with Exists (CodeConflict).
	// With IsDefault set, the former default loses it; the very first location
	// becomes the default in any case.
	Create(ctx context.Context, l Location) (Location, error)
	// Get returns one location with its config.
	Get(ctx context.Context, id string) (Location, error)
	// Default returns the default location, or NotFound.
	Default(ctx context.Context) (Location, error)
	// List returns a page by name, without configs, and the rows in all.
	List(ctx context.Context, f Filter, p paging.Page) ([]Location, int, error)
	// Update locks the row, lets change edit it, and stores the result.
	Update(ctx context.Context, id string, change func(*Location) error) (Location, error)
	// Delete removes a location that no job, active execution or available backup
	// needs; else Conflict (CodeResourceInUse) with details "jobs" and "backups".
	Delete(ctx context.Context, id string) error
	// InUse counts the copies of backups it holds.
	InUse(ctx context.Context, id string) (copies int, err error)
	// SetStatus records what a check found.
	SetStatus(ctx context.Context, id string, status Status, availableBytes *int64) error
}

// Opener turns a location into a driver. The caller closes the driver.
type Opener interface {
	Open(ctx context.Context, l Location) (storage.Driver, error)
}
