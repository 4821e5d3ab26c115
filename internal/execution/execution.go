// Package execution is the life of one run of a backup, restore or verification:
// its states, its lease, and what is left of it.
package execution

import (
	"math"
	"time"

	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/location"
	"github.com/dataguardian/dataguardian/internal/logs"
)

// Status of an execution. Completed, Failed and Cancelled are final.
type Status string

// Statuses.
const (
	Queued    Status = "queued"
	Running   Status = "running"
	Completed Status = "completed"
	Failed    Status = "failed"
	Cancelled Status = "cancelled"
)

// Terminal reports whether s is final.
func (s Status) Terminal() bool { return s == Completed || s == Failed || s == Cancelled }

// Operation says what an execution does.
type Operation string

// Operations.
const (
	Backup  Operation = "backup"
	Restore Operation = "restore"
	Verify  Operation = "verify"
)

// Queue returns the kind of wake-up that the operation's workers wait for.
func (o Operation) Queue() string {
	if o == Verify {
		return string(Restore) // the same workers do both
	}
	return string(o)
}

// Trigger says what started an execution.
type Trigger string

// Triggers.
const (
	Manual   Trigger = "manual"
	Schedule Trigger = "schedule"
	Retry    Trigger = "retry" // a retried upload
)

// Phase says what a running execution does now.
type Phase string

// Phases.
const (
	Connecting  Phase = "connecting"
	Dumping     Phase = "dumping"
	Uploading   Phase = "uploading"
	Verifying   Phase = "verifying"
	Finalizing  Phase = "finalizing"
	Downloading Phase = "downloading"
	Restoring   Phase = "restoring"
	Cleaning    Phase = "cleaning"

	// Of a queued one that a limit keeps waiting.
	WaitingForHost    Phase = "waiting_for_host"
	WaitingForStorage Phase = "waiting_for_storage"
)

// Execution is one run.
type Execution struct {
	ID                string
	JobID             string // empty for a restore or verification of a deleted job's backup
	DatasourceID      string
	StorageLocationID string
	Operation         Operation
	Status            Status
	Trigger           Trigger
	ScheduledFor      *time.Time
	StartedAt         *time.Time
	FinishedAt        *time.Time
	SizeBytes         *int64 // raw bytes of the dump
	StoredBytes       *int64
	BackupPath        *string
	PartsCount        *int
	ErrorCode         *string
	ErrorMessage      *string
	Attempt           int
	MaxAttempts       int
	Fence             int64
	WorkerID          string
	CancelRequestedAt *time.Time
	LeaseExpiresAt    *time.Time
	CreatedAt         time.Time
	Progress          Progress
	Request           Request // what was asked, for the worker
	Record            Record  // what was done, kept in metadata

	// Read only, filled by the store.
	JobName        string
	JobCron        string
	DatasourceName string
	DatasourceType engine.Type
	StorageName    string
	StorageType    location.Type
	Copies         []backup.Copy
	Parts          []backup.Part // detail only
	Logs           []logs.Line   // detail only: the lines stored so far
}

// Duration returns how long the execution took, or has taken by now.
func (e Execution) Duration(now time.Time) (time.Duration, bool) {
	switch {
	case e.StartedAt == nil:
		return 0, false
	case e.FinishedAt != nil:
		return e.FinishedAt.Sub(*e.StartedAt), true
	default:
		return now.Sub(*e.StartedAt), true
	}
}

// Progress says how far a running execution is.
type Progress struct {
	Phase      Phase    `json:"phase,omitempty"`
	BytesDone  int64    `json:"bytes_done"`
	BytesTotal *int64   `json:"bytes_total,omitempty"` // an estimate
	Percent    *float64 `json:"percent,omitempty"`
	Rate       float64  `json:"rate_bytes_per_s"`
	ETASeconds *float64 `json:"eta_seconds,omitempty"`
}

