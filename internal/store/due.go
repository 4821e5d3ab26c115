package store

import (
	"context"
	"errors"
	"time"

	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/notification"
	"github.com/dataguardian/dataguardian/internal/store/db"
)

func (s jobs) Due(ctx context.Context, limit int, each func(ctx context.Context, tx backup.DueTx, j backup.Job) (*time.Time, error)) (int, error) {
	handled := 0
	err := s.telling(ctx, func(q *db.Queries) error {
		tx, err := lockDue(ctx, q, limit)
		if err != nil {
			return err
		}
		for _, j := range tx.jobs {
			next, err := each(ctx, tx, j)
			if err != nil {
				return err
			}
			tx.nexts = append(tx.nexts, db.SetNextExecutionParams{ID: j.ID, NextExecutionAt: next})
		}
		handled = len(tx.jobs)
		return tx.write(ctx)
	})
	if err != nil {
		return 0, err
	}
	return handled, nil
}

// due is what a scheduler may write while it holds due jobs. Whoever else makes
// an execution of a job holds the job's row meanwhile: what is known of a locked
// job stays true, so that its executions can be written all at once at the end.
type due struct {
	q      *db.Queries
	now    time.Time
	jobs   []backup.Job
	known  map[string]*dueJob
	slots  []db.QueueSlotsParams
	nexts  []db.SetNextExecutionParams
	missed []notification.Notification
}

type dueJob struct {
	job   backup.Job
	busy  bool // has an execution that is not over
	taken bool // has an execution for the slot that is due
}

func lockDue(ctx context.Context, q *db.Queries, limit int) (*due, error) {
	rows, err := q.LockDueJobs(ctx, int64(limit))
	if err != nil {
		return nil, err
	}
	d := &due{q: q, known: make(map[string]*dueJob, len(rows))}
	var keys db.BusyJobsParams
	for _, row := range rows {
		j, err := job(row.JobView)
		if err != nil {
			return nil, err
		}
		d.now = row.Now
		d.jobs = append(d.jobs, j)
		d.known[j.ID] = &dueJob{job: j}
		keys.Ids = append(keys.Ids, j.ID)
		keys.LockKeys = append(keys.LockKeys, execution.NewBackup(j, execution.Schedule, nil).LockKey)
	}
	states, err := q.BusyJobs(ctx, keys)
	for _, state := range states {
		d.known[state.ID].busy, d.known[state.ID].taken = state.Busy, state.Taken
	}
	return d, err
}

func (d *due) Now() time.Time { return d.now }

func (d *due) Queue(ctx context.Context, jobID string, slot time.Time) (string, bool, error) {
	held, ok := d.known[jobID]
	if !ok {
		return "", false, errs.New(errs.Internal, errs.CodeInternal, "the scheduler does not hold the job %s", jobID)
	}
	if held.busy {
		return "", false, nil
	}
	n := execution.NewBackup(held.job, execution.Schedule, &slot)
	row, err := slotRow(n)
	if err != nil {
		return "", false, err
	}
	switch due := held.job.NextExecutionAt; {
	case due == nil || !due.Equal(slot):
		made, err := d.q.QueueSlot(ctx, db.QueueSlotParams(row))
		if err != nil || made == 0 {
			return "", false, failure(err)
		}
	case held.taken:
		return "", false, nil
	default:
		d.slots = append(d.slots, row)
	}
	held.busy = true
	return n.ID, true, nil
}

func slotRow(n execution.New) (db.QueueSlotsParams, error) {
	request, err := encode(n.Request)
	return db.QueueSlotsParams{
		ID: n.ID, JobID: &n.JobID, DatasourceID: n.DatasourceID, StorageLocationID: filter(n.StorageLocationID),
		ScheduledFor: n.ScheduledFor, MaxAttempts: int64(n.MaxAttempts), LockKey: filter(n.LockKey), Request: request,
	}, err
}

func (d *due) Missed(_ context.Context, j backup.Job, count int, newest time.Time, ran bool) error {
	d.missed = append(d.missed, missedNote(j, count, newest, ran))
	return nil
}

// write stores what was decided, in few round trips.
func (d *due) write(ctx context.Context) error {
	var failures []error
	note := func(_ int, err error) { failures = append(failures, err) }
	if len(d.slots) > 0 {
		d.q.QueueSlots(ctx, d.slots).Exec(note)
	}
	if len(d.nexts) > 0 {
		d.q.SetNextExecution(ctx, d.nexts).Exec(note)
	}
	if err := errors.Join(failures...); err != nil {
		return err
	}
	return notify(ctx, d.q, d.missed...)
}
