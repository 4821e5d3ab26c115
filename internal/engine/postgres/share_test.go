package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/engine/enginetest"
	"github.com/dataguardian/dataguardian/internal/engine/postgres/archive"
	"github.com/dataguardian/dataguardian/internal/engine/tool"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

// shareable is a database with two tables that are cut into slices, and with some of
// what pg_dump itself reads between them.
const shareable = `
CREATE TABLE "a (b) FROM stdin;" ("c (d" int, twice int GENERATED ALWAYS AS ("c (d" * 2) STORED, "select" text);
INSERT INTO "a (b) FROM stdin;" ("c (d", "select") SELECT g, repeat(md5(g::text), 8) FROM generate_series(1, 3000) g; DELETE FROM "a (b) FROM stdin;" WHERE "c (d" BETWEEN 700 AND 1900;
CREATE TABLE b_small AS SELECT 1 AS one; CREATE TABLE c_large AS SELECT g, repeat(md5(g::text), 8) FROM generate_series(1, 3000) g;
CREATE INDEX ON "a (b) FROM stdin;" ("c (d"); CREATE TABLE d_none (); CREATE TABLE e_secret (a int); ALTER TABLE e_secret ENABLE ROW LEVEL SECURITY;
SELECT lo_from_bytea(77, decode(repeat('00ff', 50000), 'hex')); CREATE SEQUENCE s; SELECT nextval('s');`

// largeSharer shares out what has a hundred pages.
func largeSharer() *Engine {
	e := New(Config{})
	e.shareFrom, e.sliceSize = 100*8<<10, 64<<10
	return e
}

func TestSeveralConnectionsDumpOneMoment(t *testing.T) {
	pg := testkit.Postgres(t)
	db, streamed, parallel := pg.NewDatabase(t), pg.NewDatabase(t), pg.NewDatabase(t)
	pg.Exec(t, db, shareable)
	want := plain(t, pg, db)
	looker := pg.Conn(t, db)
	var once sync.Once
	changes := []string{"ALTER TABLE c_large ADD COLUMN more int DEFAULT random()", `REINDEX TABLE "a (b) FROM stdin;"`}
	members := 20
	if pg.Major < slicedFrom { // whole tables are read, without their indexes
		changes, members = changes[:1], 3
	}
	changed := make(chan error, len(changes))
	sink := enginetest.Memory{OnWrite: func(member string, _ int64) error {
		if member == "backup-00001.dump" {
			return nil
		}
		once.Do(func() { // after the snapshot and before most of the data
			pg.Exec(t, db, `INSERT INTO c_large SELECT * FROM c_large; DELETE FROM "a (b) FROM stdin;"; SELECT nextval('s'); CREATE TABLE f_new ()`)
			for _, change := range changes {
				other := pg.Conn(t, db)
				go func() {
					_, err := other.Exec(context.WithoutCancel(t.Context()), change)
					changed <- err
				}()
			}
			require.Eventually(t, func() bool { // they wait in front of connections that have not got their locks
				var waiting int
				err := looker.QueryRow(t.Context(), `SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
					WHERE NOT granted AND (query LIKE 'ALTER TABLE%' OR query LIKE 'REINDEX%') AND datname = current_database()`).Scan(&waiting)
				return err == nil && waiting == len(changes)
			}, time.Minute, 10*time.Millisecond)
		})
		return nil
	}}
	var last engine.Progress
	var log lines
	res, err := largeSharer().Dump(t.Context(), connTo(pg, db), engine.DumpOptions{ParallelJobs: 3, Log: log.log, Progress: func(p engine.Progress) {
		require.GreaterOrEqual(t, p.BytesDone, last.BytesDone)
		require.GreaterOrEqual(t, p.TablesDone, last.TablesDone)
		last = p
	}}, &sink)
	require.NoError(t, err)
	for range changes {
		require.NoError(t, <-changed, "the changes got their turn")
	}
	require.Empty(t, res.Warning)
	require.Equal(t, map[string]int64{
		`public.a (b) FROM stdin;`: 1799, "public.b_small": 1, "public.c_large": 3000, "public.d_none": 0, "public.e_secret": 0,
	}, rowsByName(res))
	require.Contains(t, log.String(), "info 3 connections share a snapshot and read 2 large tables in ")
	require.Contains(t, log.String(), "debug table public.c_large: 3000 rows")

	var whole bytes.Buffer
	for _, m := range sink.Members() {
		whole.Write(sink.Bytes(m.Name))
	}
	require.Greater(t, len(sink.Members()), members)
	require.Equal(t, engine.Progress{TablesDone: 5, TablesTotal: 5, BytesDone: int64(whole.Len()), BytesTotal: int64(whole.Len())}, last)
	proof := archive.NewVerifier(archive.Events{})
	_, err = proof.Write(whole.Bytes())
	require.NoError(t, err)
	require.NoError(t, proof.Done())
	require.Equal(t, res.Tables, tables(proof.Contents()), "the bytes hold as many rows as the connections counted")

	file := filepath.Join(t.TempDir(), "dump")
	require.NoError(t, os.WriteFile(file, whole.Bytes(), 0o600))
	for target, args := range map[string][]string{streamed: nil, parallel: {"--jobs=3", file}} { // the server's own tool, from a pipe and from a file
		cmd := exec.Command(filepath.Join(pg.BinDir, "pg_restore"), append([]string{"--exit-on-error", "--dbname=" + pg.DSN(target)}, args...)...)
		if args == nil {
			cmd.Stdin = struct{ *bytes.Reader }{bytes.NewReader(whole.Bytes())}
		}
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
		require.Equal(t, want, strings.ReplaceAll(plain(t, pg, target), target, db))
	}

	var gap enginetest.Memory
	for _, m := range sink.Members() {
		if m.Name != fmt.Sprintf(memberPattern, members/3+1) {
			gap.Put(m.Name, sink.Bytes(m.Name))
		}
	}
	err = restoreInto(t, connTo(pg, streamed), engine.RestoreOptions{DropExisting: true}, &gap)
	require.Equal(t, errs.CodeArtifactCorrupt, errs.CodeOf(err), "%v", err)
	require.Equal(t, want, plain(t, pg, streamed))
}

