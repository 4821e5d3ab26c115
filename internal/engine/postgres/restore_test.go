package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/engine/enginetest"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

// plain is a database as SQL text, without what changes between two dumps.
func plain(t testing.TB, pg *testkit.PG, database string, args ...string) string {
	t.Helper()
	cmd := exec.Command(filepath.Join(pg.BinDir, "pg_dump"), append([]string{"--dbname=" + pg.DSN(database)}, args...)...)
	out, err := cmd.Output()
	require.NoError(t, err)
	var b strings.Builder
	for line := range bytes.Lines(out) {
		if changes := bytes.HasPrefix(line, []byte(`\restrict `)) || bytes.HasPrefix(line, []byte(`\unrestrict `)) || bytes.HasPrefix(line, []byte("-- Dumped ")); !changes {
			b.Write(line)
		}
	}
	return b.String()
}

func databases(t *testing.T, pg *testkit.PG) []string {
	t.Helper()
	rows, err := pg.Conn(t, "postgres").Query(t.Context(), "SELECT datname FROM pg_database WHERE datname LIKE 'dg\\_%'")
	require.NoError(t, err)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return names
}

const richDatabase = `
CREATE EXTENSION IF NOT EXISTS plpgsql;
CREATE SCHEMA "odd ""schema.";
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TABLE people (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, m mood DEFAULT 'ok', n positive, twice int GENERATED ALWAYS AS (n * 2) STORED);
CREATE TABLE pets (id serial PRIMARY KEY, owner bigint REFERENCES people ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED, tags text[]);
CREATE TABLE "odd ""schema."."-t
😀" (a int, b bytea);
CREATE TABLE log (at date, what jsonb) PARTITION BY RANGE (at);
CREATE TABLE log_old PARTITION OF log FOR VALUES FROM (MINVALUE) TO ('2020-01-01');
CREATE TABLE log_new PARTITION OF log DEFAULT;
CREATE UNLOGGED TABLE scratch (x int);
CREATE INDEX ON pets USING gin (tags);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE TRIGGER t BEFORE INSERT ON pets FOR EACH ROW EXECUTE FUNCTION touch();
INSERT INTO people (name, n) SELECT 'p' || g, g FROM generate_series(1, 500) g;
INSERT INTO pets (owner, tags) SELECT g, ARRAY['a', E'b\n\\.', NULL] FROM generate_series(1, 300) g;
INSERT INTO log SELECT '2019-12-01'::date + g, '{"a": 1}' FROM generate_series(1, 100) g;
INSERT INTO "odd ""schema."."-t
😀" VALUES (1, '\x00ff');
CREATE VIEW names AS SELECT name FROM people;
CREATE MATERIALIZED VIEW counts AS SELECT count(*) FROM pets;
COMMENT ON TABLE people IS 'it''s -- a
\! comment';
SELECT lo_from_bytea(4242, 'large object');
ALTER SEQUENCE pets_id_seq RESTART WITH 777;`

func restoreInto(t *testing.T, c engine.Conn, o engine.RestoreOptions, src engine.Source) error {
	t.Helper()
	return New(Config{}).Restore(t.Context(), c, o, src)
}

