package execution_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/dataguardian/dataguardian/internal/auth"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/logs"
	"github.com/dataguardian/dataguardian/internal/paging"
)

// plane is a database and a hub that boards of several processes share. The
// database has transactions that commit late; the hub loses what it likes.
type plane struct {
	mu    sync.Mutex
	clock int64
	rows  map[string]*planeRow
	order []string // ids, oldest first
	open  map[*planeTx]bool
	away  error // of the database

	live   map[string][]logs.Line // what the hub has
	down   bool
	ears   map[*ear]bool
	forgot bool
	reads  int
}

type planeRow struct {
	execution.Execution
	changed time.Time
	tags    []string
	written int64 // lines in all
}

type planeTx struct{ began time.Time }

// ear is one subscription.
type ear struct {
	lines bool
	box   chan logs.Announcement
	lost  bool
}

func newPlane() *plane {
	return &plane{rows: map[string]*planeRow{}, open: map[*planeTx]bool{}, live: map[string][]logs.Line{}, ears: map[*ear]bool{}}
}

func (p *plane) now() time.Time {
	p.clock++
	return time.Unix(1_700_000_000, p.clock*1000)
}

// The database.

func (p *plane) Horizon(context.Context) (time.Time, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.now()
	for tx := range p.open {
		if tx.began.Before(at) {
			at = tx.began
		}
	}
	return at, p.away
}

func (p *plane) list(limit int, want func(*planeRow) bool, key func(*planeRow) execution.Mark, after execution.Mark) ([]execution.Change, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reads++
	less := func(a, b execution.Mark) bool {
		return a.Time.Before(b.Time) || a.Time.Equal(b.Time) && a.ID < b.ID
	}
	var found []execution.Change
	for _, r := range p.rows {
		if want(r) && less(after, key(r)) {
			found = append(found, execution.Change{Execution: r.Execution, ChangedAt: r.changed, Tags: r.tags})
			found[len(found)-1].Logs = nil
		}
	}
	slices.SortFunc(found, func(a, b execution.Change) int {
		if less(key(&planeRow{Execution: a.Execution, changed: a.ChangedAt}), key(&planeRow{Execution: b.Execution, changed: b.ChangedAt})) {
			return -1
		}
		return 1
	})
	return found[:min(len(found), limit)], p.away
}

func (p *plane) Changed(_ context.Context, after execution.Mark, limit int) ([]execution.Change, error) {
	return p.list(limit, func(*planeRow) bool { return true }, func(r *planeRow) execution.Mark { return execution.Mark{Time: r.changed, ID: r.ID} }, after)
}

func (p *plane) Active(_ context.Context, after execution.Mark, limit int) ([]execution.Change, error) {
	return p.list(limit, func(r *planeRow) bool { return !r.Status.Terminal() }, func(r *planeRow) execution.Mark { return execution.Mark{Time: r.CreatedAt, ID: r.ID} }, after)
}

func (p *plane) Tagged(_ context.Context, tags []string) (map[string][]string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	tagged := map[string][]string{}
	for _, r := range p.rows {
		if slices.ContainsFunc(r.tags, func(tag string) bool { return slices.Contains(tags, tag) }) {
			tagged[r.DatasourceID] = r.tags
		}
	}
	return tagged, p.away
}

// tag gives the datasource of an execution other tags.
func (p *plane) tag(id string, tags ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rows[id].tags = tags
}

func (p *plane) Get(_ context.Context, id string) (execution.Execution, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.rows[id]
	if r == nil {
		return execution.Execution{}, errs.New(errs.NotFound, errs.CodeNotFound, "no such execution")
	}
	e := r.Execution
	e.Logs = slices.Clone(e.Logs)
	return e, p.away
}

func (p *plane) List(context.Context, execution.Filter, paging.Page) ([]execution.Execution, int, error) {
	return nil, 0, nil
}

