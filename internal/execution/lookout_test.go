package execution_test

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/logs"
)

// table is a store that counts how often it is read. A reading takes a while.
type table struct {
	execution.Store
	gets, looks, looked atomic.Int64
	away                atomic.Bool // looks hang, then fail

	mu   sync.Mutex
	rows map[string]execution.Execution
}

func newTable(executions int) *table {
	s := &table{rows: map[string]execution.Execution{}}
	for i := range executions {
		s.set(name(i), execution.Running, 1)
	}
	return s
}

func name(i int) string { return fmt.Sprintf("e%d", i) }

func (s *table) set(id string, status execution.Status, last int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows[id] = execution.Execution{ID: id, Status: status, Logs: lines(1, last)}
}

func (s *table) remove(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.rows, id)
}

func (s *table) row(id string) (execution.Execution, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.rows[id]
	return e, ok
}

func (s *table) Get(_ context.Context, id string) (execution.Execution, error) {
	s.gets.Add(1)
	e, ok := s.row(id)
	<-time.After(time.Millisecond)
	if !ok {
		return e, errs.New(errs.NotFound, errs.CodeNotFound, "no such execution")
	}
	return e, nil
}

func (s *table) Look(ctx context.Context, ids []string) (map[string]execution.Look, error) {
	s.looks.Add(1)
	s.looked.Add(int64(len(ids)))
	if s.away.Load() {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	seen := map[string]execution.Look{}
	for _, id := range ids {
		if e, ok := s.row(id); ok {
			seen[id] = lookAt(e)
		}
	}
	<-time.After(time.Millisecond)
	return seen, nil
}

// pulse is a hub that has nothing but heartbeats to tell until it tells the end.
type pulse struct {
	logs.Hub
	end chan struct{}
}

func (p pulse) Follow(ctx context.Context, _ string, _ int64) iter.Seq2[logs.Event, error] {
	return func(yield func(logs.Event, error) bool) {
		for {
			select {
			case <-time.After(15 * time.Second):
				if !yield(logs.Event{Idle: true}, nil) {
					return
				}
			case <-p.end:
				yield(logs.Event{End: true}, nil)
				return
			case <-ctx.Done():
				yield(logs.Event{}, context.Cause(ctx))
				return
			}
		}
	}
}

// follow opens a tail of execution i%executions for each i, and says how many have
// ended with all their lines.
func follow(t *testing.T, s *execution.Service, tails, executions int, spread time.Duration) (whole *atomic.Int64) {
	t.Helper()
	whole = &atomic.Int64{}
	for i := range tails {
		go func() {
			<-time.After(spread * time.Duration(i) / time.Duration(tails))
			last := int64(0)
			for event, err := range s.Follow(t.Context(), name(i%executions), 0) {
				if err != nil {
					return
				}
				if event.Line != nil && event.Line.Seq == last+1 {
					last++
				}
				if event.End != nil && last == 3 {
					whole.Add(1)
				}
			}
		}()
	}
	return whole
}

func TestTheTailsOfOneExecutionReadItsRowTogether(t *testing.T) {
	const tails = 2_000
	synctest.Test(t, func(t *testing.T) {
		store, end := newTable(1), make(chan struct{})
		s := execution.NewService(execution.Config{Store: store, Hub: pulse{end: end}, Logger: slog.New(slog.DiscardHandler)})
		whole := follow(t, s, tails, 1, 15*time.Second) // their heartbeats come all the time
		<-time.After(20 * time.Second)
		require.LessOrEqual(t, store.gets.Load(), int64(16), "one reading a second while tails open")
		opened := store.gets.Load()
		<-time.After(time.Minute)
		require.Equal(t, opened, store.gets.Load(), "idle tails need no lines")
		require.LessOrEqual(t, store.looks.Load(), int64(20), "one look in five seconds")
		store.set(name(0), execution.Completed, 3)
		close(end)
		synctest.Wait()
		<-time.After(time.Second)
		require.Equal(t, int64(tails), whole.Load())
		require.LessOrEqual(t, store.gets.Load(), opened+2)
	})
}

func TestIdleTailsOfManyExecutionsLookTogetherAndNoticeALostEnd(t *testing.T) {
	const executions = 2_000
	synctest.Test(t, func(t *testing.T) {
		store := newTable(executions)
		s := execution.NewService(execution.Config{Store: store, Hub: pulse{end: make(chan struct{})}, Logger: slog.New(slog.DiscardHandler)})
		whole := follow(t, s, executions, executions, 0)
		<-time.After(50 * time.Second) // three heartbeats
		require.Equal(t, int64(executions), store.gets.Load())
		require.Equal(t, int64(3*executions), store.looked.Load())
		require.Less(t, store.looks.Load(), int64(3*executions/20), "many rows to a look")
		for i := range executions {
			store.set(name(i), execution.Failed, 3)
		}
		<-time.After(20 * time.Second)
		require.Equal(t, int64(executions), whole.Load())
	})
}

func TestATailBearsThatTheRowIsAwayForAWhileAndNotForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, end := newTable(1), make(chan struct{})
		s := execution.NewService(execution.Config{Store: store, Hub: pulse{end: end}, Logger: slog.New(slog.DiscardHandler)})
		whole := follow(t, s, 1, 1, 0)
		<-time.After(time.Second)
		store.away.Store(true)
		<-time.After(35 * time.Second) // two heartbeats and what follows
		store.away.Store(false)
		<-time.After(time.Minute)
		store.set(name(0), execution.Completed, 3)
		close(end)
		<-time.After(time.Minute)
		require.EqualValues(t, 1, whole.Load())
	})
	synctest.Test(t, func(t *testing.T) {
		store := newTable(1)
		s := execution.NewService(execution.Config{Store: store, Hub: pulse{}, Logger: slog.New(slog.DiscardHandler)})
		var failed atomic.Bool
		go func() {
			for _, err := range s.Follow(t.Context(), name(0), 0) {
				failed.Store(err != nil)
			}
		}()
		<-time.After(time.Second)
		store.away.Store(true)
		<-time.After(30 * time.Second)
		require.False(t, failed.Load())
		<-time.After(2 * time.Minute)
		require.True(t, failed.Load())
	})
}