func TestWhatBelongsToTheDatabaseItselfStays(t *testing.T) {
	pg := testkit.Postgres(t)
	db, source := pg.NewDatabase(t), pg.NewDatabase(t)
	pg.Exec(t, "postgres", "CREATE ROLE keeper; CREATE ROLE guest")
	t.Cleanup(func() { pg.Exec(t, "postgres", "DROP ROLE guest") })
	t.Cleanup(func() { pg.Exec(t, "postgres", "DROP DATABASE "+db+"; ") })
	t.Cleanup(func() {
		pg.Exec(t, "postgres", "ALTER DATABASE "+db+" OWNER TO postgres")
		pg.Exec(t, "postgres", "DROP ROLE keeper")
	})
	for _, sql := range []string{
		"ALTER DATABASE %s OWNER TO keeper", "REVOKE ALL ON DATABASE %s FROM PUBLIC", "GRANT CONNECT ON DATABASE %s TO guest WITH GRANT OPTION",
		`ALTER DATABASE %s SET search_path TO "$user", public, "odd,one"`, "ALTER DATABASE %s SET work_mem TO '7MB'",
		"ALTER ROLE guest IN DATABASE %s SET my.setting TO 'it''s'", "ALTER DATABASE %s CONNECTION LIMIT 17",
		"COMMENT ON DATABASE %s IS 'it''s mine'", "ALTER DATABASE %s SET default_transaction_read_only TO on",
	} {
		pg.Exec(t, "postgres", fmt.Sprintf(sql, db))
	}
	describe := func() string {
		var s string
		err := pg.Conn(t, "postgres").QueryRow(t.Context(), `SELECT concat_ws('|', pg_get_userbyid(datdba), datacl, datconnlimit, encoding, datcollate, datctype,
			shobj_description(oid, 'pg_database'), (SELECT string_agg(setrole::regrole || ':' || setconfig::text, ';' ORDER BY setrole::regrole::text)
			FROM pg_db_role_setting WHERE setdatabase = d.oid)) FROM pg_database d WHERE datname = $1`, db).Scan(&s)
		require.NoError(t, err)
		return s
	}
	want := describe()
	require.Contains(t, want, "keeper")
	require.Contains(t, want, "guest=c*/keeper")
	_, dump := dumpOf(t, connTo(pg, source), engine.DumpOptions{})
	var log lines
	require.NoError(t, restoreInto(t, connTo(pg, db), engine.RestoreOptions{DropExisting: true, Log: log.log}, dump))
	require.Equal(t, want, describe())
	require.NotContains(t, log.String(), "could not")
}

func TestARestoreThatFailsLeavesTheTargetAsItWas(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	pg.Exec(t, db, `CREATE TABLE a AS SELECT g FROM generate_series(1, 20000) g; CREATE TABLE z (x int UNIQUE)`)
	_, dump := dumpOf(t, connTo(pg, db), engine.DumpOptions{})
	whole := dump.Bytes(Member)
	lost := errors.New("storage lost")

	broken := func(b []byte) *enginetest.Memory {
		var m enginetest.Memory
		m.Put(Member, b)
		return &m
	}
	doubled := strings.Replace(string(whole), "\t", "\t", 1)
	sources := map[string]struct {
		src  func() *enginetest.Memory
		code errs.Code
	}{
		"half a dump":     {func() *enginetest.Memory { return broken(whole[:len(whole)/2]) }, errs.CodeArtifactCorrupt},
		"a byte short":    {func() *enginetest.Memory { return broken(whole[:len(whole)-1]) }, errs.CodeArtifactCorrupt},
		"half a contents": {func() *enginetest.Memory { return broken(whole[:300]) }, errs.CodeArtifactCorrupt},
		"nothing":         {func() *enginetest.Memory { return broken(nil) }, errs.CodeArtifactCorrupt},
		"something else":  {func() *enginetest.Memory { return broken([]byte("-- SQL\n\\! touch /tmp/x\n")) }, errs.CodeArtifactCorrupt},
		"a statement failing": {func() *enginetest.Memory {
			return broken([]byte(strings.Replace(doubled, "CREATE TABLE public.z", "CREATE TABLE publix.z", 1)))
		}, errs.CodeRestoreFailed},
		"a row failing": {func() *enginetest.Memory { return broken([]byte(strings.Replace(doubled, "19999\n", "1999x\n", 1))) }, errs.CodeRestoreFailed},
		"a storage failing": {func() *enginetest.Memory {
			m := broken(whole)
			m.OnRead = func(_ string, n int64) error {
				if n >= int64(len(whole))/2 {
					return lost
				}
				return nil
			}
			return m
		}, errs.CodeInternal},
		"a storage failing at the very end": {func() *enginetest.Memory {
			m := broken(whole)
			m.OnRead = func(_ string, n int64) error {
				if n >= int64(len(whole)) {
					return lost
				}
				return nil
			}
			return m
		}, errs.CodeInternal},
	}
	target := pg.NewDatabase(t)
	pg.Exec(t, target, "CREATE TABLE mine AS SELECT 42 AS answer")
	before := plain(t, pg, target)
	for name, tc := range sources {
		// What goes wrong while rows come in differs by whether there is old content.
		options := []engine.RestoreOptions{{DropExisting: true}}
		if tc.code != errs.CodeArtifactCorrupt {
			options = append(options, engine.RestoreOptions{})
		}
		for _, o := range options {
			t.Run(fmt.Sprintf("%s, drop %t", name, o.DropExisting), func(t *testing.T) {
				err := restoreInto(t, connTo(pg, target), o, tc.src())
				require.Equal(t, tc.code, errs.CodeOf(err), "%v", err)
				if tc.code == errs.CodeInternal {
					require.ErrorIs(t, err, lost)
				}
				require.Equal(t, before, plain(t, pg, target))
				require.Empty(t, databases(t, pg))
			})
		}
	}
}

