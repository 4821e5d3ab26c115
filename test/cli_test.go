package test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/test/harness"
)

// commandLine uses every client command once for people and once for programs.
func commandLine(t *testing.T, s *harness.Server) {
	source := s.Plane.NewSource(t, 10)
	passwordFile := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(passwordFile, []byte(source.Password+"\n"), 0o600))
	c := cli{t, s}

	created := c.json("datasource", "create", "--name", "cli source", "--host", source.PG.Host, "--port", itoa(source.PG.Port),
		"--database", source.Database, "--username", source.User, "--password-file", passwordFile, "--tag", "cli")
	require.Equal(t, map[string]any{"set": true}, created["connection_config"].(map[string]any)["password"])
	require.Nil(t, created["last_health_check_at"])
	require.Contains(t, created, "last_health_check_at", "absent values are null")
	c.says("cli source", "datasource", "list", "--limit", "100")
	c.says(source.Database, "datasource", "get", "cli source")
	require.Equal(t, "ok", c.json("datasource", "test", "cli source")["status"])
	c.says("cli source", "datasource", "update", "cli source", "--tag", "cli,again")

	c.says("cli disk", "storage", "create", "--name", "cli disk", "--path", s.StorageDir(t))
	c.says("cli disk", "storage", "list", "--limit", "100")
	require.Equal(t, "local", c.json("storage", "get", "cli disk")["type"])
	require.Equal(t, "ok", c.json("storage", "test", "cli disk")["status"])
	c.says("cli disk", "storage", "update", "cli disk", "--set", "max_size_gb=100")

	job := c.json("job", "create", "--name", "cli job", "--datasource", "cli source", "--storage", "cli disk", "--max-backups", "2")
	require.Equal(t, "zstd", job["backup_options"].(map[string]any)["compression"])
	c.says("cli job", "job", "list", "--limit", "100")
	c.says("on demand", "job", "get", "cli job")
	c.says("0 3 * * *", "job", "update", "cli job", "--schedule", "0 3 * * *", "--timezone", "Europe/Berlin")
	followed := c.ok("job", "run", "cli job", "--follow")
	require.Contains(t, followed, "Completed in")
	require.NotContains(t, followed, "\x1b", "a pipe gets no colours")
	c.says("keep", "job", "retention", "cli job")

	list := c.json("execution", "list", "--job", "cli job", "--status", "completed")
	e := list["data"].([]any)[0].(map[string]any)
	id, ok := e["id"].(string)
	require.True(t, ok)
	require.IsType(t, "", e["size_bytes"])
	c.says("completed", "execution", "get", id)
	c.says("SUCCESS", "execution", "logs", id)
	c.says("Completed in", "execution", "logs", "-f", id)
	require.Equal(t, id, c.json("backup", "list", "cli source")["backups"].([]any)[0].(map[string]any)["execution_id"])
	c.says("cli source", "backup", "datasources")
	c.says("cli job", "notification", "list", "--limit", "100")
	c.says("Database", "health")
	require.Equal(t, "ok", c.json("health")["services"].(map[string]any)["database"])

	token := c.json("token", "create", "cli token", "--role", "viewer", "--expires-in", "1h")
	require.Equal(t, "viewer", token["role"])
	c.says("cli token", "token", "list", "--limit", "100")
	c.says("", "token", "revoke", "cli token")

	c.fails("EXECUTION_NOT_CANCELLABLE", "execution", "cancel", id)
	c.fails("last good backup", "execution", "delete", id)
	c.fails("RESOURCE_IN_USE", "datasource", "delete", "cli source")
	c.fails("RESOURCE_IN_USE", "storage", "delete", "cli disk")
	c.fails("nothing here", "job", "get", "nothing here")
	c.fails("--output", "job", "list", "-o", "yaml")
	c.fails("unknown flag", "job", "list", "--colour")
	c.fails("--status", "execution", "list", "--status", "done")

	broken := c.json("job", "create", "--name", "cli broken", "--datasource", "cli source", "--storage", "cli disk", "--max-backups", "1",
		"--options-file", writeFile(t, `{"include_tables": ["public.absent"]}`))
	require.NotEmpty(t, broken["id"])
	failed := s.CLI(t, "job", "run", "cli broken", "--follow")
	require.Equal(t, 2, failed.Code, failed.Stderr)
	require.Contains(t, failed.Stderr, "public.absent")

	c.says("", "job", "delete", "cli broken")
	c.says("", "execution", "delete", id, "--force")
	c.says("", "job", "delete", "cli job")
	c.says("", "storage", "delete", "cli disk")
	c.says("", "datasource", "delete", "cli source")
	c.fails("NOT_FOUND", "execution", "get", id)
}

// cli runs commands against one server.
type cli struct {
	t *testing.T
	s *harness.Server
}

func (c cli) ok(args ...string) string {
	c.t.Helper()
	r := c.s.CLI(c.t, args...)
	require.Zero(c.t, r.Code, "%v: %s", args, r.Stderr)
	require.Empty(c.t, r.Stderr, "%v", args)
	return r.Stdout
}

// says runs a command for people.
func (c cli) says(what string, args ...string) {
	c.t.Helper()
	require.Contains(c.t, c.ok(args...), what, "%v", args)
}

// json runs a command for programs.
func (c cli) json(args ...string) map[string]any {
	c.t.Helper()
	var answer map[string]any
	require.NoError(c.t, json.Unmarshal([]byte(c.ok(append(args, "-o", "json")...)), &answer))
	return answer
}

// fails requires a command that fails with one line that says why.
func (c cli) fails(why string, args ...string) {
	c.t.Helper()
	r := c.s.CLI(c.t, args...)
	require.Equal(c.t, 1, r.Code, "%v", args)
	require.Contains(c.t, r.Stderr, why, "%v", args)
	require.True(c.t, strings.HasPrefix(r.Stderr, "error: "), r.Stderr)
	require.Equal(c.t, 1, strings.Count(r.Stderr, "\n"), r.Stderr)
	require.Empty(c.t, r.Stdout, "%v", args)
}
