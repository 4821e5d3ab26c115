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
	"github.com/dataguardian/dataguardian/internal/logs"
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

// silent is an execution whose worker is gone, and where its lines are.
type silent struct {
	execution.Store
	logs.Hub
	stored, live []logs.Line
	away         error
	reaped       []logs.Line
	told         []logs.Line
	closed       bool
}

func (s *silent) Get(context.Context, string) (execution.Execution, error) {
	return execution.Execution{Logs: s.stored}, nil
}

func (s *silent) Reap(_ context.Context, _ execution.Execution, lines []logs.Line) (execution.Status, error) {
	s.reaped = lines
	return execution.Failed, nil
}

func (s *silent) Read(_ context.Context, _ string, after int64) (lines []logs.Line, err error) {
	for _, l := range s.live {
		if l.Seq > after {
			lines = append(lines, l)
		}
	}
	return lines, s.away
}

func (s *silent) Append(_ context.Context, _ string, lines ...logs.Line) error {
	s.told = lines
	return s.away
}

func (s *silent) Announce(context.Context, string, []byte) error { return s.away }

func (s *silent) Close(context.Context, string) error {
	s.closed = true
	return s.away
}

func TestTheLinesOfASilentWorkerAreCompleteOrSayWhatIsMissing(t *testing.T) {
	some := func(seqs ...int64) (lines []logs.Line) {
		for _, seq := range seqs {
			lines = append(lines, logs.Line{Seq: seq, Level: "info", Message: "x"})
		}
		return lines
	}
	const end = "the worker w went silent; its lease has run out"
	for name, c := range map[string]struct {
		silent
		last int64
		want []string
	}{
		"Redis has the rest":                          {silent{stored: some(1, 2), live: some(1, 2, 3)}, 4, []string{"x", "x", "x", end}},
		"everything is stored":                        {silent{stored: some(1, 2), live: some(1, 2)}, 3, []string{"x", "x", end}},
		"Redis has lost its memory":                   {silent{stored: some(1, 2)}, 1003, []string{"x", "x", "lines may have been lost here (3 to 1002)", end}},
		"Redis has lost its memory, and goes on":      {silent{stored: some(1, 2), live: some(6, 7)}, 8, []string{"x", "x", "3 lines were lost here (3 to 5)", "x", "x", end}},
		"Redis is away":                               {silent{stored: some(1), away: errors.New("away")}, 1002, []string{"x", "lines may have been lost here (2 to 1001)", end}},
		"nothing was stored and Redis has it":         {silent{live: some(1, 2)}, 3, []string{"x", "x", end}},
		"nothing was stored and Redis has lost it":    {silent{}, 1001, []string{"lines may have been lost here (1 to 1000)", end}},
		"Redis has lost its memory for a second time": {silent{stored: append(some(1), logs.Unsure(2, time.Time{}))}, 2002, []string{"x", "lines may have been lost here (2 to 1001)", "lines may have been lost here (1002 to 2001)", end}},
	} {
		t.Run(name, func(t *testing.T) {
			w := c.silent
			s := Scheduler{Executions: &w, Hub: &w, Meter: &tally{}, Logger: slog.New(slog.DiscardHandler)}
			s.reapOne(t.Context(), execution.Execution{ID: "e", WorkerID: "w"})
			var messages []string
			for _, l := range w.reaped {
				messages = append(messages, l.Message)
			}
			require.Equal(t, c.want, messages)
			require.Equal(t, c.last, w.reaped[len(w.reaped)-1].Seq)
			require.Equal(t, w.reaped[max(len(w.reaped)-2, 0):], w.told, "live tails see the last words, too")
			require.True(t, w.closed)
			var later []string
			for _, l := range logs.Merge(w.reaped, nil) {
				later = append(later, l.Message)
			}
			if name == "Redis has lost its memory for a second time" {
				c.want = []string{"x", "lines may have been lost here (2 to 2001)", end}
			}
			require.Equal(t, c.want, later)
		})
	}
}