func TestARestoreNeedsItsDatabaseUnlessItMayMakeIt(t *testing.T) {
	pg := testkit.Postgres(t)
	_, dump := dumpOf(t, connTo(pg, pg.NewDatabase(t)), engine.DumpOptions{})
	err := restoreInto(t, connTo(pg, "nothing_here"), engine.RestoreOptions{DropExisting: true}, dump)
	require.Equal(t, errs.CodeDatabaseMissing, errs.CodeOf(err))
}

func TestADumpOfANewerServerIsRefused(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	_, dump := dumpOf(t, connTo(pg, db), engine.DumpOptions{})
	err := restoreInto(t, connTo(pg, db), engine.RestoreOptions{DumpVersion: (pg.Major + 1) * 10000}, dump)
	require.Equal(t, errs.CodeRestoreNotSupported, errs.CodeOf(err))
	require.Contains(t, errs.Message(err), fmt.Sprintf("PostgreSQL %d and the target is PostgreSQL %d.", pg.Major+1, pg.Major))

	newer := strings.Replace(string(dump.Bytes(Member)), fmt.Sprintf("%d.", pg.Major), fmt.Sprintf("%d.", pg.Major+1), 1)
	var m enginetest.Memory
	m.Put(Member, []byte(newer))
	err = restoreInto(t, connTo(pg, db), engine.RestoreOptions{}, &m)
	require.Equal(t, errs.CodeRestoreNotSupported, errs.CodeOf(err))

	err = restoreInto(t, connTo(pg, db), engine.RestoreOptions{Format: "mariadb-sql"}, dump)
	require.Equal(t, errs.CodeRestoreNotSupported, errs.CodeOf(err))
	err = restoreInto(t, connTo(pg, db), engine.RestoreOptions{}, &enginetest.Memory{})
	require.Equal(t, errs.CodeRestoreNotSupported, errs.CodeOf(err))
}

func TestTheRestoreToolIsTheServersOrTheNearestThatReadsTheArchive(t *testing.T) {
	var dirs []string
	for _, v := range []string{"14.9", "15.3", "16.2", "17.1"} {
		dirs = append(dirs, fakeTool(t, "pg_restore", v, "exit 1"))
	}
	for _, tc := range []struct {
		server, oldest int
		dirs           []string
		want           string
	}{
		{15, 12, dirs, "15.3"}, {15, 16, dirs, "16.2"}, {18, 12, dirs, "17.1"}, {13, 12, dirs, "14.9"}, {17, 17, dirs, "17.1"}, {15, 12, dirs[2:], "16.2"},
	} {
		p, err := toolbox{dirs: tc.dirs}.chooseRestore(t.Context(), tc.server, tc.oldest)
		require.NoError(t, err)
		require.Equal(t, tc.want, p.version)
	}
	_, err := toolbox{dirs: dirs[:2]}.chooseRestore(t.Context(), 15, 17)
	require.Equal(t, errs.CodeDumpToolTooOld, errs.CodeOf(err))
	require.Contains(t, errs.Message(err), "postgresql-client-17")
	_, err = toolbox{dirs: dirs}.chooseRestore(t.Context(), 15, 17)
	require.Equal(t, errs.CodeRestoreNotSupported, errs.CodeOf(err))
	require.Contains(t, errs.Message(err), "PostgreSQL 17 or newer")
	_, err = toolbox{dirs: dirs[3:]}.chooseRestore(t.Context(), 16, 12)
	require.Equal(t, errs.CodeDumpToolMissing, errs.CodeOf(err))
	require.Contains(t, errs.Message(err), "postgresql-client-16")
	_, err = toolbox{dirs: []string{t.TempDir()}}.chooseRestore(t.Context(), 15, 12)
	require.Equal(t, errs.CodeDumpToolMissing, errs.CodeOf(err))
}