// set changes an execution now; the change is visible once commit is called.
func (p *plane) set(id string, status execution.Status) (commit func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	tx := &planeTx{began: p.now()}
	p.open[tx] = true
	changed := p.now()
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.open, tx)
		r := p.rows[id]
		if r == nil {
			r = &planeRow{Execution: execution.Execution{ID: id, JobID: "job", DatasourceID: "of " + id, JobName: "nightly", Operation: execution.Backup, CreatedAt: tx.began}}
			p.rows[id] = r
			p.order = append(p.order, id)
		}
		if r.Status.Terminal() {
			r.Trigger = execution.Retry
		}
		r.Status, r.changed = status, changed
		if status.Terminal() {
			r.Logs = lines(1, r.written)
		}
	}
}

// The hub.

type planeHub struct {
	logs.Hub
	*plane
}

var errAway = errors.New("away")

func (p planeHub) Read(_ context.Context, id string, after int64) ([]logs.Line, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down {
		return nil, errAway
	}
	var out []logs.Line
	for _, l := range p.live[id] {
		if l.Seq > after {
			out = append(out, l)
		}
	}
	return out, nil
}

func (p planeHub) Watch(ctx context.Context, withLines bool) iter.Seq2[logs.Announcement, error] {
	return func(yield func(logs.Announcement, error) bool) {
		e := &ear{lines: withLines, box: make(chan logs.Announcement, 64), lost: true}
		p.mu.Lock()
		p.ears[e] = true
		p.mu.Unlock()
		defer func() {
			p.mu.Lock()
			delete(p.ears, e)
			p.mu.Unlock()
		}()
		p.tell("", logs.Event{})
		for {
			select {
			case a := <-e.box:
				if !yield(a, nil) {
					return
				}
			case <-ctx.Done():
				yield(logs.Announcement{}, context.Cause(ctx))
				return
			}
		}
	}
}

// tell sends to all who listen, unless the hub is down. After a loss comes a note
// of it first.
func (p *plane) tell(id string, event logs.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for e := range p.ears {
		if p.down {
			e.lost = true
			continue
		}
		if e.lost {
			e.lost = !e.put(logs.Announcement{Event: logs.Event{Gap: &logs.Gap{}}})
		}
		if id != "" && (e.lines || event.Line == nil) {
			e.lost = !e.put(logs.Announcement{ExecutionID: id, Event: event}) || e.lost
		}
	}
}

func (e *ear) put(a logs.Announcement) bool {
	select {
	case e.box <- a:
		return true
	default:
		return false
	}
}

func (p *plane) append(id string, n int64, flush bool) {
	p.mu.Lock()
	r := p.rows[id]
	if r == nil || r.Status != execution.Running {
		p.mu.Unlock()
		return
	}
	fresh := lines(r.written+1, r.written+n)
	r.written += n
	if flush {
		r.Logs = lines(1, r.written)
	}
	if !p.down {
		p.live[id] = append(p.live[id], fresh...)
	}
	p.mu.Unlock()
	for i := range fresh {
		p.tell(id, logs.Event{Line: &fresh[i]})
	}
}

func (p *plane) state(id string, s execution.Status) []byte {
	raw, err := json.Marshal(execution.State{Status: s, Progress: execution.Progress{Phase: execution.Dumping}})
	if err != nil {
		panic(err)
	}
	return raw
}

func (p *plane) board(ctx context.Context) *execution.Board {
	b := execution.NewBoard(execution.BoardConfig{Changes: p, Reader: p, Hub: planeHub{plane: p}, Logger: slog.New(slog.DiscardHandler)})
	go func() { _ = b.Run(ctx) }()
	return b
}

// viewer is a client that watches, comes and goes, and checks what it is told.
type viewer struct {
	mu     sync.Mutex
	open   chan struct{} // closed while it reads
	last   string
	states map[string]execution.Status
	seqs   map[string]int64
	gaps   int
	events int
	bad    error
	stop   context.CancelFunc
	done   chan struct{}
}

