package execution

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/dataguardian/dataguardian/internal/logs"
)

// BoardConfig is what a Board stands on. Zero durations take the defaults.
type BoardConfig struct {
	Changes Changes
	Reader  Reader
	Hub     logs.Hub
	Logger  *slog.Logger

	Poll      time.Duration // how often changes are read when nobody announces any; 2 s
	Pause     time.Duration // between two readings, at least; 100 ms
	Heartbeat time.Duration // Idle events after so long without another; 15 s
}

const (
	boardPage = 200 // rows of one reading
	// catchUps bounds how many watchers read lines from the hub at one time.
	catchUps = 8
)

// Board tells all watchers of one process what happens to executions. PostgreSQL
// is the truth: what is announced over Redis makes the board read it at once, and
// no more than that; while Redis is away it is read every Poll. One subscription
// and one reading serve all watchers, and none is kept up by another.
type Board struct {
	BoardConfig

	wake  chan struct{} // something may have changed
	tuned chan struct{} // watchers came or left
	slots chan struct{}

	mu      sync.Mutex
	inboxes map[*watcher]struct{}
	since   time.Time            // all changes before were given to those who were there; zero without watchers
	given   map[string]time.Time // changes since then that were given already
}

// NewBoard returns a board. Watchers learn of changes while Run runs.
func NewBoard(c BoardConfig) *Board {
	c.Poll = cmp.Or(c.Poll, 2*time.Second)
	c.Pause = cmp.Or(c.Pause, 100*time.Millisecond)
	c.Heartbeat = cmp.Or(c.Heartbeat, 15*time.Second)
	return &Board{
		BoardConfig: c, wake: make(chan struct{}, 1), tuned: make(chan struct{}, 1), slots: make(chan struct{}, catchUps),
		inboxes: map[*watcher]struct{}{}, given: map[string]time.Time{},
	}
}

// Run keeps the board up to date until ctx ends, and returns its cause.
func (b *Board) Run(ctx context.Context) error {
	listened := make(chan struct{})
	go func() {
		defer close(listened)
		b.listen(ctx)
	}()
	b.read(ctx)
	<-listened
	return context.Cause(ctx)
}

// join seats a watcher. From then on it is given every change that is not visible
// yet.
func (b *Board) join(ctx context.Context, w *watcher) error {
	var since time.Time
	for !b.seat(w, since) {
		var err error
		if since, err = b.Changes.Horizon(ctx); err != nil {
			return err
		}
	}
	signal(b.tuned)
	signal(b.wake)
	return nil
}

// seat adds a watcher, the first one with where the board begins; false when that
// is not known yet.
func (b *Board) seat(w *watcher, since time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.since.IsZero() {
		b.since = since
	}
	if b.since.IsZero() {
		return false
	}
	b.inboxes[w] = struct{}{}
	return true
}

func (b *Board) leave(w *watcher) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.inboxes, w)
	if len(b.inboxes) == 0 {
		b.since = time.Time{}
		b.inboxes, b.given = map[*watcher]struct{}{}, map[string]time.Time{} // maps keep the room for all they ever held
	}
	signal(b.tuned)
}

// audience says whether anybody watches, and whether anybody watches lines.
func (b *Board) audience() (watched, lines bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for w := range b.inboxes {
		watched, lines = true, lines || w.request.Lines
	}
	return watched, lines
}

// each does something for every watcher. It must not block.
func (b *Board) each(do func(*watcher)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for w := range b.inboxes {
		do(w)
	}
}

