package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dataguardian/dataguardian/internal/embedded"
)

// cluster is the PostgreSQL that holds what is backed up, and the metadata of
// our servers. It is no part of any measurement: it does the same for all.
type cluster struct {
	*embedded.Cluster
	version string
}

func startCluster(ctx context.Context, dir string) (*cluster, error) {
	server, err := embedded.Start(ctx, embedded.Config{DataDir: dir, FallbackRoot: dir + "-far"})
	if err != nil {
		return nil, err
	}
	c := &cluster{Cluster: server}
	err = c.in(ctx, "postgres", func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "SHOW server_version").Scan(&c.version)
	})
	if err != nil {
		return nil, errors.Join(err, c.stop(ctx))
	}
	return c, nil
}

// stop ends the cluster also when ctx has ended.
func (c *cluster) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return c.Stop(ctx)
}

// in works in a database on a connection of its own.
func (c *cluster) in(ctx context.Context, database string, work func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, c.DSN(database))
	if err != nil {
		return err
	}
	return errors.Join(work(conn), conn.Close(context.WithoutCancel(ctx)))
}

func execute(ctx context.Context, conn *pgx.Conn, statements ...string) error {
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%.60s: %w", sql, err)
		}
	}
	return nil
}

// copyIn streams rows that write makes, in the text format of COPY.
func copyIn(ctx context.Context, conn *pgx.Conn, sql string, write func(io.Writer) error) error {
	r, w := io.Pipe()
	go func() { w.CloseWithError(write(w)) }() // it gets an error once the reader is closed
	_, err := conn.PgConn().CopyFrom(ctx, r, sql)
	return errors.Join(err, r.Close())
}

func (c *cluster) databaseSize(ctx context.Context, database string) (size int64, err error) {
	err = c.in(ctx, database, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "SELECT pg_database_size(current_database())").Scan(&size)
	})
	return size, err
}

// client is what a client program of PostgreSQL needs to find a database.
func (c *cluster) client(database string) []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8",
		"PGHOST=" + c.SocketDir(), "PGPORT=" + strconv.Itoa(c.Port()), "PGUSER=" + c.User(), "PGPASSWORD=" + c.Password(), "PGDATABASE=" + database,
	}
}

// program finds a client program of the server's major release.
func (c *cluster) program(name string) (string, error) {
	for _, dir := range []string{"/usr/lib/postgresql/%d/bin", "/usr/pgsql-%d/bin"} {
		path := filepath.Join(fmt.Sprintf(dir, c.Major()), name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return exec.LookPath(name)
}

// copyDatabase makes a database like another, whose last sessions it ends.
func (c *cluster) copyDatabase(ctx context.Context, from, to string) error {
	return c.in(ctx, "postgres", func(conn *pgx.Conn) error {
		const patience = time.Minute
		if _, err := conn.Exec(ctx, "SELECT pg_terminate_backend(pid, $2) FROM pg_stat_activity WHERE datname = $1", from, patience.Milliseconds()); err != nil {
			return err
		}
		return execute(ctx, conn, "CREATE DATABASE "+pgx.Identifier{to}.Sanitize()+" TEMPLATE "+pgx.Identifier{from}.Sanitize())
	})
}

func (c *cluster) dropDatabase(ctx context.Context, name string) error {
	return c.in(ctx, "postgres", func(conn *pgx.Conn) error {
		return execute(ctx, conn, "DROP DATABASE "+pgx.Identifier{name}.Sanitize()+" WITH (FORCE)")
	})
}
