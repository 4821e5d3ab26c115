package logs_test

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/dataguardian/dataguardian/internal/embedded"
	"github.com/dataguardian/dataguardian/internal/logs"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

// Whatever happens between a writer and its readers: each tail sees every line
// once and in order, or a gap that says which it does not see. There is no gap
// unless the hub has lost its memory or dropped the line.
func TestEachTailSeesEveryLineOnceInOrderOrAnExplicitGap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := newFickle(t)
		defer f.close(t)
		small := rapid.Bool().Draw(t, "small stream")
		cfg := logs.HubConfig{TailLines: 4, TailBytes: 512, Timeout: 2 * time.Second}
		if small {
			cfg.Lines = 30
		}
		writer, stopWriter := startHub(t, f.option(), cfg)
		defer stopWriter()
		reader, stopReader := startHub(t, f.option(), cfg)
		defer stopReader()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()

		s := &scene{f: f, writer: writer, reader: reader}
		for _, step := range rapid.SliceOfN(rapid.SampledFrom([]string{
			"append", "append", "append", "append", "many", "again", "tail", "tail", "slow tail", "resume", "stall",
			"cut", "forget", "down", "up", "announce",
		}), 5, 40).Draw(t, "steps") {
			s.step(ctx, t, step)
		}
		s.finish(t)
		for i, tr := range s.tails {
			if err := tr.ended(s.last); err != nil {
				t.Fatalf("tail %d: %v", i, err)
			}
			if !s.forgot && !small && len(tr.gaps) > 0 {
				t.Fatalf("tail %d has gaps %v, but nothing was lost", i, tr.gaps)
			}
		}
	})
}

// scene is one writer, its Redis and its readers.
type scene struct {
	f              *fickle
	writer, reader *logs.RedisHub
	last           int64 // written so far
	done           int64 // of these the hub has taken
	pending        []logs.Line
	tails          []*transcript
	stalls         []*stall
	forgot         bool
}

func (s *scene) step(ctx context.Context, t *rapid.T, step string) {
	switch step {
	case "append":
		s.write(ctx, rapid.Int64Range(1, 6).Draw(t, "lines"))
	case "many":
		s.write(ctx, 300)
	case "again": // a retry, or an outdated writer
		from := rapid.Int64Range(1, s.done+1).Draw(t, "from")
		_ = s.reader.Append(ctx, "e", lineRange(from, s.done)...)
	case "tail", "slow tail":
		st := newStall(step == "slow tail")
		s.stalls = append(s.stalls, st)
		s.tails = append(s.tails, tail(ctx, s.reader, "e", rapid.Int64Range(0, s.last).Draw(t, "after"), st.wait))
	case "resume", "stall":
		if len(s.stalls) > 0 {
			rapid.SampledFrom(s.stalls).Draw(t, "which").set(step == "stall")
		}
	case "cut":
		s.f.cut()
	case "forget":
		s.forgot = true
		s.f.forget(t) //nolint:contextcheck // a new server outlives the step
	case "down":
		s.f.setDown(true)
	case "up":
		s.f.setDown(false)
	case "announce":
		_ = s.writer.Announce(ctx, "e", []byte("state"))
	}
}

// write appends what could not be appended before and n lines more.
func (s *scene) write(ctx context.Context, n int64) {
	s.pending = append(s.pending, lineRange(s.last+1, s.last+n)...)
	s.last += n
	if s.writer.Append(ctx, "e", s.pending...) == nil {
		s.pending, s.done = nil, s.last
	}
}

func (s *scene) finish(t *rapid.T) {
	s.f.setDown(false)
	for _, st := range s.stalls {
		st.set(false)
	}
	require.Eventually(t, func() bool { return s.writer.Append(context.Background(), "e", s.pending...) == nil }, long, time.Millisecond)
	require.Eventually(t, func() bool { return s.writer.Close(context.Background(), "e") == nil }, long, time.Millisecond)
}

// stall holds a reader up.
type stall struct {
	mu   sync.Mutex
	open chan struct{}
}

func newStall(closed bool) *stall {
	st := &stall{open: make(chan struct{})}
	if !closed {
		close(st.open)
	}
	return st
}

func (st *stall) wait() {
	st.mu.Lock()
	open := st.open
	st.mu.Unlock()
	<-open
}

func (st *stall) set(closed bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	select {
	case <-st.open:
		if closed {
			st.open = make(chan struct{})
		}
	default:
		if !closed {
			close(st.open)
		}
	}
}

func TestThousandsOfTailsLoseNothingAndLeaveNothing(t *testing.T) {
	const tails, lines = 2000, 50
	t.Run("of one execution", func(t *testing.T) {
		eachRedis(t, func(t *testing.T, opt rueidis.ClientOption) { crowd(t, opt, tails, 1, lines) })
	})
	t.Run("of as many executions", func(t *testing.T) {
		crowd(t, optionFor(testkit.Redis(t)), tails, tails, lines)
	})
	t.Run("of many executions in the process", func(t *testing.T) {
		// Each of its commands looks at all keys: it is not made for thousands.
		server, err := embedded.StartRedis()
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, server.Close()) })
		crowd(t, inProcess(server), tails, 200, lines)
	})
}

func crowd(t *testing.T, opt rueidis.ClientOption, tails, executions int, lines int64) {
	writer, reader := newHub(t, opt, logs.HubConfig{}), newHub(t, opt, logs.HubConfig{})
	id := func(i int) string { return fmt.Sprintf("e%d", i%executions) }
	warm := tail(t.Context(), reader, "warm", 0, nil)
	require.NoError(t, writer.Append(t.Context(), "warm", line(1)))
	warm.reached(t, 1)
	before, heap := ours(), heapBytes()
	require.Positive(t, before)

	all := make([]*transcript, tails)
	for i := range all {
		all[i] = tail(t.Context(), reader, id(i), 0, nil)
	}
	began := time.Now()
	for seq := int64(1); seq <= lines; seq += 10 {
		for e := range executions {
			require.NoError(t, writer.Append(t.Context(), id(e), lineRange(seq, seq+9)...))
		}
	}
	during := heapBytes()
	for e := range executions {
		require.NoError(t, writer.Close(t.Context(), id(e)))
	}
	for _, tr := range all {
		require.NoError(t, tr.ended(lines))
		require.Empty(t, tr.gaps)
	}
	t.Logf("%d lines in %v, heap %d KiB more", int64(tails)*lines, time.Since(began), (int64(during)-int64(heap))>>10)
	require.Less(t, int64(during)-int64(heap), int64(200<<20))
	clear(all)
	require.Eventually(t, func() bool { return ours() <= before }, long, 50*time.Millisecond)
	require.Less(t, int64(heapBytes())-int64(heap), int64(40<<20))
}

// ours counts the goroutines that are in the package under test. Those of the
// client and of the server come and go with their connections.
func ours() int {
	buf := make([]byte, 8<<20)
	buf = buf[:runtime.Stack(buf, true)]
	n := 0
	for stack := range bytes.SplitSeq(buf, []byte("\n\n")) {
		if bytes.Contains(stack, []byte("/internal/logs.")) {
			n++
		}
	}
	return n
}

func heapBytes() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
