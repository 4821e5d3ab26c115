package test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/secret"
	"github.com/dataguardian/dataguardian/internal/testkit"
	"github.com/dataguardian/dataguardian/test/harness"
)

const anyPort = "127.0.0.1:0"

// tree describes everything below a directory, contents included.
func tree(t *testing.T, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	require.NoError(t, filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := e.Info()
		require.NoError(t, err)
		all[path] = info.Mode().String()
		if e.Type().IsRegular() {
			content, err := os.ReadFile(path)
			require.NoError(t, err)
			all[path] += fmt.Sprintf(" %x", sha256.Sum256(content))
		}
		return nil
	}))
	return all
}

func TestADataDirectoryOfAnotherPostgreSQLIsRefusedAndNotTouched(t *testing.T) {
	t.Parallel()
	dir := testkit.Dir(t)
	cluster := filepath.Join(dir, "server", "postgres")
	require.NoError(t, os.MkdirAll(cluster, 0o700))
	for name, text := range map[string]string{"PG_VERSION": "11\n", "postgresql.conf": "port = 1\n"} {
		require.NoError(t, os.WriteFile(filepath.Join(cluster, name), []byte(text), 0o600))
	}
	if os.Geteuid() == 0 {
		require.NoError(t, exec.Command("chown", "-R", "postgres", cluster).Run())
	}
	before := tree(t, cluster)
	r := harness.Start(t, dir, "server", nil, "serve", "--http-addr", anyPort, "--grpc-addr", anyPort)
	require.Equal(t, 1, r.Code)
	require.Contains(t, r.Complaint(t), "PostgreSQL 11")
	require.Equal(t, before, tree(t, cluster))
	require.NoFileExists(t, filepath.Join(dir, "server", "keyset.json"))
}

func TestAPortThatIsTakenIsNamed(t *testing.T) {
	t.Parallel()
	p := harness.NewPlane(t)
	taken, err := net.Listen("tcp", anyPort)
	require.NoError(t, err)
	defer func() { require.NoError(t, taken.Close()) }()
	address := taken.Addr().String()
	for flag, other := range map[string]string{"--http-addr": "--grpc-addr", "--grpc-addr": "--http-addr"} {
		t.Run(flag, func(t *testing.T) {
			r := harness.Start(t, testkit.Dir(t), "server", nil, "serve", "--database-url", p.DSN, "--key-file", p.KeyFile, flag, address, other, anyPort)
			require.Equal(t, 1, r.Code)
			require.Contains(t, r.Complaint(t), address)
			require.Contains(t, r.Complaint(t), flag)
			require.NotContains(t, r.Stderr, "made the administrator's API token", "a start that fails makes no token that nobody can find")
			require.NotContains(t, r.Stderr, `"msg":"ready"`)
		})
	}
}

func TestAWrongKeyIsRefusedAndNothingIsTouched(t *testing.T) {
	t.Parallel()
	p := harness.NewPlane(t)
	s := p.Serve(t, "server")
	s.AddDatasource(t, p.NewSource(t, 1).Config())
	s.CheckInvariants(t)
	s.Stop(t)
	db := p.Metadata(t)
	state := func() (text string) {
		require.NoError(t, db.QueryRow(context.Background(),
			"SELECT (SELECT string_agg(d::text, ',') FROM datasources d) || (SELECT string_agg(k::text, ',') FROM keyset_check k)").Scan(&text))
		return text
	}
	before := state()
	folder := testkit.Dir(t)
	other, absent, broken, open := filepath.Join(p.Dir, "other.json"), filepath.Join(p.Dir, "absent.json"), writeFile(t, "{}"), filepath.Join(p.Dir, "open.json")
	for _, path := range []string{other, open} {
		_, err := secret.Create(path)
		require.NoError(t, err)
	}
	require.NoError(t, os.Chmod(open, 0o644))
	for name, c := range map[string]struct{ file, says string }{
		"of another control plane": {other, other},
		"that is not there":        {absent, "does not exist"},
		"that is no keyset":        {broken, "no valid keyset"},
		"that everybody can read":  {open, "chmod 600"},
		"that is a directory":      {folder, folder + " is a directory"},
		"below a file":             {filepath.Join(broken, "keyset.json"), "not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, command := range [][]string{{"serve", "--http-addr", anyPort, "--grpc-addr", anyPort}, {"worker", "--redis-url", "redis://127.0.0.1:1"}} {
				r := harness.Start(t, testkit.Dir(t), "server", nil, append(command, "--database-url", p.DSN, "--key-file", c.file)...)
				require.Equal(t, 1, r.Code)
				require.Contains(t, r.Complaint(t), c.says)
			}
			require.Equal(t, before, state())
		})
	}
	require.NoFileExists(t, absent)

	again := p.Serve(t, "server")
	require.Len(t, again.Get(t, "/api/datasources").List("data"), 1)
}

