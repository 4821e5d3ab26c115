package testkit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
)

const mariaPackages = "mariadb-server mariadb-client"

// Maria is a MariaDB server on a loopback port, or a MySQL server where MySQLEnv names
// one. It waits for the disk as little as PG does.
type Maria struct {
	Host     string
	Port     int
	User     string // with all privileges
	Password string
	Version  string // as SELECT VERSION() gives it
	IsMySQL  bool

	settings []string
	server   string
	account  account
	scratch  *scratch
	process  *process // nil while stopped
	shared   bool
}

// MariaOption changes a server of NewMariaDB.
type MariaOption func(*Maria)

// withoutDisk lets MariaDB not wait for the disk, which it does several times with every
// table: what is done survives a crash of the server, not one of the machine.
var withoutDisk = []string{"--loose-debug-no-sync", "--loose-innodb-flush-method=nosync"}

// WithFlag adds one argument of mariadbd: "--sql-mode=ANSI".
func WithFlag(flag string) MariaOption {
	return func(m *Maria) { m.settings = append(m.settings, flag) }
}

// MariaDB returns the server shared by this binary's tests. Take a database
// with NewDatabase; do not stop it.
func MariaDB(t testing.TB) *Maria {
	t.Helper()
	return share(t, "MariaDB", &shared.mariadb, func() (*Maria, error) { return startMaria(true) })
}

// NewMariaDB returns a server of the test's own, which may be stopped and
// started; it is gone when the test ends.
func NewMariaDB(t testing.TB, options ...MariaOption) *Maria {
	t.Helper()
	m, err := startMaria(false, options...)
	if err != nil {
		t.Fatalf("testkit: MariaDB: %v", err)
	}
	t.Cleanup(func() { check(t, m.destroy()) })
	return m
}

func startMaria(shared bool, options ...MariaOption) (_ *Maria, err error) {
	m := &Maria{Host: "127.0.0.1", User: "root", Password: randomHex(12), shared: shared}
	for _, option := range options {
		option(m)
	}
	if err := m.findServer(); err != nil {
		return nil, err
	}
	if m.account, err = accountFor("mysql"); err != nil {
		return nil, err
	}
	if m.scratch, err = newScratch(); err != nil {
		return nil, err
	}
	if err := m.initialise(); err != nil {
		return nil, errors.Join(err, m.destroy())
	}
	if err := m.start(); err != nil {
		return nil, errors.Join(err, m.destroy())
	}
	return m, nil
}

func (m *Maria) log() string { return filepath.Join(m.scratch.dir, "server.log") }

func (m *Maria) data() string { return filepath.Join(m.scratch.dir, "db", "data") }

// findServer prefers MariaDB's to MySQL's, of which there is none on most systems.
func (m *Maria) findServer() (err error) {
	if m.server, err = mysqlProgram("mariadbd"); err == nil || os.Getenv(MySQLEnv) == "" {
		return err
	}
	m.server, err = mysqlProgram("mysqld")
	m.IsMySQL = err == nil
	return err
}

