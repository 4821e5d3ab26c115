package testkit_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/dataguardian/dataguardian/internal/testkit"
)

// childEnv makes the binary a process that starts every server, says where they
// are, and waits to be killed.
const childEnv = "TESTKIT_CHILD"

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(testkit.Wrap(m))
}

func TestPostgresIsSharedAndDatabasesAreNot(t *testing.T) {
	a, b := testkit.Postgres(t), testkit.Postgres(t)
	require.Same(t, a, b)
	one, two := a.NewDatabase(t), a.NewDatabase(t)
	require.NotEqual(t, one, two)
	a.Exec(t, one, "CREATE TABLE t (n int); INSERT INTO t SELECT generate_series(1, 3)")
	a.Exec(t, one, "INSERT INTO t VALUES ($1)", 4)

	var n, super int
	conn := a.Conn(t, one)
	require.NoError(t, conn.QueryRow(context.Background(), "SELECT count(*), (SELECT rolsuper::int FROM pg_roles WHERE rolname = current_user) FROM t").Scan(&n, &super))
	require.Equal(t, 4, n)
	require.Equal(t, 1, super)
	require.NoError(t, a.Conn(t, two).QueryRow(context.Background(), "SELECT count(*) FROM pg_tables WHERE tablename = 't'").Scan(&n))
	require.Zero(t, n)
}

func TestAPasswordOfPostgresIsProvenInOneRoundAndAnotherOneIsRefused(t *testing.T) {
	p := testkit.Postgres(t)
	var secret string
	require.NoError(t, p.Conn(t, "postgres").QueryRow(t.Context(), "SELECT rolpassword FROM pg_authid WHERE rolname = $1", p.User).Scan(&secret))
	require.Contains(t, secret, "SCRAM-SHA-256$1:")
	wrong := *p
	wrong.Password += "x"
	_, err := pgx.Connect(t.Context(), wrong.DSN("postgres"))
	require.ErrorContains(t, err, "28P01")
}

func TestPostgresOfATestsOwnSurvivesACrash(t *testing.T) {
	p := testkit.NewPostgres(t, testkit.WithSetting("wal_level", "logical"))
	db := p.NewDatabase(t)
	p.Exec(t, db, "CREATE TABLE t (n int); INSERT INTO t VALUES (1)")
	p.Crash(t)
	require.Error(t, dial(p.Host, p.Port))
	p.Start(t)
	var n int
	var level string
	require.NoError(t, p.Conn(t, db).QueryRow(context.Background(), "SELECT count(*), current_setting('wal_level') FROM t").Scan(&n, &level))
	require.Equal(t, 1, n)
	require.Equal(t, "logical", level)
}

func TestMariaDBIsSharedAndDatabasesAreNot(t *testing.T) {
	a, b := testkit.MariaDB(t), testkit.MariaDB(t)
	require.Same(t, a, b)
	require.Contains(t, a.Version, "MariaDB")
	one, two := a.NewDatabase(t), a.NewDatabase(t)
	a.Exec(t, one, "CREATE TABLE t (n int); INSERT INTO t VALUES (1), (2)")
	var n int
	require.NoError(t, a.DB(t, one).QueryRow("SELECT count(*) FROM t").Scan(&n))
	require.Equal(t, 2, n)
	require.Error(t, a.DB(t, two).QueryRow("SELECT count(*) FROM t").Scan(&n))
}

func TestMariaDBOfATestsOwnKeepsItsDataAcrossStops(t *testing.T) {
	m := testkit.NewMariaDB(t)
	db := m.NewDatabase(t)
	m.Exec(t, db, "CREATE TABLE t (n int); INSERT INTO t VALUES (1)")
	m.Stop(t)
	require.Error(t, dial(m.Host, m.Port))
	m.Start(t)
	var n int
	require.NoError(t, m.DB(t, db).QueryRow("SELECT count(*) FROM t").Scan(&n))
	require.Equal(t, 1, n)
}

func TestRedisComesBackEmptyOnTheSamePort(t *testing.T) {
	r := testkit.Redis(t)
	require.Equal(t, "+OK\r\n", redis(t, r, "SET k v\r\n"))
	addr := r.Addr()
	r.Stop(t)
	require.Error(t, dial(r.Host, r.Port))
	r.Start(t)
	require.Equal(t, addr, r.Addr())
	require.Equal(t, "$-1\r\n", redis(t, r, "GET k\r\n"))
}

func TestDirIsSearchableByOthersAndRemoved(t *testing.T) {
	var dir string
	t.Run("inside", func(t *testing.T) {
		dir = testkit.Dir(t)
		for d := dir; d != "/"; d = filepath.Dir(d) {
			info, err := os.Stat(d)
			require.NoError(t, err)
			require.NotZero(t, info.Mode().Perm()&0o001, "%s", d)
		}
	})
	require.NoDirExists(t, filepath.Dir(dir))
}

func TestServersDieWithAKilledTestBinary(t *testing.T) {
	child := exec.Command(os.Args[0], "-test.run=^TestChildStartsServers$")
	child.Env = append(os.Environ(), childEnv+"=1", "TMPDIR="+testkit.Dir(t)) // goes with the test
	stdout, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	var ports [3]int
	_, err = fmt.Fscanf(stdout, "ports %d %d %d\n", &ports[0], &ports[1], &ports[2])
	require.NoError(t, err)
	for _, port := range ports {
		require.NoError(t, dial("127.0.0.1", port))
	}
	require.NoError(t, child.Process.Kill())
	require.Error(t, child.Wait())
	for _, port := range ports {
		require.Eventually(t, func() bool { return dial("127.0.0.1", port) != nil }, time.Minute, 20*time.Millisecond)
	}
}

// TestChildStartsServers does its work only in the child of the test above.
func TestChildStartsServers(t *testing.T) {
	if os.Getenv(childEnv) == "" {
		return
	}
	p, m, r := testkit.Postgres(t), testkit.MariaDB(t), testkit.Redis(t)
	fmt.Printf("ports %d %d %d\n", p.Port, m.Port, r.Port)
	select {}
}

func TestSweepRemovesOnlyWhatNobodyHoldsInMemoryAndOnDisk(t *testing.T) {
	held := testkit.Dir(t)
	t.Setenv("TMPDIR", testkit.Dir(t))
	old := time.Now().Add(-time.Hour)
	var dead []string
	for _, place := range []string{"/dev/shm", os.TempDir()} {
		dir, err := os.MkdirTemp(place, "dgtest-")
		require.NoError(t, err)
		lock := filepath.Join(dir, "lock")
		require.NoError(t, os.WriteFile(lock, nil, 0o600))
		require.NoError(t, os.Chtimes(lock, old, old))
		dead = append(dead, dir)
	}
	require.NoError(t, os.Chtimes(filepath.Join(filepath.Dir(held), "lock"), old, old))
	testkit.Dir(t)
	for _, dir := range dead {
		require.NoDirExists(t, dir)
	}
	require.DirExists(t, held)
}

func dial(host string, port int) error {
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(host, fmt.Sprint(port)), time.Second)
	if err != nil {
		return err
	}
	return conn.Close()
}

func redis(t *testing.T, r *testkit.RedisServer, command string) string {
	t.Helper()
	conn, err := net.Dial("tcp", r.Addr())
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	_, err = conn.Write([]byte(command))
	require.NoError(t, err)
	buffer := make([]byte, 64)
	n, err := conn.Read(buffer)
	require.NoError(t, err)
	return string(buffer[:n])
}
