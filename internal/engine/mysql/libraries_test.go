package mysql

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/engine/enginetest"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

func TestOnlyListsOfLibrariesLoseTheDumpedDatabase(t *testing.T) {
	const host = "-- Host: 127.0.0.1    Database: sh`op\n"
	const head = "DELIMITER ;;\nCREATE DEFINER=`a`@`b` FUNCTION `f`(x int) RETURNS int\n    DETERMINISTIC\n    LANGUAGE JAVASCRIPT\n"
	for name, tc := range map[string][2]string{
		"its own and another's": {host + head + "    USING (`sh``op`.`lib` AS `l`, `other`.`lib`, `sh``op`.`a, ``sh``op``.``b`)\nAS $$x$$ ;;\n", host + head + "    USING (`lib` AS `l`, `other`.`lib`, `a, ``sh``op``.``b`)\nAS $$x$$ ;;\n"},
		"quoted the other way":  {host + head + "    USING (\"sh`op\".\"lib\", \"Sh`op\".\"lib\")\n", host + head + "    USING (\"lib\", \"Sh`op\".\"lib\")\n"},
		"no header":             {head + "    USING (`shop`.`lib`)\n", ""},
		"another database":      {"-- Host: h    Database: other\n" + host + head + "    USING (`sh``op`.`lib`)\n", ""},
		"a body":                {host + head + "AS $$\n    LANGUAGE JAVASCRIPT\n    USING (`sh``op`.`lib`)\n$$ ;;\n", ""},
		"a body after a list":   {host + head + "    USING (`a`)\nAS $$\n    LANGUAGE JAVASCRIPT\n    USING (`sh``op`.`lib`)\n$$ ;;\n", ""},
		"a join":                {host + "CREATE DEFINER=`a`@`b` PROCEDURE `f`()\nSELECT * FROM a JOIN b\n    USING (`sh``op`.`lib`) ;;\n", ""},
		"no routine":            {host + "    LANGUAGE JAVASCRIPT\n    USING (`sh``op`.`lib`)\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			want := tc[1]
			if want == "" {
				want = tc[0]
			}
			var u libraryUses
			var got strings.Builder
			for line := range strings.Lines(tc[0]) {
				got.Write(u.line([]byte(line)))
			}
			require.Equal(t, want, got.String())
		})
	}
}

// withLibraries are libraries of each language, and routines that use them.
const withLibraries = `CREATE TABLE a (x int PRIMARY KEY); INSERT INTO a VALUES (1);
CREATE LIBRARY adds COMMENT 'it''s' LANGUAGE JAVASCRIPT AS 'export function f(n) { return n + 1; // it''s
}';
CREATE LIBRARY ` + "`odd ``l;ib`" + ` LANGUAGE JAVASCRIPT AS $x$
-- Dump completed
CREATE TABLE a (x int);
    LANGUAGE JAVASCRIPT
    USING (adds)
let d = "$$"; /* ' */
$x$;
CREATE LIBRARY binaries LANGUAGE WASM AS x'0061736d01000000';
SET sql_mode = 'ANSI_QUOTES'; CREATE LIBRARY quoted LANGUAGE JAVASCRIPT AS 'export let q = 1';
CREATE FUNCTION quotes(x int) RETURNS int DETERMINISTIC LANGUAGE JAVASCRIPT USING (quoted AS "q") AS 'return x'; SET sql_mode = DEFAULT;
CREATE FUNCTION added(x int) RETURNS int DETERMINISTIC COMMENT 'c' LANGUAGE JAVASCRIPT USING (adds AS a, ` + "`odd ``l;ib`" + `) AS $x$ return a.f(x) $x$;
CREATE PROCEDURE run_it(x int) SQL SECURITY INVOKER LANGUAGE JAVASCRIPT USING (binaries) AS 'x';
CREATE PROCEDURE asks() SELECT added(1);`

const otherLibraries = `CREATE TABLE a (x int); CREATE LIBRARY adds LANGUAGE JAVASCRIPT AS 'old'; CREATE LIBRARY of_old LANGUAGE JAVASCRIPT AS 'older';
CREATE FUNCTION added(x int) RETURNS int DETERMINISTIC LANGUAGE JAVASCRIPT USING (adds, of_old) AS 'return 0';`

