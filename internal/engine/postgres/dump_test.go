package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/engine/enginetest"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

// lines collects log lines.
type lines struct {
	mu  sync.Mutex
	got []string
}

func (l *lines) log(level engine.Level, message string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.got = append(l.got, string(level)+" "+message)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.got, "\n")
}

func dumpOf(t *testing.T, c engine.Conn, o engine.DumpOptions) (engine.DumpResult, *enginetest.Memory) {
	t.Helper()
	var sink enginetest.Memory
	res, err := New(Config{}).Dump(t.Context(), c, o, &sink)
	require.NoError(t, err)
	state, _ := sink.State(Member)
	require.Equal(t, enginetest.Closed, state)
	return res, &sink
}

func rowsByName(res engine.DumpResult) map[string]int64 {
	got := map[string]int64{}
	for _, table := range res.Tables {
		got[table.Schema+"."+table.Name] = table.Rows
	}
	return got
}

func TestADumpIsDescribed(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	pg.Exec(t, db, `CREATE TABLE a AS SELECT g, repeat('x', 100) t FROM generate_series(1, 5000) g; CREATE TABLE b (x int)`)
	temp := t.TempDir()
	var last engine.Progress
	var log lines
	res, sink := dumpOf(t, connTo(pg, db), engine.DumpOptions{TempDir: temp, Log: log.log, Progress: func(p engine.Progress) {
		require.GreaterOrEqual(t, p.BytesDone, last.BytesDone)
		require.GreaterOrEqual(t, p.TablesDone, last.TablesDone)
		last = p
	}})
	require.Equal(t, Format, res.Format)
	require.Equal(t, pg.Major, res.Server.VersionNum/10000)
	require.Regexp(t, `^\d+\.\d+`, res.Tools["pg_dump"])
	require.Empty(t, res.Warning)
	require.Equal(t, map[string]int64{"public.a": 5000, "public.b": 0}, rowsByName(res))
	size := int64(len(sink.Bytes(Member)))
	require.Equal(t, engine.Progress{TablesDone: 2, TablesTotal: 2, BytesDone: size, BytesTotal: size}, last)
	require.Contains(t, log.String(), "debug table public.a: 5000 rows")
	entries, err := os.ReadDir(temp)
	require.NoError(t, err)
	require.Empty(t, entries, "files were left behind")
}

func TestTableNamesAreLiteral(t *testing.T) {
	pg := testkit.Postgres(t)
	everything := []string{"plain", "Upper", "with.dot", `quo"te`, "star", "sta*r", "question", "ques?tion", "sp ace", "😀", "-dash", "--file=x", "$dollar", "br[]ack|et", `back\slash`, "new\nline", "(a)", "^b+", "plain2", "upper"}
	for encoding, names := range map[string][]string{"UTF8": everything, "SQL_ASCII": {"sta*r", "star", `quo"te`, "😀"}} {
		t.Run(encoding, func(t *testing.T) {
			db := pg.NewDatabase(t)
			pg.Exec(t, "postgres", "DROP DATABASE "+db)
			pg.Exec(t, "postgres", "CREATE DATABASE "+db+" TEMPLATE template0 LOCALE 'C' ENCODING '"+encoding+"'")
			pg.Exec(t, db, `CREATE SCHEMA "odd.""schema"`)
			all := map[string]string{}
			var creates strings.Builder
			for _, name := range names {
				for _, schema := range []string{"public", `odd."schema`} {
					id := `"` + strings.ReplaceAll(schema, `"`, `""`) + `"."` + strings.ReplaceAll(name, `"`, `""`) + `"`
					creates.WriteString("CREATE TABLE " + id + " (a int); INSERT INTO " + id + " VALUES (1);")
					all[schema+"."+name] = name
				}
			}
			pg.Exec(t, db, creates.String())
			for half := range 2 { // a name that stood for more would bring tables of the other half
				var include []string
				want := map[string]int64{}
				for i, name := range names {
					if i%2 == half {
						qualified := `odd."schema.` + name
						include = append(include, name, qualified)
						want["public."+name], want[qualified] = 1, 1
					}
				}
				res, _ := dumpOf(t, connTo(pg, db), engine.DumpOptions{IncludeTables: include})
				require.Equal(t, want, rowsByName(res))
			}
			res, _ := dumpOf(t, connTo(pg, db), engine.DumpOptions{ExcludeTables: []string{"sta*r", `odd."schema.quo"te`}, ExcludeTableData: []string{"😀"}})
			got := rowsByName(res)
			require.Len(t, got, len(all)-2)
			require.NotContains(t, got, "public.sta*r")
			require.Contains(t, got, `odd."schema.sta*r`)
			require.NotContains(t, got, `odd."schema.quo"te`)
			require.EqualValues(t, -1, got["public.😀"])
			require.EqualValues(t, 1, got[`odd."schema.😀`])
		})
	}
}

