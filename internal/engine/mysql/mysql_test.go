package mysql

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/engine/enginetest"
	"github.com/dataguardian/dataguardian/internal/engine/tool"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

func TestConnectionValuesAreLiteralOrRefused(t *testing.T) {
	good := engine.Conn{Host: "db.example", Port: 3306, Database: "shop", Username: "app"}
	require.Empty(t, ValidateConn(good))
	for name, set := range map[string]func(c *engine.Conn){
		"host":     func(c *engine.Conn) { c.Host = "a b" },
		"port":     func(c *engine.Conn) { c.Port = 70000 },
		"database": func(c *engine.Conn) { c.Database = strings.Repeat("ä", 65) },
		"username": func(c *engine.Conn) { c.Username = "" },
		"password": func(c *engine.Conn) { c.Password = strings.Repeat("x", 2000) },
		"ssl_mode": func(c *engine.Conn) { c.SSLMode = "maybe" },
	} {
		c := good
		set(&c)
		bad := ValidateConn(c)
		require.Len(t, bad, 1)
		require.Equal(t, name, bad[0].Field)
	}
}

func TestAnyPasswordReachesTheServer(t *testing.T) {
	m := testkit.MariaDB(t)
	db := m.NewDatabase(t)
	m.Exec(t, db, "CREATE TABLE a (x int)")
	pool := m.DB(t, "")
	fixed := []string{`"`, `'`, `\`, `#x`, `a#b`, ` lead`, `trail `, `"quoted"`, `'quoted'`, `\n`, "tab\t", "line\nbreak", "\r", "\\\"#'", "ü😀", "%s", "[client]", "!include /etc/passwd", "a\\", "\b"}
	check := func(t *testing.T, password string) {
		_, err := pool.Exec("DROP USER IF EXISTS 'odd'@'127.0.0.1'; CREATE USER 'odd'@'127.0.0.1' IDENTIFIED BY '" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(password) + "'")
		require.NoError(t, err)
		_, err = pool.Exec("GRANT ALL ON *.* TO 'odd'@'127.0.0.1'")
		require.NoError(t, err)
		c := connTo(m, db)
		c.Username, c.Password = "odd", password
		var sink enginetest.Memory
		_, err = New(Config{}).Dump(t.Context(), c, engine.DumpOptions{}, &sink)
		require.NoError(t, err, "%q", password)
	}
	for _, password := range fixed {
		check(t, password)
	}
	_, err := pool.Exec("DROP USER 'odd'@'127.0.0.1'")
	require.NoError(t, err)
}

func TestOptionFilesAreReadAsTheyWereMeant(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.StringOfN(rapid.OneOf(rapid.SampledFrom([]rune("\"'\\#; \t\n\r=[]!nrbts")), rapid.Rune()), 0, 40, -1).Filter(func(s string) bool {
			return !strings.ContainsRune(s, 0)
		}).Draw(t, "value")
		c := engine.Conn{Host: "h", Port: 1, Username: value, Password: "x", SSLMode: engine.SSLDisable}
		file, err := optionFile(c, program{flavor: engine.MariaDB}, dir)
		require.NoError(t, err)
		info, err := os.Stat(file)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
		out, err := exec.Command("my_print_defaults", "--defaults-file="+file, "client").Output()
		require.NoError(t, err)
		require.Contains(t, string(out), "--user="+value+"\n--password=")
	})
}

func TestThePasswordIsInNoArgumentAndNoEnvironment(t *testing.T) {
	m := testkit.MariaDB(t)
	script := `for a in "$@"; do echo "arg $a" >&2; done; env | sed 's/^/env /' >&2; exit 1`
	e := New(Config{BinDirs: []string{inPlaceOf(t, toolFor(t, m, dumpNames), script)}})
	t.Setenv("MYSQL_PWD", "of somebody else")
	var log lines
	var sink enginetest.Memory
	c := connTo(m, "mysql")
	_, err := e.Dump(t.Context(), c, engine.DumpOptions{Log: log.log}, &sink)
	require.Error(t, err)
	require.NotContains(t, log.String(), m.Password)
	require.NotContains(t, log.String(), "***")
	require.NotContains(t, log.String(), "MYSQL_PWD")
	require.Contains(t, log.String(), "arg --single-transaction")
	require.NotContains(t, log.String(), "arg "+c.Host)
	require.NotContains(t, log.String(), "arg "+c.Username)
}