func TestLibrariesComeBackWithTheRoutinesThatUseThem(t *testing.T) {
	m := testkit.MariaDB(t)
	if _, num := parseNumber(m.Version); !m.IsMySQL || num < 90200 {
		s, err := New(Config{}).connect(t.Context(), connTo(m, "mysql"), "")
		require.NoError(t, err)
		defer s.close()
		found, err := s.libraries(t.Context(), "mysql")
		require.NoError(t, err)
		require.Empty(t, found, "the server knows none")
		return
	}
	source, target := m.NewDatabase(t), m.NewDatabase(t)
	m.Exec(t, source, withLibraries)
	res, dump := dumpOf(t, connTo(m, source), engine.DumpOptions{})
	require.NotContains(t, strings.Join(res.Warning, "\n"), "librar")
	whole := strings.ReplaceAll(plain(t, m, source), source, target)
	for _, name := range []string{"adds", "odd ``l;ib", "binaries", "quoted"} {
		require.Regexp(t, "CREATE LIBRARY [`\"]"+name, whole)
	}
	m.Exec(t, "", "DROP DATABASE "+source) // what still leads there leads nowhere

	e := New(Config{})
	same := func(t *testing.T) {
		t.Helper()
		require.Equal(t, whole, plain(t, m, target))
		require.Equal(t, res.SchemaDigest, digestAgain(t, connTo(m, target)))
		require.Empty(t, scratchDatabases(t, m))
	}
	restore := func(o engine.RestoreOptions) error {
		o.TempDir = t.TempDir()
		return e.Restore(t.Context(), connTo(m, target), o, dump)
	}
	require.NoError(t, restore(engine.RestoreOptions{}), "into an empty database")
	same(t)
	m.Exec(t, "", "DROP DATABASE "+target)
	require.NoError(t, restore(engine.RestoreOptions{CreateDatabase: true}), "into a new one")
	same(t)
	m.Exec(t, target, "ALTER LIBRARY adds COMMENT 'changed'")
	require.NotEqual(t, res.SchemaDigest, digestAgain(t, connTo(m, target)), "the fingerprint sees libraries")
	m.Exec(t, target, "DROP TABLE a; DROP FUNCTION quotes; CREATE LIBRARY another LANGUAGE JAVASCRIPT AS 'x'")
	require.NoError(t, restore(engine.RestoreOptions{DropExisting: true}), "in place of another")
	same(t)

	m.Exec(t, "", "DROP DATABASE "+target+"; CREATE DATABASE "+target)
	m.Exec(t, target, otherLibraries)
	before := plain(t, m, target)
	require.NoError(t, restore(engine.RestoreOptions{DropExisting: true, IncludeTables: []string{"a"}}), "some tables")
	m.Exec(t, target, "DROP TABLE a; CREATE TABLE a (x int)")
	require.Equal(t, before, plain(t, m, target), "which have no libraries")

	client := toolFor(t, m, clientNames)
	fails := `n=$(cat "$0.n" 2>/dev/null || echo 0); echo $((n+1)) > "$0.n"; [ $n = 1 ] && { grep -v FUNCTION | ` + client.path + ` "$@"; exit 1; }; exec ` + client.path + ` "$@"`
	e = New(Config{BinDirs: []string{inPlaceOf(t, client, fails), filepath.Dir(client.path)}})
	err := restore(engine.RestoreOptions{DropExisting: true})
	require.Equal(t, errs.CodeRestoreFailed, errs.CodeOf(err), "%v", err)
	require.Equal(t, before, plain(t, m, target), "and back")
	require.Empty(t, scratchDatabases(t, m))
	e = New(Config{})

	m.Exec(t, target, "DROP FUNCTION added; DROP TABLE a")
	err = restore(engine.RestoreOptions{})
	require.Contains(t, errs.Message(err), "is not empty", "libraries are content")
}

func TestLibrariesOfOtherDatabasesAreTold(t *testing.T) {
	m := testkit.MariaDB(t)
	if _, num := parseNumber(m.Version); !m.IsMySQL || num < 90200 {
		return // it has none
	}
	source, other := m.NewDatabase(t), m.NewDatabase(t)
	m.Exec(t, other, "CREATE LIBRARY lib LANGUAGE JAVASCRIPT AS 'x'")
	m.Exec(t, source, "CREATE TABLE a (x int); CREATE FUNCTION f(x int) RETURNS int DETERMINISTIC LANGUAGE JAVASCRIPT USING ("+other+".lib) AS 'return x'")
	res, dump := dumpOf(t, connTo(m, source), engine.DumpOptions{})
	require.Contains(t, strings.Join(res.Warning, "\n"), "f ("+other+".lib)")
	res, _ = dumpOf(t, connTo(m, source), engine.DumpOptions{IncludeTables: []string{"a"}})
	require.Empty(t, res.Warning)

	target := m.NewDatabase(t)
	require.NoError(t, New(Config{}).Restore(t.Context(), connTo(m, target), engine.RestoreOptions{}, dump))
	require.Equal(t, strings.ReplaceAll(plain(t, m, source), source, target), plain(t, m, target))
	m.Exec(t, other, "DROP LIBRARY lib")
	before := plain(t, m, m.NewDatabase(t))
	empty := m.NewDatabase(t)
	var src enginetest.Memory
	src.Put(Member, dump.Bytes(Member))
	err := New(Config{}).Restore(t.Context(), connTo(m, empty), engine.RestoreOptions{}, &src)
	require.Equal(t, errs.CodeRestoreFailed, errs.CodeOf(err), "%v", err)
	require.Equal(t, before, plain(t, m, empty))
}

