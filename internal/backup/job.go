// Package backup holds backup jobs, the rules their backups live by, and the
// catalogue of the backups that were made.
package backup

import (
	"context"
	"time"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/location"
	"github.com/dataguardian/dataguardian/internal/paging"
)

// Job says which database is backed up where, when, and how long its backups stay.
type Job struct {
	ID                string
	Name              string
	DatasourceID      string
	StorageLocationID string
	ScheduleCron      string // empty: only on demand
	ScheduleTimezone  string // IANA
	Enabled           bool
	Retention         RetentionPolicy
	Options           Options
	LastExecutionAt   *time.Time
	NextExecutionAt   *time.Time
	CreatedAt         time.Time
	UpdatedAt         time.Time

	// Read only, filled by the store.
	DatasourceName string
	DatasourceType engine.Type
	StorageName    string
	StorageType    location.Type
	Last           *LastExecution
}

// LastExecution is the newest execution of a job.
type LastExecution struct {
	ID           string
	Status       string
	StartedAt    *time.Time
	FinishedAt   *time.Time
	SizeBytes    *int64
	ErrorMessage *string
}

// RetentionPolicy says which backups of a job stay, see PlanRetention. At least
// one rule is set.
type RetentionPolicy struct {
	MaxBackups  *int `json:"max_backups,omitempty"`
	KeepDaily   *int `json:"keep_daily,omitempty"`
	KeepWeekly  *int `json:"keep_weekly,omitempty"`
	KeepMonthly *int `json:"keep_monthly,omitempty"`
	AutoDelete  bool `json:"auto_delete"`
}

// Compression of an artifact.
type Compression string

// Compressions.
const (
	Zstd          Compression = "zstd"
	Gzip          Compression = "gzip"
	LZ4           Compression = "lz4"
	NoCompression Compression = "none"
)

// Strategy for several storage targets.
type Strategy string

// Strategies.
const (
	Fallback  Strategy = "fallback"  // the first target that takes it all
	Replicate Strategy = "replicate" // every target
)

// Spool says how much of a backup may wait on the worker's disk.
type Spool string

// Spools.
const (
	SpoolFull    Spool = "full"    // all parts, until the commit
	SpoolBounded Spool = "bounded" // only the parts under way
)

// MissedRun says what to do after a due time passed without a backup.
type MissedRun string

// Missed-run rules.
const (
	RunOnce MissedRun = "run_once"
	Skip    MissedRun = "skip"
)

// Options say how a backup is made. WithDefaults fills in what is left out.
type Options struct {
	Compression      Compression `json:"compression"`
	CompressionLevel *int        `json:"compression_level,omitempty"` // nil: the fastest
	ParallelJobs     int         `json:"parallel_jobs,omitempty"`
	IncludeTables    []string    `json:"include_tables,omitempty"`
	ExcludeTables    []string    `json:"exclude_tables,omitempty"`
	ExcludeTableData []string    `json:"exclude_table_data,omitempty"`
	PartSizeMB       int         `json:"max_file_size_mb,omitempty"`
	Recipients       []string    `json:"recipients,omitempty"` // age public keys; empty: not encrypted
	Strategy         Strategy    `json:"storage_strategy,omitempty"`
	Targets          []Target    `json:"storage_targets,omitempty"`
	Spool            Spool       `json:"spool,omitempty"`
	TimeoutMinutes   *int        `json:"timeout_minutes,omitempty"`
	MissedRun        MissedRun   `json:"missed_run,omitempty"`
	Assertions       []Assertion `json:"assertions,omitempty"` // for restores that are made to be checked
}

// Assertion is a statement that reads, and the one value it must answer.
type Assertion struct {
	Name   string  `json:"name"`
	SQL    string  `json:"sql"`
	Expect *string `json:"expect,omitempty"` // as text; nil: true
}

// Target is one of several storage locations for the same backup.
type Target struct {
	StorageLocationID string `json:"storage_location_id"`
	Order             int    `json:"order"`
}

// DefaultPartSizeMB is the part size when a job names none; see PartSize.
const DefaultPartSizeMB = 128

const (
	// partsOfDefault is into how many parts a small database is cut, at least.
	partsOfDefault = 64
	// smallestDefault is the least default part size: smaller ones cost a storage
	// more requests than they save.
	smallestDefault = 16 << 20
)

// WithDefaults returns o with every default filled in.
func (o Options) WithDefaults() Options {
	set(&o.Compression, Zstd)
	set(&o.ParallelJobs, 1)
	set(&o.PartSizeMB, DefaultPartSizeMB)
	set(&o.Strategy, Fallback)
	set(&o.Spool, SpoolFull)
	set(&o.MissedRun, RunOnce)
	return o
}

// PartSize returns the bytes of a part of a database of so many bytes; 0 when that
// is not known. What a job names is taken as it is. The default is less for a small
// database: the last part can be sent only when the dump has ended, so that a backup
// of one part would be dumped first and then sent.
func (o Options) PartSize(database int64) int64 {
	size := int64(o.PartSizeMB) << 20
	if o.PartSizeMB != DefaultPartSizeMB || database <= 0 {
		return size
	}
	return min(size, max(smallestDefault, database/partsOfDefault))
}

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// JobFilter narrows a list; zero fields do not.
type JobFilter struct {
	Enabled           *bool
	DatasourceID      string
	StorageLocationID string
}

// JobStore keeps jobs. Methods fail with NotFound for an id that is not there.
type JobStore interface {
	// Create stores j under its ID. A taken name fails with Exists (CodeConflict);
	// a datasource or storage location that is not there with Invalid
	// (CodeValidation) naming the field.
	Create(ctx context.Context, j Job) (Job, error)
	Get(ctx context.Context, id string) (Job, error)
	// List returns a page by name and the rows in all.
	List(ctx context.Context, f JobFilter, p paging.Page) ([]Job, int, error)
	// Update locks the row, lets change edit it, and stores the result.
	Update(ctx context.Context, id string, change func(*Job) error) (Job, error)
	// Delete removes a job that has no queued or running execution; else Conflict
	// (CodeExecutionRunning). Its executions and backups stay.
	Delete(ctx context.Context, id string) error
	// Due locks up to limit enabled jobs whose next time has come, in order, skipping
	// jobs another scheduler holds, and calls each for every one in the same
	// transaction: what each writes through tx commits with the new next time it
	// returns. It returns how many there were.
	Due(ctx context.Context, limit int, each func(ctx context.Context, tx DueTx, j Job) (next *time.Time, err error)) (int, error)
}

// DueTx is what a scheduler may write while it holds a due job.
type DueTx interface {
	// Now is the database's clock.
	Now() time.Time
	// Queue makes the execution of one slot. A job that is busy, or a slot that was
	// taken before, is false without an error.
	Queue(ctx context.Context, jobID string, slot time.Time) (executionID string, queued bool, err error)
	// Missed notes slots that passed without a backup.
	Missed(ctx context.Context, j Job, count int, newest time.Time, ran bool) error
}