func TestSessionsEndOnlyWhenContentIsReplaced(t *testing.T) {
	pg := testkit.Postgres(t)
	db, source := pg.NewDatabase(t), pg.NewDatabase(t)
	pg.Exec(t, source, "CREATE TABLE a (x int)")
	_, dump := dumpOf(t, connTo(pg, source), engine.DumpOptions{})
	session, err := pgx.Connect(t.Context(), pg.DSN(db))
	require.NoError(t, err)
	var log lines
	require.NoError(t, restoreInto(t, connTo(pg, db), engine.RestoreOptions{Log: log.log}, dump))
	require.NoError(t, session.Ping(t.Context()))
	require.NotContains(t, log.String(), "session")
	require.NoError(t, restoreInto(t, connTo(pg, db), engine.RestoreOptions{DropExisting: true, Log: log.log}, dump))
	require.Error(t, session.Ping(t.Context()))
	require.Contains(t, log.String(), "1 sessions of database "+db+" were ended")
	require.Contains(t, log.String(), `user "postgres"`)
}

// scratchGuest connects to the scratch database of a restore, as a role of newRole's or as
// the superuser, as soon as dump is read while it is there.
func scratchGuest(t *testing.T, pg *testkit.PG, dump *enginetest.Memory, token, role string) (guest func() *pgx.Conn) {
	var conn *pgx.Conn
	dump.OnRead = func(string, int64) (err error) {
		if conn != nil {
			return nil
		}
		var there bool
		if err := pg.Conn(t, "postgres").QueryRow(t.Context(), "SELECT count(*) > 0 FROM pg_database WHERE datname = $1", engine.ScratchPrefix+token).Scan(&there); err != nil || !there {
			return err
		}
		conn, err = sessionAs(t.Context(), pg, engine.ScratchPrefix+token, role, "guest")
		return err
	}
	return func() *pgx.Conn { return conn }
}

// A connection pooler keeps sessions of the scratch database when our tools are gone.
func TestIdleSessionsOfTheScratchDatabaseDoNotKeepItFromItsPlace(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	pg.Exec(t, db, "CREATE TABLE a AS SELECT 1 AS x")
	_, dump := dumpOf(t, connTo(pg, db), engine.DumpOptions{})
	absent := "absent_" + engine.NewScratchSuffix()
	t.Cleanup(func() { pg.Exec(t, "postgres", "DROP DATABASE IF EXISTS "+absent) })
	for target, o := range map[string]engine.RestoreOptions{db: {DropExisting: true}, absent: {CreateDatabase: true}} {
		var log lines
		o.Token, o.TempDir, o.Log = engine.NewScratchSuffix(), t.TempDir(), log.log
		guest := scratchGuest(t, pg, dump, o.Token, "")
		require.NoError(t, New(Config{}).Restore(t.Context(), connTo(pg, target), o, dump))
		idle := guest()
		require.NotNil(t, idle, "the scratch database was seen")
		require.Error(t, idle.Ping(t.Context()))
		_ = idle.Close(t.Context()) // the server has ended it
		require.NotContains(t, log.String(), "were ended to replace it", "nobody's session of the old one")
		require.True(t, isRestored(t, pg, target, "SELECT x = 1 FROM a"))
	}
}

// A monitoring's session is not ours to end, and a superuser's we cannot, even where we
// see what it is.
func TestSessionsOfOthersOnTheScratchDatabaseAreWaitedForWhenItTakesItsPlace(t *testing.T) {
	pg := testkit.Postgres(t)
	role := newRole(t, pg, "CREATEDB IN ROLE pg_monitor")
	db := newDatabaseOf(t, pg, role)
	pg.Exec(t, db, "CREATE TABLE a AS SELECT 1 AS x")
	_, dump := dumpOf(t, connTo(pg, db), engine.DumpOptions{})
	absent := "absent_" + engine.NewScratchSuffix()
	t.Cleanup(func() { pg.Exec(t, "postgres", "DROP DATABASE IF EXISTS "+absent) })
	watching := pg.Conn(t, "postgres")
	for target, o := range map[string]engine.RestoreOptions{db: {DropExisting: true}, absent: {CreateDatabase: true}} {
		o.Token, o.TempDir = engine.NewScratchSuffix(), t.TempDir()
		guest := scratchGuest(t, pg, dump, o.Token, "")
		c := connAs(pg, target, role)
		restored := make(chan error, 1)
		go func() { restored <- New(Config{}).Restore(t.Context(), c, o, dump) }()
		require.Eventually(t, func() (waits bool) {
			const renaming = "SELECT count(*) > 0 FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'ALTER DATABASE ' || $1 || ' RENAME TO %'"
			return watching.QueryRow(t.Context(), renaming, engine.ScratchPrefix+o.Token).Scan(&waits) == nil && waits
		}, time.Minute, 10*time.Millisecond, "it does not come to the renaming")
		require.NoError(t, guest().Ping(t.Context()), "somebody else's session was ended")
		require.NoError(t, guest().Close(t.Context()))
		require.NoError(t, <-restored)
		require.True(t, isRestored(t, pg, target, "SELECT x = 1 FROM a"))
	}
}