func TestOptionFilesOfTheHostAreIgnored(t *testing.T) {
	m := testkit.MariaDB(t)
	db := m.NewDatabase(t)
	m.Exec(t, db, "CREATE TABLE a (x int)")
	home := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(home, ".my.cnf"), []byte("[client]\nport=1\n[mysqldump]\nno-data\nwhere=broken(\n"), 0o600))
	t.Setenv("HOME", home)
	t.Setenv("MYSQL_HOME", home)
	t.Setenv("MYSQL_TCP_PORT", "1")
	t.Setenv("MYSQL_HOST", "203.0.113.9")
	res, _ := dumpOf(t, connTo(m, db), engine.DumpOptions{})
	require.Equal(t, map[string]int64{"a": 0}, rowsByName(res))
}

func TestTablesOutsideTransactionsAreAnnounced(t *testing.T) {
	m := testkit.MariaDB(t)
	db := m.NewDatabase(t)
	other := "Aria"
	if m.IsMySQL {
		other = "MEMORY"
	}
	m.Exec(t, db, "CREATE TABLE a (x int) ENGINE=MyISAM; CREATE TABLE b (x int) ENGINE=InnoDB; CREATE TABLE c (x int) ENGINE="+other+"; CREATE VIEW v AS SELECT * FROM a")
	var log lines
	res, _ := dumpOf(t, connTo(m, db), engine.DumpOptions{Log: log.log})
	require.Len(t, ofTheDump(res), 1)
	require.Contains(t, ofTheDump(res)[0], "a (MyISAM), c ("+other+")")
	require.Contains(t, log.String(), "warn these tables")
	res, _ = dumpOf(t, connTo(m, db), engine.DumpOptions{IncludeTables: []string{"b"}, ParallelJobs: 1})
	require.Empty(t, ofTheDump(res))
	res, _ = dumpOf(t, connTo(m, db), engine.DumpOptions{IncludeTables: []string{"b"}, ParallelJobs: 4})
	require.Len(t, ofTheDump(res), 1)
	require.Contains(t, ofTheDump(res)[0], "parallel_jobs is 4")
}

func TestToolsThatFailOrLieAreFoundOut(t *testing.T) {
	m := testkit.MariaDB(t)
	db := m.NewDatabase(t)
	m.Exec(t, db, "CREATE TABLE a AS SELECT seq FROM seq_1_to_100")
	_, dump := dumpOf(t, connTo(m, db), engine.DumpOptions{})
	file := filepath.Join(t.TempDir(), "real")
	require.NoError(t, os.WriteFile(file, dump.Bytes(Member), 0o600))
	size := len(dump.Bytes(Member))
	for name, tc := range map[string]struct {
		script string
		code   errs.Code
		says   string
	}{
		"truncated, then success":  {fmt.Sprintf("head -c %d %s", size/2, file), errs.CodeDumpIncomplete, "Dump completed"},
		"one byte short":           {fmt.Sprintf("head -c %d %s", size-1, file), errs.CodeDumpIncomplete, "Dump completed"},
		"something after":          {fmt.Sprintf("cat %s; echo SELECT 1", file), errs.CodeDumpIncomplete, "Dump completed"},
		"nothing, then success":    {"exit 0", errs.CodeDumpIncomplete, "after 0 bytes"},
		"failure after everything": {fmt.Sprintf("cat %s; echo 'mysqldump: out of luck' >&2; exit 2", file), errs.CodeDumpFailed, "out of luck"},
		"a lost connection":        {"echo 'mysqldump: Error 2013: Lost connection to server during query when dumping table `a` at row: 5' >&2; exit 3", errs.CodeDatasourceLost, "Lost connection"},
		"a missing privilege":      {"echo \"mysqldump: Couldn't execute 'show events': Access denied for user 'x'@'y' to database 'z' (1044)\" >&2; exit 2", errs.CodeDatasourcePermission, "show events"},
		"no login":                 {"echo 'mysqldump: Got error: 1045: \"Access denied\" when trying to connect' >&2; exit 2", errs.CodeDatasourceAuth, "Access denied"},
		"no server":                {"echo \"mysqldump: Got error: 2002: \\\"Can't connect\\\" when trying to connect\" >&2; exit 2", errs.CodeDatasourceUnreachable, "connect"},
		"silence":                  {"exec sleep 600", errs.CodeDumpStalled, "200ms"},
	} {
		t.Run(name, func(t *testing.T) {
			var sink enginetest.Memory
			stall := time.Minute
			if name == "silence" {
				stall = 200 * time.Millisecond
			}
			e := New(Config{BinDirs: []string{inPlaceOf(t, toolFor(t, m, dumpNames), tc.script)}})
			_, err := e.Dump(t.Context(), connTo(m, db), engine.DumpOptions{StallTimeout: stall}, &sink)
			require.Equal(t, tc.code, errs.CodeOf(err), "%v", err)
			require.Contains(t, errs.Message(err), tc.says)
			state, _ := sink.State(Member)
			require.Equal(t, enginetest.Failed, state)
		})
	}
}

