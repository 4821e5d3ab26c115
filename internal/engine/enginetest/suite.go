package enginetest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// Server is a real server that a suite may fill.
type Server interface {
	// Conn returns a connection to a database with all rights.
	Conn(database string) engine.Conn
	// NewDatabase makes an empty database of the test's own.
	NewDatabase(t testing.TB) string
	// Drop drops a database, if it is there.
	Drop(t testing.TB, database string)
	// Exec runs statements.
	Exec(t testing.TB, database, statements string)
	// Fingerprint is the same text for two databases with the same schema and
	// rows.
	Fingerprint(t testing.TB, database string) string
}

// MortalServer is a server of one test's own.
type MortalServer interface {
	Server
	// Crash ends the server at once.
	Crash(t testing.TB)
	// Start starts it again.
	Start(t testing.TB)
}

// Subject is an engine under test.
type Subject struct {
	Engine engine.Engine
	Server Server
	// NewServer starts another server, for tests that end it.
	NewServer func(t testing.TB) MortalServer

	Format string
	Member string
	// Hostile fills a database with names and values of every odd kind.
	Hostile string
	// HostileTables is what Hostile makes: names as a dump lists them (without
	// the schema where it is that of the database), and their rows.
	HostileTables map[string]int64
	// Large fills a database with one table "large" of at least 12 MB, which is
	// more than pipes and sockets hold.
	Large string
	// Everything fills a database with whatever the server can hold.
	Everything string
	Dialect    Dialect
	// Parallel is an engine that dumps and restores by several connections.
	Parallel bool
	// Small makes a table "small" with three rows.
	Small string

	large func() string
}

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

// Run runs the suite.
func Run(t *testing.T, s Subject) {
	// One for all who only read it.
	s.large = sync.OnceValue(func() string { return s.newDatabase(t, s.Large) })
	for name, test := range map[string]func(t *testing.T, s Subject){
		"ping says what is wrong":                                      testPing,
		"a hostile database comes back as it was":                      testRoundTrip,
		"everything a database can hold comes back":                    testFidelity,
		"tables of any name and rows of any kind come back":            testRandom,
		"an empty database comes back empty":                           testEmpty,
		"a table without rows comes back":                              testEmptyTable,
		"tables can be chosen":                                         testSelection,
		"content is not replaced unless asked for":                     testNoOverwrite,
		"a cancelled dump ends at once and leaves nothing":             testCancelDump,
		"a cancelled restore ends at once":                             testCancelRestore,
		"a server that dies ends what runs as lost, its target intact": testServerDies,
		"a sink that fails ends the dump":                              testSinkFails,
		"a broken backup is refused":                                   testBroken,
		"a newer server's dump is refused":                             testNewer,
		"another format is refused":                                    testOtherFormat,
		"secrets stay where they belong":                               testSecrets,
		"hostile values are names or errors and connect nowhere":       testHostileValues,
		"dumps run at the same time":                                   testConcurrent,
	} {
		t.Run(name, func(t *testing.T) { test(t, s) })
	}
}

func (s Subject) dump(t testing.TB, c engine.Conn, o engine.DumpOptions) (engine.DumpResult, *Memory) {
	t.Helper()
	var sink Memory
	if o.TempDir == "" {
		o.TempDir = t.TempDir()
	}
	res, err := s.Engine.Dump(t.Context(), c, o, &sink)
	require.NoError(t, err)
	if o.ParallelJobs < 2 {
		require.Len(t, sink.Members(), 1)
		require.Equal(t, s.Member, sink.Members()[0].Name)
	}
	for _, m := range sink.Members() {
		state, _ := sink.State(m.Name)
		require.Equal(t, Closed, state, m.Name)
	}
	requireEmptyDir(t, o.TempDir)
	return res, &sink
}

func requireEmptyDir(t testing.TB, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries, "files were left behind")
}

