// Package embedded is the single-node default: a private PostgreSQL cluster
// run from the system's own binaries, and a Redis that lives in the process.
// Neither listens on the network.
package embedded

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// Codes of the ways a private cluster refuses to start.
const (
	// CodeNotInstalled: no usable PostgreSQL server binaries.
	CodeNotInstalled errs.Code = "POSTGRES_NOT_INSTALLED"
	// CodeMajorMissing: the cluster belongs to a major release that is not installed.
	CodeMajorMissing errs.Code = "POSTGRES_MAJOR_MISSING"
	// CodeInUse: another process works on the same data directory.
	CodeInUse errs.Code = "DATA_DIR_IN_USE"
	// CodeDataDir: the data directory is not what it should be.
	CodeDataDir errs.Code = "DATA_DIR_UNUSABLE"
	// CodeStart: PostgreSQL did not come up.
	CodeStart errs.Code = "POSTGRES_START_FAILED"
	// CodeStopped: PostgreSQL ended without being asked to.
	CodeStopped errs.Code = "POSTGRES_STOPPED"
)

const (
	superuser = "dataguardian"
	// The port is only a part of the socket's file name; the socket's directory
	// is private, so that it never clashes.
	socketPort = 5432

	defaultStartTimeout = 2 * time.Minute
	defaultStopTimeout  = 30 * time.Second
	// How long an immediate shutdown may take before the postmaster is killed:
	// PostgreSQL itself kills its children after five seconds.
	immediateTimeout = 15 * time.Second
)

// Config says where the cluster lives and which binaries run it. The zero value
// of every field but DataDir is a good default.
type Config struct {
	// DataDir is made when it is absent. The cluster is DataDir/postgres.
	DataDir string
	// BinDir holds initdb and postgres. Empty: the system's installations, of
	// which an existing cluster picks its own major and a new one the newest.
	BinDir string
	// FallbackRoot takes the cluster when the process runs as root and DataDir
	// cannot be reached by the account PostgreSQL runs as. Empty:
	// /var/lib/dataguardian.
	FallbackRoot string
	// StartTimeout bounds the start, crash recovery included: two minutes by default.
	StartTimeout time.Duration
	// StopTimeout bounds a fast shutdown before it turns into an immediate one:
	// 30 s by default.
	StopTimeout time.Duration
	// Logger gets what an operator should know. Empty: nothing is logged.
	Logger *slog.Logger
}

// Cluster is a running private PostgreSQL. Its methods are safe for concurrent
// use.
type Cluster struct {
	config   Config
	install  install
	password string
	home     home
	sockets  string
	locks    []*os.File
	log      *serverLog
	server   *postmaster

	stop     sync.Mutex
	released bool
}

// Start brings up the private cluster under c.DataDir, creating it on the first
// start, and returns when it answers queries. A directory that already holds
// anything is never initialised again. At most one process works on a data
// directory; a postmaster that outlived a killed process is shut down first.
// The cluster dies with this process, however it ends.
func Start(ctx context.Context, c Config) (*Cluster, error) {
	c, err := c.complete()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.StartTimeout)
	defer cancel()

	if err := makeDataDir(c.DataDir); err != nil {
		return nil, err
	}
	lock, err := lockFile(filepath.Join(c.DataDir, "lock"), c.DataDir)
	if err != nil {
		return nil, err
	}
	cluster := &Cluster{config: c, locks: []*os.File{lock}}
	if err := cluster.start(ctx); err != nil {
		return nil, errors.Join(err, cluster.release())
	}
	return cluster, nil
}

