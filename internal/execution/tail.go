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
	post    *post
	opened  time.Time
	after   int64
	yield   func(Event, error) bool
	told    bool      // that the execution has ended
	blind   time.Time // since when the row cannot be looked at
}

func (t *tail) run(ctx context.Context) {
	goOn := t.row(ctx, true)
	for goOn {
		was := t.told
		if !t.live(ctx) {
			return
		}
		// The row is written before anybody is told of the end.
		if (was || !t.told) && !sleep(ctx, pollInterval) {
			t.yield(Event{}, context.Cause(ctx))
			return
		}
		news, err := t.news(ctx, pollInterval)
		switch {
		case err == nil:
			t.blind = time.Time{}
			goOn = !news || t.row(ctx, false)
		case t.bears(ctx):
			goOn = t.yield(Event{Idle: true}, nil)
		default:
			t.yield(Event{}, err)
			return
		}
	}
}

// bears reports whether a look that failed ends nothing yet: the metadata may be away for
// a while, and the hub goes on.
func (t *tail) bears(ctx context.Context) bool {
	if t.blind.IsZero() {
		t.blind = time.Now()
	}
	return ctx.Err() == nil && time.Since(t.blind) < rowLimit
}

// row shows what the row has. It reports whether to go on.
func (t *tail) row(ctx context.Context, first bool) bool {
	e, err := t.service.lookout.row(ctx, t.post, func(r *rowRead) bool { return t.enough(r, first) })
	if err != nil {
		t.yield(Event{}, err)
		return false
	}
	if first && !t.yield(Event{Open: true}, nil) || !t.lines(e.Logs) {
		return false
	}
	if e.Status.Terminal() {
		t.yield(Event{End: &e}, nil)
		return false
	}
	return true
}

// enough says that a row which was read for another tail a moment ago will do: of one
// that runs the hub brings what came since; one that has ended had so after this tail
// began, which has seen no more than it holds.
func (t *tail) enough(r *rowRead, first bool) bool {
	if first {
		return !r.execution.Status.Terminal()
	}
	return r.execution.Status.Terminal() && !r.began.Before(t.opened) && lastSeq(r.execution.Logs) >= t.after
}

// news reports whether the row has something that this tail has not.
func (t *tail) news(ctx context.Context, age time.Duration) (bool, error) {
	if t.told {
		return true, nil
	}
	look, exists, err := t.service.lookout.look(ctx, t.post, age)
	return !exists || look.Status.Terminal() || look.Last > t.after, err
}

// live follows the hub until it has to be looked at the row again (true) or the
// reader is gone (false).
func (t *tail) live(ctx context.Context) bool {
	for event, err := range t.service.Hub.Follow(ctx, t.post.id, t.after) {
		if err != nil {
			if ctx.Err() != nil {
				t.yield(Event{}, context.Cause(ctx))
				return false
			}
			t.service.Logger.DebugContext(ctx, "a tail reads from the row while the hub is away", "execution_id", t.post.id, "error", err)
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
			// The announcement of the end, or a line, may have been lost.
			if news, err := t.news(ctx, lookAge); news || err != nil {
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
