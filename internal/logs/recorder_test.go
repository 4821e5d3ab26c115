package logs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/logs"
)

// memory is a hub and a row that can be broken.
type memory struct {
	mu     sync.Mutex
	down   bool
	hub    []logs.Line
	saves  [][]logs.Line
	saved  int // bytes in all
	tries  int
	report []error
}

func (m *memory) Append(_ context.Context, id string, lines ...logs.Line) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tries++
	if m.down {
		return errors.New("the hub is down")
	}
	if id != "e" {
		return errors.New("not this execution")
	}
	m.hub = append(m.hub, lines...)
	return nil
}

func (m *memory) save(_ context.Context, lines []logs.Line) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return errors.New("the database is down")
	}
	m.saves = append(m.saves, lines)
	for _, l := range lines {
		m.saved += len(l.Message)
	}
	return nil
}

func (m *memory) set(down bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = down
}

func (m *memory) reported(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.report = append(m.report, err)
}

// view returns a copy, for tests to look at.
func (m *memory) view() *memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &memory{hub: slices.Clone(m.hub), saves: slices.Clone(m.saves), saved: m.saved, tries: m.tries, report: slices.Clone(m.report)}
}

func (m *memory) config() logs.RecorderConfig {
	return logs.RecorderConfig{ExecutionID: "e", Label: "BACKUP", Job: "nightly", Hub: m, Save: m.save, Report: m.reported}
}

func TestARecorderNumbersRedactsEscapesPrintsSendsAndStores(t *testing.T) {
	var terminal bytes.Buffer
	m := &memory{}
	cfg := m.config()
	cfg.Terminal = logs.NewTerminal(&terminal)
	cfg.Redactor = logs.NewRedactor("hunter2!")
	cfg.Stored = lineRange(1, 4)
	cfg.After = 3
	r := logs.NewRecorder(cfg)
	r.Log(engine.LevelInfo, "connecting with hunter2!\n")
	r.Logf(engine.LevelWarn, "%d \x1b[31m warnings\nin one line", 2)
	r.Log("bogus", "x")
	r.Log(engine.LevelSuccess, "done")
	lines, err := r.Close(t.Context())
	require.NoError(t, err)

	require.Equal(t, lineRange(1, 4), lines[:4])
	var got []string
	for i, l := range lines[4:] {
		require.EqualValues(t, 5+i, l.Seq)
		require.WithinDuration(t, time.Now(), l.Time, time.Minute)
		got = append(got, string(l.Level)+" "+l.Message)
	}
	require.Equal(t, []string{"info connecting with ***", `warn 2 \x1b[31m warnings\nin one line`, "info x", "success done"}, got)
	require.Equal(t, lines[4:], m.view().hub)
	require.Equal(t, [][]logs.Line{lines}, m.view().saves)
	require.Equal(t, "[BACKUP] nightly: connecting with ***\n[BACKUP] nightly: 2 \\x1b[31m warnings\\nin one line\n[BACKUP] nightly: x\n[BACKUP] nightly: done\n", terminal.String())

	r.Log(engine.LevelInfo, "too late")
	again, err := r.Close(t.Context())
	require.NoError(t, err)
	require.Equal(t, lines, again)
	require.Len(t, m.view().saves, 1, "nothing is left to save")
}

func TestARecorderKeepsItsLinesInOrderWhileTheHubIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{down: true}
		r := logs.NewRecorder(m.config())
		for i := range 3000 {
			r.Logf(engine.LevelInfo, "line %d", i)
		}
		pass(time.Minute)
		require.Empty(t, m.view().hub)
		require.Less(t, m.view().tries, 100)
		m.set(false)
		pass(20 * time.Second)
		require.Len(t, m.view().hub, 3000)
		for i, l := range m.view().hub {
			require.EqualValues(t, i+1, l.Seq)
		}
		require.Len(t, m.view().report, 2, "each trouble is reported once")
		require.NotEmpty(t, m.view().saves)
		_, err := r.Close(context.Background())
		require.NoError(t, err)
	})
}

func TestWhatWaitsForTheHubIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{down: true}
		r := logs.NewRecorder(m.config())
		for range 30_000 {
			r.Log(engine.LevelInfo, "line")
		}
		m.set(false)
		pass(20 * time.Second)
		require.Less(t, len(m.view().hub), 11_000)
		hub := m.view().hub
		require.EqualValues(t, 30_000, hub[len(hub)-1].Seq, "the oldest go")
		lines, err := r.Close(context.Background())
		require.NoError(t, err)
		explained(t, lines)
	})
}