func (c Config) complete() (Config, error) {
	if c.DataDir == "" {
		return c, errs.New(errs.Invalid, CodeDataDir, "no data directory is set; name one with --data-dir")
	}
	abs, err := filepath.Abs(c.DataDir)
	if err != nil {
		return c, errs.Wrap(err, errs.Internal, CodeDataDir, "the data directory %q cannot be resolved; name it by its absolute path", c.DataDir)
	}
	if strings.ContainsAny(abs, "\r\n\x00") {
		return c, errs.New(errs.Invalid, CodeDataDir, "the data directory %q has a line break or NUL in its name, which PostgreSQL does not take; choose another --data-dir", abs)
	}
	c.DataDir = abs
	if c.FallbackRoot == "" {
		c.FallbackRoot = "/var/lib/dataguardian"
	}
	if c.StartTimeout <= 0 {
		c.StartTimeout = defaultStartTimeout
	}
	if c.StopTimeout <= 0 {
		c.StopTimeout = defaultStopTimeout
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// start walks from a locked data directory to a server that answers.
func (c *Cluster) start(ctx context.Context) error {
	var err error
	if err := sweepSites(c.config); err != nil {
		return err
	}
	if c.home, err = findHome(c.config); err != nil {
		return err
	}
	if c.install, err = pickInstall(ctx, c.config.BinDir, c.home); err != nil {
		return err
	}
	if c.password, err = loadPassword(c.config.DataDir, c.home.exists); err != nil {
		return err
	}
	if !c.home.exists {
		if err := c.create(ctx); err != nil {
			return err
		}
	}
	lock, err := lockDir(c.home.dir)
	if err != nil {
		return err
	}
	c.locks = append(c.locks, lock)
	if err := stopLeftover(ctx, c.home.dir, c.config.Logger); err != nil {
		return err
	}
	if c.sockets, err = socketDir(ctx, c.config, c.home, c.install); err != nil {
		return err
	}
	return c.boot(ctx)
}

// create initialises the cluster at the place its account can reach.
func (c *Cluster) create(ctx context.Context) error {
	c.config.Logger.InfoContext(ctx, "creating the private PostgreSQL cluster",
		"directory", c.home.link, "version", c.install.version)
	site, err := newSite(ctx, c.config, c.home, c.install)
	if err != nil {
		return err
	}
	if err := site.initialise(ctx, c.install, c.password); err != nil {
		return errors.Join(err, site.discard())
	}
	c.home, err = site.settle(c.home)
	return err
}

// DSN returns the connection URL of one database, over the unix socket, for pgx
// and libpq. It holds the password: never log it.
func (c *Cluster) DSN(database string) string {
	query := url.Values{
		"host":    {c.sockets},
		"port":    {strconv.Itoa(socketPort)},
		"dbname":  {database},
		"sslmode": {"disable"},
	}
	u := url.URL{
		Scheme: "postgres",
		User:   url.UserPassword(superuser, c.password),
		Path:   "/",
		// In these URLs a plus is a plus, never a space.
		RawQuery: strings.ReplaceAll(query.Encode(), "+", "%20"),
	}
	return u.String()
}

// SocketDir returns the private directory of the unix socket: libpq's host.
func (c *Cluster) SocketDir() string { return c.sockets }

// Port returns the number in the socket's file name: libpq's port.
func (c *Cluster) Port() int { return socketPort }

// User returns the name of the cluster's only role, a superuser.
func (c *Cluster) User() string { return superuser }

// Password returns that role's password.
func (c *Cluster) Password() string { return c.password }

// Major returns the server's major release.
func (c *Cluster) Major() int { return c.install.major }

// Done is closed when the server has ended, asked to or not.
func (c *Cluster) Done() <-chan struct{} { return c.server.done }

// Err returns why the server ended without being asked to; nil while it runs
// and after Stop.
func (c *Cluster) Err() error { return c.server.err() }

// Stop shuts the server down fast: open transactions are rolled back, nothing
// committed is lost. When ctx ends or StopTimeout passes first, it is shut down
// immediately, which costs the next start a recovery and is reported as an
// error. Stop may be called again, and after a crash, to let go of the data
// directory.
func (c *Cluster) Stop(ctx context.Context) error {
	c.stop.Lock()
	defer c.stop.Unlock()
	if c.released {
		return nil
	}
	c.released = true
	return errors.Join(c.shutdown(ctx), c.release())
}

func (c *Cluster) shutdown(ctx context.Context) error {
	c.server.expectEnd()
	steps := []struct {
		signal syscall.Signal
		wait   time.Duration
	}{{syscall.SIGINT, c.config.StopTimeout}, {syscall.SIGQUIT, immediateTimeout}, {syscall.SIGKILL, immediateTimeout}}
	for i, step := range steps {
		if err := c.server.signal(step.signal); err != nil {
			return err
		}
		if c.server.ended(ctx, step.wait) {
			if i == 0 {
				return nil
			}
			return errs.New(errs.Unavailable, CodeStopped,
				"the private PostgreSQL did not shut down in time and was ended with %v; nothing committed is lost, the next start recovers", step.signal)
		}
		ctx = context.WithoutCancel(ctx)
	}
	return errs.New(errs.Internal, CodeStopped, "the private PostgreSQL (process %d) does not end even when killed; look for a hanging disk", c.server.pid())
}

// release lets go of everything but the data. The server has ended or was never
// started.
func (c *Cluster) release() error {
	var failures []error
	if c.server != nil {
		failures = append(failures, c.server.drain())
	}
	if c.log != nil {
		failures = append(failures, c.log.close())
	}
	if c.sockets != "" && filepath.Base(c.sockets) != socketDirName {
		if err := os.Remove(c.sockets); err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) {
			failures = append(failures, err)
		}
	}
	for _, lock := range c.locks {
		failures = append(failures, lock.Close())
	}
	return errors.Join(failures...)
}