func (s Subject) restore(t testing.TB, database string, o engine.RestoreOptions, src engine.Source) error {
	t.Helper()
	if o.TempDir == "" {
		o.TempDir = t.TempDir()
	}
	err := s.Engine.Restore(t.Context(), s.Server.Conn(database), o, src)
	requireEmptyDir(t, o.TempDir)
	return err
}

func (s Subject) newDatabase(t testing.TB, statements string) string {
	t.Helper()
	db := s.Server.NewDatabase(t)
	if statements != "" {
		s.Server.Exec(t, db, statements)
	}
	return db
}

// rows maps the tables of a result to their rows.
func rows(res engine.DumpResult, database string) map[string]int64 {
	got := map[string]int64{}
	for _, table := range res.Tables {
		name := table.Schema + "." + table.Name
		if table.Schema == database || table.Schema == "public" {
			name = table.Name
		}
		got[name] = table.Rows
	}
	return got
}

func portOf(t *testing.T, l net.Listener) int {
	t.Helper()
	addr, ok := l.Addr().(*net.TCPAddr)
	require.True(t, ok)
	return addr.Port
}

func testPing(t *testing.T, s Subject) {
	db := s.newDatabase(t, "")
	info, err := s.Engine.Ping(t.Context(), s.Server.Conn(db))
	require.NoError(t, err)
	require.NotEmpty(t, info.Version)
	require.Positive(t, info.VersionNum)
	require.NotEmpty(t, info.Flavor)
	require.Positive(t, info.Latency)

	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	closed := portOf(t, silent)
	require.NoError(t, silent.Close())
	for name, tc := range map[string]struct {
		set  func(c *engine.Conn)
		code errs.Code
	}{
		"refused":          {func(c *engine.Conn) { c.Port = closed }, errs.CodeDatasourceUnreachable},
		"unknown host":     {func(c *engine.Conn) { c.Host = "nowhere.invalid" }, errs.CodeDatasourceUnreachable},
		"no socket":        {func(c *engine.Conn) { c.Host = "/nonexistent/socket" }, errs.CodeDatasourceUnreachable},
		"wrong password":   {func(c *engine.Conn) { c.Password = "wrong-password" }, errs.CodeDatasourceAuth},
		"no password":      {func(c *engine.Conn) { c.Password = "" }, errs.CodeDatasourceAuth},
		"unknown user":     {func(c *engine.Conn) { c.Username = "nobody_here" }, errs.CodeDatasourceAuth},
		"unknown database": {func(c *engine.Conn) { c.Database = "nothing_here" }, errs.CodeDatabaseMissing},
		"no TLS there":     {func(c *engine.Conn) { c.SSLMode = engine.SSLRequire }, errs.CodeDatasourceUnreachable},
		"not acceptable":   {func(c *engine.Conn) { c.Host = "a b" }, errs.CodeInvalidConnection},
	} {
		t.Run(name, func(t *testing.T) {
			c := s.Server.Conn(db)
			tc.set(&c)
			_, err := s.Engine.Ping(t.Context(), c)
			require.Equal(t, tc.code, errs.CodeOf(err), "%v", err)
			if c.Password != "" {
				require.NotContains(t, err.Error(), c.Password)
			}
			var sink Memory
			_, err = s.Engine.Dump(t.Context(), c, engine.DumpOptions{TempDir: t.TempDir()}, &sink)
			require.Equal(t, tc.code, errs.CodeOf(err), "a dump says the same: %v", err)
			require.Empty(t, sink.Members())
		})
	}
}

