package postgres

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

func TestMain(m *testing.M) {
	if dirs := testkit.ClientDirs(testkit.PostgresClientsEnv); dirs != nil {
		usualPlaces = func() []string { return dirs }
	}
	goleak.VerifyTestMain(testkit.Wrap(m))
}

func connTo(pg *testkit.PG, database string) engine.Conn {
	return engine.Conn{
		Type: engine.Postgres, Host: pg.Host, Port: pg.Port, Database: database,
		Username: pg.User, Password: pg.Password, SSLMode: engine.SSLDisable,
	}
}

// fakeTool puts a program into a directory of its own and returns the
// directory. The script runs after the version question is answered.
func fakeTool(t *testing.T, name, version, script string) string {
	t.Helper()
	dir := t.TempDir()
	text := fmt.Sprintf("#!/bin/sh\nif [ \"$1\" = --version ]; then echo '%s (PostgreSQL) %s'; exit 0; fi\n%s\n", name, version, script)
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700))
	return dir
}
