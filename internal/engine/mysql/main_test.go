package mysql

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/engine/enginetest"
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
		Type: engine.MariaDB, Host: m.Host, Port: m.Port, Database: database,
		Username: m.User, Password: m.Password, SSLMode: engine.SSLDisable,
	}
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

const mariaLine = "mariadb-dump  Ver 10.19 Distrib 10.11.19-MariaDB, for debian-linux-gnu (x86_64)"

// plain is a database as SQL text, without its name.
func plain(t testing.TB, m *testkit.Maria, database string) string {
	t.Helper()
	cnf := filepath.Join(t.TempDir(), "c.cnf")
	text := fmt.Sprintf("[client]\nhost=%s\nport=%d\nprotocol=tcp\nuser=%s\npassword=%s\n", m.Host, m.Port, m.User, m.Password)
	require.NoError(t, os.WriteFile(cnf, []byte(text), 0o600))
	cmd := exec.Command("mariadb-dump", "--defaults-file="+cnf, "--skip-comments", "--routines", "--events", "--hex-blob",
		"--default-character-set=utf8mb4", "--order-by-primary", "--", database)
	out, err := cmd.Output()
	require.NoError(t, err)
	var collation string
	require.NoError(t, m.DB(t, database).QueryRow("SELECT @@collation_database").Scan(&collation))
	// MySQL keeps the semicolon of a trigger that came among other statements.
	return collation + "\n" + strings.ReplaceAll(string(out), "; \n*/;;", " \n*/;;")
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
		got[table.Name] = table.Rows
	}
	return got
}