func TestTruncationAtEveryByteIsRefused(t *testing.T) {
	m := testkit.MariaDB(t)
	db := m.NewDatabase(t)
	m.Exec(t, db, richDatabase)
	_, dump := dumpOf(t, connTo(m, db), engine.DumpOptions{})
	whole := dump.Bytes(Member)
	s := &script{}
	_, err := s.Write(whole)
	require.NoError(t, err)
	require.NoError(t, s.Done())
	s = &script{}
	for i := range whole {
		require.Equal(t, errs.CodeDumpIncomplete, errs.CodeOf(s.Done()), "%d of %d bytes", i, len(whole))
		_, err := s.Write(whole[i : i+1])
		require.NoError(t, err)
	}
	require.NoError(t, s.Done())
}

func TestClientsAreChosenByKindAndVersion(t *testing.T) {
	type tool struct{ name, line string }
	for name, tc := range map[string]struct {
		tools  []tool
		server engine.ServerInfo
		want   string
	}{
		"a mysqldump that is MariaDB's": {
			[]tool{{"mysqldump", "mysqldump  Ver 10.19 Distrib 10.11.19-MariaDB, for debian-linux-gnu (x86_64)"}, {"mysqldump", "mysqldump  Ver 8.0.36 for Linux on x86_64 (MySQL Community Server - GPL)"}},
			engine.ServerInfo{Flavor: engine.MySQL, VersionNum: 80031}, "8.0.36",
		},
		"the other way round": {
			[]tool{{"mysqldump", "mysqldump  Ver 8.0.36 for Linux on x86_64 (MySQL Community Server - GPL)"}, {"mariadb-dump", "mariadb-dump from 11.4.2-MariaDB, client 10.19 for linux-systemd (x86_64)"}},
			engine.ServerInfo{Flavor: engine.MariaDB, VersionNum: 101119}, "11.4.2",
		},
		"the nearest newer one": {
			[]tool{{"mysqldump", "mysqldump  Ver 9.1.0 for Linux"}, {"mysqldump", "mysqldump  Ver 8.4.3 for Linux"}, {"mysqldump", "mysqldump  Ver 10.13 Distrib 5.7.44, for linux-glibc2.12 (x86_64)"}},
			engine.ServerInfo{Flavor: engine.MySQL, VersionNum: 80036}, "8.4.3",
		},
		"the newest older one": {
			[]tool{{"mysqldump", "mysqldump  Ver 10.13 Distrib 5.7.44, for linux-glibc2.12 (x86_64)"}, {"mysqldump", "mysqldump  Ver 8.0.36 for Linux"}},
			engine.ServerInfo{Flavor: engine.MySQL, VersionNum: 90100}, "8.0.36",
		},
		"the other kind's after all others": {
			[]tool{{"mariadb-dump", "mariadb-dump from 11.4.2-MariaDB, client 10.19 for linux-systemd (x86_64)"}, {"mysqldump", "mysqldump  Ver 10.13 Distrib 5.7.44, for linux-glibc2.12 (x86_64)"}},
			engine.ServerInfo{Flavor: engine.MySQL, VersionNum: 90100}, "5.7.44",
		},
		"only the other kind's": {
			[]tool{{"mariadb-dump", "mariadb-dump from 11.4.2-MariaDB, client 10.19 for linux-systemd (x86_64)"}},
			engine.ServerInfo{Flavor: engine.MySQL, VersionNum: 90100}, "11.4.2",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var dirs []string
			for _, x := range tc.tools {
				dirs = append(dirs, fakeTool(t, x.name, x.line, "exit 1"))
			}
			p, err := toolbox{dirs: dirs}.choose(t.Context(), dumpNames[:], tc.server)
			require.NoError(t, err)
			require.Equal(t, tc.want, p.version)
		})
	}
	_, err := toolbox{dirs: []string{t.TempDir()}}.choose(t.Context(), dumpNames[:], engine.ServerInfo{Flavor: engine.MariaDB, Version: "10.11.19"})
	require.Equal(t, errs.CodeDumpToolMissing, errs.CodeOf(err))
	require.Contains(t, errs.Message(err), "apt-get install mariadb-client")
}

