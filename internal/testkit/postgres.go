package testkit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const pgPackages = "postgresql"

// PG is a PostgreSQL server on a loopback port, with password authentication.
// It does not wait for the disk: what is committed survives a crash of the
// server, not one of the machine.
type PG struct {
	Host     string
	Port     int
	User     string // a superuser
	Password string
	Major    int
	BinDir   string // of the server; clients are there too when the system has them

	settings []string
	account  account
	scratch  *scratch
	process  *process // nil while stopped
	shared   bool
}

// PGOption changes a server of NewPostgres.
type PGOption func(*PG)

// WithBinDir runs the server whose initdb and postgres are in dir.
func WithBinDir(dir string) PGOption { return func(p *PG) { p.BinDir = dir } }

// WithSetting sets a configuration parameter.
func WithSetting(name, value string) PGOption {
	return func(p *PG) { p.settings = append(p.settings, "-c", name+"="+value) }
}

// Postgres returns the server shared by this binary's tests. Take a database
// with NewDatabase; do not stop it.
func Postgres(t testing.TB) *PG {
	t.Helper()
	return share(t, "PostgreSQL", &shared.postgres, func() (*PG, error) { return startPG(true) })
}

// NewPostgres returns a server of the test's own, which may be stopped and
// started; it is gone when the test ends.
func NewPostgres(t testing.TB, options ...PGOption) *PG {
	t.Helper()
	p, err := startPG(false, options...)
	if err != nil {
		t.Fatalf("testkit: PostgreSQL: %v", err)
	}
	t.Cleanup(func() { check(t, p.destroy()) })
	return p
}

func startPG(shared bool, options ...PGOption) (_ *PG, err error) {
	p := &PG{Host: "127.0.0.1", User: "postgres", Password: randomHex(12), shared: shared}
	for _, option := range options {
		option(p)
	}
	if p.BinDir == "" {
		p.BinDir = os.Getenv(PostgresEnv)
	}
	if p.BinDir == "" {
		if p.BinDir, err = newestPostgres(); err != nil {
			return nil, err
		}
	}
	if p.account, err = accountFor("postgres"); err != nil {
		return nil, err
	}
	if p.scratch, err = newScratch(); err != nil {
		return nil, err
	}
	if err := p.initialise(); err != nil {
		return nil, errors.Join(err, p.destroy())
	}
	if err := p.start(); err != nil {
		return nil, errors.Join(err, p.destroy())
	}
	if err := p.shortenLogins(); err != nil {
		return nil, errors.Join(err, p.destroy())
	}
	return p, nil
}

// newestPostgres finds the system's newest server.
func newestPostgres() (string, error) {
	dirs, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		return "", err
	}
	best, newest := "", 0
	for _, dir := range dirs {
		major, err := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
		if _, missing := os.Stat(filepath.Join(dir, "initdb")); err == nil && missing == nil && major > newest {
			best, newest = dir, major
		}
	}
	if best != "" {
		return best, nil
	}
	path, err := program("initdb", pgPackages)
	return filepath.Dir(path), err
}

func (p *PG) initialise() error {
	work := filepath.Join(p.scratch.dir, "pg")
	if err := p.account.mkdir(work); err != nil {
		return err
	}
	secret := filepath.Join(p.scratch.dir, "pwfile")
	if err := os.WriteFile(secret, []byte(p.Password), 0o644); err != nil {
		return err
	}
	log, err := p.openLog()
	if err != nil {
		return err
	}
	cmd := p.account.command(log, work, filepath.Join(p.BinDir, "initdb"), "-D", filepath.Join(work, "data"),
		"-U", p.User, "--pwfile="+secret, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
	if err := errors.Join(runToEnd(cmd), log.Close()); err != nil {
		return fmt.Errorf("initdb (installed by `apt-get install %s`): %w\n%s", pgPackages, err, tail(p.log()))
	}
	text, err := os.ReadFile(filepath.Join(work, "data", "PG_VERSION"))
	if err != nil {
		return err
	}
	p.Major, err = strconv.Atoi(regexp.MustCompile(`^\d+`).FindString(string(text)))
	return err
}

func (p *PG) log() string { return filepath.Join(p.scratch.dir, "server.log") }

func (p *PG) openLog() (*os.File, error) {
	return os.OpenFile(p.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
}

// start starts the server, on the port it had; a new one takes another port
// when somebody else was faster.
func (p *PG) start() error {
	var err error
	for range 5 {
		fresh := p.Port == 0
		if fresh {
			if p.Port, err = freePort(); err != nil {
				return err
			}
		}
		if err = p.startOnce(); err == nil || !fresh {
			return err
		}
		p.Port = 0
	}
	return err
}

func (p *PG) startOnce() error {
	log, err := p.openLog()
	if err != nil {
		return err
	}
	data := filepath.Join(p.scratch.dir, "pg", "data")
	args := []string{
		"-D", data, "-F",
		"-c", "listen_addresses=" + p.Host, "-c", "port=" + strconv.Itoa(p.Port), "-c", "unix_socket_directories=",
		"-c", "full_page_writes=off", "-c", "shared_buffers=64MB", "-c", "max_connections=200",
		"-c", "timezone=UTC", "-c", "log_timezone=UTC", "-c", "jit=off",
	}
	cmd := p.account.command(log, "/", filepath.Join(p.BinDir, "postgres"), append(args, p.settings...)...)
	// On SIGQUIT the postmaster takes its children along and frees its shared memory.
	process, err := launch(cmd, syscall.SIGQUIT)
	if err := errors.Join(err, log.Close()); err != nil {
		return err
	}
	if err := process.ready(p.ping); err != nil {
		return fmt.Errorf("%w\n%s", errors.Join(err, process.stop(syscall.SIGQUIT)), tail(p.log()))
	}
	p.process = process
	return nil
}

func (p *PG) ping() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, p.DSN("postgres"))
	if err != nil {
		return err
	}
	return errors.Join(conn.Ping(ctx), conn.Close(ctx))
}