// initialise makes the system tables and the script that, on every start, gives
// root its password over TCP.
func (m *Maria) initialise() error {
	if err := errors.Join(m.account.mkdir(filepath.Join(m.scratch.dir, "db")), m.account.mkdir(m.data())); err != nil {
		return err
	}
	script := fmt.Sprintf("CREATE OR REPLACE USER 'root'@'127.0.0.1' IDENTIFIED BY '%[1]s';\n"+
		"GRANT ALL ON *.* TO 'root'@'127.0.0.1' WITH GRANT OPTION;\n"+
		"SET PASSWORD FOR 'root'@'localhost' = PASSWORD('%[1]s');\n", m.Password)
	if m.IsMySQL {
		script = m.mysqlScript()
	}
	if err := os.WriteFile(m.initFile(), []byte(script), 0o644); err != nil {
		return err
	}
	install, args, err := m.installer()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(m.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	cmd := m.account.command(out, filepath.Join(m.scratch.dir, "db"), install, args...)
	if err := errors.Join(runToEnd(cmd), out.Close()); err != nil {
		return fmt.Errorf("%s: %w\n%s", filepath.Base(install), err, tail(m.log()))
	}
	return nil
}

// installer returns the program that makes the system tables, and its arguments.
func (m *Maria) installer() (string, []string, error) {
	if m.IsMySQL {
		args := append(m.programArguments(), "--initialize-insecure")
		for _, flag := range m.settings {
			if strings.HasPrefix(flag, "--lower-case-table-names=") { // cannot change later
				args = append(args, flag)
			}
		}
		return m.server, args, nil
	}
	install, err := mysqlProgram("mariadb-install-db")
	args := []string{
		"--no-defaults", "--datadir=" + m.data(),
		"--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve",
		"--innodb-flush-log-at-trx-commit=0", "--innodb-log-file-size=16M",
	}
	if prefix := os.Getenv(MySQLEnv); prefix != "" {
		args = append(args, "--basedir="+prefix)
	}
	return install, args, err
}

// programArguments are those of a server that name its data and its own files.
func (m *Maria) programArguments() []string {
	args := []string{"--no-defaults", "--datadir=" + m.data()}
	prefix := os.Getenv(MySQLEnv)
	switch {
	case prefix == "":
		return args
	case m.IsMySQL:
		return append(args, "--basedir="+prefix, "--plugin-dir="+prefix+"/lib/mysql/plugin", "--lc-messages-dir="+prefix+"/share/mysql")
	}
	return append(args, "--basedir="+prefix, "--lc-messages-dir="+prefix+"/share/mysql")
}

func (m *Maria) initFile() string { return filepath.Join(m.scratch.dir, "init.sql") }

func (m *Maria) start() error {
	var err error
	for range 5 {
		fresh := m.Port == 0
		if fresh {
			if m.Port, err = freePort(); err != nil {
				return err
			}
		}
		if err = m.startOnce(); err == nil || !fresh {
			return err
		}
		m.Port = 0
	}
	return err
}

func (m *Maria) startOnce() error {
	out, err := os.OpenFile(m.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	args := append(m.programArguments(),
		"--socket="+filepath.Join(m.scratch.dir, "db", "s"),
		"--pid-file="+filepath.Join(m.scratch.dir, "db", "pid"), "--bind-address="+m.Host, "--port="+strconv.Itoa(m.Port),
		"--init-file="+m.initFile(), "--skip-name-resolve", "--skip-log-bin", "--default-time-zone=+00:00",
		"--innodb-flush-log-at-trx-commit=2", "--innodb-doublewrite=0", "--innodb-buffer-pool-size=64M",
		"--max-connections=200", "--character-set-server=utf8mb4", "--max-allowed-packet=64M",
		// A server that starts removes what others keep in a shared directory.
		"--tmpdir="+filepath.Join(m.scratch.dir, "db"),
	)
	if m.IsMySQL {
		args = append(args, "--innodb-redo-log-capacity=64M", "--mysqlx=OFF", "--secure-file-priv=")
	} else {
		args = append(args, "--innodb-log-file-size=16M")
		args = append(args, withoutDisk...)
	}
	args = append(args, m.withoutTLS()...)
	process, err := launch(m.account.command(out, filepath.Join(m.scratch.dir, "db"), m.server, append(args, m.settings...)...), syscall.SIGKILL)
	if err := errors.Join(err, out.Close()); err != nil {
		return err
	}
	if err := process.ready(m.ping); err != nil {
		return fmt.Errorf("%w\n%s", errors.Join(err, process.stop(syscall.SIGKILL)), tail(m.log()))
	}
	m.process = process
	return nil
}

// withoutTLS keeps a server from making itself a certificate, as MySQL and newer
// MariaDB do, unless it got one.
func (m *Maria) withoutTLS() []string {
	switch {
	case slices.ContainsFunc(m.settings, func(flag string) bool { return strings.HasPrefix(flag, "--ssl-cert=") }):
		return nil
	case m.IsMySQL:
		return []string{"--tls-version="}
	}
	return []string{"--skip-ssl"}
}

func (m *Maria) ping() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	db, err := m.open("")
	if err != nil {
		return err
	}
	return errors.Join(db.QueryRowContext(ctx, "SELECT VERSION()").Scan(&m.Version), db.Close())
}

func (m *Maria) config(database string) *mysql.Config {
	c := mysql.NewConfig()
	c.User, c.Passwd, c.Net, c.DBName = m.User, m.Password, "tcp", database
	c.Addr = net.JoinHostPort(m.Host, strconv.Itoa(m.Port))
	c.ParseTime, c.MultiStatements = true, true
	return c
}

func (m *Maria) open(database string) (*sql.DB, error) {
	c := m.config(database)
	c.Logger = &mysql.NopLogger{} // what fails is in the error
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

// DSN returns the data source name of a database for the driver "mysql".
func (m *Maria) DSN(database string) string { return m.config(database).FormatDSN() }

// DB returns a pool that is closed when the test ends.
func (m *Maria) DB(t testing.TB, database string) *sql.DB {
	t.Helper()
	db, err := m.open(database)
	if err != nil {
		t.Fatalf("testkit: MariaDB: %v", err)
	}
	t.Cleanup(func() { check(t, db.Close()) })
	return db
}

// NewDatabase makes an empty database with a name of its own. On the shared
// server it is dropped when the test ends.
func (m *Maria) NewDatabase(t testing.TB) string {
	t.Helper()
	name := "test_" + randomHex(6)
	m.Exec(t, "", "CREATE DATABASE "+name)
	if m.shared {
		t.Cleanup(func() { m.Exec(t, "", "DROP DATABASE IF EXISTS "+name) })
	}
	return name
}

// Exec runs one or more statements; an empty database is none.
func (m *Maria) Exec(t testing.TB, database, statements string, args ...any) {
	t.Helper()
	db, err := m.open(database)
	if err != nil {
		t.Fatalf("testkit: MariaDB: %v", err)
	}
	if m.IsMySQL {
		statements = forMySQL(statements)
	}
	_, err = db.ExecContext(context.Background(), statements, args...)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatalf("testkit: MariaDB: %q: %v", statements, err)
	}
}

// Stop shuts the server down in order.
func (m *Maria) Stop(t testing.TB) { t.Helper(); m.end(t, syscall.SIGTERM) }

// Crash kills the server: the next start recovers.
func (m *Maria) Crash(t testing.TB) { t.Helper(); m.end(t, syscall.SIGKILL) }

// Start starts a stopped server again, with its data, on the same port.
func (m *Maria) Start(t testing.TB) {
	t.Helper()
	if m.process != nil {
		t.Fatal("testkit: MariaDB runs already")
	}
	if err := m.start(); err != nil {
		t.Fatalf("testkit: MariaDB: %v", err)
	}
}

func (m *Maria) end(t testing.TB, signal syscall.Signal) {
	t.Helper()
	if m.shared {
		t.Fatal("testkit: the shared MariaDB is not to be stopped; use NewMariaDB")
	}
	if m.process == nil {
		t.Fatal("testkit: MariaDB does not run")
	}
	check(t, m.process.stop(signal))
	m.process = nil
}

func (m *Maria) destroy() error {
	var err error
	if m.process != nil {
		err = m.process.stop(syscall.SIGKILL)
		m.process = nil
	}
	return errors.Join(err, m.scratch.remove())
}
