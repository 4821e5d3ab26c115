package embedded

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/testkit"
)

func TestFirstStartMakesAPrivateClusterAndRestartsKeepIt(t *testing.T) {
	for _, name := range []string{"PGHOST", "PGUSER", "PGDATABASE", "PGPASSWORD", "PGDATA", "PGSSLMODE"} {
		t.Setenv(name, "verify-full") // the caller's variables must not matter
	}
	t.Setenv("PGPORT", "1")
	dir := filepath.Join(testkit.Dir(t), "new", "data")
	c := start(t, Config{DataDir: dir})

	require.Equal(t, os.FileMode(0o700), mode(t, filepath.Join(dir, "postgres")))
	require.Equal(t, os.FileMode(0o600), mode(t, filepath.Join(dir, "postgres-password")))
	require.Equal(t, os.FileMode(0o600), mode(t, filepath.Join(dir, "postgres.log")))
	require.Equal(t, filepath.Join(dir, "run"), c.SocketDir())
	require.Equal(t, os.FileMode(0o700), mode(t, c.SocketDir()))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 5, "lock, cluster, password, log, socket; nothing of initdb: %v", entries)

	for setting, want := range map[string]string{
		"listen_addresses": "", "server_encoding": "UTF8", "TimeZone": "UTC", "jit": "off", "fsync": "on",
		"lc_messages": "C", "max_connections": "100", "data_checksums": "on",
	} {
		require.Equal(t, want, query[string](t, c, "postgres", "SELECT current_setting('"+setting+"')"), setting)
	}
	require.Equal(t, "C.UTF-8", query[string](t, c, "postgres", "SELECT datcollate::text FROM pg_database WHERE datname = current_database()"))
	require.Equal(t, c.Major(), query[int](t, c, "postgres", "SELECT current_setting('server_version_num')::int / 10000"))
	require.True(t, query[bool](t, c, "postgres", "SELECT bool_and(auth_method = 'scram-sha-256') FROM pg_hba_file_rules"))

	exec1(t, c, "postgres", "CREATE TABLE t (n int)")
	exec1(t, c, "postgres", "INSERT INTO t VALUES (7)")
	first := c.Password()
	stop(t, c)
	<-c.Done()
	require.NoError(t, c.Err())
	stop(t, c)
	require.NoFileExists(t, filepath.Join(dir, "run", ".s.PGSQL.5432"))

	c = start(t, Config{DataDir: dir})
	require.Equal(t, first, c.Password())
	require.Equal(t, 7, query[int](t, c, "postgres", "SELECT n FROM t"))
}

func TestServerIsNotRootAndKnowsNothingOfOurEnvironment(t *testing.T) {
	t.Setenv("DATAGUARDIAN_TEST_SECRET", "hunter2")
	c := start(t, Config{DataDir: testkit.Dir(t)})
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.server.pid()))
	require.NoError(t, err)
	require.NotContains(t, string(status), "Uid:\t0\t")
	environment, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", c.server.pid()))
	require.NoError(t, err)
	for variable := range strings.SplitSeq(strings.Trim(string(environment), "\x00"), "\x00") {
		name, _, _ := strings.Cut(variable, "=")
		// The postmaster may add what it was not given: PGLOCALEDIR, PGSYSCONFDIR.
		require.Contains(t, []string{"PATH", "LANG", "LC_ALL", "TZ", "PGLOCALEDIR", "PGSYSCONFDIR"}, name)
	}
	arguments, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", c.server.pid()))
	require.NoError(t, err)
	require.NotContains(t, string(arguments), c.Password())
}

func TestPasswordIsNeeded(t *testing.T) {
	c := start(t, Config{DataDir: testkit.Dir(t)})
	wrong := strings.Replace(c.DSN("postgres"), c.Password(), "guess", 1)
	_, err := pgx.Connect(t.Context(), wrong)
	require.ErrorContains(t, err, invalidPassword)
}

func TestDatabasesAreMadeOnce(t *testing.T) {
	c := start(t, Config{DataDir: testkit.Dir(t)})
	const name = `a "b" c'd/é`
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			if err := c.CreateDatabase(context.Background(), name); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	require.NoError(t, c.CreateDatabase(t.Context(), name))
	require.Equal(t, name, query[string](t, c, name, "SELECT current_database()"))
}

