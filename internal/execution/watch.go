package execution

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/dataguardian/dataguardian/internal/auth"
	"github.com/dataguardian/dataguardian/internal/logs"
)

// Change is an execution as it was read, with when its status last changed.
type Change struct {
	Execution
	ChangedAt time.Time
	Tags      []string // of its datasource, as it was read
}

// Mark is a place in a list that is ordered by a time and, within it, by id. The
// list goes on behind it.
type Mark struct {
	Time time.Time
	ID   string
}

// MarkAt is the place before everything of a time or later.
func MarkAt(t time.Time) Mark {
	return Mark{Time: t.Add(-time.Microsecond), ID: "ffffffff-ffff-ffff-ffff-ffffffffffff"}
}

// Changes is how those who watch read what is new. All times are the database's.
// With auth.WithScope, the lists hold only what lies in the scope.
type Changes interface {
	// Horizon returns a time that no change lies before which becomes visible from
	// now on.
	Horizon(ctx context.Context) (time.Time, error)
	// Changed lists executions whose status changed behind a mark, in the order of
	// that, without parts and lines.
	Changed(ctx context.Context, after Mark, limit int) ([]Change, error)
	// Active lists queued and running executions made behind a mark, oldest first,
	// without parts and lines.
	Active(ctx context.Context, after Mark, limit int) ([]Change, error)
	// Tagged returns the tags of the datasources that have one of those asked for, by
	// id.
	Tagged(ctx context.Context, tags []string) (map[string][]string, error)
}

// WatchRequest says which executions to watch; zero fields do not narrow it.
type WatchRequest struct {
	JobID        string
	DatasourceID string
	Operation    Operation
	// Lines adds log lines.
	Lines bool
	// After is the ID of the last event that was seen. One that cannot be read
	// starts anew.
	After string

	scope []string // tags of the datasources the caller may see; nil: of all
}

func (r WatchRequest) wants(c *Change) bool {
	return (r.JobID == "" || r.JobID == c.JobID) && (r.DatasourceID == "" || r.DatasourceID == c.DatasourceID) &&
		(r.Operation == "" || r.Operation == c.Operation) && r.may(c.Tags)
}

func (r WatchRequest) may(tags []string) bool {
	return r.scope == nil || slices.ContainsFunc(tags, func(tag string) bool { return slices.Contains(r.scope, tag) })
}

// reach returns the ids of those datasources that the caller may see.
func (r WatchRequest) reach(tagged map[string][]string) map[string]bool {
	seen := make(map[string]bool, len(tagged))
	for id, tags := range tagged {
		if r.may(tags) {
			seen[id] = true
		}
	}
	return seen
}

// WatchEvent is something that happened to an execution. At most one of Line, Gap
// and Progress is set; with none of them, the status has changed.
type WatchEvent struct {
	ID        string // of the event: what WatchRequest.After takes
	Execution Execution
	Line      *logs.Line
	Gap       *logs.Gap
	Progress  *Progress
	Idle      bool // nothing new for a while; of no execution
}

// Watch tells of executions: first those that are queued or running, or, after an
// event, what has changed since; then what changes. It begins with an Idle event,
// or with an error when the state cannot be read. No state is missed, however slow
// the reader, but of several in a row he may see only the last. With lines, each
// comes once and in order, all of them before the state that ends the execution;
// a Gap names those that are lost. With auth.WithScope, executions outside of the
// scope do not exist: what leaves it, because a tag was taken off the datasource, is told
// no more, and what comes into it while it is queued or runs is told from its first
// line, both within BoardConfig.Poll. What came into it between two watches is told by
// the second, with states that the first may have told, unless the event it begins after
// was one of more than 32 executions at a time.
func (b *Board) Watch(ctx context.Context, r WatchRequest) iter.Seq2[WatchEvent, error] {
	return func(yield func(WatchEvent, error) bool) {
		r.scope = auth.ScopeOf(ctx)
		w := newWatcher(r)
		if err := b.join(ctx, w); err != nil {
			yield(WatchEvent{}, err)
			return
		}
		defer b.leave(w)
		reader := &watchReader{board: b, inbox: w, request: r, yield: yield, idle: time.NewTimer(b.Heartbeat)}
		defer reader.idle.Stop()
		if err := reader.run(ctx); err != nil {
			yield(WatchEvent{}, err)
		}
	}
}