func TestCancellingARestoreEndsItAndLeavesTheTarget(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	pg.Exec(t, db, `CREATE TABLE a AS SELECT repeat('x', 1000) t FROM generate_series(1, 6000)`)
	_, dump := dumpOf(t, connTo(pg, db), engine.DumpOptions{})
	before := plain(t, pg, db)
	cause := errors.New("operator said so")
	for _, o := range []engine.RestoreOptions{{DropExisting: true}, {DropExisting: true, IncludeTables: []string{"a"}}} {
		ctx, cancel := context.WithCancelCause(t.Context())
		dump.OnRead = func(_ string, n int64) error {
			if n > 3<<20 {
				cancel(cause)
			}
			return nil
		}
		err := New(Config{}).Restore(ctx, connTo(pg, db), o, dump)
		require.ErrorIs(t, err, cause)
		require.Equal(t, errs.Cancelled, errs.KindOf(err))
		require.Empty(t, enginetest.Children(t))
		require.Empty(t, databases(t, pg))
		require.Equal(t, before, plain(t, pg, db))
	}
}

func TestSomeTablesAreReplacedAndTheRestStays(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	pg.Exec(t, db, richDatabase)
	_, dump := dumpOf(t, connTo(pg, db), engine.DumpOptions{})
	before := plain(t, pg, db)

	pg.Exec(t, db, `DELETE FROM pets; UPDATE people SET name = 'changed' WHERE id = 1; DROP TABLE "odd ""schema."."-t
😀"; INSERT INTO log VALUES ('2000-01-01', '[]')`)
	pg.Exec(t, db, "DROP MATERIALIZED VIEW counts")
	var log lines
	err := restoreInto(t, connTo(pg, db), engine.RestoreOptions{
		DropExisting: true, Log: log.log,
		IncludeTables: []string{"pets", "odd \"schema..-t\n😀", "public.log", "counts"},
	}, dump)
	require.NoError(t, err)
	require.Contains(t, log.String(), "foreign key public.pets pets_owner_fkey is left out")
	pg.Exec(t, db, "ALTER TABLE pets ADD CONSTRAINT pets_owner_fkey FOREIGN KEY (owner) REFERENCES people(id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED")
	after := plain(t, pg, db)
	require.Contains(t, after, "\tchanged\t", "a table that was not asked for was touched")
	require.Equal(t, strings.Replace(before, "1\tp1\t", "1\tchanged\t", 1), rowsInOrder(after))
}

// The tool reads no further than the tables it is to restore, and may not be done
// before the rest was read.
func TestARestoreOfSomeTablesWaitsForTheRestOfTheDump(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	pg.Exec(t, db, "CREATE TABLE a AS SELECT 1 AS x; CREATE VIEW v AS SELECT 1 AS x; CREATE TABLE z AS SELECT md5(g::text) FROM generate_series(1, 30000) g")
	_, dump := dumpOf(t, connTo(pg, db), engine.DumpOptions{})
	pg.Exec(t, db, "UPDATE a SET x = 2; CREATE OR REPLACE VIEW v AS SELECT 2 AS x")
	size, watching, lost := int64(len(dump.Bytes(Member))), pg.Conn(t, db), errors.New("storage lost")
	for _, name := range []string{"a", "v"} {
		dump.OnRead = func(_ string, n int64) error {
			if n < size {
				return nil
			}
			require.NotEmpty(t, enginetest.Children(t), "the tool is done with %s", name)
			return lost
		}
		o := engine.RestoreOptions{DropExisting: true, IncludeTables: []string{name}}
		found, err := New(Config{}).Preflight(t.Context(), connTo(pg, db), o)
		require.NoError(t, err)
		require.True(t, found.InPlace)
		value := func() (x int) {
			require.NoError(t, watching.QueryRow(t.Context(), "SELECT x FROM "+name).Scan(&x))
			return x
		}
		err = restoreInto(t, connTo(pg, db), o, dump)
		require.ErrorIs(t, err, lost)
		require.NotErrorIs(t, err, engine.ErrUnsettled)
		require.Equal(t, 2, value())
		dump.OnRead = nil
		require.NoError(t, restoreInto(t, connTo(pg, db), o, dump))
		require.Equal(t, 1, value())
	}
}