// toolsOfTheOtherKind are an engine that finds only those: of MySQL the system's own, of
// MariaDB its own under the name of MySQL's, for whose tools there is no package.
func toolsOfTheOtherKind(t *testing.T, m *testkit.Maria) *Engine {
	t.Helper()
	var dirs []string
	for name, real := range map[string]string{"mysqldump": "mariadb-dump", "mysql": "mariadb"} {
		path, err := exec.LookPath(real)
		require.NoError(t, err)
		line, script := name+"  Ver 9.7.4 for Linux on x86_64 (MySQL Community Server - GPL)", withoutOptionsOfMySQL
		if m.IsMySQL {
			script = ""
			line, err = tool.VersionLine(t.Context(), path, "--no-defaults", "--version")
			require.NoError(t, err)
		}
		dirs = append(dirs, fakeTool(t, name, line, script+"exec "+path+` "$@"`))
	}
	return New(Config{BinDirs: dirs})
}

// withoutOptionsOfMySQL takes away what MariaDB's tools do not know.
const withoutOptionsOfMySQL = `sed -i "s/^ssl-mode=.*/skip-ssl/; /public-key/d" "${1#--defaults-file=}"
for arg; do shift; case "$arg" in --loose-set-gtid-purged*|--loose-column-statistics*|--loose-skip-masking*) ;; *) set -- "$@" "$arg" ;; esac; done
`

func TestToolsOfTheOtherKindDumpAndRestoreWithAWarning(t *testing.T) {
	m := testkit.MariaDB(t)
	source, target := m.NewDatabase(t), m.NewDatabase(t)
	warning := "mysqldump 9.7.4 is MySQL's and not made for this server: install it with `apt-get install mariadb-client`"
	if m.IsMySQL {
		warning = "is MariaDB's and not made for this server: install MySQL's own mysqldump and mysql"
	}
	m.Exec(t, source, townsPeopleOrders)
	m.Exec(t, source, "CREATE EVENT e ON SCHEDULE EVERY 1 DAY STARTS '2030-01-01 00:00:00' DO BEGIN SELECT 1; END; CREATE TABLE odd (h int DEFAULT 3 INVISIBLE, j json, b blob); INSERT INTO odd (j, b) VALUES ('{\"a\": \"ä😀\"}', x'00ff0a27')")
	e := toolsOfTheOtherKind(t, m)
	var log lines
	var dump enginetest.Memory
	res, err := e.Dump(t.Context(), connTo(m, source), engine.DumpOptions{Log: log.log, TempDir: t.TempDir()}, &dump)
	require.NoError(t, err)
	require.Len(t, res.Warning, 1)
	require.Contains(t, res.Warning[0], warning)
	require.Contains(t, log.String(), "warn "+res.Warning[0])

	m.Exec(t, target, townsPeopleOrders)
	m.Exec(t, target, grown)
	found, err := e.Preflight(t.Context(), connTo(m, target), engine.RestoreOptions{DropExisting: true})
	require.NoError(t, err)
	require.Len(t, found.Warnings, 1)
	warning = strings.Replace(warning, "mysqldump 9.7.4 is", "mysql 9.7.4 is", 1)
	require.Contains(t, found.Warnings[0], warning)
	var restoring lines
	o := engine.RestoreOptions{DropExisting: true, IncludeTables: []string{"people"}, TempDir: t.TempDir(), Log: restoring.log}
	require.NoError(t, e.Restore(t.Context(), connTo(m, target), o, &dump), "some tables")
	require.Contains(t, restoring.String(), "warn "+found.Warnings[0])
	o.IncludeTables = nil
	for _, e := range []*Engine{e, New(Config{})} {
		require.NoError(t, e.Restore(t.Context(), connTo(m, target), o, &dump))
		require.Equal(t, plain(t, m, source), plain(t, m, target))
		m.Exec(t, target, "DROP TABLE odd, orders; DROP TRIGGER greet")
	}
}