func newViewer() *viewer {
	v := &viewer{open: make(chan struct{}), states: map[string]execution.Status{}, seqs: map[string]int64{}}
	close(v.open)
	return v
}

// connect goes on where the viewer was.
func (v *viewer) connect(ctx context.Context, b *execution.Board, r execution.WatchRequest) {
	ctx, v.stop = context.WithCancel(ctx)
	v.done = make(chan struct{})
	r.After = v.last
	go func() {
		defer close(v.done)
		for e, err := range b.Watch(ctx, r) {
			v.mu.Lock()
			open := v.open
			v.mu.Unlock()
			select {
			case <-open:
			case <-ctx.Done():
				return // what was on its way never arrived
			}
			if err != nil {
				return
			}
			v.take(e)
		}
	}()
}

func (v *viewer) leave() {
	v.stop()
	<-v.done
}

func (v *viewer) stall(on bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	select {
	case <-v.open:
		if on {
			v.open = make(chan struct{})
		}
	default:
		if !on {
			close(v.open)
		}
	}
}

func (v *viewer) take(e execution.WatchEvent) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.last = e.ID
	v.events++
	id := e.Execution.ID
	fail := func(format string, args ...any) {
		if v.bad == nil {
			v.bad = fmt.Errorf(format, args...)
		}
	}
	switch {
	case e.Idle:
	case e.Line != nil:
		if e.Line.Seq != v.seqs[id]+1 {
			fail("line %d of %s after %d", e.Line.Seq, id, v.seqs[id])
		}
		v.seqs[id] = e.Line.Seq
		// Of an upload that was retried and ended while nobody looked, lines come before its end.
		if v.states[id].Terminal() && e.Execution.Trigger != execution.Retry {
			fail("a line of %s after its end", id)
		}
	case e.Gap != nil:
		unsure := e.Execution.Trigger == execution.Retry && e.Gap.From == 1 && e.Gap.To >= v.seqs[id]
		if !unsure && e.Gap.From != v.seqs[id]+1 || e.Gap.To < e.Gap.From {
			fail("gap %+v of %s after %d", *e.Gap, id, v.seqs[id])
		}
		v.seqs[id] = e.Gap.To
		v.gaps++
	case e.Progress != nil:
		if v.states[id] != execution.Running {
			fail("progress of %s, which is %q", id, v.states[id])
		}
	default:
		if v.states[id].Terminal() && e.Execution.Status != v.states[id] && e.Execution.Trigger != execution.Retry {
			fail("%s is %s after it was %s", id, e.Execution.Status, v.states[id])
		}
		v.states[id] = e.Execution.Status
	}
}

// Whatever happens between the database, a hub that forgets, two processes and a
// client that comes, goes and stalls: it misses no end of an execution, sees every
// line once and in order before that end, and else an explicit gap. Uploads that
// are retried go on where they ended.
func TestOneWhoWatchesMissesNoStateAndSeesEveryLineOnceOrAGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(struct{ testing.TB }{t}, func(t *rapid.T) { // the bubble's clock knows no deadline
			ctx, cancel := context.WithCancel(context.Background())
			defer func() { cancel(); synctest.Wait() }()
			p := newPlane()
			boards := []*execution.Board{p.board(ctx), p.board(ctx)}
			s := &boardScene{plane: p, boards: boards, request: execution.WatchRequest{Lines: true}}
			for _, step := range rapid.SliceOfN(rapid.SampledFrom([]string{
				"queue", "queue", "run", "run", "append", "append", "append", "many", "end", "end", "retry", "commit", "hint", "forge", "progress",
				"watch", "leave", "come back", "stall", "go on", "down", "up", "forget", "pass", "pass", "wait",
			}), 10, 60).Draw(t, "steps") {
				s.step(ctx, t, step)
			}
			s.finish(ctx, t)
		})
	})
}

