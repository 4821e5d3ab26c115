package execution

import (
	"context"
	"encoding/json"
	"time"

	"github.com/dataguardian/dataguardian/internal/logs"
)

// pollInterval is how often a tail looks at the row while the hub is down.
const pollInterval = time.Second

// tail is one reader of one execution. The hub brings lines at once; the row is
// the truth, and what a tail falls back to.
type tail struct {
	service *Service
	id      string
	after   int64
	yield   func(Event, error) bool
	told    bool // that the execution has ended
}

func (t *tail) run(ctx context.Context) {
	for {
		e, err := t.service.Store.Get(ctx, t.id)
		if err != nil {
			t.yield(Event{}, err)
			return
		}
		if !t.lines(e.Logs) {
			return
		}
		if e.Status.Terminal() {
			t.yield(Event{End: &e}, nil)
			return
		}
		was := t.told
		if !t.live(ctx) {
			return
		}
		if t.told && !was {
			continue // the row is written before anybody is told
		}
		if !sleep(ctx, pollInterval) {
			t.yield(Event{}, context.Cause(ctx))
			return
		}
	}
}

// live follows the hub until it has to be looked at the row again (true) or the
// reader is gone (false).
func (t *tail) live(ctx context.Context) bool {
	for event, err := range t.service.Hub.Follow(ctx, t.id, t.after) {
		if err != nil {
			if ctx.Err() != nil {
				t.yield(Event{}, context.Cause(ctx))
				return false
			}
			t.service.Logger.DebugContext(ctx, "a tail reads from the row while the hub is away", "execution_id", t.id, "error", err)
			return true
		}
		switch {
		case event.End:
			t.told = true
			return true
		case event.Idle:
			if !t.yield(Event{Idle: true}, nil) {
				return false
			}
			if ended, err := t.ended(ctx); ended || err != nil {
				return true
			}
		case event.State != nil:
			if !t.state(event.State) {
				return false
			}
		default:
			if !t.forward(event) {
				return false
			}
		}
	}
	return true
}

// ended looks at the row: the announcement of the end may have been lost.
func (t *tail) ended(ctx context.Context) (bool, error) {
	e, err := t.service.Store.Get(ctx, t.id)
	return err == nil && e.Status.Terminal(), err
}

func (t *tail) state(raw []byte) bool {
	var state State
	if err := json.Unmarshal(raw, &state); err != nil || state.Status != Running || !state.Progress.sound() {
		return true
	}
	return t.yield(Event{Progress: &state.Progress}, nil)
}

func (t *tail) forward(event logs.Event) bool {
	switch {
	case event.Line != nil && event.Line.Seq > t.after:
		t.after = event.Line.Seq
		return t.yield(Event{Line: event.Line}, nil)
	case event.Gap != nil && event.Gap.To > t.after:
		t.after = event.Gap.To
		return t.yield(Event{Gap: event.Gap}, nil)
	}
	return true
}

// lines yields the stored lines that the reader has not seen.
func (t *tail) lines(stored []logs.Line) bool {
	for _, line := range stored {
		if line.Seq <= t.after {
			continue
		}
		if line.Seq > t.after+1 && !t.yield(Event{Gap: &logs.Gap{From: t.after + 1, To: line.Seq - 1}}, nil) {
			return false
		}
		t.after = line.Seq
		if !t.yield(Event{Line: &line}, nil) {
			return false
		}
	}
	return true
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