func TestMaskedColumnsAreTold(t *testing.T) {
	m := testkit.MariaDB(t)
	if _, num := parseNumber(m.Version); !m.IsMySQL || num < 90700 {
		return // it has none
	}
	db := m.NewDatabase(t)
	m.Exec(t, db, "CREATE TABLE plain (x int); CREATE TABLE people (name varchar(20), ssn int MASKING POLICY hide_it)")
	var log lines
	var sink enginetest.Memory
	// Only editions with the component read such a column at all.
	_, err := New(Config{}).Dump(t.Context(), connTo(m, db), engine.DumpOptions{Log: log.log}, &sink)
	require.Equal(t, errs.CodeDumpFailed, errs.CodeOf(err), "%v", err)
	require.Contains(t, errs.Message(err), "MASKING POLICY")
	require.Contains(t, log.String(), "not in the backup: people.ssn")
	for _, o := range []engine.DumpOptions{{ExcludeTableData: []string{"people"}}, {IncludeTables: []string{"plain"}}} {
		res, dump := dumpOf(t, connTo(m, db), o)
		require.NotContains(t, strings.Join(res.Warning, "\n"), "masking")
		if len(o.ExcludeTableData) > 0 {
			target := m.NewDatabase(t)
			require.NoError(t, New(Config{}).Restore(t.Context(), connTo(m, target), engine.RestoreOptions{}, dump))
			require.Equal(t, res.SchemaDigest, digestAgain(t, connTo(m, target)))
		}
	}
}

func TestRoutinesWithoutTheirLibrariesAreRefusedBeforeAnythingIsDone(t *testing.T) {
	m := testkit.MariaDB(t)
	if _, num := parseNumber(m.Version); !m.IsMySQL || num < 90200 {
		return // it has none
	}
	source, target := m.NewDatabase(t), m.NewDatabase(t)
	m.Exec(t, source, "CREATE TABLE a (x int)")
	_, dump := dumpOf(t, connTo(m, source), engine.DumpOptions{})
	m.Exec(t, target, "CREATE TABLE a (x int); CREATE LIBRARY lib LANGUAGE JAVASCRIPT AS 'x'; CREATE LIBRARY more LANGUAGE JAVASCRIPT AS 'x'; CREATE FUNCTION f(x int) RETURNS int DETERMINISTIC LANGUAGE JAVASCRIPT USING (lib, more) AS 'return x'; DROP LIBRARY lib; DROP LIBRARY more")
	var sink enginetest.Memory
	_, err := New(Config{}).Dump(t.Context(), connTo(m, target), engine.DumpOptions{}, &sink)
	require.Equal(t, errs.CodeDumpFailed, errs.CodeOf(err), "%v", err)
	require.Contains(t, errs.Message(err), "function f ("+target+".lib, "+target+".more)")
	require.Empty(t, sink.Members())
	res, _ := dumpOf(t, connTo(m, target), engine.DumpOptions{IncludeTables: []string{"a"}})
	require.Empty(t, res.Warning)

	session, err := m.DB(t, target).Conn(t.Context())
	require.NoError(t, err)
	defer session.Close() //nolint:errcheck // it only goes back to its pool
	o := engine.RestoreOptions{DropExisting: true, TempDir: t.TempDir()}
	_, err = New(Config{}).Preflight(t.Context(), connTo(m, target), o)
	require.Contains(t, errs.Message(err), "function f ("+target+".lib, "+target+".more)")
	err = New(Config{}).Restore(t.Context(), connTo(m, target), o, dump)
	require.Equal(t, errs.CodeDumpFailed, errs.CodeOf(err), "%v", err)
	require.Contains(t, errs.Message(err), "function f ("+target+".lib, "+target+".more)")
	require.NoError(t, session.PingContext(t.Context()), "nobody's session was ended")
	require.Empty(t, scratchDatabases(t, m))
	m.Exec(t, target, "DROP FUNCTION f")
	require.NoError(t, New(Config{}).Restore(t.Context(), connTo(m, target), o, dump))
}

