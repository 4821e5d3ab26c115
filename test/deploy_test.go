package test

import (
	"crypto/x509"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"github.com/dataguardian/dataguardian/test/harness"
)

const deployDir = "../docs/deploy"

// deployment runs what docs/deploy says, with the addresses and paths of a test.
type deployment struct {
	*harness.Plane
	paths *strings.Replacer
	ca    string
}

func newDeployment(t *testing.T) deployment {
	t.Helper()
	dir := t.TempDir()
	authority := newAuthority(t, dir, "ca")
	authority.issue("server", x509.ExtKeyUsageServerAuth)
	return deployment{
		Plane: harness.NewSharedRedisPlane(t), ca: filepath.Join(dir, "ca.pem"),
		paths: strings.NewReplacer(
			"/etc/dataguardian/tls.crt", filepath.Join(dir, "server.pem"), "/etc/dataguardian/tls.key", filepath.Join(dir, "server-key.pem"),
			"0.0.0.0:8443", "127.0.0.1:0", "0.0.0.0:9443", "127.0.0.1:0", "0.0.0.0:8080", "127.0.0.1:0", "0.0.0.0:9090", "127.0.0.1:0",
			"0.0.0.0:9464", "127.0.0.1:0", "127.0.0.1:9464", "127.0.0.1:0", "127.0.0.1:9465", "127.0.0.1:0",
		),
	}
}

// settings are environment variables with the plane's places in them.
func (d deployment) settings(names map[string]string) (env []string) {
	places := map[string]string{"DATAGUARDIAN_DATABASE_URL": d.DSN, "DATAGUARDIAN_REDIS_URL": d.Redis.URL(), "DATAGUARDIAN_KEY_FILE": d.KeyFile}
	for name, value := range names {
		if place, ours := places[name]; ours {
			value = place
		}
		env = append(env, name+"="+value)
	}
	return env
}

func (d deployment) arguments(args []string) (out []string) {
	for _, a := range args {
		out = append(out, d.paths.Replace(a))
	}
	return out
}

// awaitRoles waits until every role reports that it runs.
func (d deployment) awaitRoles(t *testing.T) {
	t.Helper()
	conn := d.Metadata(t)
	harness.Eventually(t, func() bool {
		var n int
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(DISTINCT role) FROM worker_instances WHERE state = 'running' AND expires_at > now()").Scan(&n))
		return n == 6
	}, "some roles do not run")
}

func (d deployment) migrate(t *testing.T, name string, env, args []string) {
	t.Helper()
	r := harness.Start(t, d.Dir, name, env, args...)
	require.Zero(t, r.Code, r.Stderr)
}

// unit reads the command lines of a unit file.
func unit(t *testing.T, name string) (pre, start []string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(deployDir, name))
	require.NoError(t, err)
	for line := range strings.Lines(string(raw)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "ExecStartPre":
			pre = strings.Fields(value)[1:]
		case "ExecStart":
			start = strings.Fields(value)[1:]
		}
	}
	return pre, start
}

// units runs the three units of systemd and stops them as it would.
func (d deployment) units(t *testing.T) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(deployDir, "dataguardian.env"))
	require.NoError(t, err)
	names := map[string]string{}
	for line := range strings.Lines(string(raw)) {
		if name, value, found := strings.Cut(strings.TrimSpace(line), "="); found && !strings.HasPrefix(line, "#") {
			names[name] = value
		}
	}
	env := d.settings(names)
	pre, start := unit(t, "dataguardian-api.service")
	d.migrate(t, "unit-migrate", env, pre)
	api := d.LaunchAPI(t, "unit-api", env, d.arguments(start)...)
	processes := []*harness.Process{api.Process}
	for _, name := range []string{"scheduler", "worker"} {
		_, start := unit(t, "dataguardian-"+name+".service")
		processes = append(processes, d.Launch(t, "unit-"+name, env, d.arguments(start)...))
	}
	d.awaitRoles(t)
	r := api.CLI(t, "health", "--tls-ca", d.ca)
	require.Zero(t, r.Code, r.Stdout+r.Stderr)
	for _, p := range processes {
		p.Stop(t)
	}
}

// compose runs the services of the compose file that are ours and returns its API.
func (d deployment) compose(t *testing.T) *harness.Server {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(deployDir, "compose.yaml"))
	require.NoError(t, err)
	var file struct {
		Services map[string]struct {
			Command     []string
			Environment map[string]string
		}
	}
	require.NoError(t, yaml.Unmarshal(raw, &file))
	env := func(name string) []string { return d.settings(file.Services[name].Environment) }
	d.migrate(t, "compose-migrate", env("migrate"), file.Services["migrate"].Command)
	api := d.LaunchAPI(t, "compose-api", env("api"), d.arguments(file.Services["api"].Command)...)
	for _, name := range []string{"scheduler", "worker"} {
		d.Launch(t, "compose-"+name, env(name), d.arguments(file.Services[name].Command)...)
	}
	d.awaitRoles(t)
	return api
}

// The commands are run as they stand, by systemd's units first and then by the compose
// file, on one control plane.
func TestTheDeploymentsOfTheDocsRun(t *testing.T) {
	t.Parallel()
	d := newDeployment(t)
	d.units(t)

	// A channel of a release before addresses were secrets.
	h := newHook(t, func(int) int { return http.StatusOK })
	conn := d.Metadata(t)
	_, err := conn.Exec(t.Context(), `INSERT INTO notification_channels (id, name, type, config, types, min_severity, enabled, max_per_hour)
		VALUES ($1, 'old', 'webhook', jsonb_build_object('url', $2::text), '{backup_success}', 'info', true, 0)`, unknownID, h.URL)
	require.NoError(t, err)
	s := d.compose(t)
	var open, sealed bool
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT config ? 'url', secrets IS NOT NULL FROM notification_channels").Scan(&open, &sealed))
	require.Equal(t, []bool{false, true}, []bool{open, sealed}, "the address is encrypted by the next start")

	job, _ := s.NewJob(t, d.NewSource(t, 1))
	s.Backup(t, job)
	require.Len(t, h.await(t, 1), 1, "the encrypted address is the right one")
	require.Equal(t, "ok", s.Get(t, "/api/health").Text("status"))
	s.CheckInvariants(t)
}