func TestAnEmbeddedControlPlaneWithoutItsKeyIsRefused(t *testing.T) {
	t.Parallel()
	p := harness.NewEmbeddedPlane(t)
	s := p.Serve(t, "server")
	s.AddDatasource(t, p.NewSource(t, 1).Config())
	s.CheckInvariants(t)
	s.Stop(t)
	key := filepath.Join(s.DataDir, "keyset.json")
	kept, err := os.ReadFile(key)
	require.NoError(t, err)
	require.NoError(t, os.Remove(key))
	r := harness.Start(t, p.Dir, "server", nil, "serve", "--http-addr", anyPort, "--grpc-addr", anyPort)
	require.Equal(t, 1, r.Code)
	require.Contains(t, r.Complaint(t), key+" does not exist")
	require.NotContains(t, r.Complaint(t), "another key")
	require.NoFileExists(t, key, "a new key would look like the right one")

	require.NoError(t, os.WriteFile(key, kept, 0o600))
	p.Serve(t, "server")
}

func TestABadSettingStopsTheStartWithOneLineThatNamesIt(t *testing.T) {
	t.Parallel()
	config := func(text string) []string { return []string{"serve", "--config", writeFile(t, text)} }
	for name, c := range map[string]struct {
		args []string
		env  string
		says string
	}{
		"an unknown flag":                     {[]string{"serve", "--colour"}, "", "--colour"},
		"a bad value of a flag":               {[]string{"serve", "--lease", "soon"}, "", "--lease"},
		"a negative interval":                 {[]string{"serve", "--heartbeat", "-1s"}, "", "--heartbeat"},
		"a bad value of the environment":      {[]string{"serve"}, "DATAGUARDIAN_CONCURRENCY=many", "DATAGUARDIAN_CONCURRENCY"},
		"an unknown key of the file":          {config("colour: blue\n"), "", "colour"},
		"a bad value of the file":             {config("lease: soon\n"), "", "lease"},
		"a file that is no mapping":           {config("- a\n- b\n"), "", "YAML"},
		"a file that is not there":            {[]string{"serve", "--config", "/nonexistent"}, "", "/nonexistent"},
		"an unknown role":                     {[]string{"serve", "--roles", "api,king"}, "", "king"},
		"no worker at all":                    {[]string{"serve", "--concurrency", "0"}, "", "--concurrency"},
		"an address without a port":           {[]string{"serve", "--http-addr", "localhost"}, "", "--http-addr"},
		"an address beyond this machine":      {[]string{"serve", "--http-addr", "0.0.0.0:0"}, "", "--insecure-listen"},
		"half a certificate":                  {[]string{"serve", "--tls-cert", "/nonexistent"}, "", "--tls-key"},
		"a log level nobody knows":            {[]string{"serve", "--log-level", "loud"}, "", "--log-level"},
		"a database without a key":            {[]string{"serve", "--database-url", "postgres://127.0.0.1:1/x"}, "", "--key-file"},
		"a worker without a database":         {[]string{"worker"}, "", "--database-url"},
		"a migration without a database":      {[]string{"migrate"}, "", "--database-url"},
		"an argument too many":                {[]string{"serve", "now"}, "", "now"},
		"a command nobody knows":              {[]string{"frobnicate"}, "", "frobnicate"},
		"a lease shorter than its heartbeats": {[]string{"serve", "--lease", "1s", "--heartbeat", "2s"}, "", "--heartbeat"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := testkit.Dir(t)
			var env []string
			if c.env != "" {
				env = []string{c.env}
			}
			r := harness.Start(t, dir, "server", env, c.args...)
			require.Equal(t, 1, r.Code)
			require.Contains(t, r.Complaint(t), c.says)
			require.NoDirExists(t, filepath.Join(dir, "server", "postgres"), "a bad setting is found before anything is made")
		})
	}
}