func TestTableNamesArriveInTheDatabasesEncoding(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	pg.Exec(t, "postgres", "DROP DATABASE "+db)
	pg.Exec(t, "postgres", "CREATE DATABASE "+db+" TEMPLATE template0 LOCALE 'C' ENCODING 'LATIN1'")
	conn := pg.Conn(t, db)
	_, err := conn.Exec(t.Context(), "SET client_encoding = 'UTF8'")
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), `CREATE TABLE "grün" (a int)`)
	require.NoError(t, err)
	pg.Exec(t, db, "CREATE TABLE blau (a int)")
	var sink enginetest.Memory
	_, err = New(Config{}).Dump(t.Context(), connTo(pg, db), engine.DumpOptions{IncludeTables: []string{"grün"}}, &sink)
	require.NoError(t, err)
	require.Contains(t, string(sink.Bytes(Member)), "gr\xfcn")
	require.NotContains(t, string(sink.Bytes(Member)), "blau")

	_, err = conn.Exec(t.Context(), `CREATE TABLE "grüner" AS SELECT 'süß' AS "fließt"`)
	require.NoError(t, err)
	var several enginetest.Memory
	res, err := sharer(Config{}).Dump(t.Context(), connTo(pg, db), engine.DumpOptions{ParallelJobs: 2, ExcludeTables: []string{"grün"}}, &several)
	require.NoError(t, err)
	require.Equal(t, map[string]int64{"public.blau": 0, "public.gr\xfcner": 1}, rowsByName(res))
	target := pg.NewDatabase(t)
	require.NoError(t, restoreInto(t, connTo(pg, target), engine.RestoreOptions{}, &several))
	var fluid string
	require.NoError(t, pg.Conn(t, target).QueryRow(t.Context(), `SELECT "fließt" FROM "grüner"`).Scan(&fluid))
	require.Equal(t, "süß", fluid)
}

func TestAPartitionedTableStandsForItsPartitions(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	pg.Exec(t, db, `CREATE TABLE p (a int) PARTITION BY LIST (a); CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
		CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2) PARTITION BY LIST (a); CREATE TABLE p22 PARTITION OF p2 DEFAULT;
		CREATE TABLE other (a int); INSERT INTO p VALUES (1), (2), (2)`)
	res, _ := dumpOf(t, connTo(pg, db), engine.DumpOptions{IncludeTables: []string{"p"}})
	require.Equal(t, map[string]int64{"public.p": -1, "public.p1": 1, "public.p2": -1, "public.p22": 2}, rowsByName(res))
	res, _ = dumpOf(t, connTo(pg, db), engine.DumpOptions{ExcludeTables: []string{"public.p"}})
	require.Equal(t, map[string]int64{"public.other": 0}, rowsByName(res))
	res, _ = dumpOf(t, connTo(pg, db), engine.DumpOptions{ExcludeTableData: []string{"p"}})
	require.Equal(t, map[string]int64{"public.p": -1, "public.p1": -1, "public.p2": -1, "public.p22": -1, "public.other": 0}, rowsByName(res))
}

func TestATableToIncludeMustExistAndOneToExcludeIsAskedFor(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	pg.Exec(t, db, "CREATE SCHEMA s; CREATE TABLE s.hidden (a int)")
	var sink enginetest.Memory
	for _, name := range []string{"nothing", "hidden", "pg_catalog.pg_class", "pg_class"} {
		_, err := New(Config{}).Dump(t.Context(), connTo(pg, db), engine.DumpOptions{IncludeTables: []string{"s.hidden", name}}, &sink)
		require.Equal(t, errs.CodeDumpFailed, errs.CodeOf(err))
		require.Contains(t, errs.Message(err), strconv.Quote(name))
	}
	res, _ := dumpOf(t, connTo(pg, db), engine.DumpOptions{ExcludeTables: []string{"nothing"}})
	require.Len(t, res.Warning, 1)
	require.Contains(t, res.Warning[0], `"nothing"`)
	_, err := New(Config{}).Dump(t.Context(), connTo(pg, db), engine.DumpOptions{ExcludeTables: []string{"a\x00"}}, &sink)
	require.Equal(t, errs.CodeValidation, errs.CodeOf(err))
}

