package scheduler

import (
	"context"
	"log/slog"
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/backup"
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
			next, queued, err := s.take(t.Context(), l, j)
			require.NoError(t, err)
			var slots []time.Time
			for _, text := range c.slots {
				slots = append(slots, at(t, text))
			}
			require.Equal(t, slots, l.slots)
			require.Equal(t, len(c.slots) > 0 && !c.busy, queued)
			require.Equal(t, c.missed, l.missed)
			require.Equal(t, c.ran, l.ran)
			require.True(t, next.After(l.now))
			require.Equal(t, 3, next.UTC().Hour())
		})
	}
}

func TestAScheduleThatCannotBeReadStopsTheJobAndNotTheOthers(t *testing.T) {
	s := &Scheduler{Logger: slog.New(slog.DiscardHandler)}
	s.defaults()
	stored := at(t, "2026-03-01T03:00:00Z")
	next, queued, err := s.take(t.Context(), &ledger{now: stored}, backup.Job{ScheduleCron: "nonsense", ScheduleTimezone: "UTC", NextExecutionAt: &stored})
	require.NoError(t, err)
	require.False(t, queued)
	require.Nil(t, next)
}
