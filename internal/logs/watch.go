package logs

import (
	"context"
	"iter"
	"sync"
	"time"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// ErrBehind ends the Watch of a reader that was too slow.
var ErrBehind = errs.New(errs.Exhausted, errs.CodeRateLimited,
	"this watcher read too slowly and has missed events; connect again and read the current state first")

// watcher is one reader of everything.
type watcher struct {
	lines   bool
	channel string
	wake    chan struct{}
	limit   int

	mu     sync.Mutex
	queue  []Announcement
	behind bool
	last   map[string]int64 // the last line of each execution
}

// Watch implements Hub. With lines, a line comes once and in order; where the
// watcher missed some, their Gap comes with the execution.
func (h *RedisHub) Watch(ctx context.Context, lines bool) iter.Seq2[Announcement, error] {
	return func(yield func(Announcement, error) bool) {
		w := &watcher{lines: lines, channel: h.stateChannel(), wake: make(chan struct{}, 1), limit: h.cfg.Watch, last: map[string]int64{}}
		if lines {
			w.channel = h.livePattern()
		}
		h.join(w)
		defer h.leave(w)
		idle := time.NewTimer(h.cfg.Heartbeat)
		defer idle.Stop()
		for {
			select {
			case <-w.wake:
			case <-idle.C:
				w.heartbeat()
			case <-ctx.Done():
				yield(Announcement{}, context.Cause(ctx))
				return
			case <-h.life.Done():
				yield(Announcement{}, errStopped())
				return
			}
			queue, behind := w.take()
			for _, a := range queue {
				if !yield(a, nil) {
					return
				}
			}
			if behind {
				yield(Announcement{}, ErrBehind)
				return
			}
			idle.Reset(h.cfg.Heartbeat)
		}
	}
}

func (h *RedisHub) join(w *watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.watchers[w] = struct{}{}
	if h.bus.want(w.channel, true) {
		w.listening()
	}
}

func (h *RedisHub) leave(w *watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.watchers, w)
	for other := range h.watchers {
		if other.channel == w.channel {
			return
		}
	}
	h.bus.want(w.channel, false)
}

// listening says that the watcher hears everything from now on.
func (w *watcher) listening() {
	w.mu.Lock()
	w.add(Announcement{Event: Event{Gap: &Gap{}}})
	w.mu.Unlock()
	signal(w.wake)
}

func (w *watcher) heartbeat() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) == 0 {
		w.add(Announcement{Event: Event{Idle: true}})
	}
}

// put takes what a message holds.
func (w *watcher) put(executionID string, lines []*Line, m message) {
	w.mu.Lock()
	for _, l := range lines {
		w.line(executionID, l)
	}
	if m.State != nil {
		w.add(Announcement{ExecutionID: executionID, Event: Event{State: m.State}})
	}
	if m.End {
		delete(w.last, executionID)
		w.add(Announcement{ExecutionID: executionID, Event: Event{End: true}})
	}
	w.mu.Unlock()
	signal(w.wake)
}

func (w *watcher) line(executionID string, l *Line) {
	last, known := w.last[executionID]
	if known && l.Seq <= last {
		return
	}
	if known && l.Seq > last+1 {
		w.add(Announcement{ExecutionID: executionID, Event: Event{Gap: &Gap{From: last + 1, To: l.Seq - 1}}})
	}
	const most = 10_000 // executions that nobody closed
	if len(w.last) >= most {
		clear(w.last)
	}
	w.last[executionID] = l.Seq
	w.add(Announcement{ExecutionID: executionID, Event: Event{Line: l}})
}

// add queues an event; over the limit, what is queued is the last that comes.
func (w *watcher) add(a Announcement) {
	if w.behind || len(w.queue) >= w.limit {
		w.behind = true
		return
	}
	w.queue = append(w.queue, a)
}

func (w *watcher) take() ([]Announcement, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	queue := w.queue
	w.queue = nil
	return queue, w.behind
}