// What such a tool would lose, or write so that it does not come back, it says nothing of.
func TestToolsOfTheOtherKindAreRefusedForWhatTheyLose(t *testing.T) {
	m := testkit.MariaDB(t)
	_, num := parseNumber(m.Version)
	type lost struct {
		makes, says string
		without     engine.DumpOptions // goes
	}
	cases := map[string]lost{
		"a package": {"SET sql_mode = ORACLE; CREATE PACKAGE pack AS PROCEDURE p; END", `"pack" is a package`, engine.DumpOptions{IncludeTables: []string{"a"}}},
	}
	install, server := "apt-get install mariadb-client", "only mysqldump 9.7.4 of MySQL"
	if m.IsMySQL {
		install, server = "mysql-community-client", "of MariaDB is installed"
		cases = map[string]lost{
			"virtual columns": {"CREATE TABLE sums (x int, y int AS (x * 2) VIRTUAL)", `table "sums" has generated columns`, engine.DumpOptions{ExcludeTableData: []string{"sums"}}},
			"stored columns":  {"CREATE TABLE sums (x int, y int AS (x * 2) STORED)", `table "sums" has generated columns`, engine.DumpOptions{ExcludeTables: []string{"sums"}}},
		}
		if num >= 90000 {
			cases["vectors"] = lost{"CREATE TABLE points (v vector(3))", `table "points" has vectors`, engine.DumpOptions{IncludeTables: []string{"a"}}}
		}
		if num >= 90200 {
			cases["a library"] = lost{"CREATE LIBRARY lib LANGUAGE JAVASCRIPT AS 'export function f(n) { return n }'", `"lib" is a library`, engine.DumpOptions{IncludeTables: []string{"a"}}}
		}
	}
	e := toolsOfTheOtherKind(t, m)
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			db := m.NewDatabase(t)
			m.Exec(t, db, "CREATE TABLE a (x int DEFAULT (1 + 1)); CREATE VIEW v AS SELECT * FROM a; "+tc.makes)
			var sink enginetest.Memory
			_, err := e.Dump(t.Context(), connTo(m, db), engine.DumpOptions{TempDir: t.TempDir()}, &sink)
			require.Equal(t, errs.CodeDumpToolMissing, errs.CodeOf(err), "%v", err)
			for _, said := range []string{tc.says, install, server} {
				require.Contains(t, errs.Message(err), said)
			}
			require.Empty(t, sink.Members())
			_, err = e.Dump(t.Context(), connTo(m, db), tc.without, &sink)
			require.NoError(t, err)
			dumpOf(t, connTo(m, db), engine.DumpOptions{})
		})
	}
}

func TestVersionsAreNumbers(t *testing.T) {
	for text, num := range map[string]int{
		"10.11.19-MariaDB-0+deb12u1": 101119, "5.5.5-10.11.19-MariaDB": 101119, "8.0.36": 80036, "11.4.2-MariaDB": 110402, "8": 0, "": 0,
	} {
		_, got := parseNumber(text)
		require.Equal(t, num, got, text)
	}
}

func restoreText(t *testing.T, m *testkit.Maria, db, text string, o engine.RestoreOptions) error {
	t.Helper()
	var src enginetest.Memory
	src.Put(Member, []byte("-- MariaDB dump\n"+text+"\n-- Dump completed\n"))
	return New(Config{}).Restore(t.Context(), connTo(m, db), o, &src)
}

func TestAHostileDumpRunsNothingHere(t *testing.T) {
	m := testkit.MariaDB(t)
	proof := filepath.Join(t.TempDir(), "ran")
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("secret\n"), 0o600))
	for name, text := range map[string]string{
		"a shell command":           "\\! touch " + proof,
		"a shell command in a line": "SELECT 1; \\! touch " + proof,
		"a system command":          "system touch " + proof,
		"a tee":                     "\\T " + proof + "\nSELECT 1;",
		"a pager":                   "\\P touch " + proof + "\nSELECT 1;",
		"an editor":                 "\\e",
		"a source":                  "\\. " + secret,
		"a source by name":          "source " + secret,
		"a local file":              "CREATE TABLE l (a text); LOAD DATA LOCAL INFILE '" + secret + "' INTO TABLE l;",
		"another delimiter first":   "DELIMITER //\n\\! touch " + proof + "\n//\nDELIMITER ;",
		"another character set":     "\\C utf8mb4\n\\! touch " + proof,
	} {
		t.Run(name, func(t *testing.T) {
			db := m.NewDatabase(t)
			err := restoreText(t, m, db, text, engine.RestoreOptions{})
			require.Error(t, err, "the text is no SQL, so the server refuses it")
			require.NoFileExists(t, proof)
			var tables int
			require.NoError(t, m.DB(t, db).QueryRow("SELECT count(*) FROM information_schema.tables WHERE table_schema = ?", db).Scan(&tables))
			if tables > 0 {
				var n int
				require.NoError(t, m.DB(t, db).QueryRow("SELECT count(*) FROM l").Scan(&n))
				require.Zero(t, n)
			}
		})
	}
}

