package worker_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/health"
	"github.com/dataguardian/dataguardian/worker"
)

// rows is a store of executions that only leases need.
type rows struct {
	execution.Store
	mu       sync.Mutex
	queued   int
	claimed  int
	cancel   bool
	beatErr  error
	beats    int
	progress execution.Progress
}

func (r *rows) Claim(_ context.Context, c execution.Claimant, _ []execution.Operation, _ time.Duration) (execution.Execution, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.queued == 0 {
		return execution.Execution{}, false, nil
	}
	r.queued--
	r.claimed++
	return execution.Execution{ID: "e", WorkerID: c.WorkerID, Fence: int64(r.claimed)}, true, nil
}

func (r *rows) Heartbeat(_ context.Context, _ execution.Lease, _ time.Duration, p execution.Progress) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.beats++
	r.progress = p
	return r.cancel, r.beatErr
}

func (r *rows) set(change func(*rows)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(r)
}

// bell is a queue that can be down.
type bell struct {
	mu   sync.Mutex
	down chan struct{} // closed when it comes back; nil while up
}

func (b *bell) Up() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.down == nil
}

func (b *bell) goDown() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.down = make(chan struct{})
}

func (b *bell) comeBack() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.down)
	b.down = nil
}

func (b *bell) WaitUp(ctx context.Context) error {
	b.mu.Lock()
	down := b.down
	b.mu.Unlock()
	if down == nil {
		return nil
	}
	select {
	case <-down:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (b *bell) Wait(ctx context.Context, _ string, poll time.Duration) error {
	select {
	case <-time.After(poll):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// board keeps what instances report.
type board struct {
	health.Store
	mu    sync.Mutex
	state health.WorkerState
}

func (b *board) Report(_ context.Context, _ time.Duration, instances ...health.Instance) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, i := range instances {
		b.state = i.State
	}
	return nil
}

func (b *board) Withdraw(context.Context, ...string) error { return nil }

func (b *board) shown() health.WorkerState {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state
}

// losses counts leases that were lost.
type losses struct{ atomic.Int64 }

func (l *losses) LeaseLost(execution.Operation) { l.Add(1) }

// bench is a claimer with everything it stands on.
type bench struct {
	store   *rows
	queue   *bell
	board   *board
	meter   *losses
	claimer *worker.Claimer
	stop    func()
	ended   chan error
}

// start runs a claimer whose work is work. It must be called in a bubble.
func start(t *testing.T, queued, concurrency int, work func(ctx context.Context, l *worker.Leased) error) *bench {
	t.Helper()
	b := &bench{store: &rows{queued: queued}, queue: &bell{}, board: &board{}, meter: &losses{}, ended: make(chan error, 1)}
	logger := slog.New(slog.DiscardHandler)
	registry := worker.NewRegistry(b.board, time.Second, logger)
	b.claimer = &worker.Claimer{
		Label: "test worker", WorkerID: "w", Operations: []execution.Operation{execution.Backup}, Concurrency: concurrency,
		Store: b.store, Queue: b.queue, Entry: registry.Register(health.RoleBackup), Meter: b.meter, Logger: logger, Work: work,
	}
	ctx, cancel := context.WithCancel(t.Context())
	b.stop = cancel
	go func() { b.ended <- worker.Run(ctx, registry, b.claimer) }()
	t.Cleanup(cancel)
	return b
}

func TestAClaimerTakesAtMostItsShareAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var mu sync.Mutex
		running, most := 0, 0
		b := start(t, 5, 2, func(context.Context, *worker.Leased) error {
			mu.Lock()
			running++
			most = max(most, running)
			mu.Unlock()
			<-release
			mu.Lock()
			running--
			mu.Unlock()
			return nil
		})
		pass(time.Minute)
		require.Equal(t, 2, b.store.claimed)
		close(release)
		pass(time.Minute)
		require.Equal(t, 5, b.store.claimed)
		require.Equal(t, 2, most)
		b.stop()
		require.NoError(t, <-b.ended)
	})
}

