package logs

import (
	"context"
	"iter"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

// Follow implements Hub. While Redis is away it waits, with Idle events. It
// does not know of logs that were closed so long ago that they have expired:
// ask the execution's row first.
func (h *RedisHub) Follow(ctx context.Context, executionID string, after int64) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		after := max(after, 0)
		t := h.attach(executionID, after)
		defer h.detach(t)
		f := &follower{hub: h, tail: t, pos: after, yield: yield, idle: time.NewTimer(h.cfg.Heartbeat)}
		defer f.idle.Stop()
		for f.step(ctx) {
		}
	}
}

func (h *RedisHub) attach(executionID string, after int64) *tail {
	h.mu.Lock()
	defer h.mu.Unlock()
	to := h.topics[executionID]
	if to == nil {
		to = &topic{executionID: executionID, tails: map[*tail]struct{}{}, reads: map[int64]*sharedRead{}}
		h.topics[executionID] = to
		h.bus.want(h.liveChannel(executionID), true)
	}
	t := newTail(to, after)
	to.tails[t] = struct{}{}
	return t
}

func (h *RedisHub) detach(t *tail) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(t.topic.tails, t)
	if len(t.topic.tails) == 0 {
		if delete(h.topics, t.topic.executionID); len(h.topics) == 0 {
			h.topics = map[string]*topic{} // a map keeps the room for all it ever held
		}
		h.bus.want(h.liveChannel(t.topic.executionID), false)
	}
}

// listening tells those who wait on a channel that they hear it from now on:
// what came before is in the stream.
func (h *RedisHub) listening(channel string) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for w := range h.watchers {
		if w.channel == channel {
			w.listening()
		}
	}
	id, ok := strings.CutPrefix(channel, h.cfg.Prefix+liveSpace)
	if to := h.topics[id]; ok && to != nil {
		for t := range to.tails {
			t.lag()
		}
	}
}

// receive hands a message on. It runs on the connection's goroutine.
func (h *RedisHub) receive(raw rueidis.PubSubMessage) {
	m, readable := decodeMessage(raw.Message)
	var lines []*Line
	for _, text := range m.Lines {
		if l, ok := decodeLine(text); ok {
			lines = append(lines, l)
		}
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	id, live := strings.CutPrefix(raw.Channel, h.cfg.Prefix+liveSpace)
	if !live {
		id = m.ID
	}
	if live && raw.Pattern == "" {
		h.toTails(id, lines, m, readable)
		return
	}
	if !readable {
		return
	}
	for w := range h.watchers {
		if w.lines == live {
			w.put(id, lines, m)
		}
	}
}

func (h *RedisHub) toTails(executionID string, lines []*Line, m message, readable bool) {
	to := h.topics[executionID]
	if to == nil {
		return
	}
	for t := range to.tails {
		if readable {
			t.put(lines, m, h.cfg)
		} else {
			t.lag()
		}
	}
}

// follower is the reading side of one tail.
type follower struct {
	hub   *RedisHub
	tail  *tail
	pos   int64 // the last line that was handed out, or given up as lost
	yield func(Event, error) bool
	idle  *time.Timer
	retry time.Duration // until the stream is read again after a failure; 0 when it has not failed
}

// step hands out what there is, or waits for more. It reports whether to go on.
func (f *follower) step(ctx context.Context) bool {
	if ctx.Err() != nil {
		return f.fail(context.Cause(ctx))
	}
	lines, state, read, since := f.tail.take()
	for _, l := range lines {
		if !f.line(l) {
			return false
		}
	}
	if state != nil && !f.event(Event{State: state}) {
		return false
	}
	switch {
	case read:
		return f.read(ctx, since)
	case len(lines) > 0 || state != nil:
		return true
	default:
		return f.await(ctx, f.tail.wake, nil)
	}
}

// line hands out a line unless it has been already.
func (f *follower) line(l *Line) bool {
	if l.Seq <= f.pos {
		return true
	}
	if !f.skipTo(l.Seq) {
		return false
	}
	f.pos = l.Seq
	return f.event(Event{Line: l})
}

// skipTo gives up the lines before seq.
func (f *follower) skipTo(seq int64) bool {
	if seq <= f.pos+1 {
		return true
	}
	gap := Gap{From: f.pos + 1, To: seq - 1}
	f.pos = gap.To
	return f.event(Event{Gap: &gap})
}

// read goes on with what the stream has.
func (f *follower) read(ctx context.Context, since int64) bool {
	r := f.hub.startRead(f.tail.topic, f.pos)
	if !f.await(ctx, r.done, nil) {
		return false
	}
	if r.err != nil { // Redis is away: wait, then read again
		f.retry = min(max(2*f.retry, 100*time.Millisecond), 5*time.Second)
		timer := time.NewTimer(f.retry/2 + rand.N(f.retry/2)) //nolint:gosec // spreads load
		defer timer.Stop()
		ok := f.await(ctx, f.tail.wake, timer.C)
		f.tail.lag()
		return ok
	}
	f.retry = 0
	if !f.page(r.page) {
		return false
	}
	f.tail.caught(f.pos)
	switch {
	case r.page.more, r.number <= since: // or it was another's, begun before this tail was woken
		f.tail.again()
		return true
	case r.page.ended:
		return f.end()
	default:
		return true
	}
}

// page hands out what was read. What is missing before something later is lost:
// entries are only ever added at the end. The queue may still have some of it.
func (f *follower) page(p page) bool {
	if len(p.entries) > 0 && p.entries[0].seq > f.pos+1 {
		for _, l := range f.tail.queued() {
			if !f.line(l) {
				return false
			}
		}
	}
	for _, e := range p.entries {
		var ok bool
		if e.line != nil {
			ok = f.line(e.line)
		} else {
			ok = f.skipTo(e.seq + 1)
		}
		if !ok {
			return false
		}
	}
	return true
}

// end hands out what came last, and the end.
func (f *follower) end() bool {
	if _, state, _, _ := f.tail.take(); state != nil && !f.event(Event{State: state}) {
		return false
	}
	if f.skipTo(f.tail.known() + 1) {
		f.event(Event{End: true})
	}
	return false
}

// await waits for either channel, with heartbeats. It reports whether to go on.
func (f *follower) await(ctx context.Context, done <-chan struct{}, again <-chan time.Time) bool {
	for {
		select {
		case <-done:
			return true
		case <-again:
			return true
		case <-f.idle.C:
			if !f.event(Event{Idle: true}) {
				return false
			}
		case <-ctx.Done():
			return f.fail(context.Cause(ctx))
		case <-f.hub.life.Done():
			return f.fail(errStopped())
		}
	}
}

func (f *follower) event(e Event) bool {
	f.idle.Reset(f.hub.cfg.Heartbeat)
	return f.yield(e, nil)
}

func (f *follower) fail(err error) bool {
	f.yield(Event{}, err)
	return false
}

// startRead starts a read of the stream, or joins one that another tail of the
// topic has under way for the same lines.
func (h *RedisHub) startRead(to *topic, after int64) *sharedRead {
	to.mu.Lock()
	defer to.mu.Unlock()
	if r := to.reads[after]; r != nil {
		return r
	}
	r := &sharedRead{number: to.started.Add(1), done: make(chan struct{})}
	to.reads[after] = r
	go func() {
		r.page, r.err = h.readPage(h.life, to.executionID, after)
		to.mu.Lock()
		delete(to.reads, after)
		to.mu.Unlock()
		close(r.done)
	}()
	return r
}