func testRoundTrip(t *testing.T, s Subject) {
	db := s.newDatabase(t, s.Hostile)
	want := s.Server.Fingerprint(t, db)
	var last engine.Progress
	res, dump := s.dump(t, s.Server.Conn(db), engine.DumpOptions{Progress: func(p engine.Progress) {
		require.GreaterOrEqual(t, p.BytesDone, last.BytesDone)
		require.GreaterOrEqual(t, p.TablesDone, last.TablesDone)
		last = p
	}})
	require.Equal(t, s.Format, res.Format)
	require.NotEmpty(t, res.Tools)
	require.Equal(t, s.HostileTables, rows(res, db))
	require.EqualValues(t, len(dump.Bytes(s.Member)), last.BytesDone)
	require.Equal(t, last.TablesTotal, last.TablesDone)

	options := engine.RestoreOptions{Format: res.Format, DumpVersion: res.Server.VersionNum}
	t.Run("into a database that is made", func(t *testing.T) {
		o := options
		o.CreateDatabase = true
		var last engine.Progress
		o.Progress = func(p engine.Progress) { last = p }
		target := "made_" + db
		t.Cleanup(func() { s.Server.Drop(t, target) })
		require.NoError(t, s.restore(t, target, o, dump))
		require.Equal(t, want, s.Server.Fingerprint(t, target))
		require.EqualValues(t, len(dump.Bytes(s.Member)), last.BytesDone)
		require.Equal(t, last.BytesTotal, last.BytesDone)
	})
	t.Run("into an empty database", func(t *testing.T) {
		target := s.newDatabase(t, "")
		require.NoError(t, s.restore(t, target, options, dump))
		require.Equal(t, want, s.Server.Fingerprint(t, target))
	})
	t.Run("over other content", func(t *testing.T) {
		o := options
		o.DropExisting = true
		target := s.newDatabase(t, "CREATE TABLE old_one (a int)")
		require.NoError(t, s.restore(t, target, o, dump))
		require.Equal(t, want, s.Server.Fingerprint(t, target))
	})
	t.Run("into the same database", func(t *testing.T) {
		o := options
		o.DropExisting = true
		require.NoError(t, s.restore(t, db, o, dump))
		require.Equal(t, want, s.Server.Fingerprint(t, db))
	})
	require.Empty(t, Children(t))
}

func testEmpty(t *testing.T, s Subject) {
	db := s.newDatabase(t, "")
	res, dump := s.dump(t, s.Server.Conn(db), engine.DumpOptions{})
	require.Empty(t, res.Tables)
	target := s.newDatabase(t, "CREATE TABLE old_one (a int)")
	require.NoError(t, s.restore(t, target, engine.RestoreOptions{DropExisting: true}, dump))
	require.Equal(t, s.Server.Fingerprint(t, db), s.Server.Fingerprint(t, target))
}

func testEmptyTable(t *testing.T, s Subject) {
	db := s.newDatabase(t, "CREATE TABLE lonely (a int)")
	res, dump := s.dump(t, s.Server.Conn(db), engine.DumpOptions{})
	require.Equal(t, map[string]int64{"lonely": 0}, rows(res, db))
	target := s.newDatabase(t, "")
	require.NoError(t, s.restore(t, target, engine.RestoreOptions{}, dump))
	require.Equal(t, s.Server.Fingerprint(t, db), s.Server.Fingerprint(t, target))
}