func TestNothingIsClaimedWhileTheQueueIsDownAndAllGoesOnAfterwards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 0, 1, func(context.Context, *worker.Leased) error { return nil })
		pass(10 * time.Second)
		require.Equal(t, health.WorkerRunning, b.board.shown())
		b.queue.goDown()
		pass(5 * time.Second)
		b.store.set(func(r *rows) { r.queued = 3 })
		pass(time.Minute)
		require.Equal(t, 0, b.store.claimed)
		require.Equal(t, health.WorkerStopped, b.board.shown())
		b.queue.comeBack()
		pass(5 * time.Second)
		require.Equal(t, 3, b.store.claimed)
		require.Equal(t, health.WorkerRunning, b.board.shown())
		b.stop()
		require.NoError(t, <-b.ended)
	})
}

// cause runs one execution until its context ends, and returns why, and when.
func cause(t *testing.T, provoke func(b *bench)) (after time.Duration, why error) {
	t.Helper()
	started := time.Now()
	result := make(chan error, 1)
	b := start(t, 1, 1, func(ctx context.Context, l *worker.Leased) error {
		<-ctx.Done()
		after = time.Since(started)
		if !errors.Is(context.Cause(ctx), worker.ErrShutdown) {
			require.Error(t, l.Held())
		}
		result <- context.Cause(ctx)
		return context.Cause(ctx)
	})
	pass(10 * time.Second)
	provoke(b)
	why = <-result
	b.stop()
	require.NoError(t, <-b.ended)
	require.Equal(t, errors.Is(why, execution.ErrLeaseLost), b.meter.Load() == 1)
	return after, why
}

func TestACancelRequestReachesTheWorkWithinTwoSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		after, why := cause(t, func(b *bench) { b.store.set(func(r *rows) { r.cancel = true }) })
		require.ErrorIs(t, why, worker.ErrCancelled)
		require.LessOrEqual(t, after, 12*time.Second)
	})
}

func TestALostLeaseEndsTheWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		after, why := cause(t, func(b *bench) { b.store.set(func(r *rows) { r.beatErr = execution.ErrLeaseLost }) })
		require.ErrorIs(t, why, execution.ErrLeaseLost)
		require.LessOrEqual(t, after, 12*time.Second)
	})
}

func TestAWorkerThatIsNotHeardStopsItselfBeforeItsLeaseRunsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		away := errs.New(errs.Unavailable, errs.CodeDatabaseUnavailable, "away")
		after, why := cause(t, func(b *bench) { b.store.set(func(r *rows) { r.beatErr = away }) })
		require.ErrorIs(t, why, execution.ErrLeaseLost)
		require.Greater(t, after, 50*time.Second)
		require.Less(t, after, 65*time.Second)
	})
}

func TestAShortAbsenceOfTheDatabaseIsSurvived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		after, why := cause(t, func(b *bench) {
			b.store.set(func(r *rows) { r.beatErr = errors.New("away") })
			pass(30 * time.Second)
			b.store.set(func(r *rows) { r.beatErr = nil })
			pass(time.Minute)
			b.stop()
		})
		require.ErrorIs(t, why, worker.ErrShutdown)
		require.Greater(t, after, 100*time.Second)
	})
}

func TestShutdownGivesRunningWorkItsGraceAndThenEndsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		after, why := cause(t, func(b *bench) { b.stop() })
		require.ErrorIs(t, why, worker.ErrShutdown)
		require.Equal(t, 40*time.Second, after, "10 s of work and 30 s of grace")
	})
}

func TestWorkThatEndsWithinTheGraceIsNotDisturbed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		undisturbed := make(chan bool, 1)
		b := start(t, 1, 1, func(ctx context.Context, l *worker.Leased) error {
			l.SetProgress(execution.Progress{Phase: execution.Dumping})
			pass(20 * time.Second)
			undisturbed <- ctx.Err() == nil
			return nil
		})
		pass(5 * time.Second)
		b.stop()
		require.True(t, <-undisturbed)
		require.NoError(t, <-b.ended)
		require.Equal(t, execution.Dumping, b.store.progress.Phase, "heartbeats carry the progress")
		require.GreaterOrEqual(t, b.store.beats, 15, "and go on during the grace")
	})
}

// pass lets the clock of the test's bubble run.
func pass(d time.Duration) { <-time.After(d) }
