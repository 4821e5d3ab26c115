package execution

import (
	"context"
	"sync"
	"time"
)

const (
	// lookAge is how old the look may be that an idle tail is content with. The next
	// one comes with the next heartbeat.
	lookAge = 5 * time.Second
	// rowAge is how long a row that was read for one tail serves others.
	rowAge = time.Second
	// lookBatch bounds the rows of one look.
	lookBatch = 500
	// lookLimit bounds the reading of a batch, which belongs to no tail alone: those who
	// wait for it tell nobody that they are there.
	lookLimit = 5 * time.Second
	// rowLimit bounds the reading of one row with its lines.
	rowLimit = 30 * time.Second
)

// Look is where an execution is.
type Look struct {
	Status Status
	Last   int64 // the last stored line; 0 without any
}

// lookout reads rows for the tails of a process: one reading serves all that wait for
// it, however many they are. Nobody joins a reading that has begun, because it may
// have missed what he was told meanwhile; he takes part in the next.
type lookout struct {
	store Store

	mu      sync.Mutex
	posts   map[string]*post
	next    *lookRound // the looks that begin next; nil when nobody waits
	looking bool
}

// post is an execution that somebody here tails. The lookout's mutex guards it.
type post struct {
	id    string
	tails int

	look   Look
	exists bool
	looked time.Time // when the look began

	read    *rowRead // the newest, for a while
	next    *rowRead // the one that begins next; nil when nobody waits
	reading bool
}

// lookRound is one look at many rows.
type lookRound struct {
	posts map[string]*post
	done  chan struct{}
	err   error
}

// rowRead is one reading of a row with its lines.
type rowRead struct {
	began     time.Time
	done      chan struct{}
	execution Execution
	err       error
}

func newLookout(s Store) *lookout { return &lookout{store: s, posts: map[string]*post{}} }

// enter adds a tail to an execution. It has to leave.
func (l *lookout) enter(id string) *post {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.posts[id]
	if p == nil {
		p = &post{id: id}
		l.posts[id] = p
	}
	p.tails++
	return p
}

func (l *lookout) leave(p *post) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.tails--; p.tails > 0 {
		return
	}
	if delete(l.posts, p.id); len(l.posts) == 0 {
		l.posts = map[string]*post{} // a map keeps the room for all it ever held
	}
}

// row returns the execution with its lines: as it was read for another tail a moment
// ago, when that will do, else as it is.
func (l *lookout) row(ctx context.Context, p *post, enough func(*rowRead) bool) (Execution, error) {
	l.mu.Lock()
	if p.read != nil && enough(p.read) {
		defer l.mu.Unlock()
		return p.read.execution, nil
	}
	r := p.next
	if r == nil {
		r = &rowRead{done: make(chan struct{})}
		p.next = r
	}
	if !p.reading {
		p.reading = true
		go l.readRows(context.WithoutCancel(ctx), p)
	}
	l.mu.Unlock()
	select {
	case <-r.done:
		return r.execution, r.err
	case <-ctx.Done():
		return Execution{}, context.Cause(ctx)
	}
}

// readRows reads a row, again and again while somebody waits.
func (l *lookout) readRows(ctx context.Context, p *post) {
	for {
		l.mu.Lock()
		r := p.next
		p.next, p.reading = nil, r != nil
		l.mu.Unlock()
		if r == nil {
			return
		}
		r.began = time.Now()
		limited, cancel := context.WithTimeout(ctx, rowLimit)
		r.execution, r.err = l.store.Get(limited, p.id)
		cancel()
		l.keep(p, r)
		close(r.done)
	}
}

// keep lets other tails have what was read, for a while.
func (l *lookout) keep(p *post, r *rowRead) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.err != nil || p.tails < 2 {
		p.read = nil
		return
	}
	p.read = r
	time.AfterFunc(rowAge, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if p.read == r {
			p.read = nil
		}
	})
}

// look returns where an execution is, as of a look that is no older than age; false
// when it does not exist any more.
func (l *lookout) look(ctx context.Context, p *post, age time.Duration) (Look, bool, error) {
	l.mu.Lock()
	if !p.looked.IsZero() && time.Since(p.looked) < age {
		defer l.mu.Unlock()
		return p.look, p.exists, nil
	}
	r := l.next
	if r == nil {
		r = &lookRound{posts: map[string]*post{}, done: make(chan struct{})}
		l.next = r
	}
	r.posts[p.id] = p
	if !l.looking {
		l.looking = true
		go l.lookAround(context.WithoutCancel(ctx))
	}
	l.mu.Unlock()
	select {
	case <-r.done:
	case <-ctx.Done():
		return Look{}, false, context.Cause(ctx)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return p.look, p.exists, r.err
}

// lookAround looks at all rows that somebody asks for, again and again while
// somebody does.
func (l *lookout) lookAround(ctx context.Context) {
	for {
		l.mu.Lock()
		r := l.next
		l.next, l.looking = nil, r != nil
		l.mu.Unlock()
		if r == nil {
			return
		}
		r.err = l.lookAt(ctx, r.posts)
		close(r.done)
	}
}

func (l *lookout) lookAt(ctx context.Context, posts map[string]*post) error {
	ids := make([]string, 0, min(len(posts), lookBatch))
	for id := range posts {
		ids = append(ids, id)
		if len(ids) == lookBatch {
			if err := l.lookAtBatch(ctx, posts, ids); err != nil {
				return err
			}
			ids = ids[:0]
		}
	}
	if len(ids) == 0 {
		return nil
	}
	return l.lookAtBatch(ctx, posts, ids)
}

func (l *lookout) lookAtBatch(ctx context.Context, posts map[string]*post, ids []string) error {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	began := time.Now()
	seen, err := l.store.Look(ctx, ids)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range ids {
		p := posts[id]
		p.look, p.exists = seen[id]
		p.looked = began
	}
	return nil
}
