package embedded

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/testkit"
)

func TestServerThatOutlivedItsParentIsShutDownFirst(t *testing.T) {
	dir := testkit.Dir(t)
	c := start(t, Config{DataDir: dir})
	dsn := c.DSN("postgres")
	stop(t, c)

	old := c.home.account.command(context.Background(), c.install.postgres(), "/", 0, serverArgs(c.home.dir, c.sockets)...)
	require.NoError(t, old.Start())
	ended := make(chan error, 1)
	go func() { ended <- old.Wait() }()
	eventually(t, func() bool {
		conn, err := pgx.Connect(t.Context(), dsn)
		return err == nil && conn.Close(t.Context()) == nil
	})

	var log lines
	c = start(t, Config{DataDir: dir, Logger: log.logger()})
	select {
	case err := <-ended:
		require.NoError(t, err, "a fast shutdown ends with 0")
	case <-time.After(time.Minute):
		t.Fatal("the left-over server still runs")
	}
	require.NotEqual(t, old.Process.Pid, c.server.pid())
	require.Contains(t, log.String(), fmt.Sprintf("process=%d", old.Process.Pid))
}

func TestProcessNumberOfAnotherProgramIsNoObstacle(t *testing.T) {
	dir := testkit.Dir(t)
	c := start(t, Config{DataDir: dir})
	stop(t, c)

	sleep, err := exec.LookPath("sleep")
	require.NoError(t, err)
	other := c.home.account.command(context.Background(), sleep, c.home.dir, 0, "600")
	require.NoError(t, other.Start())
	ended := make(chan error, 1)
	go func() { ended <- other.Wait() }()
	pidFile := filepath.Join(c.home.dir, "postmaster.pid")
	require.NoError(t, os.WriteFile(pidFile, fmt.Appendf(nil, "%d\n%s\n1\n5432\n\n\n", other.Process.Pid, c.home.dir), 0o600))
	require.NoError(t, c.home.account.give(pidFile))

	start(t, Config{DataDir: dir})
	select {
	case err := <-ended:
		t.Fatal("another program was ended: ", err)
	default:
	}
	require.NoError(t, other.Process.Kill())
	require.Error(t, <-ended)
}

func TestStalePidFilesAreLeftToPostgreSQL(t *testing.T) {
	dir := testkit.Dir(t)
	for _, text := range []string{"", "nonsense\n", "-1\n", "1\n", "4194305\n"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "postmaster.pid"), []byte(text), 0o600))
		require.NoError(t, stopLeftover(t.Context(), dir, nil), "%q", text)
		require.FileExists(t, filepath.Join(dir, "postmaster.pid"))
	}
}