type boardScene struct {
	*plane
	boards  []*execution.Board
	request execution.WatchRequest
	viewers []*viewer
	since   []map[string]bool // by viewer: executions that had ended before it came
	commits []func()
}

func (s *boardScene) step(ctx context.Context, t *rapid.T, step string) {
	var ids []string
	s.mu.Lock()
	ids = slices.Clone(s.order)
	s.mu.Unlock()
	pick := func(status execution.Status) (string, bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		var fit []string
		for _, id := range ids {
			if s.rows[id].Status == status {
				fit = append(fit, id)
			}
		}
		if len(fit) == 0 {
			return "", false
		}
		return rapid.SampledFrom(fit).Draw(t, "which"), true
	}
	write := func(id string, status execution.Status) {
		commit := s.set(id, status)
		if rapid.IntRange(0, 4).Draw(t, "late") == 0 && status == execution.Queued {
			s.commits = append(s.commits, commit)
			return
		}
		commit()
	}
	switch step {
	case "queue":
		write(uuid.NewString(), execution.Queued)
	case "run":
		if id, ok := pick(execution.Queued); ok {
			write(id, execution.Running)
		}
	case "append", "many":
		if id, ok := pick(execution.Running); ok {
			n := int64(rapid.IntRange(1, 4).Draw(t, "lines"))
			if step == "many" {
				n = 200
			}
			s.append(id, n, rapid.Bool().Draw(t, "flush"))
		}
	case "end":
		if id, ok := pick(execution.Running); ok {
			write(id, execution.Completed)
			if rapid.Bool().Draw(t, "told") {
				s.tell(id, logs.Event{End: true})
			}
		}
	case "retry":
		if id, ok := pick(execution.Completed); ok {
			write(id, execution.Running)
			for _, ended := range s.since {
				delete(ended, id)
			}
		}
	case "commit":
		for _, commit := range s.commits {
			commit()
		}
		s.commits = nil
	case "hint", "forge":
		id := uuid.NewString()
		if len(ids) > 0 && step == "hint" {
			id = rapid.SampledFrom(ids).Draw(t, "which")
		}
		s.tell(id, logs.Event{State: s.state(id, execution.Completed)})
	case "progress":
		if id, ok := pick(execution.Running); ok {
			s.tell(id, logs.Event{State: s.state(id, execution.Running)})
		}
	case "watch":
		if len(s.viewers) < 4 {
			v := newViewer()
			ended := map[string]bool{}
			s.mu.Lock()
			for id, r := range s.rows {
				ended[id] = r.Status.Terminal()
			}
			s.mu.Unlock()
			s.viewers, s.since = append(s.viewers, v), append(s.since, ended)
			v.connect(ctx, s.boards[rapid.IntRange(0, len(s.boards)-1).Draw(t, "board")], s.request)
			synctest.Wait() // it has seen what there is
		}
	case "leave", "come back", "stall", "go on":
		if len(s.viewers) > 0 {
			s.client(ctx, t, s.viewers[rapid.IntRange(0, len(s.viewers)-1).Draw(t, "who")], step)
		}
	case "down", "up":
		s.mu.Lock()
		s.down = step == "down"
		s.mu.Unlock()
		s.tell("", logs.Event{})
	case "forget":
		s.mu.Lock()
		s.forgot = true
		clear(s.live)
		for e := range s.ears {
			e.lost = true
		}
		s.mu.Unlock()
		s.tell("", logs.Event{})
	case "pass":
		<-time.After(rapid.SampledFrom([]time.Duration{time.Millisecond, 150 * time.Millisecond, 3 * time.Second}).Draw(t, "time"))
	case "wait":
		synctest.Wait()
	}
}