func TestTheToolIsChosenByTheServersVersion(t *testing.T) {
	all := func(t *testing.T, versions ...string) []string {
		var dirs []string
		for _, v := range versions {
			dirs = append(dirs, fakeTool(t, "pg_dump", v, "exit 1"))
		}
		return dirs
	}
	choose := func(t *testing.T, major int, versions ...string) (string, error) {
		p, err := toolbox{dirs: all(t, versions...)}.chooseDump(t.Context(), major)
		return p.version, err
	}
	got, err := choose(t, 15, "17.1", "15.3", "14.9", "16.2")
	require.NoError(t, err)
	require.Equal(t, "15.3", got)
	got, err = choose(t, 15, "18beta1", "17.1", "14.9", "16.2")
	require.NoError(t, err)
	require.Equal(t, "16.2", got)

	_, err = choose(t, 16, "14.9", "15.3")
	require.Equal(t, errs.CodeDumpToolTooOld, errs.CodeOf(err))
	require.Contains(t, errs.Message(err), "14.9, 15.3")
	require.Contains(t, errs.Message(err), "apt-get install postgresql-client-16")

	broken := fakeTool(t, "pg_dump", "nonsense", "exit 1")
	require.NoError(t, os.WriteFile(filepath.Join(broken, "pg_dump"), []byte("#!/bin/sh\nexit 3\n"), 0o700))
	_, err = toolbox{dirs: []string{t.TempDir(), broken}}.chooseDump(t.Context(), 16)
	require.Equal(t, errs.CodeDumpToolMissing, errs.CodeOf(err))
	require.Contains(t, errs.Message(err), "apt-get install postgresql-client-16")
}

func TestADumpThatOnlyANewerServerTakesBackIsToldOf(t *testing.T) {
	pg := testkit.Postgres(t)
	own, err := toolbox{}.chooseDump(t.Context(), pg.Major)
	require.NoError(t, err)
	tools := map[string]bool{fmt.Sprint(max(pg.Major, timeoutMajor), ".1"): pg.Major < timeoutMajor, fmt.Sprint(pg.Major, ".2"): false}
	if pg.Major < timeoutMajor {
		tools["16.2"] = false
	}
	for version, told := range tools {
		var sink enginetest.Memory
		var log lines
		e := New(Config{BinDirs: []string{fakeTool(t, "pg_dump", version, `exec `+own.path+` "$@"`)}})
		_, err := e.Dump(t.Context(), connTo(pg, pg.NewDatabase(t)), engine.DumpOptions{Log: log.log}, &sink)
		require.NoError(t, err)
		require.Equal(t, told, strings.Contains(log.String(), "comes back only into PostgreSQL 17 or newer"), log.String())
	}
}

// realDump puts a real dump into a file, for fake tools to show.
func realDump(t *testing.T, pg *testkit.PG) (file string, size int) {
	t.Helper()
	db := pg.NewDatabase(t)
	pg.Exec(t, db, `CREATE TABLE a AS SELECT g FROM generate_series(1, 500) g`)
	_, sink := dumpOf(t, connTo(pg, db), engine.DumpOptions{})
	file = filepath.Join(t.TempDir(), "real")
	require.NoError(t, os.WriteFile(file, sink.Bytes(Member), 0o600))
	return file, len(sink.Bytes(Member))
}

