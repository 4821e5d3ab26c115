package logs

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dataguardian/dataguardian/internal/engine"
)

// RecorderConfig says where the lines of one execution go. Nil fields are left
// out; zero durations take the defaults.
type RecorderConfig struct {
	ExecutionID string
	Label       string // on the terminal: "BACKUP", "RESTORE" or "VERIFY"
	Job         string // the job's name, on the terminal
	Stored      []Line // what the row has already, from earlier attempts
	After       int64  // the last number that was given out, when that is more than Stored shows
	Redactor    *Redactor
	Hub         interface {
		Append(ctx context.Context, executionID string, lines ...Line) error
	}
	Terminal *Terminal
	Save     func(ctx context.Context, lines []Line) error // replaces the stored lines
	Report   func(error)                                   // hears of the first failure of a row, of any of them
	Lag      func(age time.Duration)                       // hears how old the oldest line of each try to send some to the hub is

	SaveDelay time.Duration // before lines are saved, at least; 1 s, and 1 s more for each 32 KiB
	SaveLimit time.Duration // for one Save in the background; 10 s
	Drain     time.Duration // how long Close waits for the hub and the terminal; 2 s
}

const saveRate = 32 << 10 // bytes per second that saving may write on average

// Recorder is the worker's side of an execution's log. It numbers, redacts and
// escapes each line, shows it on the terminal, sends it to the hub and stores
// it, all of that in the background: no method but Close waits for anything.
// All methods may be called concurrently.
type Recorder struct {
	cfg   RecorderConfig
	meter meter
	boxes []*outbox
	stop  context.CancelFunc // of the boxes

	mu     sync.Mutex
	next   int64
	lines  []Line
	bytes  int
	dirty  bool // lines are not saved yet
	closed bool

	saveWake   chan struct{}
	saveCtx    context.Context // ends when Close takes over
	saveCancel context.CancelFunc
	saverDone  chan struct{}
}

// NewRecorder returns a running recorder. Close it.
func NewRecorder(cfg RecorderConfig) *Recorder {
	cfg.SaveDelay = cmp.Or(cfg.SaveDelay, time.Second)
	cfg.SaveLimit = cmp.Or(cfg.SaveLimit, 10*time.Second)
	cfg.Drain = cmp.Or(cfg.Drain, 2*time.Second)
	if cfg.Redactor == nil {
		cfg.Redactor = NewRedactor()
	}
	cfg.Job = Escape(cfg.Redactor.Redact(cfg.Job))
	if cfg.Report == nil {
		cfg.Report = func(error) {}
	}
	r := &Recorder{cfg: cfg, next: cfg.After + 1, saveWake: make(chan struct{}, 1), saverDone: make(chan struct{})}
	for _, l := range cfg.Stored {
		r.keep(l)
		r.next = max(r.next, l.Seq+1)
	}
	r.dirty = false
	r.meter.begin("done", time.Now())
	var life context.Context
	life, r.stop = context.WithCancel(context.Background())
	if cfg.Hub != nil {
		r.boxes = append(r.boxes, startOutbox(life, r.append, cfg.Report))
	}
	if cfg.Terminal != nil {
		r.boxes = append(r.boxes, startOutbox(life, r.print, cfg.Report))
	}
	r.saveCtx, r.saveCancel = context.WithCancel(context.Background())
	go r.saver()
	return r
}

// Log records a line; several lines in message become one. After Close it does
// nothing.
func (r *Recorder) Log(level engine.Level, message string) {
	message = r.Clean(strings.TrimRight(message, "\r\n"))
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	l := Line{Seq: r.next, Time: time.Now().UTC().Truncate(time.Microsecond), Level: knownLevel(level), Message: message}
	r.next++
	r.keep(l)
	for _, box := range r.boxes {
		box.put(l)
	}
	signal(r.saveWake)
}

// Clean returns a text as a line of the log would show it: without secrets, and safe
// to print.
func (r *Recorder) Clean(text string) string { return Escape(r.cfg.Redactor.Redact(text)) }

// Logf formats and records a line.
func (r *Recorder) Logf(level engine.Level, format string, args ...any) {
	r.Log(level, fmt.Sprintf(format, args...))
}