// provable is a dump whose reading may end early.
type provable struct {
	*enginetest.Memory
	prove func() error
}

type provableMember struct {
	io.ReadCloser
	prove func() error
}

func (p provable) Open(ctx context.Context, member string) (io.ReadCloser, error) {
	r, err := p.Memory.Open(ctx, member)
	return provableMember{r, p.prove}, err
}

func (m provableMember) Prove() error { return m.prove() }

// Nothing is read behind the last table that is wanted of a dump that was proven before,
// and nothing committed before what was read is proven again.
func TestARestoreOfSomeTablesEndsItsReadingWithTheLastOfThem(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	for _, table := range []string{"a", "z"} {
		pg.Exec(t, db, "CREATE TABLE "+table+" AS SELECT 1 AS x, md5(g::text) FROM generate_series(1, 50000) g")
	}
	_, whole := dumpOf(t, connTo(pg, db), engine.DumpOptions{})
	shared, sharing := &enginetest.Memory{}, New(Config{})
	sharing.shareFrom, sharing.sliceSize = 1<<20, 1<<20
	_, err := sharing.Dump(t.Context(), connTo(pg, db), engine.DumpOptions{ParallelJobs: 2}, shared)
	require.NoError(t, err)
	require.Greater(t, len(shared.Members()), 2)
	watching, damaged := pg.Conn(t, db), errs.New(errs.Conflict, errs.CodeArtifactCorrupt, "other bytes than it had")
	value := func() (x int) {
		require.NoError(t, watching.QueryRow(t.Context(), "SELECT max(x) FROM a").Scan(&x))
		return x
	}
	o := engine.RestoreOptions{DropExisting: true, IncludeTables: []string{"a"}, Proven: true}
	for name, dump := range map[string]*enginetest.Memory{"one member": whole, "several members": shared} {
		t.Run(name, func(t *testing.T) {
			pg.Exec(t, db, "UPDATE a SET x = 2")
			last := dump.Members()[len(dump.Members())-1]
			dump.OnRead = func(member string, n int64) error {
				if member == last.Name && n > last.Size/2 {
					return errors.New("it was read behind what is needed")
				}
				return nil
			}
			err := restoreInto(t, connTo(pg, db), o, provable{dump, func() error {
				require.NotEmpty(t, enginetest.Children(t), "the tool is done before what it read is proven")
				return damaged
			}})
			require.ErrorIs(t, err, damaged)
			require.NotErrorIs(t, err, engine.ErrUnsettled)
			require.Equal(t, 2, value())

			var told engine.Progress
			var log lines
			o := o
			o.Log, o.Progress = log.log, func(p engine.Progress) { told = p }
			require.NoError(t, restoreInto(t, connTo(pg, db), o, provable{dump, func() error { return nil }}))
			require.Equal(t, 1, value())
			require.Contains(t, log.String(), "up to the last of their rows")
			require.Equal(t, told.BytesTotal, told.BytesDone)

			dump.OnRead = nil
			o.Proven = false
			require.NoError(t, restoreInto(t, connTo(pg, db), o, provable{dump, func() error { return damaged }}), "it is read to its end")
		})
	}
}

// A tool that is done sooner than it should be has changed the target, whatever comes
// after.
func TestARestoreWhoseToolIsDoneTooSoonSaysSo(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	pg.Exec(t, db, "CREATE TABLE a AS SELECT md5(g::text) FROM generate_series(1, 30000) g")
	_, dump := dumpOf(t, connTo(pg, db), engine.DumpOptions{})
	size, lost := int64(len(dump.Bytes(Member))), errors.New("storage lost")
	dump.OnRead = func(_ string, n int64) error {
		if n < size {
			return nil
		}
		require.Eventually(t, func() bool { return len(enginetest.Children(t)) == 0 }, time.Minute, 20*time.Millisecond)
		return lost
	}
	e := New(Config{BinDirs: []string{fakeTool(t, "pg_restore", strconv.Itoa(pg.Major)+".1", "exit 0")}})
	err := e.Restore(t.Context(), connTo(pg, db), engine.RestoreOptions{}, dump)
	require.ErrorIs(t, err, lost)
	require.ErrorIs(t, err, engine.ErrUnsettled)
	require.Contains(t, errs.Message(err), `database "`+db+`"`)
	require.Contains(t, errs.Message(err), "has changed")
}