func TestToolsThatFailOrLieAreFoundOut(t *testing.T) {
	pg := testkit.Postgres(t)
	file, size := realDump(t, pg)
	cases := map[string]struct {
		script string
		code   errs.Code
		says   string
	}{
		"truncated, then success":        {fmt.Sprintf("head -c %d %s", size/2, file), errs.CodeDumpIncomplete, "ends after"},
		"one byte short":                 {fmt.Sprintf("head -c %d %s", size-1, file), errs.CodeDumpIncomplete, "ends after"},
		"one byte too many":              {fmt.Sprintf("cat %s; printf x", file), errs.CodeDumpIncomplete, "ends after"},
		"twice":                          {fmt.Sprintf("cat %s %s", file, file), errs.CodeDumpIncomplete, "malformed"},
		"nothing, then success":          {"exit 0", errs.CodeDumpIncomplete, "ends after 0 bytes"},
		"no archive":                     {"echo '-- PostgreSQL database dump'; exit 0", errs.CodeDumpIncomplete, "PGDMP"},
		"failure after bytes":            {fmt.Sprintf("cat %s; echo 'pg_dump: error: out of luck' >&2; exit 1", file), errs.CodeDumpFailed, "out of luck"},
		"failure after nonsense":         {"echo nonsense; echo 'pg_dump: error: confused' >&2; exit 1", errs.CodeDumpFailed, "confused"},
		"failure without a word":         {"exit 2", errs.CodeDumpFailed, "status 2"},
		"a signal":                       {"kill -SEGV $$", errs.CodeDumpFailed, "failed"},
		"a lost connection":              {"echo 'pg_dump: error: query failed: server closed the connection unexpectedly' >&2; exit 1", errs.CodeDatasourceLost, "server closed"},
		"a terminated connection":        {"echo 'FATAL:  terminating connection due to administrator command' >&2; exit 1", errs.CodeDatasourceLost, "terminating"},
		"a broken receive":               {"echo 'could not receive data from server: Connection reset by peer' >&2; exit 1", errs.CodeDatasourceLost, "reset"},
		"a missing privilege":            {"echo 'pg_dump: error: query failed: ERROR:  permission denied for table a' >&2; exit 1", errs.CodeDatasourcePermission, "permission denied"},
		"a server that became too new":   {"echo 'pg_dump: error: aborting because of server version mismatch' >&2; exit 1", errs.CodeDumpToolTooOld, "mismatch"},
		"a password in the last message": {"echo \"pg_dump: error: $PGPASSWORD\" >&2; exit 1", errs.CodeDumpFailed, "***"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var sink enginetest.Memory
			var log lines
			e := New(Config{BinDirs: []string{fakeTool(t, "pg_dump", fmt.Sprint(pg.Major, ".1"), tc.script)}})
			_, err := e.Dump(t.Context(), connTo(pg, "postgres"), engine.DumpOptions{Log: log.log}, &sink)
			require.Equal(t, tc.code, errs.CodeOf(err), "%v", err)
			require.Contains(t, errs.Message(err), tc.says)
			require.NotContains(t, err.Error(), pg.Password)
			require.NotContains(t, log.String(), pg.Password)
			state, reason := sink.State(Member)
			require.Equal(t, enginetest.Failed, state)
			require.Equal(t, err, reason)
		})
	}
}

func TestASilentToolIsEnded(t *testing.T) {
	pg := testkit.Postgres(t)
	file, _ := realDump(t, pg)
	for name, script := range map[string]string{
		"from the start": "exec sleep 600",
		"after bytes":    fmt.Sprintf("head -c 100 %s; exec sleep 600", file),
		"at the end":     fmt.Sprintf("cat %s; exec sleep 600", file),
		"deaf":           "trap '' TERM; while :; do sleep 1; done",
	} {
		t.Run(name, func(t *testing.T) {
			var sink enginetest.Memory
			e := New(Config{BinDirs: []string{fakeTool(t, "pg_dump", fmt.Sprint(pg.Major, ".1"), script)}})
			_, err := e.Dump(t.Context(), connTo(pg, "postgres"), engine.DumpOptions{StallTimeout: 100 * time.Millisecond}, &sink)
			require.Equal(t, errs.CodeDumpStalled, errs.CodeOf(err), "%v", err)
			require.Contains(t, errs.Message(err), "100ms")
		})
	}
}

func TestTheSinksErrorIsTheDumpsError(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	pg.Exec(t, db, `CREATE TABLE a AS SELECT repeat('x', 1000) FROM generate_series(1, 20000)`)
	full := errors.New("no space")
	sink := enginetest.Memory{OnWrite: func(_ string, size int64) error {
		if size > 1<<20 {
			return full
		}
		return nil
	}}
	_, err := New(Config{}).Dump(t.Context(), connTo(pg, db), engine.DumpOptions{}, &sink)
	require.ErrorIs(t, err, full)
	state, _ := sink.State(Member)
	require.Equal(t, enginetest.Failed, state)
}

