package execution

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/logs"
)

// errGone ends a watch whose reader has left.
var errGone = errors.New("the reader has left")

// watchReader is the reading side of one watch.
type watchReader struct {
	board   *Board
	inbox   *watcher
	request WatchRequest
	yield   func(WatchEvent, error) bool
	idle    *time.Timer

	since    time.Time        // every change before was told
	partial  bool             // no: what there was at that time is being told
	starting bool             // the database is being read
	cut      bool             // the id that this goes on after did not hold every place
	resumed  map[string]place // those it held
	recent   map[string]*seat // states since then that were told
	speaking map[string]*seat // executions that have not ended, of which lines were told
	ended    ended            // how far the lines of those were told that have
}

// run tells what there is and then what comes, until the reader leaves (nil) or an
// error.
func (r *watchReader) run(ctx context.Context) error {
	r.recent, r.speaking = map[string]*seat{}, map[string]*seat{}
	r.goOn()
	err := r.start(ctx, true)
	for err == nil {
		err = r.drain(ctx)
		if err == nil && r.inbox.spilled() {
			err = r.start(ctx, false)
			continue
		}
		if err == nil {
			err = r.await(ctx)
		}
	}
	if errors.Is(err, errGone) {
		return nil
	}
	return err
}

// goOn reads the id that the watch begins after.
func (r *watchReader) goOn() {
	c, ok := decodeCursor(r.request.After)
	if !ok {
		return
	}
	r.since, r.partial, r.cut = c.since, c.partial, c.cut
	r.ended.forgetful = true
	r.resumed = make(map[string]place, len(c.seats))
	for _, p := range c.seats {
		r.resumed[p.id] = p
	}
}

// start tells what changed since the last id, and what is queued or running.
func (r *watchReader) start(ctx context.Context, first bool) error {
	horizon, err := r.board.Changes.Horizon(ctx)
	if err != nil {
		return err
	}
	if r.request.scope != nil {
		tagged, err := r.board.Changes.Tagged(ctx, r.request.scope)
		if err != nil {
			return err
		}
		r.inbox.arrive(tagged)
	}
	r.starting = true
	fresh := r.since.IsZero()
	if fresh {
		r.since, r.partial = horizon, true
	}
	r.inbox.settle(r.since)
	if first && !r.tell(WatchEvent{Idle: true}) {
		return errGone
	}
	if !fresh {
		if err := r.pages(ctx, r.board.Changes.Changed, MarkAt(r.since), r.changed); err != nil {
			return err
		}
	}
	if err := r.pages(ctx, r.board.Changes.Active, MarkAt(time.Unix(1, 0)), r.active); err != nil {
		return err
	}
	if !r.inbox.complete() { // again
		return nil
	}
	r.starting, r.partial, r.cut, r.resumed = false, false, false, nil
	r.advance(horizon)
	return nil
}

// changed takes an execution that has changed; those that have not ended come with
// the active ones.
func (r *watchReader) changed(c *Change) Mark {
	switch {
	case !c.Status.Terminal():
	case r.toldBefore(c):
		r.resume(c)
	default:
		r.inbox.found(c)
	}
	return Mark{Time: c.ChangedAt, ID: c.ID}
}

// active takes an execution that is queued or running.
func (r *watchReader) active(c *Change) Mark {
	if !r.mayHaveCome(c) && (r.toldBefore(c) || !r.partial && c.ChangedAt.Before(r.since)) {
		r.resume(c)
	} else {
		r.inbox.found(c)
	}
	return Mark{Time: c.CreatedAt, ID: c.ID}
}

// mayHaveCome reports whether an execution that has not changed may have come into the
// scope: since the database was read, or before, while nobody watched. Of those in no
// place of the id that the watch goes on after, a state is told twice rather than never.
func (r *watchReader) mayHaveCome(c *Change) bool {
	if r.inbox.hasJoined(c.DatasourceID) {
		return true
	}
	if r.request.scope == nil || r.resumed == nil || r.cut { // cut: it may be one of the others whose lines were told
		return false
	}
	_, known := r.resumed[c.ID]
	return !known
}

