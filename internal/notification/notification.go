// Package notification tells people what happened. A notification is written in
// the same transaction as the state that causes it.
package notification

import (
	"context"
	"time"

	"github.com/dataguardian/dataguardian/internal/paging"
)

// Type of the event.
type Type string

// Types.
const (
	BackupSuccess      Type = "backup_success"
	BackupFailed       Type = "backup_failed"
	BackupMissed       Type = "backup_missed"
	BackupLost         Type = "backup_lost"
	RestoreSuccess     Type = "restore_success"
	RestoreFailed      Type = "restore_failed"
	VerifyFailed       Type = "verify_failed"
	ConnectionLost     Type = "connection_lost"
	ConnectionRestored Type = "connection_restored"
	StorageFull        Type = "storage_full"
	StorageUnreachable Type = "storage_unreachable"
	StorageRestored    Type = "storage_restored"
	HealthDegraded     Type = "health_degraded"
	CleanupCompleted   Type = "cleanup_completed"
)

// Severity of the event.
type Severity string

// Severities, rising.
const (
	Info     Severity = "info"
	Warning  Severity = "warning"
	Critical Severity = "critical"
)

// EntityType says what the event is about.
type EntityType string

// Entity types.
const (
	Datasource      EntityType = "datasource"
	BackupJob       EntityType = "backup_job"
	StorageLocation EntityType = "storage_location"
	System          EntityType = "system"
)

// Notification tells of one event. It holds no secret.
type Notification struct {
	ID         string
	Seq        int64 // rises in the order in which they can be read
	Type       Type
	Severity   Severity
	EntityType EntityType
	EntityID   string // empty for the system
	Title      string
	Message    string
	Metadata   map[string]any
	ReadAt     *time.Time
	CreatedAt  time.Time
}

// Filter narrows a list; zero fields do not.
type Filter struct {
	Read     *bool
	Severity Severity
	Type     Type
}

// Store keeps notifications. Methods fail with NotFound for an id that is not there.
type Store interface {
	// List returns a page, newest first, the rows in all, and how many of all
	// notifications are unread.
	List(ctx context.Context, f Filter, p paging.Page) (rows []Notification, total, unread int, err error)
	// MarkRead marks one; the time of the first reading stays.
	MarkRead(ctx context.Context, id string) (Notification, error)
	// MarkAllRead marks all unread ones and counts them.
	MarkAllRead(ctx context.Context) (int, error)
	Delete(ctx context.Context, id string) error
	// After returns up to limit notifications whose Seq is above seq, oldest first.
	// None with a lower Seq appears later.
	After(ctx context.Context, seq int64, limit int) ([]Notification, error)
	// Prune removes notifications that are older than age, with what became of their
	// deliveries, and counts them.
	Prune(ctx context.Context, age time.Duration) (removed int, err error)
	// Last returns the highest Seq there is, 0 without any.
	Last(ctx context.Context) (int64, error)
}
