package storetest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/notification"
)

type dueTx = backup.DueTx

func due(t *testing.T, w *world) {
	s := w.Jobs()
	dueJob := func(t *testing.T, ago time.Duration) backup.Job {
		return w.newJob(t, func(j *backup.Job) { j.NextExecutionAt = past(ago) })
	}
	t.Run("nothing is due", func(t *testing.T) {
		w.newJob(t)
		w.newJob(t, func(j *backup.Job) { j.NextExecutionAt = past(-time.Hour) })
		w.newJob(t, func(j *backup.Job) { j.Enabled, j.NextExecutionAt = false, past(time.Hour) })
		gone := dueJob(t, time.Hour)
		require.NoError(t, s.Delete(t.Context(), gone.ID))
		n, err := s.Due(t.Context(), 10, func(context.Context, dueTx, backup.Job) (*time.Time, error) {
			t.Error("not due")
			return nil, nil
		})
		require.NoError(t, err)
		require.Zero(t, n)
	})
	t.Run("due ones come in order, are queued once, and get their next time", func(t *testing.T) {
		later, sooner := dueJob(t, time.Minute), dueJob(t, time.Hour)
		next := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
		var seen, queued []string
		visit := func(ctx context.Context, tx dueTx, j backup.Job) (*time.Time, error) {
			seen = append(seen, j.ID)
			require.WithinDuration(t, time.Now(), tx.Now(), time.Minute)
			id, ok, err := tx.Queue(ctx, j.ID, *j.NextExecutionAt)
			require.NoError(t, err)
			require.True(t, ok)
			queued = append(queued, id)
			_, ok, err = tx.Queue(ctx, j.ID, time.Now())
			require.NoError(t, err)
			require.False(t, ok, "the job is busy now")
			return &next, nil
		}
		n, err := s.Due(t.Context(), 10, visit)
		require.NoError(t, err)
		require.Equal(t, 2, n)
		require.Equal(t, []string{sooner.ID, later.ID}, seen)
		e, err := w.Executions().Get(t.Context(), queued[0])
		require.NoError(t, err)
		require.Equal(t, execution.Queued, e.Status)
		require.Equal(t, execution.Schedule, e.Trigger)
		require.Equal(t, sooner.NextExecutionAt, e.ScheduledFor)
		require.Equal(t, execution.BackupAttempts, e.MaxAttempts)
		require.Equal(t, &sooner.Options, e.Request.Options)
		require.Equal(t, sooner.StorageLocationID, e.StorageLocationID)
		got, err := s.Get(t.Context(), sooner.ID)
		require.NoError(t, err)
		require.Equal(t, &next, got.NextExecutionAt)
		w.drain(t)
	})
	t.Run("a slot that was taken before is taken no more", func(t *testing.T) {
		j := dueJob(t, time.Minute)
		slot := *j.NextExecutionAt
		queue := func(want bool) {
			n, err := s.Due(t.Context(), 10, func(ctx context.Context, tx dueTx, j backup.Job) (*time.Time, error) {
				_, ok, err := tx.Queue(ctx, j.ID, slot)
				require.Equal(t, want, ok)
				return j.NextExecutionAt, err
			})
			require.NoError(t, err)
			require.Equal(t, 1, n)
		}
		queue(true)
		queue(false)
		w.drain(t)
		queue(false)
		w.stop(t, j)
	})
	t.Run("an error takes everything back", func(t *testing.T) {
		j := dueJob(t, time.Minute)
		_, err := s.Due(t.Context(), 10, func(ctx context.Context, tx dueTx, j backup.Job) (*time.Time, error) {
			_, _, err := tx.Queue(ctx, j.ID, *j.NextExecutionAt)
			require.NoError(t, err)
			require.NoError(t, tx.Missed(ctx, j, 1, epoch, true))
			return nil, errRefused
		})
		require.ErrorIs(t, err, errRefused)
		_, total, err := w.Executions().List(t.Context(), execution.Filter{JobID: j.ID}, firstPage)
		require.NoError(t, err)
		require.Zero(t, total)
		got, err := s.Get(t.Context(), j.ID)
		require.NoError(t, err)
		require.Equal(t, j.NextExecutionAt, got.NextExecutionAt)
		w.stop(t, j)
	})
	t.Run("a job that is not held is refused", func(t *testing.T) {
		other := w.newJob(t)
		j := dueJob(t, time.Minute)
		_, err := s.Due(t.Context(), 10, func(ctx context.Context, tx dueTx, _ backup.Job) (*time.Time, error) {
			_, _, err := tx.Queue(ctx, other.ID, epoch)
			return nil, err
		})
		require.Equal(t, errs.Internal, errs.KindOf(err))
		w.stop(t, j)
	})
	t.Run("missed slots are told, without another run when there is none", func(t *testing.T) {
		before := notes(t, w)
		j := dueJob(t, time.Minute)
		n, err := s.Due(t.Context(), 10, func(ctx context.Context, tx dueTx, j backup.Job) (*time.Time, error) {
			return nil, tx.Missed(ctx, j, 3, epoch, false)
		})
		require.NoError(t, err)
		require.Equal(t, 1, n)
		news := notes(t, w)[len(before):]
		require.Len(t, news, 1)
		require.Equal(t, notification.BackupMissed, news[0].Type)
		require.Equal(t, j.ID, news[0].EntityID)
		require.Contains(t, news[0].Message, j.Name)
		require.EqualValues(t, 3, news[0].Metadata["missed"])
		got, err := s.Get(t.Context(), j.ID)
		require.NoError(t, err)
		require.Nil(t, got.NextExecutionAt, "no next time, never due again")
	})
	t.Run("schedulers share the work and repeat none of it", func(t *testing.T) { shareDue(t, w, dueJob) })
}

func shareDue(t *testing.T, w *world, dueJob func(*testing.T, time.Duration) backup.Job) {
	const all = 40
	for range all {
		dueJob(t, time.Minute)
	}
	var (
		group sync.WaitGroup
		lock  sync.Mutex
		seen  = map[string]int{}
	)
	visit := func(ctx context.Context, tx dueTx, j backup.Job) (*time.Time, error) {
		lock.Lock()
		seen[j.ID]++
		lock.Unlock()
		_, _, err := tx.Queue(ctx, j.ID, *j.NextExecutionAt)
		return nil, err
	}
	failed := make([]error, 4)
	for i := range failed {
		group.Go(func() {
			for n := 1; n > 0 && failed[i] == nil; {
				n, failed[i] = w.Jobs().Due(t.Context(), 3, visit)
			}
		})
	}
	group.Wait()
	for _, err := range failed {
		require.NoError(t, err)
	}
	require.Len(t, seen, all)
	for id, times := range seen {
		require.Equal(t, 1, times, id)
	}
	_, total, err := w.Executions().List(t.Context(), execution.Filter{Status: execution.Queued}, firstPage)
	require.NoError(t, err)
	require.Equal(t, all, total)
	w.drain(t)
}

// drain ends every queued execution.
func (w *world) drain(t require.TestingT) {
	w.exec(t, "update backup_executions set status = 'cancelled', finished_at = now() where status = 'queued'")
}

// stop takes a job off the schedule.
func (w *world) stop(t require.TestingT, j backup.Job) {
	w.exec(t, "update backup_jobs set next_execution_at = null where id = $1", j.ID)
}
