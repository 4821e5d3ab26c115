package execution

import (
	"context"
	"time"

	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/logs"
	"github.com/dataguardian/dataguardian/internal/paging"
)

// Lease is a worker's right to an execution. Every write of a running execution
// carries it; a write under an old fence fails with ErrLeaseLost and changes
// nothing.
type Lease struct {
	ExecutionID string
	WorkerID    string
	Fence       int64
}

// Claimant is who claims. A retried upload goes only to the one whose spool has
// its dump.
type Claimant struct {
	WorkerID string
	Spool    string // id of the claimant's spool; empty without one
	Limits   Limits
}

// Limits bound the executions that run at once, over all workers. 0 is no limit.
// Every worker of a control plane should have the same.
type Limits struct {
	PerHost    int // of datasources on one host
	PerStorage int // of one storage location: an execution's own, each one it replicates to, and one it falls back to
}

// None reports whether nothing is limited.
func (l Limits) None() bool { return l.PerHost <= 0 && l.PerStorage <= 0 }

// ErrLeaseLost says that the execution belongs to somebody else, or to nobody,
// by now: stop, end the children, write nothing more.
var ErrLeaseLost = errs.New(errs.Conflict, errs.CodeLeaseLost, "this worker has lost its lease on the execution")

// Reader answers what ran, runs and will run.
type Reader interface {
	// Get returns one execution with copies, parts and stored lines, or NotFound.
	Get(ctx context.Context, id string) (Execution, error)
	// List returns a page, newest first, without parts and lines, and the rows in all.
	List(ctx context.Context, f Filter, p paging.Page) ([]Execution, int, error)
}

// Store is the truth about executions. All times are the database's.
type Store interface {
	Reader

	// GetInScope is Get for callers: with auth.WithScope an execution outside of the
	// scope is not there.
	GetInScope(ctx context.Context, id string) (Execution, error)
	// Look returns where executions are, by id. Those that do not exist are left out.
	Look(ctx context.Context, ids []string) (map[string]Look, error)

	// Create queues an execution. While another of the same job (backup) or target
	// (restore) is queued or running it fails with Conflict (CodeExecutionRunning)
	// and details "execution_id".
	Create(ctx context.Context, e New) (Execution, error)
	// Delete removes the row of an execution that has ended and whose copies are all
	// gone; else Conflict (CodeExecutionNotDeletable).
	Delete(ctx context.Context, id string) error
	// RequestCancel cancels a queued execution at once and asks a running one to
	// stop. It returns the status after that. A terminal one fails with Conflict
	// (CodeExecutionNotCancelable).
	RequestCancel(ctx context.Context, id string) (Status, error)

	// RetryUpload queues an execution again whose dump is complete in a spool and
	// whose upload failed, wholly or for some targets. One whose retry is queued or
	// running already is returned as it is. Conflict (CodeExecutionNotRetriable) with
	// the reason when it cannot be; Conflict (CodeExecutionRunning) while another
	// execution of its job runs.
	RetryUpload(ctx context.Context, id string) (Execution, error)

	// Claim takes the oldest queued execution of ops that is ready and that the
	// claimant can do within its limits, sets it running and starts a lease. The
	// second result is false when there is none. What waits for a limit says so in
	// its phase.
	Claim(ctx context.Context, c Claimant, ops []Operation, lease time.Duration) (Execution, bool, error)
	// Heartbeat extends the lease and stores how far it is. It reports whether
	// somebody asked to cancel.
	Heartbeat(ctx context.Context, l Lease, lease time.Duration, p Progress) (cancel bool, err error)
	// SaveLogs replaces the stored lines.
	SaveLogs(ctx context.Context, l Lease, lines []logs.Line) error
	// BeginCopy books a pending copy before its first object is written.
	BeginCopy(ctx context.Context, l Lease, storageLocationID, path string) error
	// Finish ends an execution: status, sizes, parts, copies, record, lines and
	// notifications in one transaction.
	Finish(ctx context.Context, l Lease, r Result) error
	// Release gives a running execution back to the queue, ready after delay. When
	// burn is false the attempt does not count.
	Release(ctx context.Context, l Lease, delay time.Duration, burn bool, lines []logs.Line) error

	// Expired lists running executions whose lease has run out, oldest first, and then
	// queued retries of uploads that are stranded: the machine that has the dump has
	// had no backup worker for so long, or the time is over for which it was kept.
	Expired(ctx context.Context, stranded time.Duration, limit int) ([]Execution, error)
	// Reap takes an execution that Expired lists from its worker: back to the queue
	// while attempts last and the operation may run again, else failed; a stranded one
	// has failed with CodeSpoolLost. lines are the stored lines with what the hub still
	// had. It returns the new status, or ErrLeaseLost when a worker has it after all.
	Reap(ctx context.Context, e Execution, lines []logs.Line) (Status, error)
}

// New is an execution to queue.
type New struct {
	ID                string
	JobID             string
	DatasourceID      string
	StorageLocationID string
	Operation         Operation
	Trigger           Trigger
	ScheduledFor      *time.Time
	MaxAttempts       int    // 1 for restores: they never run again by themselves
	LockKey           string // what must not be worked on twice at once, e.g. the job's id
	Request           Request
}

// Result is how an execution ended.
type Result struct {
	Status       Status
	ErrorCode    errs.Code
	ErrorMessage string
	SizeBytes    *int64
	StoredBytes  *int64
	BackupPath   string
	Parts        []backup.Part
	Copies       []backup.Copy // the final state of each copy this attempt began
	Record       Record
	Progress     Progress
	Logs         []logs.Line
}
