package mysql

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/engine/enginetest"
	"github.com/dataguardian/dataguardian/internal/engine/tool"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

func TestMain(m *testing.M) {
	if dirs := testkit.ClientDirs(testkit.MySQLClientsEnv); dirs != nil {
		usualPlaces = func() []string { return dirs }
	}
	goleak.VerifyTestMain(testkit.Wrap(m))
}

func connTo(m *testkit.Maria, database string) engine.Conn {
	return engine.Conn{
		Type: flavorOf(m), Host: m.Host, Port: m.Port, Database: database,
		Username: m.User, Password: m.Password, SSLMode: engine.SSLDisable,
	}
}

func flavorOf(m *testkit.Maria) engine.Type {
	if m.IsMySQL {
		return engine.MySQL
	}
	return engine.MariaDB
}

// toolFor is the tool that the engine takes for a server; the names are those of
// dumpNames or clientNames.
func toolFor(t testing.TB, m *testkit.Maria, names [2]string) program {
	t.Helper()
	_, num := parseNumber(m.Version)
	p, err := toolbox{}.choose(t.Context(), names[:], engine.ServerInfo{Flavor: flavorOf(m), Version: m.Version, VersionNum: num})
	require.NoError(t, err)
	return p
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

// fakeTool puts a program into a directory of its own and returns the
// directory. The script runs after the version question is answered.
func fakeTool(t *testing.T, name, versionLine, script string) string {
	t.Helper()
	dir := t.TempDir()
	text := fmt.Sprintf("#!/bin/sh\nif [ \"$2\" = --version ]; then echo '%s'; exit 0; fi\n%s\n", versionLine, script)
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700))
	return dir
}

// inPlaceOf puts a program into a directory of its own that says to be the given tool,
// and returns the directory. Named before the tool's own it is taken for it.
func inPlaceOf(t *testing.T, real program, script string) string {
	t.Helper()
	line, err := tool.VersionLine(t.Context(), real.path, "--no-defaults", "--version")
	require.NoError(t, err)
	return fakeTool(t, real.name, line, script)
}

// plain is a database as SQL text, without its name.
func plain(t testing.TB, m *testkit.Maria, database string) string {
	t.Helper()
	dumper := toolFor(t, m, dumpNames)
	cnf, err := optionFile(connTo(m, database), dumper, t.TempDir())
	require.NoError(t, err)
	cmd := exec.Command(dumper.path, "--defaults-file="+cnf, "--skip-comments", "--routines", "--events", "--hex-blob", "--no-tablespaces",
		"--loose-set-gtid-purged=OFF", "--loose-column-statistics=0", "--default-character-set=utf8mb4", "--order-by-primary", "--", database)
	out, err := cmd.Output()
	require.NoError(t, err)
	var collation string
	require.NoError(t, m.DB(t, database).QueryRow("SELECT @@collation_database").Scan(&collation))
	schema := surplusSemicolon.ReplaceAllString(string(out), "$1")
	if m.IsMySQL {
		schema = impliedCharset.ReplaceAllString(schema, " COLLATE")
	}
	return collation + "\n" + schema
}

// surplusSemicolon ends what came among other statements: MySQL keeps it.
var surplusSemicolon = regexp.MustCompile(`;((?: \n?\*/)? ?;;)`)

func dumpOf(t *testing.T, c engine.Conn, o engine.DumpOptions) (engine.DumpResult, *enginetest.Memory) {
	t.Helper()
	var sink enginetest.Memory
	res, err := New(Config{}).Dump(t.Context(), c, o, &sink)
	require.NoError(t, err)
	state, _ := sink.State(Member)
	require.Equal(t, enginetest.Closed, state)
	return res, &sink
}

// ofTheDump are the warnings but those of the tools' version: of one that is not the
// system's, whose files of character sets it complains of, or older than the server's.
func ofTheDump(res engine.DumpResult) []string {
	return slices.DeleteFunc(slices.Clone(res.Warning), func(w string) bool {
		return strings.Contains(w, "Warning: Charset id") || strings.Contains(w, " is older than the server")
	})
}

func rowsByName(res engine.DumpResult) map[string]int64 {
	got := map[string]int64{}
	for _, table := range res.Tables {
		got[table.Name] = table.Rows
	}
	return got
}
