// Package health says whether the control plane and what it watches work.
package health

import (
	"context"
	"time"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/location"
	"github.com/dataguardian/dataguardian/internal/paging"
)

// Role of a worker.
type Role string

// Roles.
const (
	RoleBackup    Role = "backup"
	RoleRestore   Role = "restore"
	RoleScheduler Role = "scheduler"
	RoleHealth    Role = "health"
	RoleCleanup   Role = "cleanup"
	RoleOutbox    Role = "outbox" // sends notifications, beside the scheduler or the health role
)

// WorkerRoles lists every worker role.
var WorkerRoles = []Role{RoleBackup, RoleRestore, RoleScheduler, RoleHealth, RoleCleanup, RoleOutbox}

// WorkerState is how a worker does.
type WorkerState string

// Worker states.
const (
	WorkerRunning WorkerState = "running"
	WorkerStopped WorkerState = "stopped" // pauses, or there is none
	WorkerError   WorkerState = "error"
)

// Instance is one worker of one process. An instance that has not reported for
// its time to live is gone.
type Instance struct {
	ID             string // unique per process and role
	Role           Role
	Host           string
	PID            int
	Spool          string // of a backup worker, see execution.Claimant
	State          WorkerState
	LastStartedAt  *time.Time
	LastFinishedAt *time.Time
	LastError      string
}

// Stats are counts over everything.
type Stats struct {
	DatasourcesTotal, DatasourcesHealthy, DatasourcesCritical int
	JobsTotal, JobsEnabled                                    int
	ExecutionsToday, ExecutionsFailedToday                    int // since midnight UTC
	// Deliveries to enabled channels that wait, and those of them that have waited for
	// more than 15 minutes. Within a scope they are not counted: channels have none.
	NotificationsPending, NotificationsStuck int
}

// Outcome of one check.
type Outcome string

// Outcomes of a datasource check; a storage check is OK or Error.
const (
	OK          Outcome = "ok"
	Timeout     Outcome = "timeout"
	AuthFailed  Outcome = "auth_failed"
	Unreachable Outcome = "unreachable"
	Error       Outcome = "error"
)

// Check is one check of a datasource or storage location.
type Check struct {
	ID             string
	EntityID       string
	EntityName     string
	DatasourceType engine.Type
	StorageType    location.Type
	CheckedAt      time.Time
	Outcome        Outcome
	LatencyMS      *int
	AvailableBytes *int64
	Full           bool // the storage said itself that it takes nothing more; not kept
	ErrorMessage   string
	Metadata       map[string]any
}

// CheckFilter narrows a list; zero fields do not.
type CheckFilter struct {
	EntityID string
	From, To *time.Time // checked in [From, To)
}

// Store keeps what workers report and what checks found.
type Store interface {
	// Ping answers when the database does.
	Ping(ctx context.Context) error
	// Report stores instances, alive for ttl from now.
	Report(ctx context.Context, ttl time.Duration, instances ...Instance) error
	// Withdraw removes instances that end.
	Withdraw(ctx context.Context, ids ...string) error
	// Instances lists the ones that are alive. With auth.WithScope it leaves out what
	// went wrong, which may name anything.
	Instances(ctx context.Context) ([]Instance, error)
	// Gauges reads the work at this moment.
	Gauges(ctx context.Context) (Gauges, error)
	// Stats counts; with auth.WithScope, what lies in the scope.
	Stats(ctx context.Context) (Stats, error)

	// TakeDatasources takes the turns of at most limit datasources that are due for a
	// check and returns their ids. Nobody else gets the same ones until they are
	// recorded and due again, or hold has passed.
	TakeDatasources(ctx context.Context, limit int, hold time.Duration) ([]string, error)
	// TakeStorages does the same for storage locations.
	TakeStorages(ctx context.Context, limit int, hold time.Duration) ([]string, error)
	// RecordDatasource stores a check, the status that follows from it by the rules,
	// the notification when the status changed, and when the next check is due.
	RecordDatasource(ctx context.Context, c Check, r Rules) error
	// RecordStorage does the same for a storage location.
	RecordStorage(ctx context.Context, c Check, r Rules) error
	// Datasources lists checks of datasources, newest first, and the rows in all.
	Datasources(ctx context.Context, f CheckFilter, p paging.Page) ([]Check, int, error)
	// Storages lists checks of storage locations, newest first, and the rows in all.
	Storages(ctx context.Context, f CheckFilter, p paging.Page) ([]Check, int, error)
	// FoldCounts keeps the counts of executions by day small; call it now and then.
	FoldCounts(ctx context.Context) error
	// PruneChecks removes checks older than age and counts them.
	PruneChecks(ctx context.Context, age time.Duration) (int, error)
}