func testSelection(t *testing.T, s Subject) {
	db := s.newDatabase(t, s.Small+"; CREATE TABLE other AS SELECT * FROM small; CREATE TABLE third AS SELECT * FROM small")
	for name, tc := range map[string]struct {
		o    engine.DumpOptions
		want map[string]int64
	}{
		"include":                {engine.DumpOptions{IncludeTables: []string{"small"}}, map[string]int64{"small": 3}},
		"exclude":                {engine.DumpOptions{ExcludeTables: []string{"small"}}, map[string]int64{"other": 3, "third": 3}},
		"exclude data":           {engine.DumpOptions{ExcludeTableData: []string{"small"}}, map[string]int64{"small": -1, "other": 3, "third": 3}},
		"include without data":   {engine.DumpOptions{IncludeTables: []string{"small", "other"}, ExcludeTableData: []string{"small"}}, map[string]int64{"small": -1, "other": 3}},
		"include all but one":    {engine.DumpOptions{IncludeTables: []string{"small", "other"}, ExcludeTables: []string{"small"}}, map[string]int64{"other": 3}},
		"exclude what is absent": {engine.DumpOptions{ExcludeTables: []string{"absent"}}, map[string]int64{"small": 3, "other": 3, "third": 3}},
	} {
		t.Run(name, func(t *testing.T) {
			res, dump := s.dump(t, s.Server.Conn(db), tc.o)
			require.Equal(t, tc.want, rows(res, db))
			if len(tc.o.ExcludeTableData) == 0 {
				return
			}
			target := s.newDatabase(t, "")
			require.NoError(t, s.restore(t, target, engine.RestoreOptions{}, dump))
			again, _ := s.dump(t, s.Server.Conn(target), engine.DumpOptions{})
			got := rows(again, target)
			for table, n := range tc.want {
				require.Equal(t, max(n, 0), got[table], table)
			}
			require.Len(t, got, len(tc.want))
		})
	}
	var sink Memory
	_, err := s.Engine.Dump(t.Context(), s.Server.Conn(db), engine.DumpOptions{IncludeTables: []string{"absent"}}, &sink)
	require.Equal(t, errs.CodeDumpFailed, errs.CodeOf(err))
	require.Contains(t, errs.Message(err), `"absent"`)

	t.Run("a part of a dump is restored", func(t *testing.T) {
		_, dump := s.dump(t, s.Server.Conn(db), engine.DumpOptions{})
		before := s.Server.Fingerprint(t, db)
		s.Server.Exec(t, db, "DROP TABLE small")
		require.NoError(t, s.restore(t, db, engine.RestoreOptions{IncludeTables: []string{"small"}}, dump))
		require.Equal(t, before, s.Server.Fingerprint(t, db))
		s.Server.Exec(t, db, "DELETE FROM small")
		require.Error(t, s.restore(t, db, engine.RestoreOptions{IncludeTables: []string{"small"}}, dump), "the table is there")
		require.NoError(t, s.restore(t, db, engine.RestoreOptions{IncludeTables: []string{"small"}, DropExisting: true}, dump))
		require.Equal(t, before, s.Server.Fingerprint(t, db))
		err := s.restore(t, s.newDatabase(t, ""), engine.RestoreOptions{IncludeTables: []string{"absent"}}, dump)
		require.Equal(t, errs.CodeRestoreFailed, errs.CodeOf(err))
		require.Contains(t, errs.Message(err), "absent")
	})
}

func testNoOverwrite(t *testing.T, s Subject) {
	db := s.newDatabase(t, s.Small)
	_, dump := s.dump(t, s.Server.Conn(db), engine.DumpOptions{})
	s.Server.Exec(t, db, "DELETE FROM small")
	before := s.Server.Fingerprint(t, db)
	err := s.restore(t, db, engine.RestoreOptions{}, dump)
	require.Equal(t, errs.CodeRestoreFailed, errs.CodeOf(err))
	require.Equal(t, before, s.Server.Fingerprint(t, db))
	err = s.restore(t, "absent_"+db, engine.RestoreOptions{DropExisting: true}, dump)
	require.Equal(t, errs.CodeDatabaseMissing, errs.CodeOf(err))
}

func testCancelDump(t *testing.T, s Subject) {
	db := s.large()
	cause := errors.New("operator said so")
	ctx, cancel := context.WithCancelCause(t.Context())
	sink := Memory{OnWrite: func(_ string, size int64) error {
		if size > 1<<20 {
			cancel(cause)
		}
		return nil
	}}
	temp := t.TempDir()
	_, err := s.Engine.Dump(ctx, s.Server.Conn(db), engine.DumpOptions{TempDir: temp}, &sink)
	require.ErrorIs(t, err, cause)
	require.Equal(t, errs.Cancelled, errs.KindOf(err))
	state, _ := sink.State(s.Member)
	require.Equal(t, Failed, state)
	require.Empty(t, Children(t))
	requireEmptyDir(t, temp)
}