// sound says that a progress which anybody may have announced can be shown: a
// known phase and numbers that are some.
func (p Progress) sound() bool {
	number := func(f *float64) bool { return f == nil || *f >= 0 && !math.IsInf(*f, 1) }
	switch p.Phase {
	case Connecting, Dumping, Uploading, Verifying, Finalizing, Downloading, Restoring, Cleaning:
	default:
		return false
	}
	return p.BytesDone >= 0 && (p.BytesTotal == nil || *p.BytesTotal >= 0) && number(p.Percent) && (p.Percent == nil || *p.Percent <= 100) &&
		number(&p.Rate) && number(p.ETASeconds)
}

// Request holds what a worker must know beyond the row: the options of the job
// at the time of the request, or the choices of a restore. It holds no secret.
type Request struct {
	Options           *backup.Options `json:"options,omitempty"`
	SourceExecutionID string          `json:"source_execution_id,omitempty"`
	Restore           *RestoreRequest `json:"restore,omitempty"`
	RetryUpload       bool            `json:"retry_upload,omitempty"`
	Spool             string          `json:"spool,omitempty"`       // whose spool has the dump of a retried upload
	Traceparent       string          `json:"traceparent,omitempty"` // of the request, when it is traced
}

// RestoreRequest says what to restore where.
type RestoreRequest struct {
	StorageLocationID        string   `json:"storage_location_id,omitempty"`
	TargetDatabase           string   `json:"target_database,omitempty"`
	DropExisting             bool     `json:"drop_existing"`
	VerificationMode         bool     `json:"verification_mode,omitempty"`
	KeepVerificationDatabase bool     `json:"keep_verification_database,omitempty"`
	IncludeTables            []string `json:"include_tables,omitempty"`
	Identity                 string   `json:"identity,omitempty"` // a reference, never a key
	WithOwners               bool     `json:"with_owners,omitempty"`
	WithPrivileges           bool     `json:"with_privileges,omitempty"`
	ParallelJobs             int      `json:"parallel_jobs,omitempty"` // connections, where the engine can
	// Assertions of the job that must hold in a verification's database.
	Assertions []backup.Assertion `json:"assertions,omitempty"`
}

// Record is what an execution leaves in its metadata, beside logs and copies.
type Record struct {
	ServerVersion string            `json:"server_version,omitempty"`
	Tools         map[string]string `json:"tools,omitempty"`
	Format        string            `json:"format,omitempty"`
	Encrypted     bool              `json:"encrypted,omitempty"`
	Compression   string            `json:"compression,omitempty"`
	Tables        int               `json:"tables,omitempty"`
	WorkerHost    string            `json:"worker_host,omitempty"`
	UploadRetry   *UploadRetry      `json:"upload_retry,omitempty"`
	Checked       map[string]any    `json:"checked,omitempty"`
	Sources       []SourceAttempt   `json:"sources,omitempty"`
}

// SourceAttempt is how one copy of a backup served a restore or verification.
type SourceAttempt struct {
	StorageLocationID string        `json:"storage_location_id"`
	StorageName       string        `json:"storage_name"`
	Outcome           SourceOutcome `json:"outcome"`
	Error             string        `json:"error,omitempty"`
}

// SourceOutcome says what came of an attempt to read a copy.
type SourceOutcome string

// Outcomes.
const (
	SourceUsed       SourceOutcome = "used"       // proven, and restored from
	SourceProven     SourceOutcome = "proven"     // every stored byte is as it was written
	SourceDamaged    SourceOutcome = "damaged"    // its bytes are not those that were written, or are gone
	SourceUnreadable SourceOutcome = "unreadable" // the storage did not give it
)

// UploadRetry says whether a failed upload can go on from the spool.
type UploadRetry struct {
	Possible       bool       `json:"possible"`
	Reason         string     `json:"reason"`
	SpoolExpiresAt *time.Time `json:"spool_expires_at"`
	Spool          string     `json:"spool,omitempty"` // id of the spool that has the dump
}

// Filter narrows a list; zero fields do not.
type Filter struct {
	JobID             string
	DatasourceID      string
	StorageLocationID string
	Status            Status
	Operation         Operation
	From, To          *time.Time // created in [From, To)
}
