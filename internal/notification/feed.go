package notification

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"sync"
	"time"
)

// Source is what a Feed reads; a Store has it. With auth.WithScope it knows only
// what lies in the scope.
type Source interface {
	After(ctx context.Context, seq int64, limit int) ([]Notification, error)
	Last(ctx context.Context) (int64, error)
}

// Defaults of a Feed.
const (
	defaultPoll      = 2 * time.Second
	defaultHeartbeat = 15 * time.Second
	feedPage         = 100
)

// Feed tells those who watch of new notifications. It reads them from the store,
// in their order, so that nobody misses one; Ring only says that it is time to.
type Feed struct {
	source    Source
	poll      time.Duration
	heartbeat time.Duration
	rung      chan struct{}

	mu       sync.Mutex
	last     int64         // the highest Seq that was seen
	changed  chan struct{} // closed when last rises
	watchers int
}

// FeedConfig of a Feed. Zero fields take the defaults.
type FeedConfig struct {
	Poll      time.Duration // between two looks without a Ring, while somebody watches; 2 s
	Heartbeat time.Duration // after which a quiet stream says that it lives; 15 s
}

// NewFeed returns a feed that does nothing before Run.
func NewFeed(source Source, c FeedConfig) *Feed {
	return &Feed{
		source: source, poll: cmp.Or(c.Poll, defaultPoll), heartbeat: cmp.Or(c.Heartbeat, defaultHeartbeat),
		rung: make(chan struct{}, 1), changed: make(chan struct{}),
	}
}

// Ring says that there may be something new. It does not wait.
func (f *Feed) Ring() {
	select {
	case f.rung <- struct{}{}:
	default:
	}
}

// Run looks for new notifications until ctx ends, for all who watch at once. It
// returns the cause of ctx.
func (f *Feed) Run(ctx context.Context) error {
	ticker := time.NewTicker(f.poll)
	defer ticker.Stop()
	for {
		select {
		case <-f.rung:
		case <-ticker.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if !f.watched() {
			continue
		}
		if last, err := f.source.Last(ctx); err == nil { // without the database there is no news; the next look comes
			f.advance(last)
		}
	}
}

func (f *Feed) watched() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.watchers > 0
}

func (f *Feed) advance(last int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if last > f.last {
		f.last = last
		close(f.changed)
		f.changed = make(chan struct{})
	}
}

// news is closed when there is something after what can be read now, which is
// everything up to seq at least.
func (f *Feed) news() (changed <-chan struct{}, seq int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed, f.last
}

func (f *Feed) count(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watchers += n
}

// WatchRequest says what to watch; zero fields do not narrow it.
type WatchRequest struct {
	After       *int64 // the Seq of the last event that was seen; nil: only what comes from now on
	MinSeverity Severity
	Type        Type
}

var severities = []Severity{Info, Warning, Critical}

func (r WatchRequest) wants(n Notification) bool {
	return (r.Type == "" || r.Type == n.Type) &&
		(r.MinSeverity == "" || slices.Index(severities, n.Severity) >= slices.Index(severities, r.MinSeverity))
}

// WatchEvent is a new notification, or nothing new for a while.
type WatchEvent struct {
	Seq          int64         // what WatchRequest.After takes
	Notification *Notification // nil: nothing new
}

// Watch tells of every notification after a place, once and in order, until ctx
// ends or the store fails: the last thing it yields is the reason. The first event
// says that it has begun, and where. With auth.WithScope, notifications outside of
// the scope do not exist.
func (f *Feed) Watch(ctx context.Context, r WatchRequest) iter.Seq2[WatchEvent, error] {
	return func(yield func(WatchEvent, error) bool) {
		f.count(1)
		defer f.count(-1)
		seq, err := f.place(ctx, r)
		if err != nil {
			yield(WatchEvent{}, err)
			return
		}
		if !yield(WatchEvent{Seq: seq}, nil) {
			return
		}
		idle := time.NewTimer(f.heartbeat)
		defer idle.Stop()
		for from := seq; ; {
			news, read := f.news() // before the look: what comes after it closes this
			next, more, err := f.pass(ctx, r, from, yield)
			switch {
			case err != nil:
				yield(WatchEvent{}, err)
				return
			case next < 0:
				return
			case next > from:
				idle.Reset(f.heartbeat)
				seq = next
			}
			from = next
			if more {
				continue
			}
			from = max(from, read) // what lies between is not for this caller, who is not told of it
			select {
			case <-news:
			case <-idle.C:
				if !yield(WatchEvent{Seq: seq}, nil) {
					return
				}
				idle.Reset(f.heartbeat)
			case <-ctx.Done():
				yield(WatchEvent{}, context.Cause(ctx))
				return
			}
		}
	}
}

// place is where a watch begins. One that is ahead of everything, as after the
// database was brought back from a backup, begins now.
func (f *Feed) place(ctx context.Context, r WatchRequest) (int64, error) {
	last, err := f.source.Last(ctx)
	if err != nil || r.After == nil {
		return last, err
	}
	return min(*r.After, last), nil
}

// pass tells of one page after seq. It returns how far it came, negative when
// nobody listens any more, and whether there may be another page.
func (f *Feed) pass(ctx context.Context, r WatchRequest, seq int64, yield func(WatchEvent, error) bool) (next int64, more bool, err error) {
	page, err := f.source.After(ctx, seq, feedPage)
	if err != nil {
		return seq, false, err
	}
	for _, n := range page {
		seq = n.Seq
		if r.wants(n) && !yield(WatchEvent{Seq: seq, Notification: &n}, nil) {
			return -1, false, nil
		}
	}
	return seq, len(page) == feedPage, nil
}
