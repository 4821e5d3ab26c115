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
	require.True(t, created.True("connection_config.password.set"))
	require.True(t, created.Null("last_health_check_at"))
	c.says("cli source", "datasource", "list", "--limit", "100")
	c.says(source.Database, "datasource", "get", "cli source")
	require.Equal(t, "ok", c.json("datasource", "test", "cli source").Text("status"))
	c.says("cli source", "datasource", "update", "cli source", "--tag", "cli,again")

	c.says("cli disk", "storage", "create", "--name", "cli disk", "--path", s.StorageDir(t))
	c.says("cli disk", "storage", "list", "--limit", "100")
	require.Equal(t, "local", c.json("storage", "get", "cli disk").Text("type"))
	require.Equal(t, "ok", c.json("storage", "test", "cli disk").Text("status"))
	c.says("cli disk", "storage", "update", "cli disk", "--set", "max_size_gb=100")

	job := c.json("job", "create", "--name", "cli job", "--datasource", "cli source", "--storage", "cli disk", "--max-backups", "2")
	require.Equal(t, "zstd", job.Text("backup_options.compression"))
	c.says("cli job", "job", "list", "--limit", "100")
	c.says("on demand", "job", "get", "cli job")
	c.says("0 3 * * *", "job", "update", "cli job", "--schedule", "0 3 * * *", "--timezone", "Europe/Berlin")
	followed := c.ok("job", "run", "cli job", "--follow")
	require.Contains(t, followed, "Completed in")
	require.NotContains(t, followed, "\x1b", "a pipe gets no colours")
	c.says("keep", "job", "retention", "cli job")

	list := c.json("execution", "list", "--job", "cli job", "--status", "completed")
	id := list.Text("data.0.id")
	require.IsType(t, "", list.At("data.0.size_bytes").Value)
	c.says("completed", "execution", "get", id)
	c.says("SUCCESS", "execution", "logs", id)
	c.says("Completed in", "execution", "logs", "-f", id)
	require.Equal(t, id, c.json("backup", "list", "cli source").Text("backups.0.execution_id"))
	c.says("cli source", "backup", "datasources")
	require.Contains(t, c.ok("backup", "verify", id, "--follow"), "is good")
	downloaded := t.TempDir()
	c.says("each proven", "backup", "download", id, "--to", downloaded)
	found, err := filepath.Glob(filepath.Join(downloaded, "*", "manifest.json"))
	require.NoError(t, err)
	require.Len(t, found, 1)
	again := s.CLI(t, "backup", "download", id, "-o", downloaded)
	require.Equal(t, 1, again.Code)
	require.Contains(t, again.Stderr, "is there already")
	require.NoError(t, os.RemoveAll(filepath.Dir(found[0])))
	c.says("each proven", "backup", "download", id, "-o", downloaded)
	require.FileExists(t, found[0])
	refused := s.CLI(t, "backup", "restore", id, "--follow", "--parallel", "2") // the owner of a database may not make another one
	require.Equal(t, 2, refused.Code, refused.Stderr)
	require.Contains(t, refused.Stderr, "CREATEDB")
	_, err = source.Connect(t).Exec(t.Context(), "DROP VIEW recent; ")
	require.NoError(t, err)
	require.Contains(t, c.ok("backup", "restore", id, "--follow", "--keep-existing", "--table", "recent"), "Completed in")
	require.Equal(t, 2, strings.Count(c.ok("backup", "list", "cli source"), "\n"))
	c.says("cli job", "notification", "list", "--limit", "100")
	var note string
	for _, n := range c.json("notification", "list", "--limit", "100").List("data") {
		if n.Text("entity_id") == job.Text("id") {
			note = n.Text("id")
		}
	}
	require.NotEmpty(t, note)
	c.says("", "notification", "read", note)
	c.says("", "notification", "delete", note)
	c.says("", "notification", "read-all")
	channels(c)
	c.says("Database", "health")
	require.Equal(t, "ok", c.json("health").Text("services.database"))

	token := c.json("token", "create", "cli token", "--role", "viewer", "--expires-in", "1h")
	require.Equal(t, "viewer", token.Text("role"))
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
	require.NotEmpty(t, broken.Text("id"))
	failed := s.CLI(t, "job", "run", "cli broken", "--follow")
	require.Equal(t, 2, failed.Code, failed.Stderr)
	require.Contains(t, failed.Stderr, "public.absent")

	release := source.Lock(t)
	started := c.json("job", "run", "cli job").Text("execution_id")
	source.AwaitDump(t)
	c.says("", "execution", "cancel", started)
	stopped := s.CLI(t, "execution", "logs", "-f", started)
	require.Equal(t, 2, stopped.Code, stopped.Stderr)
	require.Contains(t, stopped.Stderr, "cancelled")
	release()

	c.says("", "job", "delete", "cli broken")
	c.says("", "execution", "delete", id, "--force")
	c.says("", "job", "delete", "cli job")
	c.says("", "storage", "delete", "cli disk")
	c.says("", "datasource", "delete", "cli source")
	c.fails("NOT_FOUND", "execution", "get", id)
}

func channels(c cli) {
	c.says("telegram", "notification", "channel", "types")
	c.says("bot_token", "notification", "channel", "types", "telegram")
	hook := newHook(c.t, func(int) int { return 200 })
	secret, err := json.Marshal(config{"secret": c.s.Plane.Secret})
	require.NoError(c.t, err)
	made := c.json("notification", "channel", "create", "--name", "cli hook", "--type", "webhook", "--set", "url="+hook.URL,
		"--config-file", writeFile(c.t, string(secret)), "--only", "backup_failed,storage_full", "--min-severity", "warning")
	require.True(c.t, made.True("config.secret.set"))
	require.Len(c.t, made.List("types"), 2)
	c.says("cli hook", "notification", "channel", "list", "--limit", "100")
	c.says("(set)", "notification", "channel", "get", "cli hook")
	c.says("ok", "notification", "channel", "test", "cli hook")
	hook.await(c.t, 1)
	require.False(c.t, c.json("notification", "channel", "update", "cli hook", "--enabled=false", "--only", "").True("enabled"))
	c.says("TRIES", "notification", "channel", "deliveries", "cli hook", "--status", "failed")
	moved := c.s.CLI(c.t, "notification", "channel", "update", "cli hook", "--set", "url=https://evil.example")
	require.Equal(c.t, 1, moved.Code)
	require.Contains(c.t, moved.Stderr, "config.secret")
	c.fails("--only", "notification", "channel", "update", "cli hook", "--only", "smoke_signal")
	c.fails("--min-severity", "notification", "watch", "--min-severity", "loud")
	c.says("", "notification", "channel", "delete", "cli hook")
	c.fails("cli hook", "notification", "channel", "get", "cli hook")
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
func (c cli) json(args ...string) harness.JSON {
	c.t.Helper()
	return harness.ParseJSON(c.t, c.ok(append(args, "-o", "json")...))
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
