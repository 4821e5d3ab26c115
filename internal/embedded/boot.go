package embedded

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dataguardian/dataguardian/internal/errs"
)

const pollEvery = 20 * time.Millisecond

// SQLSTATE values that matter here.
const (
	invalidPassword      = "28P01"
	invalidAuthorization = "28000"
	duplicateDatabase    = "42P04"
	uniqueViolation      = "23505"
)

// boot starts the server and returns when it answers. A server that finds the
// children of a killed one still alive gives up at once; they end when they
// notice, so that it is tried again for a while.
func (c *Cluster) boot(ctx context.Context) error {
	var err error
	c.log, err = openServerLog(filepath.Join(c.config.DataDir, "postgres.log"), serverLogMax, c.config.Logger)
	if err != nil {
		return err
	}
	patience := time.Now().Add(10 * time.Second)
	for {
		// The server dies by its parent's death, not by this context.
		cmd := c.home.account.command(context.WithoutCancel(ctx), c.install.postgres(), "/", syscall.SIGINT, serverArgs(c.home.dir, c.sockets)...)
		if c.server, err = launch(cmd, c.log); err != nil { //nolint:contextcheck // the server and its log outlive the start
			return err
		}
		err = c.ready(ctx)
		if err == nil {
			c.config.Logger.InfoContext(ctx, "private PostgreSQL is ready",
				"version", c.install.version, "cluster", c.home.dir, "process", c.server.pid())
			return nil
		}
		if !c.server.crowded() || time.Now().After(patience) {
			break
		}
		if err := errors.Join(c.server.drain(), sleep(ctx, pollEvery*10)); err != nil {
			return err
		}
	}
	return errors.Join(err, c.shutdown(context.WithoutCancel(ctx)))
}

// crowded tells whether the server gave up because of a predecessor's children.
func (p *postmaster) crowded() bool {
	return p.gone() && strings.Contains(p.log.last(), "pre-existing shared memory block")
}

// ready waits for the first answered query. A server that recovers says so and
// is waited for.
func (c *Cluster) ready(ctx context.Context) error {
	for {
		err := c.ping(ctx)
		if err == nil {
			return nil
		}
		if code := pgErrorCode(err); code == invalidPassword || code == invalidAuthorization {
			return errs.Wrap(err, errs.Invalid, CodeStart,
				"the private PostgreSQL does not accept the password in %q; bring back the file that belongs to this cluster", filepath.Join(c.config.DataDir, "postgres-password"))
		}
		select {
		case <-c.server.done:
			return c.failed(errors.Join(c.server.failure, err))
		case <-ctx.Done():
			return c.failed(errors.Join(context.Cause(ctx), err))
		case <-time.After(pollEvery):
		}
	}
}

func (c *Cluster) failed(cause error) error {
	select {
	case <-c.server.logDone: // its last words have arrived
	case <-time.After(time.Second):
	}
	return errs.Wrap(errors.Join(cause, errors.New(c.server.log.last())), errs.Unavailable, CodeStart,
		"the private PostgreSQL in %q did not start; the end of %q says why", c.home.link, c.server.log.path)
}

func (c *Cluster) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, c.DSN("postgres"))
	if err != nil {
		return err
	}
	return errors.Join(conn.Ping(ctx), conn.Close(ctx))
}

func pgErrorCode(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return ""
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