// rowsInOrder puts the row that an UPDATE moved to the end of its table back.
func rowsInOrder(sql string) string {
	const moved = "1\tchanged\tok\t1\n"
	if i := strings.Index(sql, moved); i >= 0 {
		sql = sql[:i] + sql[i+len(moved):]
		j := strings.Index(sql, "2\tp2\tok\t2\n")
		sql = sql[:j] + moved + sql[j:]
	}
	return sql
}

func TestSomeTablesComeIntoANewDatabaseWithWhatTheyNeed(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	pg.Exec(t, db, richDatabase)
	_, dump := dumpOf(t, connTo(pg, db), engine.DumpOptions{})
	c := connTo(pg, "partly_"+db)
	t.Cleanup(func() { pg.Exec(t, "postgres", "DROP DATABASE "+c.Database) })
	err := restoreInto(t, c, engine.RestoreOptions{CreateDatabase: true, IncludeTables: []string{"people", "pets", "odd \"schema..-t\n😀"}}, dump)
	require.NoError(t, err)
	var tables []string
	rows, err := pg.Conn(t, c.Database).Query(t.Context(), "SELECT relname::text FROM pg_class WHERE relkind IN ('r', 'p', 'v') AND relnamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema', 'pg_toast') ORDER BY 1")
	require.NoError(t, err)
	tables, err = pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Equal(t, []string{"-t\n😀", "people", "pets"}, tables)
	parts := []string{"--table=people", "--table=pets", `--table="odd ""schema."."-t` + "\n😀\""}
	require.ElementsMatch(t, // the tables were made in another order
		strings.Split(plain(t, pg, db, parts...), "\n"), strings.Split(plain(t, pg, c.Database, parts...), "\n"))
}

func TestADumpOfSomeTablesRestoresByItself(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	pg.Exec(t, db, `CREATE SCHEMA "Deep"; CREATE TABLE "Deep".t (id serial, a int); INSERT INTO "Deep".t (a) VALUES (1), (2); CREATE TABLE x (a int)`)
	_, dump := dumpOf(t, connTo(pg, db), engine.DumpOptions{IncludeTables: []string{"Deep.t"}})
	c := connTo(pg, "some_"+db)
	t.Cleanup(func() { pg.Exec(t, "postgres", "DROP DATABASE "+c.Database) })
	require.NoError(t, restoreInto(t, c, engine.RestoreOptions{CreateDatabase: true}, dump))
	require.Equal(t, plain(t, pg, db, "--table=*.t"), plain(t, pg, c.Database, "--table=*.t"))
}

func TestNamesToIncludeMustBeInTheDumpAndUnambiguous(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	pg.Exec(t, db, `CREATE SCHEMA a; CREATE SCHEMA b; CREATE TABLE a.twice (x int); CREATE TABLE b.twice (x int); CREATE TABLE a.once (x int)`)
	_, dump := dumpOf(t, connTo(pg, db), engine.DumpOptions{})
	for name, says := range map[string]string{"nothing": "no table", "twice": "several schemas"} {
		err := restoreInto(t, connTo(pg, db), engine.RestoreOptions{IncludeTables: []string{name}, DropExisting: true}, dump)
		require.Equal(t, errs.CodeRestoreFailed, errs.CodeOf(err))
		require.Contains(t, errs.Message(err), says)
	}
	require.NoError(t, restoreInto(t, connTo(pg, db), engine.RestoreOptions{IncludeTables: []string{"once", "a.twice"}, DropExisting: true}, dump))
}

func TestDatabasesLeftBehindAreDroppedByTheNextRestore(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	_, dump := dumpOf(t, connTo(pg, db), engine.DumpOptions{})
	pg.Exec(t, "postgres", "CREATE DATABASE dg_restore_0123456789ab")
	pg.Exec(t, "postgres", "CREATE DATABASE dg_replaced_00000000000f")
	pg.Exec(t, "postgres", "CREATE DATABASE dg_restore_mine")
	t.Cleanup(func() { pg.Exec(t, "postgres", "DROP DATABASE dg_restore_mine") })
	live := pg.Conn(t, "postgres")
	_, err := live.Exec(t.Context(), "SELECT pg_advisory_lock($1, hashtext($2))", lockSpace, "00000000000f")
	require.NoError(t, err)
	var log lines
	require.NoError(t, restoreInto(t, connTo(pg, db), engine.RestoreOptions{DropExisting: true, Log: log.log}, dump))
	require.ElementsMatch(t, []string{"dg_replaced_00000000000f", "dg_restore_mine"}, databases(t, pg), "a running restore lost its database, or somebody else's was taken")
	require.Contains(t, log.String(), "dg_restore_0123456789ab")
	_, err = live.Exec(t.Context(), "SELECT pg_advisory_unlock_all()")
	require.NoError(t, err)
	require.NoError(t, restoreInto(t, connTo(pg, db), engine.RestoreOptions{DropExisting: true}, dump))
	require.Equal(t, []string{"dg_restore_mine"}, databases(t, pg))
}

