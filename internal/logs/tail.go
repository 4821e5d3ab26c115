package logs

import (
	"sync"
	"sync/atomic"
)

// topic is an execution that somebody here tails.
type topic struct {
	executionID string
	tails       map[*tail]struct{} // guarded by the hub's mutex

	started atomic.Int64 // reads so far
	mu      sync.Mutex
	reads   map[int64]*sharedRead // in flight, by the line they read after
}

// sharedRead is a read of the stream that several tails wait for.
type sharedRead struct {
	number int64 // counts from 1
	done   chan struct{}
	page   page
	err    error
}

// tail is one reader of a log: what has come for it since it last looked. The
// hub puts, the reader takes.
type tail struct {
	topic *topic
	wake  chan struct{}

	mu     sync.Mutex
	last   int64 // the last line that was queued or taken
	heard  int64 // the last line that is known to exist
	queue  []*Line
	bytes  int
	behind bool  // the stream has, or may have, lines after last
	since  int64 // the read that had started last when that was learnt: only later ones help
	state  []byte
}

func newTail(t *topic, after int64) *tail {
	return &tail{topic: t, wake: make(chan struct{}, 1), last: after, heard: after, behind: true, since: t.started.Load()}
}

// put takes lines that go on where the last ones ended; for all others, and
// when the reader is too slow, the stream has to be read.
func (t *tail) put(lines []*Line, m message, limit HubConfig) {
	t.mu.Lock()
	for _, l := range lines {
		t.heard = max(t.heard, l.Seq)
		switch {
		case l.Seq <= t.last:
		case t.behind || l.Seq != t.last+1:
			t.fallBehind()
		case len(t.queue) >= limit.TailLines || t.bytes+size(l) > limit.TailBytes && len(t.queue) > 0:
			t.last -= int64(len(t.queue))
			t.queue, t.bytes = nil, 0
			t.fallBehind()
		default:
			t.queue = append(t.queue, l)
			t.bytes += size(l)
			t.last = l.Seq
		}
	}
	t.heard = max(t.heard, m.Top)
	if m.Top > t.last || m.End {
		t.fallBehind()
	}
	if m.State != nil {
		t.state = m.State
	}
	t.mu.Unlock()
	signal(t.wake)
}

// lag makes the reader look into the stream.
func (t *tail) lag() {
	t.mu.Lock()
	t.fallBehind()
	t.mu.Unlock()
	signal(t.wake)
}

func (t *tail) fallBehind() {
	t.behind = true
	t.since = t.topic.started.Load()
}

// again makes the reader read once more for what it was told before.
func (t *tail) again() {
	t.mu.Lock()
	t.behind = true
	t.mu.Unlock()
}

// take returns what is queued. Once that is empty and the tail is behind, it is
// told to read, by a read that starts after since; what comes from then on is
// queued, or makes it read again.
func (t *tail) take() (lines []*Line, state []byte, read bool, since int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines, state = t.queue, t.state
	t.queue, t.bytes, t.state = nil, 0, nil
	if len(lines) == 0 && t.behind {
		t.behind, read = false, true
	}
	return lines, state, read, t.since
}

// caught says that the reader has everything up to seq, from the stream.
func (t *tail) caught(seq int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if seq <= t.last {
		// The queue may overlap with what was read, and goes on behind it.
		drop := min(max(0, len(t.queue)-int(t.last-seq)), len(t.queue))
		for _, l := range t.queue[:drop] {
			t.bytes -= size(l)
		}
		t.queue = t.queue[drop:]
		return
	}
	t.queue, t.bytes, t.last = nil, 0, seq
}

// queued returns what is queued, and nothing else happens.
func (t *tail) queued() []*Line {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := t.queue
	t.queue, t.bytes = nil, 0
	return lines
}

// known returns the last line that is known to exist.
func (t *tail) known() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.heard
}
