package scheduler

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/health"
	"github.com/dataguardian/dataguardian/worker"
)

func at(t *testing.T, text string) time.Time {
	t.Helper()
	parsed, err := time.Parse(time.RFC3339, text)
	require.NoError(t, err)
	return parsed
}

// ledger is a transaction that notes what is written.
type ledger struct {
	now    time.Time
	busy   bool
	slots  []time.Time
	missed int
	newest time.Time
	ran    bool
}

func (l *ledger) Now() time.Time { return l.now }

func (l *ledger) Queue(_ context.Context, _ string, slot time.Time) (string, bool, error) {
	l.slots = append(l.slots, slot)
	return "id", !l.busy, nil
}

func (l *ledger) Missed(_ context.Context, _ backup.Job, count int, newest time.Time, ran bool) error {
	l.missed, l.newest, l.ran = count, newest, ran
	return nil
}

func TestWhatBecomesOfADueJob(t *testing.T) {
	for _, c := range []struct {
		name, stored, now string
		rule              backup.MissedRun
		busy              bool
		slots             []string
		missed            int
		ran               bool
	}{
		{name: "on time", stored: "2026-03-01T03:00:00Z", now: "2026-03-01T03:00:01Z", slots: []string{"2026-03-01T03:00:00Z"}},
		{name: "a little late is on time", stored: "2026-03-01T03:00:00Z", now: "2026-03-01T03:00:59Z", slots: []string{"2026-03-01T03:00:00Z"}},
		{name: "missed one runs once, late", stored: "2026-03-01T03:00:00Z", now: "2026-03-01T09:00:00Z", slots: []string{"2026-03-01T03:00:00Z"}, missed: 1, ran: true},
		{name: "missed several: the newest runs once", stored: "2026-03-01T03:00:00Z", now: "2026-03-04T09:00:00Z", slots: []string{"2026-03-04T03:00:00Z"}, missed: 4, ran: true},
		{name: "skip only notes them", stored: "2026-03-01T03:00:00Z", now: "2026-03-04T09:00:00Z", rule: backup.Skip, missed: 4},
		{name: "skip still runs the slot that is on time", stored: "2026-03-01T03:00:00Z", now: "2026-03-04T03:00:05Z", rule: backup.Skip, slots: []string{"2026-03-04T03:00:00Z"}, missed: 3, ran: true},
		{name: "a busy job is not run twice", stored: "2026-03-01T03:00:00Z", now: "2026-03-01T03:00:01Z", busy: true, slots: []string{"2026-03-01T03:00:00Z"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &Scheduler{Logger: slog.New(slog.DiscardHandler)}
			s.defaults()
			l := &ledger{now: at(t, c.now), busy: c.busy}
			stored := at(t, c.stored)
			j := backup.Job{ID: "j", ScheduleCron: "0 3 * * *", ScheduleTimezone: "UTC", NextExecutionAt: &stored, Options: backup.Options{MissedRun: c.rule}}
			d, err := s.take(t.Context(), l, j)
			require.NoError(t, err)
			var slots []time.Time
			for _, text := range c.slots {
				slots = append(slots, at(t, text))
			}
			require.Equal(t, slots, l.slots)
			require.Equal(t, len(c.slots) > 0 && !c.busy, d.queued)
			require.Equal(t, c.missed, l.missed)
			require.Equal(t, c.missed, d.missed)
			require.Equal(t, c.ran, l.ran)
			require.True(t, d.next.After(l.now))
			require.Equal(t, 3, d.next.UTC().Hour())
		})
	}
}

func TestAScheduleThatCannotBeReadStopsTheJobAndNotTheOthers(t *testing.T) {
	s := &Scheduler{Logger: slog.New(slog.DiscardHandler)}
	s.defaults()
	stored := at(t, "2026-03-01T03:00:00Z")
	d, err := s.take(t.Context(), &ledger{now: stored}, backup.Job{ScheduleCron: "nonsense", ScheduleTimezone: "UTC", NextExecutionAt: &stored})
	require.NoError(t, err)
	require.False(t, d.queued)
	require.Nil(t, d.next)
}

// shaky is a store of jobs whose commit fails before it succeeds.
type shaky struct {
	backup.JobStore
	job    backup.Job
	now    time.Time
	failed bool
	done   bool
}

func (s *shaky) Due(ctx context.Context, _ int, each func(context.Context, backup.DueTx, backup.Job) (*time.Time, error)) (int, error) {
	if s.done {
		return 0, nil
	}
	_, err := each(ctx, &ledger{now: s.now}, s.job)
	if err == nil && !s.failed {
		s.failed = true
		return 0, errors.New("the commit failed")
	}
	s.done = true
	return 1, err
}

type tally struct{ missed int }

func (m *tally) Missed(slots int)                           { m.missed += slots }
func (*tally) Reaped(execution.Operation, execution.Status) {}

type up struct{ Queue }

func (up) Up() bool                           { return true }
func (up) Wake(context.Context, string) error { return nil }

func TestMissedRunsOfATransactionThatFailedAreNotCounted(t *testing.T) {
	logger := slog.New(slog.DiscardHandler)
	stored, counted := at(t, "2026-03-01T03:00:00Z"), &tally{}
	s := &Scheduler{
		Queue: up{}, Meter: counted, Logger: logger, Entry: worker.NewRegistry(nil, time.Second, logger).Register(health.RoleScheduler),
		Jobs: &shaky{job: backup.Job{ID: "j", ScheduleCron: "0 3 * * *", ScheduleTimezone: "UTC", NextExecutionAt: &stored}, now: at(t, "2026-03-04T09:00:00Z")},
	}
	s.defaults()
	s.tick(t.Context())
	require.Zero(t, counted.missed)
	s.tick(t.Context())
	require.Equal(t, 4, counted.missed)
}
