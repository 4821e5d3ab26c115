package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/engine/postgres/archive"
	"github.com/dataguardian/dataguardian/internal/engine/tool"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/process"
)

// longestShareWait is how long locks are waited for before one connection dumps:
// somebody who wants a shared table for himself waits for us, and pg_dump for him.
const longestShareWait = 10 * time.Second

// slicePlanWait is how many milliseconds locks are waited for that should be free.
const slicePlanWait = 100

// errWanted is a table on which no lock was to be had.
var errWanted = errors.New("a table stayed locked")

// sharing is a dump by several connections that see one snapshot. pg_dump says what
// there is to dump and dumps what is small or out of the ordinary; the rows of large
// plain tables are copied by connections of ours.
type sharing struct {
	*dump
	sink     engine.Sink
	dir      string
	env      []string
	snapshot *snapshot
	proof    *archive.Verifier // of what pg_dump writes
	copiers  *errgroup.Group

	// These are known when the table of contents is.
	entries []*archive.Entry // of the whole archive
	slices  []slice
	conns   []*pgx.Conn // besides the snapshot's own

	mu      sync.Mutex
	waiting []slice // the next one first
	refused []slice // their tables are locked for all but the snapshot's own connection
	missing map[*archive.Entry]int
	rows    map[*archive.Entry]int64
}

// share dumps through several connections. It returns false when there is nothing
// worth sharing; nothing was dumped then.
func (d *dump) share(ctx context.Context, dir string, env []string, sink engine.Sink) (done bool, err error) {
	if d.options.ParallelJobs < 2 || majorOf(d.result.Server.VersionNum) < sharedFrom {
		return false, nil
	}
	done, err = d.shareOut(ctx, dir, env, sink)
	if errors.Is(err, errWanted) {
		d.warn("a table is locked, wanted by somebody for himself or just gone, so one connection dumps instead of several")
		return false, nil
	}
	return done, err
}

func (d *dump) shareOut(ctx context.Context, dir string, env []string, sink engine.Sink) (done bool, err error) {
	held, err := d.takeSnapshot(ctx)
	if err != nil || held == nil {
		return false, err
	}
	defer closeNow(ctx, held.conn)
	s := &sharing{
		dump: d, sink: sink, dir: dir, env: env, snapshot: held,
		missing: map[*archive.Entry]int{}, rows: map[*archive.Entry]int64{},
	}
	return true, s.run(ctx)
}

func (d *dump) shareWait() time.Duration { return min(longestShareWait, d.engine.lockWait) }

func (s *sharing) run(ctx context.Context) error {
	defer func() {
		for _, conn := range s.conns {
			closeNow(ctx, conn)
		}
	}()
	g, gctx := errgroup.WithContext(ctx)
	s.copiers = g
	g.Go(func() error {
		if err := s.runTool(gctx); err != nil {
			return err
		}
		return s.copySlices(gctx, s.snapshot.conn)
	})
	if err := g.Wait(); err != nil {
		return err
	}
	if s.waiting = s.refused; len(s.waiting) > 0 {
		if err := s.copySlices(ctx, s.snapshot.conn); err != nil {
			return err
		}
	}
	if err := s.snapshot.end(ctx, s.dump); err != nil {
		return err
	}
	s.result.Tables, s.result.SchemaDigest = tables(s.entries), s.digestOf(s.entries)
	s.update(func(p *engine.Progress) { p.BytesTotal, p.Current = p.BytesDone, "" })
	return nil
}

// runTool lets pg_dump write the table of contents and all data but that of the
// shared tables.
func (s *sharing) runTool(ctx context.Context) error {
	args := append(s.arguments(), "--snapshot="+s.snapshot.id, fmt.Sprintf("--lock-wait-timeout=%d", s.shareWait().Milliseconds()))
	for _, t := range s.snapshot.tables {
		args = append(args, "--exclude-table-data="+t.ident())
	}
	s.proof = archive.NewVerifier(archive.Events{Started: s.started, Finished: s.finished})
	rest := &restWriter{sharing: s, ctx: ctx}
	_, err := tool.Stream{
		Spec: process.Spec{
			Path: s.tool.path, Args: args, Env: process.Environment(s.dir, s.env...), Dir: s.dir,
			OnStderr: tool.Pass(s.conn.Password, s.warn),
		},
		Stall: s.options.StallTimeout, Proof: s.proof, Member: rest,
	}.Run(ctx)
	if !rest.done && (lockTimedOut(err) || tableGone(err)) {
		return errWanted
	}
	if err != nil {
		err = s.failure(ctx, err)
		if rest.out != nil {
			err = also(err, rest.out.CloseWithError(err))
		}
		return err
	}
	if rest.out != nil {
		return rest.out.Close()
	}
	return nil
}