// DSN returns the connection URL of a database.
func (p *PG) DSN(database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(p.User, p.Password),
		Host: net.JoinHostPort(p.Host, strconv.Itoa(p.Port)), Path: "/" + database, RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Conn returns a connection that is closed when the test ends.
func (p *PG) Conn(t testing.TB, database string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), p.DSN(database))
	if err != nil {
		t.Fatalf("testkit: PostgreSQL: %v", err)
	}
	t.Cleanup(func() { check(t, conn.Close(context.Background())) })
	return conn
}

// NewDatabase makes an empty database with a name of its own. On the shared
// server it is dropped when the test ends, whoever is connected.
func (p *PG) NewDatabase(t testing.TB) string {
	t.Helper()
	return p.NewDatabaseLike(t, "template1")
}

// NewDatabaseLike is NewDatabase with what is in another one, which nobody uses meanwhile.
func (p *PG) NewDatabaseLike(t testing.TB, template string) string {
	t.Helper()
	name := "test_" + randomHex(6)
	p.Exec(t, "postgres", "CREATE DATABASE "+name+" TEMPLATE "+template)
	if p.shared {
		t.Cleanup(func() { p.Exec(t, "postgres", "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)") })
	}
	return name
}

// Exec runs one statement, or several when there are no arguments.
func (p *PG) Exec(t testing.TB, database, sql string, args ...any) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, p.DSN(database))
	if err != nil {
		t.Fatalf("testkit: PostgreSQL: %v", err)
	}
	if len(args) == 0 {
		_, err = conn.PgConn().Exec(ctx, sql).ReadAll()
	} else {
		_, err = conn.Exec(ctx, sql, args...)
	}
	if err := errors.Join(err, conn.Close(ctx)); err != nil {
		t.Fatalf("testkit: PostgreSQL: %q: %v", sql, err)
	}
}

// Stop shuts the server down in order, ending its sessions.
func (p *PG) Stop(t testing.TB) { t.Helper(); p.end(t, syscall.SIGINT) }

// Crash ends the server at once, as a crash would: the next start recovers.
func (p *PG) Crash(t testing.TB) { t.Helper(); p.end(t, syscall.SIGQUIT) }

// Start starts a stopped server again, with its data, on the same port.
func (p *PG) Start(t testing.TB) {
	t.Helper()
	if p.process != nil {
		t.Fatal("testkit: PostgreSQL runs already")
	}
	if err := p.start(); err != nil {
		t.Fatalf("testkit: PostgreSQL: %v", err)
	}
}

func (p *PG) end(t testing.TB, signal syscall.Signal) {
	t.Helper()
	if p.shared {
		t.Fatal("testkit: the shared PostgreSQL is not to be stopped; use NewPostgres")
	}
	if p.process == nil {
		t.Fatal("testkit: PostgreSQL does not run")
	}
	check(t, p.process.stop(signal))
	p.process = nil
}

func (p *PG) destroy() error {
	var err error
	if p.process != nil {
		err = p.process.stop(syscall.SIGQUIT)
		p.process = nil
	}
	return errors.Join(err, p.scratch.remove())
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("testkit: %v", err)
	}
}
