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
	err := s.tx(ctx, func(q *db.Queries) error {
		rows, err := q.LockDueJobs(ctx, int64(limit))
		if err != nil || len(rows) == 0 {
			return err
		}
		tx := &due{q: q, now: rows[0].Now, jobs: make(map[string]backup.Job, len(rows))}
		nexts := make([]db.SetNextExecutionParams, 0, len(rows))
		for _, row := range rows {
			j, err := job(row.JobView)
			if err != nil {
				return err
			}
			tx.jobs[j.ID] = j
			next, err := each(ctx, tx, j)
			if err != nil {
				return err
			}
			nexts = append(nexts, db.SetNextExecutionParams{ID: j.ID, NextExecutionAt: next})
		}
		var failures []error
		q.SetNextExecution(ctx, nexts).Exec(func(_ int, err error) { failures = append(failures, err) })
		if err := errors.Join(failures...); err != nil {
			return err
		}
		handled = len(rows)
		return notify(ctx, q, tx.missed...)
	})
	if err != nil {
		return 0, err
	}
	return handled, nil
}

// due is what a scheduler may write while it holds due jobs.
type due struct {
	q      *db.Queries
	now    time.Time
	jobs   map[string]backup.Job
	missed []notification.Notification
}

func (d *due) Now() time.Time { return d.now }

func (d *due) Queue(ctx context.Context, jobID string, slot time.Time) (string, bool, error) {
	j, held := d.jobs[jobID]
	if !held {
		return "", false, errs.New(errs.Internal, errs.CodeInternal, "the scheduler does not hold the job %s", jobID)
	}
	n := execution.NewBackup(j, execution.Schedule, &slot)
	request, err := encode(n.Request)
	if err != nil {
		return "", false, err
	}
	made, err := d.q.QueueSlot(ctx, db.QueueSlotParams{
		ID: n.ID, JobID: &n.JobID, DatasourceID: n.DatasourceID, StorageLocationID: filter(n.StorageLocationID),
		ScheduledFor: n.ScheduledFor, MaxAttempts: int64(n.MaxAttempts), LockKey: filter(n.LockKey), Request: request,
	})
	if err != nil || made == 0 {
		return "", false, failure(err)
	}
	return n.ID, true, nil
}

func (d *due) Missed(_ context.Context, j backup.Job, count int, newest time.Time, ran bool) error {
	d.missed = append(d.missed, missedNote(j, count, newest, ran))
	return nil
}