// read gives changes to the watchers: at once when there is a hint, else every
// Poll.
func (b *Board) read(ctx context.Context) {
	failing := false
	for ctx.Err() == nil {
		limit := b.Poll
		if watched, _ := b.audience(); watched {
			err := b.poll(ctx)
			if err != nil && !failing && ctx.Err() == nil {
				b.Logger.WarnContext(ctx, "changes of executions cannot be read; those who watch wait", "error", err)
			}
			failing = err != nil
		}
		if !sleep(ctx, b.Pause) {
			return
		}
		timer := time.NewTimer(limit)
		select {
		case <-b.wake:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// poll reads what has changed since the last time.
func (b *Board) poll(ctx context.Context) error {
	b.mu.Lock()
	since := b.since
	b.mu.Unlock()
	if since.IsZero() {
		return nil
	}
	horizon, err := b.Changes.Horizon(ctx)
	if err != nil {
		return err
	}
	for from := MarkAt(since); ; {
		page, err := b.Changes.Changed(ctx, from, boardPage)
		if err != nil {
			return err
		}
		b.give(page)
		if len(page) < boardPage {
			break
		}
		last := page[len(page)-1]
		from = Mark{Time: last.ChangedAt, ID: last.ID}
	}
	b.advance(since, horizon)
	return b.regard(ctx)
}

// regard looks at what watchers with a scope may see by now. The answer is of use only
// to those who had begun when it was asked for: it may lack the tags of others, and
// what they have found themselves is newer.
func (b *Board) regard(ctx context.Context) error {
	var tags []string
	asked := map[*watcher]bool{}
	b.each(func(w *watcher) {
		if w.scoped() {
			asked[w] = true
			tags = append(tags, w.request.scope...)
		}
	})
	if len(tags) == 0 {
		return nil
	}
	slices.Sort(tags)
	tagged, err := b.Changes.Tagged(ctx, slices.Compact(tags))
	if err != nil {
		return err
	}
	b.each(func(w *watcher) {
		if asked[w] {
			w.regard(tagged)
		}
	})
	return nil
}

func (b *Board) give(page []Change) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range page {
		c := &page[i]
		if b.given[c.ID].Equal(c.ChangedAt) {
			continue
		}
		b.given[c.ID] = c.ChangedAt
		for w := range b.inboxes {
			w.change(c)
		}
	}
}

// advance says that every change before the horizon was given.
func (b *Board) advance(since, horizon time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.since.Equal(since) || horizon.Before(since) { // all have left meanwhile, or the clock went back
		return
	}
	b.since = horizon
	for id, at := range b.given {
		if at.Before(horizon) {
			delete(b.given, id)
		}
	}
	for w := range b.inboxes {
		w.advance(horizon)
	}
}

// listen hears what workers announce, as much of it as somebody wants to know.
func (b *Board) listen(ctx context.Context) {
	for ctx.Err() == nil {
		watched, lines := b.audience()
		if !watched {
			select {
			case <-b.tuned:
			case <-ctx.Done():
			}
			continue
		}
		b.hear(ctx, lines)
		if !sleep(ctx, b.Pause) {
			return
		}
	}
}

// hear listens until something else is wanted, or the hub ends it.
func (b *Board) hear(ctx context.Context, lines bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		for {
			select {
			case <-b.tuned:
			case <-ctx.Done():
				return
			}
			if watched, more := b.audience(); !watched || more != lines {
				cancel()
				return
			}
		}
	}()
	for a, err := range b.Hub.Watch(ctx, lines) {
		if err != nil {
			if ctx.Err() == nil {
				b.Logger.DebugContext(ctx, "announcements are not heard for a moment", "error", err)
			}
			return
		}
		b.heard(a)
	}
}

func (b *Board) heard(a logs.Announcement) {
	switch e := a.Event; {
	case e.Line != nil:
		b.each(func(w *watcher) { w.line(a.ExecutionID, e.Line) })
	case e.Gap != nil && a.ExecutionID != "":
		b.each(func(w *watcher) { w.lag(a.ExecutionID) })
	case e.Gap != nil: // something may have been missed before
		b.each(func(w *watcher) { w.lagAll() })
		signal(b.wake)
	case e.State != nil:
		b.announced(a.ExecutionID, e.State)
	case e.End:
		signal(b.wake)
	}
}

// announced passes progress on for executions that run, as the database says.
// Everything else is a hint to read.
func (b *Board) announced(id string, raw []byte) {
	var state State
	if json.Unmarshal(raw, &state) != nil {
		return
	}
	known := false
	if state.Status == Running && state.Progress.sound() {
		b.each(func(w *watcher) { known = w.progress(id, state.Progress) || known })
	}
	if !known {
		signal(b.wake)
	}
}

// signal wakes the reader of a channel with room for one, if it is not awake.
func signal(wake chan<- struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}