func TestATailOfADeletedExecutionEndsWithNotFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newTable(1)
		s := execution.NewService(execution.Config{Store: store, Hub: pulse{end: make(chan struct{})}, Logger: slog.New(slog.DiscardHandler)})
		var last error
		for event, err := range s.Follow(t.Context(), name(0), 0) {
			last = err
			if event.Open {
				store.remove(name(0))
			}
		}
		require.Equal(t, errs.NotFound, errs.KindOf(last))
	})
}

// gossip is a hub that loses lines and ends as a script says.
type gossip struct {
	logs.Hub
	store *table
	steps []string
	at    *atomic.Int64
}

func (g gossip) Follow(ctx context.Context, id string, after int64) iter.Seq2[logs.Event, error] {
	return func(yield func(logs.Event, error) bool) {
		for {
			<-time.After(100 * time.Millisecond)
			step := g.steps[int(g.at.Add(1))%len(g.steps)]
			e, _ := g.store.row(id)
			last := lookAt(e).Last
			goOn := true
			switch {
			case ctx.Err() != nil:
				yield(logs.Event{}, context.Cause(ctx))
				return
			case step == "away":
				yield(logs.Event{}, errs.New(errs.Unavailable, errs.CodeRedisUnavailable, "away"))
				return
			case step == "idle":
				goOn = yield(logs.Event{Idle: true}, nil)
			case step == "line" && last > after:
				after++
				goOn = yield(live(after), nil)
			case step == "gap" && last > after+1:
				goOn = yield(logs.Event{Gap: &logs.Gap{From: after + 1, To: last - 1}}, nil)
				after = last - 1
			case step == "end" && e.Status.Terminal():
				yield(logs.Event{End: true}, nil)
				return
			}
			if !goOn {
				return
			}
		}
	}
}

func TestWhateverTheHubTellsATailAccountsForEveryLineOnceAndEnds(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		steps := rapid.SliceOfN(rapid.SampledFrom([]string{"line", "line", "gap", "idle", "away", "end", "silence"}), 1, 30).Draw(r, "steps")
		steps = append(steps, "idle") // or the end may never be told
		last := rapid.Int64Range(1, 30).Draw(r, "last")
		afters := rapid.SliceOfN(rapid.Int64Range(0, last), 1, 8).Draw(r, "afters")
		endAt := rapid.IntRange(0, 20).Draw(r, "end")
		told := make([][]int64, len(afters))
		synctest.Test(t, func(t *testing.T) {
			store := newTable(1)
			s := execution.NewService(execution.Config{Store: store, Hub: gossip{store: store, steps: steps, at: &atomic.Int64{}}, Logger: slog.New(slog.DiscardHandler)})
			var group sync.WaitGroup
			for i, after := range afters {
				group.Go(func() {
					<-time.After(time.Duration(i) * 300 * time.Millisecond)
					told[i] = account(t.Context(), s, after)
				})
			}
			for seq := int64(1); seq <= last; seq++ {
				store.set(name(0), execution.Running, seq)
				<-time.After(time.Duration(endAt) * 10 * time.Millisecond)
			}
			store.set(name(0), execution.Completed, last)
			group.Wait()
		})
		for i, after := range afters {
			var want []int64
			for seq := after + 1; seq <= last; seq++ {
				want = append(want, seq)
			}
			if want = append(want, -1); !slices.Equal(want, told[i]) {
				r.Fatalf("the tail after %d of %d lines was told %v", after, last, told[i])
			}
		}
	})
}

// account lists the lines that a tail tells or calls lost, and -1 for its end.
func account(ctx context.Context, s *execution.Service, after int64) (told []int64) {
	for event, err := range s.Follow(ctx, name(0), after) {
		switch {
		case err != nil:
			return append(told, -2)
		case event.Line != nil:
			told = append(told, event.Line.Seq)
		case event.Gap != nil:
			for seq := event.Gap.From; seq <= event.Gap.To; seq++ {
				told = append(told, seq)
			}
		case event.End != nil:
			told = append(told, -1)
		}
	}
	return told
}