// restWriter takes what pg_dump writes. The table of contents gets entries for the
// shared tables and is a member of its own, what follows is the last member.
type restWriter struct {
	*sharing
	ctx  context.Context //nolint:containedctx // it belongs to one call
	head []byte          // up to the end of the table of contents
	out  *output         // nil before the first byte behind it
	done bool            // the table of contents is stored
}

func (w *restWriter) Write(b []byte) (int, error) {
	if w.done {
		return len(b), w.follow(b)
	}
	end := w.proof.ContentsEnd()
	if end == 0 {
		w.head = append(w.head, b...)
		return len(b), nil
	}
	n := int(end) - len(w.head)
	if err := w.begin(w.ctx, append(w.head, b[:n]...)); err != nil {
		return 0, err
	}
	w.head, w.done = nil, true
	return len(b), w.follow(b[n:])
}

// follow writes data behind the table of contents.
func (w *restWriter) follow(b []byte) (err error) {
	if len(b) == 0 {
		return nil
	}
	if w.out == nil {
		if w.out, err = w.create(w.ctx, fmt.Sprintf(memberPattern, len(w.slices)+2)); err != nil {
			return err
		}
	}
	_, err = w.out.Write(b)
	return err
}

// begin stores the table of contents and lets the rows be copied.
func (s *sharing) begin(ctx context.Context, head []byte) error {
	tables, data := s.dumped()
	edited, entries, added, err := s.proof.InsertTableData(head, data)
	if err != nil {
		return err
	}
	s.entries = entries
	s.contents(s.proof.Header(), entries)
	s.layOut(tables, added)
	out, err := s.create(ctx, fmt.Sprintf(memberPattern, 1))
	if err != nil {
		return err
	}
	if _, err := out.Write(edited); err != nil {
		return also(err, out.CloseWithError(err))
	}
	if err := out.Close(); err != nil {
		return err
	}
	return s.startCopiers(ctx)
}

// startCopiers opens the other connections: pg_dump has got its own by now.
func (s *sharing) startCopiers(ctx context.Context) (err error) {
	if s.conns, err = s.join(ctx, s.snapshot, s.options.ParallelJobs-1); err != nil {
		return err
	}
	s.log(engine.LevelInfo, fmt.Sprintf("%d connections share a snapshot and read %d large tables in %d slices",
		len(s.conns)+1, len(s.missing), len(s.slices)))
	for _, conn := range s.conns {
		s.copiers.Go(func() error {
			defer closeNow(ctx, conn) // nobody waits longer for its locks than it reads
			return s.copySlices(ctx, conn)
		})
	}
	return nil
}

// dumped lists the shared tables whose definitions the dump has.
func (s *sharing) dumped() (tables []sharedTable, data []archive.TableData) {
	defined := map[relationName]*archive.Entry{}
	for _, e := range s.proof.Contents() {
		if e.Desc == "TABLE" {
			defined[relationName{e.Namespace, e.Tag}] = e
		}
	}
	for _, t := range s.snapshot.tables {
		if e := defined[relationName{t.schema, t.name}]; e != nil {
			tables = append(tables, t)
			data = append(data, archive.TableData{Table: e, OID: t.oid, Columns: t.columns, Name: t.quoted})
		}
	}
	return tables, data
}

// layOut queues the slices, large ones first, so that none is left over at the end.
func (s *sharing) layOut(tables []sharedTable, entries []*archive.Entry) {
	s.slices = layOut(tables, entries, s.engine.sliceSize, majorOf(s.result.Server.VersionNum) >= slicedFrom)
	s.waiting = slices.Clone(s.slices)
	slices.SortStableFunc(s.waiting, func(a, b slice) int { return cmp.Compare(b.bytes, a.bytes) })
	for _, x := range s.slices {
		s.missing[x.entry]++
	}
}

// output is a member that is counted.
type output struct {
	engine.MemberWriter
	dump *dump
	err  error
}

func (s *sharing) create(ctx context.Context, member string) (*output, error) {
	m, err := s.sink.Create(ctx, member)
	if err != nil && errors.Is(err, ctx.Err()) {
		return nil, ended(ctx)
	}
	if err != nil {
		return nil, err
	}
	return &output{MemberWriter: m, dump: s.dump}, nil
}

func (o *output) Write(b []byte) (int, error) {
	n, err := o.MemberWriter.Write(b)
	if err != nil {
		o.err = err
		return n, err
	}
	o.dump.read(n)
	return n, nil
}