func (s *boardScene) client(ctx context.Context, t *rapid.T, v *viewer, step string) {
	switch step {
	case "leave":
		v.leave()
	case "come back":
		v.leave()
		v.connect(ctx, s.boards[rapid.IntRange(0, len(s.boards)-1).Draw(t, "board")], s.request)
	default:
		v.stall(step == "stall")
	}
}

// finish ends every execution, brings everybody back, and looks at what they saw.
func (s *boardScene) finish(ctx context.Context, t *rapid.T) {
	for _, commit := range s.commits {
		commit()
	}
	s.mu.Lock()
	s.down = false
	ids := slices.Clone(s.order)
	s.mu.Unlock()
	for _, id := range ids {
		s.mu.Lock()
		status := s.rows[id].Status
		s.mu.Unlock()
		if !status.Terminal() {
			s.set(id, execution.Completed)()
		}
	}
	for _, v := range s.viewers {
		v.leave()
		v.stall(false)
		v.connect(ctx, s.boards[0], s.request)
	}
	<-time.After(time.Minute)
	synctest.Wait()
	for i, v := range s.viewers {
		v.leave()
		require.NoError(t, v.bad)
		for _, id := range ids {
			if s.since[i][id] { // it had ended before anybody looked: it may be told, if that was just now
				continue
			}
			require.Equal(t, execution.Completed, v.states[id], "viewer %d, %s of %v", i, id, maps.Keys(v.states))
			if s.request.Lines {
				require.Equal(t, s.rows[id].written, v.seqs[id], "lines of %s", id)
			}
		}
	}
}

func TestOneWhoDoesNotReadHoldsNobodyUpAndLearnsOfEverythingLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer func() { cancel(); synctest.Wait() }()
		p := newPlane()
		b := p.board(ctx)
		deaf, keen := newViewer(), newViewer()
		deaf.connect(ctx, b, execution.WatchRequest{Lines: true})
		keen.connect(ctx, b, execution.WatchRequest{})
		synctest.Wait()
		deaf.stall(true)
		const all = 1500
		for range all {
			p.set(uuid.NewString(), execution.Queued)()
		}
		<-time.After(time.Minute)
		require.Len(t, keen.states, all, "others are told meanwhile")
		for _, id := range p.order {
			p.set(id, execution.Running)()
			p.append(id, 3, false)
		}
		<-time.After(time.Minute)
		for _, id := range p.order {
			p.set(id, execution.Failed)()
		}
		<-time.After(time.Minute)
		deaf.stall(false)
		<-time.After(time.Minute)
		synctest.Wait()
		for _, v := range []*viewer{deaf, keen} {
			require.NoError(t, v.bad)
			require.Len(t, v.states, all)
			for id, status := range v.states {
				require.Equal(t, execution.Failed, status)
				if v == deaf {
					require.EqualValues(t, 3, v.seqs[id])
				}
			}
		}
		deaf.leave()
		keen.leave()
	})
}

func TestWhatTheCallerMayNotSeeDoesNotExistForHim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer func() { cancel(); synctest.Wait() }()
		p := newPlane()
		b := p.board(ctx)
		mine, other := uuid.NewString(), uuid.NewString()
		p.set(mine, execution.Running)()
		p.rows[mine].tags = []string{"a", "b"}
		p.set(other, execution.Running)()
		p.rows[other].tags = []string{"c"}
		v := newViewer()
		v.connect(auth.WithScope(ctx, []string{"b", "d"}), b, execution.WatchRequest{Lines: true})
		nobody := newViewer()
		nobody.connect(ctx, b, execution.WatchRequest{Lines: true, Operation: execution.Restore})
		synctest.Wait()
		for _, id := range []string{mine, other} {
			p.append(id, 2, false)
			p.tell(id, logs.Event{State: p.state(id, execution.Running)})
			p.set(id, execution.Completed)()
		}
		<-time.After(time.Minute)
		synctest.Wait()
		require.NoError(t, v.bad)
		require.Equal(t, map[string]execution.Status{mine: execution.Completed}, v.states)
		require.Equal(t, map[string]int64{mine: 2}, v.seqs)
		require.Empty(t, nobody.states)
		require.Positive(t, nobody.events, "heartbeats")
		v.leave()
		nobody.leave()
	})
}