func TestADumpBySeveralConnectionsFailsAsAWhole(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	pg.Exec(t, db, shareable)
	full, said := errors.New("no space"), errors.New("operator said so")
	const end = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'dataguardian' AND `
	copied := "backup-00005.dump"
	if pg.Major < slicedFrom {
		copied = "backup-00003.dump"
		// A table read whole must be more than the sockets hold: a connection that has sent
		// all may well be lost.
		pg.Exec(t, db, "INSERT INTO c_large SELECT g, repeat(md5(g::text), 8) FROM generate_series(1, 150000) g")
	}
	for name, tc := range map[string]struct {
		member string // at whose first byte it happens
		happen func(t *testing.T, cancel context.CancelCauseFunc) error
		check  func(t *testing.T, err error)
	}{
		"a connection that copies is lost": {copied, func(t *testing.T, _ context.CancelCauseFunc) error {
			pg.Exec(t, db, end+`(query LIKE 'COPY (SELECT%' OR query LIKE 'COPY "public"%')`)
			return nil
		}, func(t *testing.T, err error) {
			require.Equal(t, errs.CodeDatasourceLost, errs.CodeOf(err), "%v", err)
		}},
		"the snapshot's own connection is lost": {"backup-00001.dump", func(t *testing.T, _ context.CancelCauseFunc) error {
			pg.Exec(t, db, end+"query = 'SET LOCAL lock_timeout = 0'")
			return nil
		}, func(t *testing.T, err error) {
			require.Equal(t, errs.CodeDatasourceLost, errs.CodeOf(err), "%v", err)
		}},
		"a member cannot be written": {"backup-00004.dump", func(*testing.T, context.CancelCauseFunc) error { return full },
			func(t *testing.T, err error) { require.ErrorIs(t, err, full) }},
		"it is cancelled": {"backup-00004.dump", func(_ *testing.T, cancel context.CancelCauseFunc) error { cancel(said); return nil },
			func(t *testing.T, err error) {
				require.ErrorIs(t, err, said)
				require.Equal(t, errs.Cancelled, errs.KindOf(err))
			}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			var once sync.Once
			sink := enginetest.Memory{OnWrite: func(member string, _ int64) (err error) {
				if member == tc.member {
					once.Do(func() { err = tc.happen(t, cancel) })
				}
				return err
			}}
			temp, looker := t.TempDir(), pg.Conn(t, "postgres")
			_, err := largeSharer().Dump(ctx, connTo(pg, db), engine.DumpOptions{ParallelJobs: 3, TempDir: temp}, &sink)
			tc.check(t, err)
			for _, m := range sink.Members() {
				state, _ := sink.State(m.Name)
				require.NotEqual(t, enginetest.Open, state, m.Name)
			}
			require.Empty(t, enginetest.Children(t))
			left, err := os.ReadDir(temp)
			require.NoError(t, err)
			require.Empty(t, left)
			require.Eventually(t, func() bool {
				var sessions int
				err := looker.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND application_name = 'dataguardian'", db).Scan(&sessions)
				return err == nil && sessions == 0
			}, time.Minute, 20*time.Millisecond)
		})
	}
}

func TestOneConnectionDumpsWhatSeveralCannotLock(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	pg.Exec(t, db, `CREATE TABLE large AS SELECT g, repeat('x', 300) FROM generate_series(1, 3000) g; CREATE TABLE wanted AS SELECT 1 AS one;
		CREATE TABLE split (a int) PARTITION BY LIST (a)`)
	holder := pg.Conn(t, db)
	e := largeSharer()
	e.lockWait = 200 * time.Millisecond
	for _, table := range []string{"wanted", "split"} { // the one is waited for by us, the other by pg_dump
		_, err := holder.Exec(t.Context(), "BEGIN; LOCK "+table+" IN ACCESS EXCLUSIVE MODE")
		require.NoError(t, err)
		var sink enginetest.Memory
		var last engine.Progress
		res, err := e.Dump(t.Context(), connTo(pg, db), engine.DumpOptions{ParallelJobs: 2, Progress: func(p engine.Progress) { last = p },
			Log: func(_ engine.Level, message string) {
				if strings.Contains(message, "instead of several") {
					_, err := holder.Exec(t.Context(), "ROLLBACK")
					require.NoError(t, err)
				}
			}}, &sink)
		require.NoError(t, err)
		require.Equal(t, map[string]int64{"public.large": 3000, "public.wanted": 1, "public.split": -1}, rowsByName(res))
		require.Equal(t, 2, last.TablesTotal)
		require.Len(t, sink.Members(), 1)
		require.Equal(t, Member, sink.Members()[0].Name)
		require.NotEmpty(t, res.Warning)
	}
}

// Somebody who waits for an index waits for the snapshot's connection, and who wants the
// index after him waits for him: another connection of the dump must not.
func TestASliceWhoseIndexSomebodyWaitsForIsLeftToTheSnapshotsConnection(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	pg.Exec(t, db, "CREATE TABLE large AS SELECT g, repeat('x', 300) FROM generate_series(1, 3000) g; CREATE INDEX ON large (g)")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	d := &dump{engine: largeSharer(), conn: connTo(pg, db)}
	require.NoError(t, d.prepare(ctx))
	held, err := d.takeSnapshot(ctx)
	require.NoError(t, err)
	defer closeNow(t.Context(), held.conn)
	conns, err := d.join(ctx, held, 1)
	require.NoError(t, err)
	defer closeNow(t.Context(), conns[0])
	var sink enginetest.Memory
	data := &archive.Entry{DumpID: 1, Desc: "TABLE DATA", Namespace: "public", Tag: "large"}
	s := &sharing{dump: d, sink: &sink, snapshot: held, missing: map[*archive.Entry]int{}, rows: map[*archive.Entry]int64{}}
	s.layOut(held.tables, []*archive.Entry{data})

	changed, other, looker := make(chan error, 1), pg.Conn(t, db), pg.Conn(t, db)
	go func() {
		_, err := other.Exec(context.WithoutCancel(t.Context()), "REINDEX TABLE large")
		changed <- err
	}()
	if pg.Major < slicedFrom { // whose tables are not sliced, so that nobody waits for an index
		require.NoError(t, <-changed)
		require.NoError(t, s.copySlices(ctx, conns[0]))
		require.Empty(t, s.refused)
		require.EqualValues(t, 3000, s.rows[data])
		require.NoError(t, held.end(ctx, d))
		return
	}
	require.Eventually(t, func() bool {
		var waits bool
		err := looker.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pid = $1)", other.PgConn().PID()).Scan(&waits)
		return err == nil && waits
	}, time.Minute, 10*time.Millisecond, "it does not wait for the snapshot's connection")
	require.NoError(t, s.copySlices(ctx, conns[0]))
	require.Empty(t, sink.Members())
	require.Greater(t, len(s.refused), 5)
	s.waiting = s.refused
	require.NoError(t, s.copySlices(ctx, held.conn))
	require.EqualValues(t, 3000, s.rows[data])
	require.NoError(t, held.end(ctx, d))
	require.NoError(t, <-changed)
}

func TestATableIsOnlySharedWhenItsNameIsStillItsOwn(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	const large = " AS SELECT g, repeat('x', 300) FROM generate_series(1, 3000) g; "
	pg.Exec(t, db, "CREATE TABLE large"+large)
	d := &dump{engine: largeSharer(), conn: connTo(pg, db)}
	conn, err := d.engine.connectLikeTool(t.Context(), d.conn)
	require.NoError(t, err)
	defer closeNow(t.Context(), conn)
	candidates, err := d.shared(t.Context(), conn, nil)
	require.NoError(t, err)
	require.Len(t, candidates, 1)
	const wait = "SET LOCAL lock_timeout = 60000"
	s := &snapshot{conn: conn}
	require.NoError(t, s.hold(t.Context(), d, wait, candidates))
	require.Equal(t, candidates, s.tables)
	_, err = conn.Exec(t.Context(), "ROLLBACK")
	require.NoError(t, err)
	pg.Exec(t, db, "ALTER TABLE large RENAME TO old; CREATE TABLE large"+large)
	require.ErrorIs(t, s.hold(t.Context(), d, wait, candidates), errMoved, "the lock is on the new one")
}

func TestADumpGoesOnWithTheConnectionsItGets(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	user := "few_" + db
	pg.Exec(t, db, `CREATE TABLE large AS SELECT g, repeat('x', 300) FROM generate_series(1, 3000) g; CREATE ROLE `+user+` LOGIN PASSWORD 'few-of-them' CONNECTION LIMIT 3;
		GRANT SELECT ON large TO `+user)
	t.Cleanup(func() { pg.Exec(t, db, "DROP OWNED BY "+user+"; DROP ROLE "+user) })
	c := connTo(pg, db)
	c.Username, c.Password = user, "few-of-them"
	var sink enginetest.Memory
	res, err := largeSharer().Dump(t.Context(), c, engine.DumpOptions{ParallelJobs: 6}, &sink)
	require.NoError(t, err)
	require.Len(t, res.Warning, 1)
	require.Contains(t, res.Warning[0], "of 6 connections")
	require.Equal(t, map[string]int64{"public.large": 3000}, rowsByName(res))
	require.Greater(t, len(sink.Members()), 1)
}

func TestAConnectionThatBringsNothingIsEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		rows := &watchedRows{Slice: archive.NewSlice(io.Discard, 1, true, true)}
		began := time.Now()
		stopped := rows.watch(ctx, 10*time.Minute, cancel)
		<-time.After(9 * time.Minute)
		_, err := rows.Write([]byte("1\n"))
		require.NoError(t, err)
		<-stopped
		require.ErrorIs(t, context.Cause(ctx), tool.ErrStalled)
		require.GreaterOrEqual(t, time.Since(began), 19*time.Minute)
		err = (&dump{conn: engine.Conn{Host: "h", Port: 1}}).statementError(ctx, ctx.Err(), "reading table t")
		require.Equal(t, errs.CodeDumpStalled, errs.CodeOf(err))
	})
}
