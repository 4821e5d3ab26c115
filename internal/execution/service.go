package execution

import (
	"context"
	"encoding/json"
	"iter"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/datasource"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/logs"
	"github.com/dataguardian/dataguardian/internal/paging"
)

// BackupAttempts is how often workers may take one backup before it has failed.
const BackupAttempts = 2

// Waker wakes a worker. A lost wake-up delays, it never loses.
type Waker interface {
	// Up reports whether the queue answers.
	Up() bool
	// Wake wakes one waiting worker of a kind (see Operation.Queue).
	Wake(ctx context.Context, kind string) error
}

// Jobs is what executions need of jobs.
type Jobs interface {
	Get(ctx context.Context, id string) (backup.Job, error)
}

// Datasources is what executions need of datasources.
type Datasources interface {
	Get(ctx context.Context, id string) (datasource.Datasource, error)
}

// Remover removes the objects of copies and records it. It goes on after a copy
// that fails and returns every error.
type Remover interface {
	Remove(ctx context.Context, copies []backup.Copy) error
}

// Config is what a Service stands on.
type Config struct {
	Store       Store
	Jobs        Jobs
	Datasources Datasources
	Catalogue   backup.Catalogue
	Remover     Remover
	Engines     map[engine.Type]engine.Engine // those that tell servers apart
	Queue       Waker
	Hub         logs.Hub
	Logger      *slog.Logger
	Trace       func(ctx context.Context) (traceparent string) // nil: nothing is traced
}

// Service is what callers may do with executions.
type Service struct {
	Config

	lookout *lookout
}

// NewService returns a service.
func NewService(c Config) *Service { return &Service{Config: c, lookout: newLookout(c.Store)} }

// Get returns one execution with its parts and lines so far, live ones included. With
// auth.WithScope an execution outside of the scope is not there.
func (s *Service) Get(ctx context.Context, id string) (Execution, error) {
	e, err := s.Store.GetInScope(ctx, id)
	if err != nil {
		return Execution{}, err
	}
	e.Logs = s.withLive(ctx, e)
	return e, nil
}

// List returns a page, newest first, and the rows in all.
func (s *Service) List(ctx context.Context, f Filter, p paging.Page) ([]Execution, int, error) {
	return s.Store.List(ctx, f, p)
}

// Logs returns an execution with every line so far.
func (s *Service) Logs(ctx context.Context, id string) (Execution, error) { return s.Get(ctx, id) }

// withLive adds what the hub has beyond the stored lines. Without the hub the
// stored lines are the answer: they trail a running execution by seconds.
func (s *Service) withLive(ctx context.Context, e Execution) []logs.Line {
	if e.Status.Terminal() {
		return e.Logs
	}
	live, err := s.Hub.Read(ctx, e.ID, lastSeq(e.Logs))
	if err != nil {
		s.Logger.WarnContext(ctx, "live log lines are not readable, answering the stored ones", "execution_id", e.ID, "error", err)
		return e.Logs
	}
	return logs.Merge(e.Logs, live)
}

func lastSeq(lines []logs.Line) int64 {
	if len(lines) == 0 {
		return 0
	}
	return lines[len(lines)-1].Seq
}

// RunJob queues a backup of a job now.
func (s *Service) RunJob(ctx context.Context, jobID string) (Execution, error) {
	j, err := s.Jobs.Get(ctx, jobID)
	if err != nil {
		return Execution{}, err
	}
	d, err := s.Datasources.Get(ctx, j.DatasourceID)
	if err != nil {
		return Execution{}, err
	}
	if !d.Enabled {
		return Execution{}, errs.New(errs.Conflict, errs.CodeConflict, "the datasource %q is disabled; enable it to back it up", d.Name)
	}
	return s.queue(ctx, NewBackup(j, Manual, nil))
}

// NewBackup describes the execution of a job.
func NewBackup(j backup.Job, trigger Trigger, slot *time.Time) New {
	options := j.Options.WithDefaults()
	return New{
		ID: uuid.NewString(), JobID: j.ID, DatasourceID: j.DatasourceID, StorageLocationID: j.StorageLocationID,
		Operation: Backup, Trigger: trigger, ScheduledFor: slot, MaxAttempts: BackupAttempts,
		LockKey: "job:" + j.ID, Request: Request{Options: &options},
	}
}

// queue makes the row and wakes a worker. While the queue is down no row is made:
// the caller learns at once that nothing would run.
func (s *Service) queue(ctx context.Context, n New) (Execution, error) {
	if !s.Queue.Up() {
		return Execution{}, errQueueDown()
	}
	if s.Trace != nil {
		n.Request.Traceparent = s.Trace(ctx)
	}
	e, err := s.Store.Create(ctx, n)
	if err != nil {
		return Execution{}, err
	}
	s.wake(ctx, e)
	return e, nil
}

func errQueueDown() error {
	return errs.New(errs.Unavailable, errs.CodeRedisUnavailable, "Redis does not answer, so nothing can be queued; check services.redis at /api/health and try again")
}