func TestATagThatComesOrGoesCountsWhileTheExecutionRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer func() { cancel(); synctest.Wait() }()
		p := newPlane()
		b := p.board(ctx)
		leaves, comes, neither := uuid.NewString(), uuid.NewString(), uuid.NewString()
		for _, id := range []string{leaves, comes, neither} {
			p.set(id, execution.Running)()
			p.append(id, 2, false)
		}
		p.tag(leaves, "mine")
		v := newViewer()
		v.connect(auth.WithScope(ctx, []string{"mine"}), b, execution.WatchRequest{Lines: true})
		<-time.After(10 * time.Second)
		require.Equal(t, map[string]execution.Status{leaves: execution.Running}, v.states)

		p.tag(leaves, "theirs")
		p.tag(comes, "theirs", "mine")
		<-time.After(10 * time.Second)
		more := func() {
			for _, id := range []string{leaves, comes, neither} {
				p.append(id, 2, false)
				p.tell(id, logs.Event{State: p.state(id, execution.Running)})
			}
			<-time.After(10 * time.Second)
		}
		more()
		require.Equal(t, map[string]execution.Status{leaves: execution.Running, comes: execution.Running}, v.states)
		require.Equal(t, map[string]int64{leaves: 2, comes: 4}, v.seqs, "what came is told from its first line, what left no more")

		p.tag(leaves, "mine") // it comes back
		<-time.After(10 * time.Second)
		more()
		require.Equal(t, map[string]int64{leaves: 6, comes: 6}, v.seqs)
		p.tag(comes)
		for _, id := range []string{leaves, comes, neither} {
			p.set(id, execution.Completed)()
		}
		<-time.After(10 * time.Second)
		v.leave()
		require.NoError(t, v.bad)
		require.Zero(t, v.gaps)
		require.Equal(t, map[string]execution.Status{leaves: execution.Completed, comes: execution.Running}, v.states)
	})
}

func TestWhatComesIntoTheScopeWhileNobodyWatchesIsToldWhenSomebodyDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer func() { cancel(); synctest.Wait() }()
		p := newPlane()
		b := p.board(ctx)
		stays, quiet, comes := uuid.NewString(), uuid.NewString(), uuid.NewString()
		for _, id := range []string{stays, quiet, comes} {
			p.set(id, execution.Running)()
		}
		p.append(stays, 2, false)
		p.append(comes, 2, false)
		p.tag(stays, "mine")
		p.tag(quiet, "mine")
		v := newViewer()
		mine := auth.WithScope(ctx, []string{"mine"})
		v.connect(mine, b, execution.WatchRequest{Lines: true})
		<-time.After(time.Minute)
		require.Equal(t, map[string]execution.Status{stays: execution.Running, quiet: execution.Running}, v.states)
		v.leave()
		p.tag(comes, "mine")
		<-time.After(time.Minute)
		v.connect(mine, b, execution.WatchRequest{Lines: true})
		<-time.After(time.Minute)
		for _, id := range []string{stays, quiet, comes} {
			p.append(id, 2, false)
		}
		<-time.After(time.Minute)
		v.leave()
		require.NoError(t, v.bad)
		require.Zero(t, v.gaps)
		require.Equal(t, map[string]execution.Status{stays: execution.Running, quiet: execution.Running, comes: execution.Running}, v.states)
		require.Equal(t, map[string]int64{stays: 4, quiet: 2, comes: 4}, v.seqs)
	})
}

func TestARetriedUploadGoesOnWithItsLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer func() { cancel(); synctest.Wait() }()
		p := newPlane()
		b := p.board(ctx)
		id := uuid.NewString()
		p.set(id, execution.Running)()
		stays, returns := newViewer(), newViewer()
		for _, v := range []*viewer{stays, returns} {
			v.connect(ctx, b, execution.WatchRequest{Lines: true})
		}
		p.append(id, 5, true)
		p.set(id, execution.Failed)()
		<-time.After(time.Minute) // the end is long past
		returns.leave()
		returns.connect(ctx, b, execution.WatchRequest{Lines: true})
		<-time.After(time.Minute)
		p.set(id, execution.Running)()
		p.append(id, 3, false)
		<-time.After(time.Minute)
		p.append(id, 2, false)
		p.set(id, execution.Completed)()
		<-time.After(time.Minute)
		for _, v := range []*viewer{stays, returns} {
			v.leave()
			require.NoError(t, v.bad)
			require.Equal(t, map[string]int64{id: 10}, v.seqs)
			require.Equal(t, execution.Completed, v.states[id])
		}
		require.Zero(t, stays.gaps, "it knows what it was told")
		require.Equal(t, 1, returns.gaps, "that of a connection before is not known: it is said, not told again")
	})
}

func TestAForgedAnnouncementMakesTheDatabaseBeReadAndNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer func() { cancel(); synctest.Wait() }()
		p := newPlane()
		b := p.board(ctx)
		id := uuid.NewString()
		p.set(id, execution.Running)()
		v := newViewer()
		v.connect(ctx, b, execution.WatchRequest{})
		<-time.After(time.Second)
		reads, events := p.reads, v.events
		for range 1000 { // in no time
			p.tell(id, logs.Event{State: p.state(id, execution.Completed)})
			p.tell(id, logs.Event{State: []byte(`{"status":"running","progress":{"phase":"\u001b[31m","percent":400}}`)})
			p.tell(uuid.NewString(), logs.Event{State: p.state("", execution.Running)})
			synctest.Wait()
		}
		require.LessOrEqual(t, p.reads, reads+2)
		require.Equal(t, events, v.events, "nothing has happened, whatever was said")
		require.Equal(t, execution.Running, v.states[id])
		v.leave()
	})
}

func TestAWatchBeginsWithAnErrorOrEndsWithOneWhileTheDatabaseIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer func() { cancel(); synctest.Wait() }()
		p := newPlane()
		b := p.board(ctx)
		p.away = errs.New(errs.Unavailable, errs.CodeDatabaseUnavailable, "the database is away")
		for e, err := range b.Watch(ctx, execution.WatchRequest{}) {
			require.Equal(t, execution.WatchEvent{}, e)
			require.ErrorIs(t, err, p.away)
		}
		p.away = nil
		v := newViewer()
		v.connect(ctx, b, execution.WatchRequest{})
		synctest.Wait()
		p.mu.Lock()
		p.away = errors.New("away")
		p.mu.Unlock()
		<-time.After(time.Minute)
		p.mu.Lock()
		p.away = nil
		p.mu.Unlock()
		id := uuid.NewString()
		p.set(id, execution.Queued)()
		<-time.After(time.Minute)
		require.Equal(t, execution.Queued, v.states[id], "it goes on when the database is back")
		v.leave()
	})
}

func TestAnIdThatIsNoneStartsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer func() { cancel(); synctest.Wait() }()
		p := newPlane()
		b := p.board(ctx)
		id := uuid.NewString()
		p.set(id, execution.Running)()
		for _, junk := range []string{"", "x", "AQAA", "AQAC", "AgAC", "4p2k", string(make([]byte, 4096))} {
			v := newViewer()
			v.last = junk
			v.connect(ctx, b, execution.WatchRequest{Lines: true})
			synctest.Wait()
			require.NotEmpty(t, v.last)
			if junk != "AQAC" { // one that says that nothing has changed since 1970
				require.Equal(t, execution.Running, v.states[id], "%q", junk)
			}
			v.leave()
		}
	})
}