// resume seats an execution whose state was told before.
func (r *watchReader) resume(c *Change) {
	p, known := r.resumed[c.ID]
	if !known && (r.cut || r.ended.unsure(c.Execution)) {
		p.seq = -1
	}
	s := r.inbox.resume(c, p.seq)
	if s == nil { // there was news meanwhile, see begin
		return
	}
	delete(r.resumed, c.ID)
	if r.partial || !c.ChangedAt.Before(r.since) {
		r.recent[c.ID] = s
	}
	if p.seq > 0 && !c.Status.Terminal() {
		r.speaking[c.ID] = s
	}
}

func (r *watchReader) toldBefore(c *Change) bool {
	p, ok := r.resumed[c.ID]
	return ok && !c.ChangedAt.After(p.changed)
}

// pages puts a list into the inbox and tells each page of it.
func (r *watchReader) pages(ctx context.Context, list func(context.Context, Mark, int) ([]Change, error), from Mark, put func(*Change) Mark) error {
	for {
		page, err := list(ctx, from, boardPage)
		if err != nil {
			return err
		}
		for i := range page {
			from = put(&page[i])
		}
		if err := r.drain(ctx); err != nil || len(page) < boardPage {
			return err
		}
	}
}

// drain tells everything that waits.
func (r *watchReader) drain(ctx context.Context) error {
	for {
		n, horizon, ok := r.inbox.take()
		if !ok {
			if !r.starting {
				r.advance(horizon)
			}
			return nil
		}
		if err := r.deliver(ctx, n); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// advance notes that every change before a time was told.
func (r *watchReader) advance(to time.Time) {
	if to.After(r.since) {
		r.since = to
	}
	r.inbox.settle(r.since)
	for id, s := range r.recent {
		if s.toldAt.Before(r.since) {
			delete(r.recent, id)
			if s.execution.Status.Terminal() && r.inbox.remove(id) {
				r.ended.note(id, s.seq)
			}
		}
	}
	for id, s := range r.speaking {
		if !r.inbox.seated(id, s) { // it has ended where the watcher may not look
			delete(r.speaking, id)
			r.ended.note(id, s.seq)
		}
	}
}

// deliver tells the news of one execution: the state that ends it after its lines.
func (r *watchReader) deliver(ctx context.Context, n news) error {
	s := n.seat
	if n.change != nil && !s.told && r.toldBefore(n.change) {
		r.takeUp(s, n.change)
		n.change = nil
	}
	ended := n.change != nil && n.change.Status.Terminal()
	if n.change != nil && !s.told {
		r.begin(s)
	}
	if n.change != nil && !ended {
		if err := r.state(n); err != nil {
			return err
		}
	}
	for _, l := range n.lines {
		if err := r.line(s, l); err != nil {
			return err
		}
	}
	if r.request.Lines && (ended || n.behind && !s.execution.Status.Terminal()) {
		if err := r.catchUp(ctx, s, ended); err != nil {
			return err
		}
	}
	switch {
	case ended:
		delete(r.speaking, s.execution.ID)
		return r.state(n)
	case n.progress != nil && s.execution.Status == Running:
		s.execution.Progress = *n.progress
		return r.event(s, WatchEvent{Progress: n.progress})
	}
	return nil
}

// takeUp goes on with an execution whose state was told before this watch.
func (r *watchReader) takeUp(s *seat, c *Change) {
	p := r.resumed[c.ID]
	r.begin(s)
	s.toldAt = c.ChangedAt
	r.recent[c.ID] = s
	if p.seq > 0 && !c.Status.Terminal() {
		r.speaking[c.ID] = s
	}
}

// begin takes up an execution of which nothing was told in this watch, or which
// goes on with a retried upload after its end was told.
func (r *watchReader) begin(s *seat) {
	s.told = true
	id := s.execution.ID
	if p, ok := r.resumed[id]; ok {
		s.seq = p.seq
		delete(r.resumed, id)
	} else if old := r.speaking[id]; old != nil { // see advance
		s.seq = old.seq
	} else {
		s.seq = r.ended.take(s.execution)
	}
	if s.seq > 0 {
		r.speaking[id] = s
	}
	r.inbox.caught(s)
}

func (r *watchReader) state(n news) error {
	s := n.seat
	s.toldAt = n.change.ChangedAt
	r.recent[s.execution.ID] = s
	if err := r.event(s, WatchEvent{}); err != nil {
		return err
	}
	if p := s.execution.Progress; s.execution.Status == Running && p.Phase != "" && n.progress == nil {
		return r.event(s, WatchEvent{Progress: &p})
	}
	return nil
}

// line tells a line unless it was told already, and what is lost before it.
func (r *watchReader) line(s *seat, l *logs.Line) error {
	if l.Seq <= s.seq {
		return nil
	}
	if s.seq < 0 {
		s.seq = 0
	}
	if l.Seq > s.seq+1 {
		gap := logs.Gap{From: s.seq + 1, To: l.Seq - 1}
		s.seq = gap.To
		if err := r.event(s, WatchEvent{Gap: &gap}); err != nil {
			return err
		}
	}
	s.seq = l.Seq
	r.speaking[s.execution.ID] = s
	return r.event(s, WatchEvent{Line: l})
}

// catchUp tells the lines that were not given, from the hub and, where that lacks
// some and at the end, from the row. While the hub is away it tells what the row
// has without a gap; the rest comes when the hub is back, or at the end.
func (r *watchReader) catchUp(ctx context.Context, s *seat, ended bool) error {
	select {
	case r.board.slots <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	lines, whole, err := r.missing(ctx, s, ended)
	<-r.board.slots
	if err != nil {
		return err
	}
	if s.seq < 0 && len(lines) > 0 { // where it was is not known: say so, and go on from here
		s.seq = lines[len(lines)-1].Seq
		r.speaking[s.execution.ID] = s
		if err := r.event(s, WatchEvent{Gap: &logs.Gap{From: 1, To: s.seq}}); err != nil {
			return err
		}
	}
	for i := range lines {
		if !whole && lines[i].Seq > s.seq+1 {
			break
		}
		if err := r.line(s, &lines[i]); err != nil {
			return err
		}
	}
	r.inbox.caught(s)
	return nil
}

// missing returns the lines after the last one that was told; whole says that no
// others will be found.
func (r *watchReader) missing(ctx context.Context, s *seat, ended bool) (lines []logs.Line, whole bool, err error) {
	after := max(s.seq, 0)
	if !ended {
		live, err := r.board.Hub.Read(ctx, s.execution.ID, after)
		if err == nil && (len(live) == 0 || live[0].Seq == after+1 && live[len(live)-1].Seq == after+int64(len(live))) {
			return live, true, nil
		}
		lines, whole = live, err == nil
	}
	e, err := r.board.Reader.Get(ctx, s.execution.ID)
	switch {
	case errs.KindOf(err) == errs.NotFound: // deleted meanwhile
		return lines, true, nil
	case err != nil:
		return nil, false, err
	}
	lines = append(slices.Clone(e.Logs), lines...)
	slices.SortStableFunc(lines, func(a, b logs.Line) int { return cmp.Compare(a.Seq, b.Seq) })
	lines = slices.CompactFunc(lines, func(a, b logs.Line) bool { return a.Seq == b.Seq })
	first, _ := slices.BinarySearchFunc(lines, after+1, func(l logs.Line, seq int64) int { return cmp.Compare(l.Seq, seq) })
	return lines[first:], whole || ended, nil
}

// await waits for more, with heartbeats.
func (r *watchReader) await(ctx context.Context) error {
	for {
		select {
		case <-r.inbox.wake:
			return nil
		case <-r.idle.C:
			if err := r.drain(ctx); err != nil {
				return err
			}
			if !r.tell(WatchEvent{Idle: true}) {
				return errGone
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (r *watchReader) event(s *seat, e WatchEvent) error {
	e.Execution = s.execution
	if !r.tell(e) {
		return errGone
	}
	return nil
}

func (r *watchReader) tell(e WatchEvent) bool {
	e.ID = r.id()
	r.idle.Reset(r.board.Heartbeat)
	return r.yield(e, nil)
}

// id says how far the watch is.
func (r *watchReader) id() string {
	c := cursor{since: r.since, partial: r.partial, cut: r.starting && r.cut}
	add := func(p place) bool {
		if len(c.seats) == cursorPlaces {
			c.cut = true
			return false
		}
		c.seats = append(c.seats, p)
		return true
	}
	for _, p := range r.resumed { // not taken up yet
		if !add(p) {
			break
		}
	}
	for id, s := range r.speaking {
		if !add(place{id: id, changed: s.toldAt, seq: s.seq}) {
			break
		}
	}
	for id, s := range r.recent {
		if r.speaking[id] == nil && !add(place{id: id, changed: s.toldAt, seq: max(s.seq, 0)}) {
			break
		}
	}
	return c.encode()
}