func testCancelRestore(t *testing.T, s Subject) {
	db := s.large()
	_, dump := s.dump(t, s.Server.Conn(db), engine.DumpOptions{})
	cause := errors.New("operator said so")
	ctx, cancel := context.WithCancelCause(t.Context())
	dump.OnRead = func(_ string, n int64) error {
		if n > 4<<20 {
			cancel(cause)
		}
		return nil
	}
	target := "made_" + db
	t.Cleanup(func() { s.Server.Drop(t, target) })
	err := s.Engine.Restore(ctx, s.Server.Conn(target), engine.RestoreOptions{CreateDatabase: true, TempDir: t.TempDir()}, dump)
	require.ErrorIs(t, err, cause)
	require.Equal(t, errs.Cancelled, errs.KindOf(err))
	require.Empty(t, Children(t))
	_, err = s.Engine.Ping(t.Context(), s.Server.Conn(target))
	require.Equal(t, errs.CodeDatabaseMissing, errs.CodeOf(err), "a half-restored database was left")
}

func testServerDies(t *testing.T, s Subject) {
	server := s.NewServer(t)
	db := server.NewDatabase(t)
	server.Exec(t, db, s.Large)
	var once sync.Once
	sink := Memory{OnWrite: func(_ string, size int64) error {
		if size > 1<<20 {
			once.Do(func() { server.Crash(t) })
		}
		return nil
	}}
	_, err := s.Engine.Dump(t.Context(), server.Conn(db), engine.DumpOptions{TempDir: t.TempDir()}, &sink)
	require.Equal(t, errs.CodeDatasourceLost, errs.CodeOf(err), "%v", err)
	state, _ := sink.State(s.Member)
	require.Equal(t, Failed, state)
	require.Empty(t, Children(t))
	server.Start(t)
	requireTargetSurvives(t, s, server)
}

// requireTargetSurvives ends the server that is restored into, and starts it again.
func requireTargetSurvives(t *testing.T, s Subject, server MortalServer) {
	t.Helper()
	source, target := s.large(), server.NewDatabase(t)
	server.Exec(t, target, s.Small)
	before := server.Fingerprint(t, target)
	_, dump := s.dump(t, s.Server.Conn(source), engine.DumpOptions{})
	var once sync.Once
	dump.OnRead = func(_ string, n int64) error {
		if n > 4<<20 {
			once.Do(func() { server.Crash(t) })
		}
		return nil
	}
	o := engine.RestoreOptions{DropExisting: true, TempDir: t.TempDir()}
	err := s.Engine.Restore(t.Context(), server.Conn(target), o, dump)
	require.Equal(t, errs.CodeDatasourceLost, errs.CodeOf(err), "%v", err)
	require.Empty(t, Children(t))
	server.Start(t)
	require.Equal(t, before, server.Fingerprint(t, target))
	dump.OnRead = nil
	require.NoError(t, s.Engine.Restore(t.Context(), server.Conn(target), o, dump), "what the dead one left is no obstacle")
	require.NotEqual(t, before, server.Fingerprint(t, target))
}

func testSinkFails(t *testing.T, s Subject) {
	db := s.large()
	full := errors.New("no space")
	sink := Memory{OnWrite: func(_ string, size int64) error {
		if size > 1<<20 {
			return full
		}
		return nil
	}}
	_, err := s.Engine.Dump(t.Context(), s.Server.Conn(db), engine.DumpOptions{TempDir: t.TempDir()}, &sink)
	require.ErrorIs(t, err, full)
	require.Empty(t, Children(t))
}