func TestCancellingADumpEndsItAtOnce(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	pg.Exec(t, db, `CREATE TABLE a AS SELECT repeat('x', 1000) FROM generate_series(1, 20000)`)
	cause := errors.New("operator said so")
	ctx, cancel := context.WithCancelCause(t.Context())
	sink := enginetest.Memory{OnWrite: func(_ string, size int64) error {
		if size > 1<<20 {
			cancel(cause)
		}
		return nil
	}}
	_, err := New(Config{}).Dump(ctx, connTo(pg, db), engine.DumpOptions{}, &sink)
	require.ErrorIs(t, err, cause)
	require.Equal(t, errs.Cancelled, errs.KindOf(err))
	require.Empty(t, enginetest.Children(t))
}

func TestALockedTableFailsTheDumpAfterAWhile(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	pg.Exec(t, db, "CREATE TABLE a (x int)")
	holder := pg.Conn(t, db)
	_, err := holder.Exec(t.Context(), "BEGIN; LOCK a IN ACCESS EXCLUSIVE MODE")
	require.NoError(t, err)
	var sink enginetest.Memory
	_, err = New(Config{LockWait: 100 * time.Millisecond}).Dump(t.Context(), connTo(pg, db), engine.DumpOptions{}, &sink)
	require.Equal(t, errs.CodeDumpFailed, errs.CodeOf(err))
	require.Contains(t, errs.Message(err), "locked")
}

func TestAToolGetsNothingButItsOwnConnection(t *testing.T) {
	pg := testkit.Postgres(t)
	t.Setenv("PGOPTIONS", "-c search_path=evil")
	t.Setenv("SECRET_OF_THE_PARENT", "x")
	script := `for a in "$@"; do echo "arg $a" >&2; done; env | sort | sed 's/^/env /' >&2; exit 1`
	e := New(Config{BinDirs: []string{fakeTool(t, "pg_dump", fmt.Sprint(pg.Major, ".1"), script)}})
	var log lines
	var sink enginetest.Memory
	_, err := e.Dump(t.Context(), connTo(pg, "postgres"), engine.DumpOptions{Log: log.log}, &sink)
	require.Error(t, err)
	var args, env []string
	for line := range strings.Lines(log.String()) {
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, "warn arg "); ok {
			args = append(args, rest)
		}
		if rest, ok := strings.CutPrefix(line, "warn env "); ok {
			name, _, _ := strings.Cut(rest, "=")
			env = append(env, name)
		}
	}
	require.Equal(t, []string{"--format=custom", "--compress=0", "--no-password", "--lock-wait-timeout=300000"}, args)
	slices.Sort(env)
	require.Equal(t, []string{
		"HOME", "LC_ALL", "PATH", "PGAPPNAME", "PGCONNECT_TIMEOUT", "PGDATABASE", "PGGSSENCMODE", "PGHOST", "PGPASSFILE", "PGPASSWORD",
		"PGPORT", "PGSERVICEFILE", "PGSSLCERT", "PGSSLKEY", "PGSSLMODE", "PGSSLROOTCERT", "PGSYSCONFDIR", "PGUSER", "PWD", "TMPDIR", "TZ",
	}, env)
}

func TestADumpRestoresWithTheServersOwnTool(t *testing.T) {
	pg := testkit.Postgres(t)
	db, copied := pg.NewDatabase(t), pg.NewDatabase(t)
	pg.Exec(t, db, `CREATE TABLE a AS SELECT g, md5(g::text) m FROM generate_series(1, 1000) g; CREATE INDEX ON a (m)`)
	_, sink := dumpOf(t, connTo(pg, db), engine.DumpOptions{})
	file := filepath.Join(t.TempDir(), "dump")
	require.NoError(t, os.WriteFile(file, sink.Bytes(Member), 0o600))
	cmd := exec.Command(filepath.Join(pg.BinDir, "pg_restore"), "--exit-on-error", "--dbname="+pg.DSN(copied), file)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	var n int
	require.NoError(t, pg.Conn(t, copied).QueryRow(t.Context(), "SELECT count(*) FROM a").Scan(&n))
	require.Equal(t, 1000, n)
}