// Phase starts to count progress anew; verb is what its lines say first, such
// as "dumped" or "restored".
func (r *Recorder) Phase(verb string) { r.meter.begin(verb, time.Now()) }

// Progress takes a snapshot, and records a line on each tenth and, between
// them, every 5 s at most.
func (r *Recorder) Progress(p engine.Progress) {
	if line, due := r.meter.observe(p, time.Now()); due {
		r.Log(engine.LevelInfo, line)
	}
}

// Numbers returns how far the phase is now.
func (r *Recorder) Numbers() Numbers { return r.meter.now(time.Now()) }

// Lines returns what would be stored now.
func (r *Recorder) Lines() []Line {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.lines)
}

// Close records no more, saves what is not saved, waits a moment for the hub
// and the terminal, and returns the final lines, also with the error of Save.
// A hub that does not answer is no error: the lines are stored. Further calls
// return the same lines.
func (r *Recorder) Close(ctx context.Context) ([]Line, error) {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	for _, box := range r.boxes {
		box.close()
	}
	drained := time.NewTimer(r.cfg.Drain)
	defer drained.Stop()
	r.saveCancel()
	<-r.saverDone
	err := r.save(ctx)
	r.drain(ctx, drained.C)
	r.stop()
	return r.Lines(), err
}

func (r *Recorder) drain(ctx context.Context, limit <-chan time.Time) {
	for _, box := range r.boxes {
		select {
		case <-box.done:
		case <-limit:
			return
		case <-ctx.Done():
			return
		}
	}
}

// keep adds a line to the list to store. It needs the lock.
func (r *Recorder) keep(l Line) {
	r.lines = append(r.lines, l)
	r.bytes += size(&l)
	r.dirty = true
	if len(r.lines) <= MaxStoredLines && r.bytes <= MaxStoredBytes {
		return
	}
	r.lines = Bound(r.lines)
	r.bytes = 0
	for i := range r.lines {
		r.bytes += size(&r.lines[i])
	}
}

func (r *Recorder) append(ctx context.Context, lines []Line) error {
	err := r.cfg.Hub.Append(ctx, r.cfg.ExecutionID, lines...)
	if r.cfg.Lag != nil {
		r.cfg.Lag(max(time.Since(lines[0].Time), 0))
	}
	return err
}

// print never asks for another try: a terminal that is gone does not come back.
func (r *Recorder) print(_ context.Context, lines []Line) error {
	for _, l := range lines {
		if err := r.cfg.Terminal.Print(r.cfg.Label, r.cfg.Job, l.Level, l.Message); err != nil {
			r.cfg.Report(err)
			return nil
		}
	}
	return nil
}

// saver stores the lines now and then until Close.
func (r *Recorder) saver() {
	defer close(r.saverDone)
	for failing := false; ; {
		select {
		case <-r.saveWake:
		case <-r.saveCtx.Done():
			return
		}
		timer := time.NewTimer(r.saveDelay())
		select {
		case <-timer.C:
		case <-r.saveCtx.Done():
			timer.Stop()
			return
		}
		ctx, cancel := context.WithTimeout(r.saveCtx, r.cfg.SaveLimit)
		err := r.save(ctx)
		cancel()
		if err != nil && r.saveCtx.Err() == nil {
			signal(r.saveWake)
			if !failing {
				r.cfg.Report(err)
			}
		}
		failing = err != nil
	}
}

// saveDelay grows with the lines, which are written as a whole each time: what
// is written in all stays in proportion to the time.
func (r *Recorder) saveDelay() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cfg.SaveDelay + time.Duration(r.bytes)*time.Second/saveRate
}

func (r *Recorder) save(ctx context.Context) error {
	r.mu.Lock()
	lines := slices.Clone(r.lines)
	save := r.cfg.Save != nil && r.dirty
	r.dirty = false
	r.mu.Unlock()
	if !save {
		return nil
	}
	err := r.cfg.Save(ctx, lines)
	if err != nil {
		r.mu.Lock()
		r.dirty = true
		r.mu.Unlock()
	}
	return err
}