// next takes a slice off those that wait.
func (s *sharing) next() (x slice, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) == 0 {
		return slice{}, false
	}
	x, s.waiting = s.waiting[0], s.waiting[1:]
	return x, true
}

// copySlices copies until none waits.
func (s *sharing) copySlices(ctx context.Context, conn *pgx.Conn) error {
	for {
		x, ok := s.next()
		if !ok {
			return nil
		}
		if conn != s.snapshot.conn {
			locked, err := s.lock(ctx, conn, x)
			if err != nil {
				return err
			}
			if !locked {
				continue
			}
		}
		if err := s.copySlice(ctx, conn, x); err != nil {
			return err
		}
	}
}

// lock takes the locks that COPY would wait for: on the table, and those that a query
// takes on its indexes. Somebody who waits for one of them waits for the snapshot's
// connection, so that waiting for them would never end.
func (s *sharing) lock(ctx context.Context, conn *pgx.Conn, x slice) (locked bool, err error) {
	if ctx.Err() != nil {
		return false, ended(ctx)
	}
	statements := "SAVEPOINT before; LOCK TABLE ONLY " + x.table.ident() + " IN ACCESS SHARE MODE NOWAIT; "
	if !x.first || !x.last {
		statements += fmt.Sprintf("SET LOCAL lock_timeout = %d; %s; SET LOCAL lock_timeout = 0; ", slicePlanWait, x.table.plan())
	}
	_, err = conn.Exec(ctx, statements+"RELEASE before")
	if err == nil {
		return true, nil
	}
	if !isState(err, stateLocked) {
		return false, s.statementError(ctx, err, "locking table "+x.entry.Name())
	}
	if _, err := conn.Exec(ctx, "ROLLBACK TO before; RELEASE before"); err != nil {
		return false, s.statementError(ctx, err, "locking table "+x.entry.Name())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = append(s.refused, x)
	return false, nil
}

// copySlice writes one member.
func (s *sharing) copySlice(ctx context.Context, conn *pgx.Conn, x slice) error {
	s.update(func(p *engine.Progress) { p.Current = x.entry.Name() })
	out, err := s.create(ctx, x.member)
	if err != nil {
		return err
	}
	if err := s.copyInto(ctx, conn, x, out); err != nil {
		return also(err, out.CloseWithError(err))
	}
	return out.Close()
}

func (s *sharing) copyInto(ctx context.Context, conn *pgx.Conn, x slice, out *output) error {
	ctx, cancel := context.WithCancelCause(ctx)
	rows := &watchedRows{Slice: archive.NewSlice(out, x.entry.DumpID, x.first, x.last)}
	stopped := rows.watch(ctx, s.stall(), cancel)
	tag, err := conn.PgConn().CopyTo(ctx, rows, x.statement())
	if err != nil {
		err = s.statementError(ctx, err, "reading table "+x.entry.Name())
	}
	cancel(nil)
	<-stopped
	switch {
	case out.err != nil:
		return out.err
	case err != nil:
		return err
	case tag.RowsAffected() != rows.Rows():
		return errs.New(errs.Unavailable, errs.CodeDumpIncomplete, "table %s gave %d rows where the server counted %d; it cannot be restored, run the backup again",
			x.entry.Name(), rows.Rows(), tag.RowsAffected())
	}
	if err := rows.Close(); err != nil {
		return err
	}
	s.copied(x, rows.Rows())
	return nil
}

// copied notes the end of a slice; the last one to come ends its table.
func (s *sharing) copied(x slice, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows[x.entry] += n
	if s.missing[x.entry]--; s.missing[x.entry] == 0 {
		x.entry.SetRows(s.rows[x.entry])
		s.finished(x.entry)
	}
}

// watchedRows notes that rows arrive. While they are written the server is not at
// fault.
type watchedRows struct {
	*archive.Slice
	arrived atomic.Int64
	writing atomic.Bool
}

func (w *watchedRows) Write(p []byte) (int, error) {
	w.writing.Store(true)
	defer w.writing.Store(false)
	w.arrived.Add(1)
	return w.Slice.Write(p)
}

// watch ends with ctx, or ends it when no row arrives for the stall time.
func (w *watchedRows) watch(ctx context.Context, stall time.Duration, cancel context.CancelCauseFunc) (stopped <-chan struct{}) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		before := int64(-1)
		if tool.Watch(ctx, stall, func(context.Context) bool {
			last := before
			before = w.arrived.Load()
			return before != last || w.writing.Load()
		}) {
			cancel(tool.ErrStalled)
		}
	}()
	return done
}
