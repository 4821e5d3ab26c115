package execution

import (
	"sync"
	"time"

	"github.com/dataguardian/dataguardian/internal/logs"
)

// What waits for one watcher, at most. Beyond it, lines are read from the hub and
// states from the database once he reads again: one who never reads costs nothing
// more.
const (
	watcherSeats = 1024
	seatLines    = 128
	seatBytes    = 32 << 10
	watcherBytes = 1 << 20
)

// watcher is what has come for one who watches since he last looked. The board
// puts, the reader takes.
type watcher struct {
	request WatchRequest
	wake    chan struct{}

	mu       sync.Mutex
	seats    map[string]*seat
	queue    []*seat // those with something to tell, in order
	bytes    int     // of all lines in seats
	horizon  time.Time
	settled  time.Time // every change before was told, or is none of what is watched
	overflow bool      // too much: read the database again

	// Of a watcher with a scope: the datasources in it, once the reader has looked, and
	// those that came into it and whose executions he has yet to find.
	reach  map[string]bool
	joined map[string]bool
}

// seat is one execution as one watcher knows it.
type seat struct {
	execution Execution
	changed   time.Time // of the newest state that was taken
	hidden    bool      // nothing for this watcher
	queued    bool

	pending  *Change
	progress *Progress
	lines    []*logs.Line
	bytes    int
	last     int64 // the last line that was queued or taken
	behind   bool  // there are, or may be, lines after last that are not queued

	// The reader's own.
	told   bool      // a state was told
	toldAt time.Time // when that was the news
	seq    int64     // the last line that was told; -1 when nobody knows
}

func newWatcher(r WatchRequest) *watcher {
	return &watcher{request: r, wake: make(chan struct{}, 1), seats: map[string]*seat{}}
}

// change puts a change that the board has found, unless it was told already.
func (w *watcher) change(c *Change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !c.ChangedAt.Before(w.settled) {
		w.put(c)
	}
}

// found puts what the reader himself has found, and looks after lines that a spill
// has left behind.
func (w *watcher) found(c *Change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.put(c)
	if s := w.seats[c.ID]; s != nil && s.behind && !s.hidden && !w.overflow {
		w.enqueue(s)
	}
}

func (w *watcher) put(c *Change) {
	s := w.seats[c.ID]
	switch {
	case s != nil && (c.ChangedAt.Before(s.changed) || !s.hidden && c.ChangedAt.Equal(s.changed)):
		return
	case !w.request.wants(c):
		w.hide(c, s)
		return
	case w.overflow:
		return
	case s == nil && len(w.seats) >= watcherSeats && len(w.queue) >= watcherSeats/2:
		w.spill()
		return
	case s == nil:
		s = &seat{behind: w.request.Lines}
		w.seats[c.ID] = s
	}
	if s.hidden || s.latest().Terminal() && !c.Status.Terminal() {
		s.behind = w.request.Lines // line has passed over it: it was hidden, or its upload is retried
	}
	s.hidden = false
	s.pending = c
	w.enqueue(s)
}

// hide remembers that an execution is none of the watcher's business.
func (w *watcher) hide(c *Change, s *seat) {
	switch {
	case c.Status.Terminal():
		delete(w.seats, c.ID)
	case s == nil:
		w.seats[c.ID] = &seat{execution: c.Execution, changed: c.ChangedAt, hidden: true}
	default:
		s.hidden, s.changed = true, c.ChangedAt
	}
}

// conceal stops telling of an execution that has left the scope. One that has ended is
// forgotten, as no other change will do that, and reported: the answer may be older than
// what was found of it, and then only the database knows.
func (w *watcher) conceal(s *seat) (ended bool) {
	if ended = s.pending != nil && s.pending.Status.Terminal(); ended {
		delete(w.seats, s.pending.ID)
	}
	w.drop(s)
	s.hidden, s.pending, s.progress, s.behind = true, nil, nil, false
	return ended
}

// arrive says which datasources the watcher may see when he begins to read.
func (w *watcher) arrive(tagged map[string][]string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.reach == nil {
		w.reach, w.joined = w.request.reach(tagged), map[string]bool{}
	}
}

// scoped reports whether the watcher has begun to read and may not see everything.
func (w *watcher) scoped() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.request.scope != nil && w.reach != nil
}

// regard says which datasources a watcher with a scope may see now. Executions of the
// others are hidden; those of new ones are found in the database.
func (w *watcher) regard(tagged map[string][]string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	was := w.reach
	w.reach = w.request.reach(tagged)
	again := false // whether the database has to be read
	for _, s := range w.seats {
		if !s.hidden && !w.reach[s.datasource()] && w.conceal(s) {
			again = true
		}
	}
	for id := range w.reach {
		if !was[id] {
			w.joined[id], again = true, true
		}
	}
	if again {
		w.spill()
	}
}

// hasJoined reports whether a datasource came into the scope since the database was
// read.
func (w *watcher) hasJoined(datasource string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.joined[datasource]
}

// complete reports whether everything that was found in the database was put, and
// takes note of it.
func (w *watcher) complete() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.overflow {
		clear(w.joined)
	}
	return !w.overflow
}