func TestTheFirstFailingStatementEndsARestore(t *testing.T) {
	m := testkit.MariaDB(t)
	db := m.NewDatabase(t)
	var log lines
	err := restoreText(t, m, db, "CREATE TABLE a (x int);\nCREATE TABLE a (x int);\nCREATE TABLE never (x int);", engine.RestoreOptions{Log: log.log})
	require.Equal(t, errs.CodeRestoreFailed, errs.CodeOf(err))
	require.Contains(t, errs.Message(err), "already exists")
	var n int
	require.NoError(t, m.DB(t, db).QueryRow("SELECT count(*) FROM information_schema.tables WHERE table_schema = ?", db).Scan(&n))
	require.Zero(t, n, "what came is gone again")
	m.Exec(t, db, "CREATE TABLE a (old int); CREATE TABLE other (x int)")
	before := plain(t, m, db)
	err = restoreText(t, m, db, "-- Table structure for table `a`\nCREATE TABLE a (x int);\nCREATE TABLE a (x int);", engine.RestoreOptions{IncludeTables: []string{"a"}, DropExisting: true, Log: log.log})
	require.Contains(t, errs.Message(err), "already exists")
	require.Equal(t, before, plain(t, m, db), "tables are replaced only when all of them are there")
}

func TestOnlyWhatWasAskedForIsExchanged(t *testing.T) {
	m := testkit.MariaDB(t)
	db := m.NewDatabase(t)
	m.Exec(t, db, "CREATE TABLE a (old int); CREATE TABLE other (x int); CREATE VIEW v AS SELECT x FROM other")
	before := plain(t, m, db)
	for _, unasked := range []string{"CREATE TABLE other (bad int);", "CREATE VIEW v AS SELECT 1 AS bad;"} {
		text := "-- Table structure for table `a`\nCREATE TABLE a (x int);\n"
		err := restoreText(t, m, db, text+unasked, engine.RestoreOptions{IncludeTables: []string{"a"}, DropExisting: true})
		require.Equal(t, errs.CodeRestoreFailed, errs.CodeOf(err), "%v", err)
		require.Contains(t, errs.Message(err), "only tables of include_tables are expected")
		require.Equal(t, before, plain(t, m, db))
	}
}

func TestSessionsEndOnlyWhenContentIsReplaced(t *testing.T) {
	m := testkit.MariaDB(t)
	db := m.NewDatabase(t)
	_, dump := dumpOf(t, connTo(m, db), engine.DumpOptions{})
	session, err := m.DB(t, db).Conn(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = session.Close() })
	var log lines
	e := New(Config{})
	require.NoError(t, e.Restore(t.Context(), connTo(m, db), engine.RestoreOptions{Log: log.log}, dump))
	require.NoError(t, session.PingContext(t.Context()))
	require.NotContains(t, log.String(), "sessions")
	require.NoError(t, e.Restore(t.Context(), connTo(m, db), engine.RestoreOptions{DropExisting: true, Log: log.log}, dump))
	require.Error(t, session.PingContext(t.Context()))
	require.Contains(t, log.String(), "1 sessions of database "+db+" were ended")
}

func TestARestoreIntoAnotherKindOfServerIsRefused(t *testing.T) {
	m := testkit.MariaDB(t)
	db := m.NewDatabase(t)
	_, dump := dumpOf(t, connTo(m, db), engine.DumpOptions{})
	other := FormatMySQL
	if m.IsMySQL {
		other = FormatMariaDB
	}
	err := New(Config{}).Restore(t.Context(), connTo(m, db), engine.RestoreOptions{Format: other, DropExisting: true}, dump)
	require.Equal(t, errs.CodeRestoreNotSupported, errs.CodeOf(err))
}