func TestARoleThatMayNotReplaceADatabaseIsTold(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	pg.Exec(t, db, "CREATE TABLE a (x int)")
	_, dump := dumpOf(t, connTo(pg, db), engine.DumpOptions{})
	pg.Exec(t, "postgres", "CREATE ROLE weak LOGIN PASSWORD 'weak-password'")
	t.Cleanup(func() { pg.Exec(t, "postgres", "DROP ROLE weak") })
	c := connTo(pg, db)
	c.Username, c.Password = "weak", "weak-password"
	before := plain(t, pg, db)
	err := restoreInto(t, c, engine.RestoreOptions{DropExisting: true}, dump)
	require.Equal(t, errs.CodeDatasourcePermission, errs.CodeOf(err))
	require.Contains(t, errs.Message(err), "CREATEDB")
	require.Equal(t, before, plain(t, pg, db))
}

func TestALocaleTheServerDoesNotHaveIsReplacedByItsOwn(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	pg.Exec(t, db, "CREATE TABLE a AS SELECT 'ä'::text")
	_, dump := dumpOf(t, connTo(pg, db), engine.DumpOptions{})
	b := strings.ReplaceAll(string(dump.Bytes(Member)), "'C.UTF-8'", "'X.UTF-8'")
	var m enginetest.Memory
	m.Put(Member, []byte(b))
	c := connTo(pg, "locale_"+db)
	t.Cleanup(func() { pg.Exec(t, "postgres", "DROP DATABASE "+c.Database) })
	var log lines
	require.NoError(t, restoreInto(t, c, engine.RestoreOptions{CreateDatabase: true, Log: log.log}, &m))
	require.Contains(t, log.String(), "locale")
	require.Equal(t, plain(t, pg, db), plain(t, pg, c.Database))
}

// stallFor is short where a stall is wanted; elsewhere a busy machine must not
// look like one.
func stallFor(wanted bool) time.Duration {
	if wanted {
		return 200 * time.Millisecond
	}
	return time.Minute
}

func TestARestoringToolThatFailsLiesOrHangsIsFoundOut(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	pg.Exec(t, db, `CREATE TABLE a AS SELECT repeat('x', 1000) t FROM generate_series(1, 5000)`)
	_, dump := dumpOf(t, connTo(pg, db), engine.DumpOptions{})
	for name, tc := range map[string]struct {
		script string
		code   errs.Code
	}{
		"failure at once":         {"echo 'pg_restore: error: no' >&2; exit 1", errs.CodeRestoreFailed},
		"failure at the end":      {"cat > /dev/null; echo 'pg_restore: error: no' >&2; exit 1", errs.CodeRestoreFailed},
		"a lost connection":       {"head -c 100000 > /dev/null; echo 'server closed the connection unexpectedly' >&2; exit 1", errs.CodeDatasourceLost},
		"no appetite":             {"exec sleep 600", errs.CodeRestoreFailed},
		"a password in its mouth": {"echo $PGPASSWORD >&2; exit 1", errs.CodeRestoreFailed},
		"a signal":                {"kill -KILL $$", errs.CodeRestoreFailed},
	} {
		t.Run(name, func(t *testing.T) {
			var log lines
			e := New(Config{BinDirs: []string{fakeTool(t, "pg_restore", strconv.Itoa(pg.Major)+".1", tc.script)}})
			err := e.Restore(t.Context(), connTo(pg, db), engine.RestoreOptions{DropExisting: true, StallTimeout: stallFor(name == "no appetite"), Log: log.log}, dump)
			require.Equal(t, tc.code, errs.CodeOf(err), "%v", err)
			require.NotContains(t, err.Error()+log.String(), pg.Password)
			require.Empty(t, databases(t, pg))
		})
	}
}