// wake tells a worker and the watchers of a queued execution.
func (s *Service) wake(ctx context.Context, e Execution) {
	if err := s.Queue.Wake(ctx, e.Operation.Queue()); err != nil {
		s.Logger.WarnContext(ctx, "no worker could be woken, one will find the execution by itself", "execution_id", e.ID, "error", err)
	}
	s.announce(ctx, e)
}

// Cancel ends a queued execution at once and asks a running one to stop.
func (s *Service) Cancel(ctx context.Context, id string) (Status, error) {
	status, err := s.Store.RequestCancel(ctx, id)
	if err != nil {
		return "", err
	}
	if status == Cancelled {
		if e, err := s.Store.Get(ctx, id); err == nil {
			s.announce(ctx, e)
		}
		if err := s.Hub.Close(ctx, id); err != nil {
			s.Logger.WarnContext(ctx, "tails of a cancelled execution could not be told, they will notice by themselves", "execution_id", id, "error", err)
		}
	}
	return status, nil
}

// RetryUpload sends what a failed upload left out, from the dump that waits on a
// worker. A second call while one is under way answers with the first.
func (s *Service) RetryUpload(ctx context.Context, id string) (Execution, error) {
	if !s.Queue.Up() {
		return Execution{}, errQueueDown()
	}
	e, err := s.Store.RetryUpload(ctx, id)
	if err != nil {
		return Execution{}, err
	}
	if err := s.Hub.Open(ctx, id); err != nil {
		s.Logger.WarnContext(ctx, "live tails of a retried upload may end early", "execution_id", id, "error", err)
	}
	s.wake(ctx, e)
	return e, nil
}

// Delete removes an execution that has ended, and its backup: objects first. The
// last good backup of a job stays unless force is set.
func (s *Service) Delete(ctx context.Context, id string, force bool) error {
	e, err := s.Store.Get(ctx, id)
	if err != nil {
		return err
	}
	if !e.Status.Terminal() {
		return errs.New(errs.Conflict, errs.CodeExecutionNotDeletable, "the execution is %s; cancel it first", e.Status)
	}
	if err := s.mayLose(ctx, e, force); err != nil {
		return err
	}
	if _, err := s.Catalogue.MarkDeleting(ctx, []string{id}); err != nil {
		return err
	}
	if e, err = s.Store.Get(ctx, id); err != nil {
		return err
	}
	if err := s.Remover.Remove(ctx, removable(e.Copies)); err != nil {
		return err
	}
	return s.Store.Delete(ctx, id)
}

// removable leaves out copies whose objects are gone already.
func removable(copies []backup.Copy) []backup.Copy {
	var out []backup.Copy
	for _, c := range copies {
		if c.Status != backup.CopyDeleted {
			out = append(out, c)
		}
	}
	return out
}

func (s *Service) mayLose(ctx context.Context, e Execution, force bool) error {
	if force || e.Operation != Backup || e.Status != Completed || e.JobID == "" {
		return nil
	}
	good, err := s.Catalogue.OfJob(ctx, e.JobID)
	if err != nil {
		return err
	}
	if len(good) == 1 && good[0].ExecutionID == e.ID {
		return errs.New(errs.Conflict, errs.CodeExecutionNotDeletable, "this is the last good backup of its job; pass force=true to delete it all the same")
	}
	return nil
}

// State is what watchers are told about an execution, see logs.Hub.Announce.
type State struct {
	JobID        string    `json:"job_id"`
	JobName      string    `json:"job_name"`
	DatasourceID string    `json:"datasource_id"`
	Operation    Operation `json:"operation"`
	Status       Status    `json:"status"`
	Progress     Progress  `json:"progress"`
	At           time.Time `json:"at"`
}

// StateOf describes e for watchers.
func StateOf(e Execution) []byte {
	state, err := json.Marshal(State{
		JobID: e.JobID, JobName: e.JobName, DatasourceID: e.DatasourceID, Operation: e.Operation,
		Status: e.Status, Progress: e.Progress, At: time.Now().UTC(),
	})
	if err != nil {
		return nil
	}
	return state
}

func (s *Service) announce(ctx context.Context, e Execution) {
	if err := s.Hub.Announce(ctx, e.ID, StateOf(e)); err != nil {
		s.Logger.DebugContext(ctx, "a change of state was not announced", "execution_id", e.ID, "error", err)
	}
}

// Event is what a tail of an execution receives: exactly one field is set.
type Event struct {
	Open     bool // the execution exists; comes first
	Line     *logs.Line
	Gap      *logs.Gap
	Progress *Progress
	Idle     bool       // nothing new for a while
	End      *Execution // the execution has ended; the sequence ends
}

// Follow replays the lines after a sequence number, follows, and ends when the
// execution has ended. It yields every line once and in order, or a gap. The
// first pair is Open, or an error, such as that the execution does not exist. What the
// tails of one execution need of its row is read once for all that wait for it.
func (s *Service) Follow(ctx context.Context, id string, after int64) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		p := s.lookout.enter(id)
		defer s.lookout.leave(p)
		t := tail{service: s, post: p, opened: time.Now(), after: after, yield: yield}
		t.run(ctx)
	}
}