// spill gives up what waits: it is in the database.
func (w *watcher) spill() {
	w.overflow = true
	for _, s := range w.queue {
		w.drop(s)
		s.queued, s.pending, s.progress, s.behind = false, nil, nil, w.request.Lines && !s.hidden
	}
	w.queue = nil
	signal(w.wake)
}

// resume seats an execution whose state was told before the watch began, or looks
// after one that has a seat; nil when it is none of the watcher's business.
func (w *watcher) resume(c *Change, seq int64) *seat {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.seats[c.ID]
	switch {
	case s != nil && s.behind:
		w.enqueue(s)
		return nil
	case s != nil || !w.request.wants(c):
		return nil
	}
	s = &seat{execution: c.Execution, changed: c.ChangedAt, told: true, toldAt: c.ChangedAt, seq: seq, last: seq}
	w.seats[c.ID] = s
	w.fallBehind(s)
	return s
}

// progress reports whether the watcher knows the execution to run.
func (w *watcher) progress(id string, p Progress) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.seats[id]
	if s == nil || !s.hidden && s.latest() != Running {
		return false
	}
	if !s.hidden {
		s.progress = &p
		w.enqueue(s)
	}
	return true
}

func (s *seat) datasource() string {
	if s.pending != nil {
		return s.pending.DatasourceID
	}
	return s.execution.DatasourceID
}

func (s *seat) latest() Status {
	if s.pending != nil {
		return s.pending.Status
	}
	return s.execution.Status
}

// line puts a line that goes on where the last one ended; for all others, and when
// too many wait, they have to be read. Those of an execution that has ended come with
// its end, or, of a retried upload, with the state that takes it up again.
func (w *watcher) line(id string, l *logs.Line) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.seats[id]
	size := len(l.Message) + 64
	switch {
	case s == nil || !w.request.Lines || s.hidden || s.behind || s.latest().Terminal() || l.Seq <= s.last:
	case l.Seq != s.last+1 || len(s.lines) >= seatLines || s.bytes+size > seatBytes || w.bytes+size > watcherBytes:
		w.fallBehind(s)
	default:
		s.lines = append(s.lines, l)
		s.last = l.Seq
		s.bytes += size
		w.bytes += size
		w.enqueue(s)
	}
}

// lag makes the reader look for lines of an execution.
func (w *watcher) lag(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s := w.seats[id]; s != nil {
		w.fallBehind(s)
	}
}

func (w *watcher) lagAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.seats {
		w.fallBehind(s)
	}
}

func (w *watcher) fallBehind(s *seat) {
	if !w.request.Lines || s.hidden || s.latest().Terminal() {
		return
	}
	w.drop(s)
	s.behind = true
	w.enqueue(s)
}

// drop forgets lines that wait.
func (w *watcher) drop(s *seat) {
	s.last -= int64(len(s.lines))
	w.bytes -= s.bytes
	s.lines, s.bytes = nil, 0
}

func (w *watcher) enqueue(s *seat) {
	if !s.queued {
		s.queued = true
		w.queue = append(w.queue, s)
	}
	signal(w.wake)
}

// advance says that every change before the horizon was put.
func (w *watcher) advance(horizon time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.horizon = horizon
}

// settle says that every change before a time was told: the board, which reads for
// all, may come across it later.
func (w *watcher) settle(at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.settled = at
}

// news is what there is to tell of one execution.
type news struct {
	seat     *seat
	change   *Change
	progress *Progress
	lines    []*logs.Line
	behind   bool
}

// take returns the next news; false when there are none, with how far the states
// are that were put until now. That is nowhere after a spill.
func (w *watcher) take() (n news, horizon time.Time, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case len(w.queue) == 0 && w.overflow:
		return news{}, time.Time{}, false
	case len(w.queue) == 0:
		return news{}, w.horizon, false
	}
	s := w.queue[0]
	w.queue = w.queue[1:]
	n = news{seat: s, change: s.pending, progress: s.progress, lines: s.lines, behind: s.behind}
	w.bytes -= s.bytes
	s.queued, s.pending, s.progress, s.lines, s.bytes, s.behind = false, nil, nil, nil, 0, false
	if n.change != nil {
		s.execution, s.changed = n.change.Execution, n.change.ChangedAt
	}
	return n, time.Time{}, true
}

// caught says that the reader has told every line up to the seat's seq.
func (w *watcher) caught(s *seat) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.seq >= s.last {
		w.drop(s)
		s.last = s.seq
	}
}

// spilled reports, once, that the database has to be read again.
func (w *watcher) spilled() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	was := w.overflow
	w.overflow = false
	return was
}

// seated reports whether a seat is still that of its execution.
func (w *watcher) seated(id string, s *seat) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seats[id] == s
}

// remove forgets an execution that has ended, unless there is more to tell; false
// when there is.
func (w *watcher) remove(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.seats[id]
	if s == nil || s.queued || !s.latest().Terminal() {
		return false
	}
	delete(w.seats, id)
	return true
}