func TestSavingGetsRarerAsALogGrowsAndCloseSavesTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{}
		cfg := m.config()
		r := logs.NewRecorder(cfg)
		r.Log(engine.LevelInfo, "first")
		pass(2 * time.Second)
		require.Len(t, m.view().saves, 1, "a short log is saved soon")
		pass(time.Minute)
		require.Len(t, m.view().saves, 1, "and not again without a new line")
		for i := range 1000 {
			pass(time.Second)
			r.Log(engine.LevelInfo, strings.Repeat("x", 1000)+fmt.Sprint(i))
		}
		require.Less(t, m.view().saved, 1000*(32<<10), "32 KiB a second at most")
		before := len(m.view().saves)
		lines, err := r.Close(context.Background())
		require.NoError(t, err)
		require.Len(t, m.view().saves, before+1)
		require.Equal(t, lines, m.view().saves[before])
		explained(t, lines)
	})
}

func TestCloseReturnsTheLinesWithTheErrorOfSaving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{down: true}
		r := logs.NewRecorder(m.config())
		r.Log(engine.LevelError, "it failed")
		began := time.Now()
		lines, err := r.Close(context.Background())
		require.ErrorContains(t, err, "the database is down")
		require.Len(t, lines, 1)
		require.LessOrEqual(t, time.Since(began), 3*time.Second, "a hub that is down does not hold the work up")
		m.set(false)
		_, err = r.Close(context.Background())
		require.NoError(t, err)
		require.Len(t, m.view().saves, 1, "closing again saves what could not be saved")
	})
}

// stuckWriter is a terminal that nobody reads.
type stuckWriter struct{ release chan struct{} }

func (w stuckWriter) Write(p []byte) (int, error) {
	<-w.release
	return len(p), nil
}

func TestATerminalThatBlocksOrFailsHoldsNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{}
		cfg := m.config()
		stuck := stuckWriter{make(chan struct{})}
		cfg.Terminal = logs.NewTerminal(stuck)
		r := logs.NewRecorder(cfg)
		for range 100 {
			r.Log(engine.LevelInfo, "line")
		}
		lines, err := r.Close(context.Background())
		require.NoError(t, err)
		require.Len(t, lines, 100)
		require.Len(t, m.view().hub, 100)
		close(stuck.release)

		reader, writer := io.Pipe()
		require.NoError(t, reader.Close())
		cfg.Terminal = logs.NewTerminal(writer)
		r = logs.NewRecorder(cfg)
		r.Log(engine.LevelInfo, "line")
		_, err = r.Close(context.Background())
		require.NoError(t, err)
		require.ErrorIs(t, m.view().report[0], io.ErrClosedPipe)
	})
}

func TestManyGoroutinesMayRecordAtOnce(t *testing.T) {
	m := &memory{}
	r := logs.NewRecorder(m.config())
	var group sync.WaitGroup
	for g := range 8 {
		group.Go(func() {
			for i := range 200 {
				r.Logf(engine.LevelInfo, "%d %d", g, i)
				r.Progress(engine.Progress{BytesDone: int64(i)})
				r.Numbers()
			}
		})
	}
	group.Wait()
	lines, err := r.Close(t.Context())
	require.NoError(t, err)
	require.Len(t, lines, 1600)
	require.Equal(t, lines, m.view().hub)
	require.Len(t, explained(t, lines), 1600)
}

func TestARecorderFeedsTailsThroughARealHub(t *testing.T) {
	f := newFickle(t)
	defer f.close(t)
	hub := newHub(t, f.option(), logs.HubConfig{Timeout: time.Second})
	var got []string
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e, err := range hub.Follow(t.Context(), "e", 0) {
			if err == nil && e.Line != nil {
				got = append(got, e.Line.Message)
			}
		}
	}()
	r := logs.NewRecorder(logs.RecorderConfig{ExecutionID: "e", Hub: hub, Drain: long})
	var want []string
	for i := range 100 {
		if i == 50 {
			f.cut()
		}
		want = append(want, fmt.Sprint("line ", i))
		r.Log(engine.LevelInfo, want[i])
	}
	_, err := r.Close(t.Context())
	require.NoError(t, err)
	require.Eventually(t, func() bool { return hub.Close(t.Context(), "e") == nil }, long, 10*time.Millisecond)
	<-done
	require.Equal(t, want, got)
}

func TestATerminalGetsWholeLinesAndNoColourWhenItIsNone(t *testing.T) {
	var out recordingWriter
	terminal := logs.NewTerminal(&out)
	require.NoError(t, terminal.Print("RESTORE", "", engine.LevelError, "no job"))
	require.NoError(t, terminal.Print("VERIFY", "weekly", engine.LevelDebug, "x"))
	require.Equal(t, []string{"[RESTORE] no job\n", "[VERIFY] weekly: x\n"}, out.writes)
}

type recordingWriter struct{ writes []string }

func (w *recordingWriter) Write(p []byte) (int, error) {
	w.writes = append(w.writes, string(p))
	return len(p), nil
}