func TestTheDatabasesCharacterSetComesBack(t *testing.T) {
	m := testkit.MariaDB(t)
	db := m.NewDatabase(t)
	m.Exec(t, "", "ALTER DATABASE "+db+" CHARACTER SET latin1 COLLATE latin1_german2_ci")
	m.Exec(t, db, "CREATE TABLE a (x varchar(20)); INSERT INTO a VALUES ('grün'); CREATE FUNCTION f() RETURNS varchar(10) DETERMINISTIC RETURN 'ä'")
	res, dump := dumpOf(t, connTo(m, db), engine.DumpOptions{})
	want := plain(t, m, db)
	m.Exec(t, "", "DROP DATABASE "+db)
	require.NoError(t, New(Config{}).Restore(t.Context(), connTo(m, db), engine.RestoreOptions{CreateDatabase: true}, dump))
	require.Equal(t, want, plain(t, m, db))
	require.Contains(t, want, "latin1_german2_ci")
	require.Equal(t, res.SchemaDigest, digestAgain(t, connTo(m, db)), "MySQL says more of a column's character set once it was named")
}

func TestAPartOfADumpTakesNothingElseAlong(t *testing.T) {
	m := testkit.MariaDB(t)
	db := m.NewDatabase(t)
	m.Exec(t, db, richDatabase)
	_, dump := dumpOf(t, connTo(m, db), engine.DumpOptions{})
	target := m.NewDatabase(t)
	names := []string{"od`d \"na'me. -x", "people", "pets", "upper", db + ".names"}
	err := New(Config{}).Restore(t.Context(), connTo(m, target), engine.RestoreOptions{IncludeTables: names}, dump)
	require.Equal(t, errs.CodeRestoreFailed, errs.CodeOf(err), "a name with another database is not in the dump")
	target = m.NewDatabase(t)
	names[4] = "names"
	require.NoError(t, New(Config{}).Restore(t.Context(), connTo(m, target), engine.RestoreOptions{IncludeTables: names}, dump))
	res, _ := dumpOf(t, connTo(m, target), engine.DumpOptions{})
	require.Equal(t, map[string]int64{"od`d \"na'me. -x": 2, "people": 500, "pets": 300, "upper": 2}, rowsByName(res))
	text := plain(t, m, target)
	require.Regexp(t, "TRIGGER `?pets_before", text)
	require.Contains(t, text, "VIEW `names`")
	require.NotContains(t, text, "add_one")
	require.NotContains(t, text, "EVENT")
}

func TestALongRowCostsNoMemoryInTheProof(t *testing.T) {
	s := &script{}
	_, err := s.Write([]byte("LOCK TABLES `a` WRITE;\nINSERT INTO `a` VALUES\n('"))
	require.NoError(t, err)
	block := []byte(strings.Repeat("x", 1<<20))
	allocs := testing.AllocsPerRun(100, func() { _, err = s.Write(block) })
	require.NoError(t, err)
	require.Zero(t, allocs)
	var got int64
	s.finished = func(_ string, n int64) { got = n }
	_, err = s.Write([]byte("'),\n('y');\nUNLOCK TABLES;\n-- Dump completed\n"))
	require.NoError(t, err)
	require.NoError(t, s.Done())
	require.EqualValues(t, 2, got)
}

func FuzzScript(f *testing.F) {
	f.Add([]byte("LOCK TABLES `a` WRITE;\nINSERT INTO `a` VALUES\n(1),\n(2);\nUNLOCK TABLES;\n-- Dump completed\n"), uint8(3))
	f.Add([]byte("DELIMITER ;;\nx\nDELIMITER ;\n\n\n-- Dump completed"), uint8(0))
	f.Fuzz(func(t *testing.T, b []byte, step uint8) {
		var whole, pieces []string
		run := func(s *script, seen *[]string, n int) bool {
			s.finished = func(table string, rows int64) { *seen = append(*seen, fmt.Sprint(table, rows)) }
			for rest := b; len(rest) > 0; {
				k := min(n, len(rest))
				_, _ = s.Write(rest[:k])
				rest = rest[k:]
			}
			return s.Done() == nil
		}
		a := run(&script{}, &whole, len(b)+1)
		z := run(&script{}, &pieces, int(step)+1)
		require.Equal(t, a, z)
		require.Equal(t, whole, pieces)
	})
}