func testBroken(t *testing.T, s Subject) {
	db := s.newDatabase(t, s.Small)
	_, dump := s.dump(t, s.Server.Conn(db), engine.DumpOptions{})
	whole := dump.Bytes(s.Member)
	target := "made_" + db
	t.Cleanup(func() { s.Server.Drop(t, target) })
	requireGone := func(err error, code errs.Code) {
		t.Helper()
		require.Equal(t, code, errs.CodeOf(err), "%v", err)
		_, err = s.Engine.Ping(t.Context(), s.Server.Conn(target))
		require.Equal(t, errs.CodeDatabaseMissing, errs.CodeOf(err))
	}
	for _, n := range []int{0, len(whole) / 2, len(whole) - 1} {
		var cut Memory
		cut.Put(s.Member, whole[:n])
		requireGone(s.restore(t, target, engine.RestoreOptions{CreateDatabase: true}, &cut), errs.CodeArtifactCorrupt)
	}
	var noise Memory
	noise.Put(s.Member, []byte("\x7fELF"+strings.Repeat("x", 1<<16)))
	requireGone(s.restore(t, target, engine.RestoreOptions{CreateDatabase: true}, &noise), errs.CodeArtifactCorrupt)

	lost := errors.New("storage lost")
	for _, at := range []int64{int64(len(whole)) / 2, int64(len(whole))} {
		dump.OnRead = func(_ string, n int64) error {
			if n >= at {
				return lost
			}
			return nil
		}
		err := s.restore(t, target, engine.RestoreOptions{CreateDatabase: true}, dump)
		require.ErrorIs(t, err, lost)
		requireGone(err, errs.CodeOf(lost))
	}
}

func testNewer(t *testing.T, s Subject) {
	db := s.newDatabase(t, s.Small)
	res, dump := s.dump(t, s.Server.Conn(db), engine.DumpOptions{})
	before := s.Server.Fingerprint(t, db)
	err := s.restore(t, db, engine.RestoreOptions{DropExisting: true, DumpVersion: res.Server.VersionNum + 10000}, dump)
	require.Equal(t, errs.CodeRestoreNotSupported, errs.CodeOf(err))
	require.Contains(t, errs.Message(err), res.Server.Version)
	require.Equal(t, before, s.Server.Fingerprint(t, db))
}

func testOtherFormat(t *testing.T, s Subject) {
	db := s.newDatabase(t, s.Small)
	_, dump := s.dump(t, s.Server.Conn(db), engine.DumpOptions{})
	before := s.Server.Fingerprint(t, db)
	err := s.restore(t, db, engine.RestoreOptions{DropExisting: true, Format: "tape"}, dump)
	require.Equal(t, errs.CodeRestoreNotSupported, errs.CodeOf(err))
	err = s.restore(t, db, engine.RestoreOptions{DropExisting: true}, &Memory{})
	require.Equal(t, errs.CodeRestoreNotSupported, errs.CodeOf(err))
	require.Equal(t, before, s.Server.Fingerprint(t, db))
}

// testSecrets looks at every process while tools run.
func testSecrets(t *testing.T, s Subject) {
	db := s.large()
	c := s.Server.Conn(db)
	var log lines
	looked := 0
	look := func(string, int64) error {
		if looked++; looked%20 == 1 {
			requireSecretUnseen(t, c.Password)
		}
		return nil
	}
	sink := Memory{OnWrite: look, OnRead: look}
	temp := t.TempDir()
	_, err := s.Engine.Dump(t.Context(), c, engine.DumpOptions{TempDir: temp, Log: log.log}, &sink)
	require.NoError(t, err)
	require.Positive(t, looked)
	requireEmptyDir(t, temp)
	looked = 0
	err = s.restore(t, db, engine.RestoreOptions{TempDir: temp, DropExisting: true, Log: log.log}, &sink)
	require.NoError(t, err)
	require.Positive(t, looked)
	require.NotContains(t, log.String(), c.Password)
}