func TestADatabaseThatIsNotReadyIsNamed(t *testing.T) {
	t.Parallel()
	pg := testkit.Postgres(t)
	p := harness.NewPlane(t)
	serve := func(dsn string) harness.Result {
		return harness.Start(t, testkit.Dir(t), "server", nil, "serve", "--database-url", dsn, "--key-file", p.KeyFile, "--http-addr", anyPort, "--grpc-addr", anyPort)
	}
	for name, c := range map[string]struct{ dsn, says string }{
		"nobody listens":     {fmt.Sprintf("postgres://u:hush-hush@127.0.0.1:%d/x?sslmode=disable", testkit.FreePort(t)), "127.0.0.1"},
		"a wrong password":   {strings.Replace(p.DSN, pg.Password, "hush-hush", 1), "password"},
		"no such database":   {pg.DSN("nowhere"), "nowhere"},
		"it is not migrated": {pg.DSN(pg.NewDatabase(t)), "dataguardian migrate"},
		"no URL":             {"postgres://[", "database URL"},
	} {
		t.Run(name, func(t *testing.T) {
			r := serve(c.dsn)
			require.Equal(t, 1, r.Code)
			require.Contains(t, r.Complaint(t), c.says)
			require.NotContains(t, r.Stderr, "hush-hush")
			require.NotContains(t, r.Stderr, pg.Password)
		})
	}
}

func TestTheDemoMakesItsFirstBackupAndAddsNothingTwice(t *testing.T) {
	t.Parallel()
	p := harness.NewEmbeddedPlane(t)
	s := p.Serve(t, "server", "--demo")
	s.Process.Await(t, s.Stdout, "[BACKUP] ", "Completed in")
	s.Process.Await(t, s.Stdout, s.HTTP)
	s.Process.Await(t, s.Stdout, s.GRPC)
	job := s.Get(t, "/api/backup-jobs").At("data.0")
	require.EqualValues(t, 3, job.Int("retention_policy.max_backups"))
	require.Equal(t, "completed", job.Text("last_execution.status"))
	counts := func(s *harness.Server) (all []float64) {
		for _, list := range []string{"datasources", "storage-locations", "backup-jobs", "executions"} {
			all = append(all, s.Get(t, "/api/"+list).Number("pagination.total"))
		}
		return all
	}
	require.Equal(t, []float64{1, 1, 1, 1}, counts(s))
	require.Equal(t, http.StatusOK, s.Do(t, http.MethodGet, "/api/docs", nil).Status)
	s.AddDatasource(t, p.NewSource(t, 1).Config())
	s.CheckInvariants(t)
	endpoints := filepath.Join(s.DataDir, "endpoints.json")
	require.FileExists(t, endpoints)
	s.Stop(t)
	require.NoFileExists(t, endpoints, "nobody is led to a server that is gone")
	p.CheckSecrets(t)

	again := p.Serve(t, "server", "--demo")
	again.Process.Await(t, again.Stdout, again.HTTP)
	require.Equal(t, []float64{2, 1, 1, 1}, counts(again))
	for range 3 {
		again.Backup(t, job.Text("id"))
	}
	require.Eventually(t, func() bool {
		return again.Get(t, "/api/backups/datasources/"+job.Text("datasource_id")).Number("total_backups") == 3
	}, time.Minute, 20*time.Millisecond)
}