func TestKilledServerIsNoticedAndStartsAgain(t *testing.T) {
	dir := testkit.Dir(t)
	c := start(t, Config{DataDir: dir})
	exec1(t, c, "postgres", "CREATE TABLE t (n int)")
	require.NoError(t, c.Err())
	require.NoError(t, syscall.Kill(c.server.pid(), syscall.SIGKILL))
	select {
	case <-c.Done():
	case <-time.After(time.Minute):
		t.Fatal("the end of the server went unnoticed")
	}
	refused(t, c.Err(), CodeStopped, "ended by itself")
	stop(t, c)
	c = start(t, Config{DataDir: dir})
	require.Zero(t, query[int](t, c, "postgres", "SELECT count(*) FROM t"))
}

func TestServerEndsWithAKilledParent(t *testing.T) {
	dir := testkit.Dir(t)
	child, said := startChild(t, dir)
	line, err := said.ReadString('\n')
	require.NoError(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	require.NoError(t, err, line)
	require.True(t, running(pid))
	kill(t, child)
	eventually(t, func() bool { return !running(pid) })
	require.NoFileExists(t, filepath.Join(dir, "postgres", "postmaster.pid"), "it shut down in order")
	start(t, Config{DataDir: dir})
}

func TestFirstStartThatWasKilledIsRepeated(t *testing.T) {
	dir := testkit.Dir(t)
	child, _ := startChild(t, dir)
	eventually(t, func() bool {
		found, err := filepath.Glob(filepath.Join(dir, sitePrefix+"*", "cluster", "PG_VERSION"))
		return err == nil && len(found) == 1
	})
	kill(t, child)
	require.NoDirExists(t, filepath.Join(dir, "postgres"))
	c := start(t, Config{DataDir: dir})
	require.Equal(t, 1, query[int](t, c, "postgres", "SELECT 1"))
	left, err := filepath.Glob(filepath.Join(dir, sitePrefix+"*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestStartThatIsGivenUpLeavesNothingAndIsRepeated(t *testing.T) {
	dir := testkit.Dir(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := Start(ctx, Config{DataDir: dir})
		ended <- err
	}()
	eventually(t, func() bool {
		found, err := filepath.Glob(filepath.Join(dir, sitePrefix+"*", "cluster", "global"))
		return err == nil && len(found) == 1
	})
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
	left, err := filepath.Glob(filepath.Join(dir, "postgres*"))
	require.NoError(t, err)
	require.Equal(t, []string{filepath.Join(dir, "postgres-password")}, left)
	start(t, Config{DataDir: dir})
}

func TestStopTurnsImmediateWhenItsContextEnds(t *testing.T) {
	c, err := Start(t.Context(), Config{DataDir: testkit.Dir(t)})
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(c.server.pid(), syscall.SIGSTOP)) // it cannot shut down in order
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- c.Stop(ctx) }()
	eventually(t, func() bool { return pending(t, c.server.pid(), syscall.SIGQUIT) })
	require.NoError(t, syscall.Kill(c.server.pid(), syscall.SIGCONT))
	refused(t, <-stopped, CodeStopped, "nothing committed is lost")
	require.NoError(t, c.Err())
	require.False(t, running(c.server.pid()))
}

// pending tells whether a signal waits for a stopped process.
func pending(t *testing.T, pid int, signal syscall.Signal) bool {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	for line := range strings.SplitSeq(string(status), "\n") {
		if mask, ok := strings.CutPrefix(line, "ShdPnd:\t"); ok {
			bits, err := strconv.ParseUint(mask, 16, 64)
			require.NoError(t, err)
			return bits&(1<<(signal-1)) != 0
		}
	}
	return false
}

func TestTwoProcessesOnOneDirectoryAreRefused(t *testing.T) {
	dir := testkit.Dir(t)
	c := start(t, Config{DataDir: dir})
	_, err := Start(t.Context(), Config{DataDir: dir})
	refused(t, err, CodeInUse, dir, fmt.Sprintf("process %d", os.Getpid()), "--data-dir")

	// Another data directory that leads to the same cluster.
	other := testkit.Dir(t)
	require.NoError(t, os.Symlink(filepath.Join(dir, "postgres"), filepath.Join(other, "postgres")))
	require.NoError(t, os.WriteFile(filepath.Join(other, "postgres-password"), []byte(c.Password()), 0o600))
	_, err = Start(t.Context(), Config{DataDir: other})
	refused(t, err, CodeInUse)
	require.Equal(t, 1, query[int](t, c, "postgres", "SELECT 1"))
}