// requireSecretUnseen checks all command lines, and that files which hold the
// secret are for their owner alone.
func requireSecretUnseen(t *testing.T, secret string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(t, err)
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err == nil {
			require.NotContains(t, string(b), secret, file)
		}
	}
	for _, line := range Children(t) {
		require.NotContains(t, line, secret)
	}
}

// testHostileValues uses a listener as bait: whoever takes a value for a
// connection string goes there.
func testHostileValues(t *testing.T, s Subject) {
	bait, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, bait.Close()) })
	var mu sync.Mutex
	visits := 0
	go func() {
		for {
			c, err := bait.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			visits++
			mu.Unlock()
			_ = c.Close()
		}
	}()
	port := strconv.Itoa(portOf(t, bait))
	dir, err := os.MkdirTemp("", "h") // short, to fit into a name
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	file := filepath.Join(dir, "w")
	values := []string{
		"host=127.0.0.1 port=" + port, "postgres://127.0.0.1:" + port + "/x", "--port=" + port, "-P" + port, "--file=" + file, "-r" + file,
		"--result-file=" + file, "--version", "--", "a\nb", "a\x00b", "a'b\"c`d\\e", "$(touch " + file + ")", ";touch " + file, "\\! touch " + file,
		"127.0.0.1:" + port, "tcp(127.0.0.1:" + port + ")/x", "?allowAllFiles=true", strings.Repeat("x", 300),
	}
	db := s.newDatabase(t, s.Small)
	_, dump := s.dump(t, s.Server.Conn(db), engine.DumpOptions{})
	try := func(t *testing.T, c engine.Conn) {
		t.Helper()
		_, err := s.Engine.Ping(t.Context(), c)
		require.Error(t, err)
		var sink Memory
		_, err = s.Engine.Dump(t.Context(), c, engine.DumpOptions{TempDir: t.TempDir()}, &sink)
		require.Error(t, err)
		require.NotEqual(t, errs.CodeInternal, errs.CodeOf(err), "%v", err)
	}
	for _, value := range values {
		t.Run(fmt.Sprintf("%.40q", value), func(t *testing.T) {
			c := s.Server.Conn(value)
			try(t, c)
			require.Error(t, s.Engine.Restore(t.Context(), c, engine.RestoreOptions{TempDir: t.TempDir()}, dump))
			c = s.Server.Conn(db)
			c.Host = value
			try(t, c)
			c = s.Server.Conn(db)
			c.Username = value
			try(t, c)
			var sink Memory
			_, err := s.Engine.Dump(t.Context(), s.Server.Conn(db), engine.DumpOptions{TempDir: t.TempDir(), IncludeTables: []string{value}}, &sink)
			require.Error(t, err)
		})
	}
	t.Run("as names that exist", func(t *testing.T) {
		for _, value := range []string{"host=127.0.0.1 port=" + port, "-r" + file} {
			target := value
			t.Cleanup(func() { s.Server.Drop(t, target) })
			require.NoError(t, s.restore(t, target, engine.RestoreOptions{CreateDatabase: true}, dump), target)
			res, _ := s.dump(t, s.Server.Conn(target), engine.DumpOptions{})
			require.Equal(t, map[string]int64{"small": 3}, rows(res, target))
			require.NoError(t, s.restore(t, target, engine.RestoreOptions{DropExisting: true}, dump), target)
		}
	})
	mu.Lock()
	defer mu.Unlock()
	require.Zero(t, visits, "a value led elsewhere")
	require.NoFileExists(t, file)
}

func testConcurrent(t *testing.T, s Subject) {
	db := s.newDatabase(t, s.Small)
	temp := t.TempDir()
	var all sync.WaitGroup
	results := make([]error, 4)
	for i := range results {
		all.Go(func() {
			var sink Memory
			_, results[i] = s.Engine.Dump(t.Context(), s.Server.Conn(db), engine.DumpOptions{TempDir: temp}, &sink)
		})
	}
	all.Wait()
	for _, err := range results {
		require.NoError(t, err)
	}
	requireEmptyDir(t, temp)
}