func TestAnOlderMysqldumpLosesNoLibraries(t *testing.T) {
	m := testkit.MariaDB(t)
	if _, num := parseNumber(m.Version); !m.IsMySQL || num < 90200 {
		return // it has none
	}
	source, target := m.NewDatabase(t), m.NewDatabase(t)
	m.Exec(t, source, "CREATE TABLE a (x int)")
	m.Exec(t, target, "CREATE TABLE a (x int); CREATE LIBRARY lib LANGUAGE JAVASCRIPT AS 'x'")
	_, dump := dumpOf(t, connTo(m, source), engine.DumpOptions{})
	before := plain(t, m, target)

	client, dumper := toolFor(t, m, clientNames), toolFor(t, m, dumpNames)
	older := fakeTool(t, "mysqldump", "mysqldump  Ver 8.4.6 for Linux on x86_64 (MySQL Community Server - GPL)", `exec `+dumper.path+` "$@"`)
	require.NoError(t, os.Symlink(client.path, filepath.Join(older, client.name)))
	e := New(Config{BinDirs: []string{older}})

	var sink enginetest.Memory
	_, err := e.Dump(t.Context(), connTo(m, target), engine.DumpOptions{}, &sink)
	require.Equal(t, errs.CodeDumpToolMissing, errs.CodeOf(err), "%v", err)
	require.Contains(t, errs.Message(err), `"lib" is a library`)
	_, err = e.Dump(t.Context(), connTo(m, target), engine.DumpOptions{IncludeTables: []string{"a"}}, &enginetest.Memory{})
	require.NoError(t, err, "tables have none")
	o := engine.RestoreOptions{DropExisting: true, TempDir: t.TempDir()}
	_, err = e.Preflight(t.Context(), connTo(m, target), o)
	require.Contains(t, errs.Message(err), `"lib" is a library`)
	err = e.Restore(t.Context(), connTo(m, target), o, dump)
	require.Contains(t, errs.Message(err), `"lib" is a library`)
	require.Empty(t, scratchDatabases(t, m))
	require.Equal(t, before, plain(t, m, target))
}

// A restore that was killed before this program was upgraded has noted no libraries.
func TestAnOlderNoteOfAnExchangeIsFinishedWithLibraries(t *testing.T) {
	m := testkit.MariaDB(t)
	if _, num := parseNumber(m.Version); !m.IsMySQL || num < 90200 {
		return // it has none
	}
	const token = "00000000000a"
	target := m.NewDatabase(t)
	m.Exec(t, target, "CREATE TABLE a (x int); CREATE LIBRARY lib LANGUAGE JAVASCRIPT AS 'old'; CREATE FUNCTION f(x int) RETURNS int DETERMINISTIC LANGUAGE JAVASCRIPT USING (lib) AS 'return 0'")
	w := &swap{Target: target, Fresh: "dg_restore_" + token, Replaced: "dg_replaced_" + token, Replaces: true, Incoming: []string{"a"}, Ours: []object{{"FUNCTION", "f"}}, Theirs: []object{{"FUNCTION", "f"}}}
	w.Objects = []byte("-- Host: h    Database: " + w.Fresh + "\nDROP LIBRARY IF EXISTS `lib`;\nDELIMITER ;;\nCREATE LIBRARY `lib`\n    LANGUAGE JAVASCRIPT\nAS $$new$$ ;;\n" +
		"CREATE DEFINER=`root`@`127.0.0.1` FUNCTION `f`(x int) RETURNS int\n    DETERMINISTIC\n    LANGUAGE JAVASCRIPT\n    USING (`" + w.Fresh + "`.`lib`)\nAS $$return 1$$ ;;\nDELIMITER ;\n-- Dump completed\n")
	m.Exec(t, "", "CREATE DATABASE "+w.Fresh+"; CREATE DATABASE "+w.Replaced)
	m.Exec(t, w.Fresh, "CREATE LIBRARY lib LANGUAGE JAVASCRIPT AS 'new'")
	s, err := New(Config{}).connect(t.Context(), connTo(m, target), "")
	require.NoError(t, err)
	defer s.close()
	w.Version = notesLibraries
	require.NoError(t, w.note(t.Context(), s))
	err = New(Config{}).Sweep(t.Context(), connTo(m, target), token, nil)
	require.Contains(t, errs.Message(err), `library "lib" came into database`, "of one that has")
	w.Version = 0
	require.NoError(t, w.settle(t.Context(), s))
	require.NoError(t, w.note(t.Context(), s))
	var log lines
	require.NoError(t, New(Config{}).Sweep(t.Context(), connTo(m, target), token, log.log))
	require.Contains(t, log.String(), "is wholly restored")
	require.Empty(t, scratchDatabases(t, m))
	var of, text string
	require.NoError(t, m.DB(t, target).QueryRow("SELECT library_schema FROM information_schema.routine_libraries WHERE routine_schema = ?", target).Scan(&of))
	require.Equal(t, target, of)
	require.NoError(t, m.DB(t, target).QueryRow("SELECT library_definition FROM information_schema.libraries WHERE library_schema = ?", target).Scan(&text))
	require.Equal(t, "new", text)
}
