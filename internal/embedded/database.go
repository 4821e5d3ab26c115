package embedded

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// CreateDatabase makes a database, encoded in UTF-8, unless it exists. Callers
// may race.
func (c *Cluster) CreateDatabase(ctx context.Context, name string) (err error) {
	conn, err := pgx.Connect(ctx, c.DSN("postgres"))
	if err != nil {
		return errs.Wrap(err, errs.Unavailable, errs.CodeDatabaseUnavailable, "the private PostgreSQL does not answer")
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()

	var exists bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&exists); err != nil {
		return errs.Wrap(err, errs.Unavailable, errs.CodeDatabaseUnavailable, "the private PostgreSQL cannot list its databases")
	}
	if exists {
		return nil
	}
	_, err = conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize())
	switch pgErrorCode(err) {
	case duplicateDatabase, uniqueViolation: // somebody was faster
		return nil
	}
	if err != nil {
		return errs.Wrap(err, errs.Unavailable, errs.CodeDatabaseUnavailable, "the database %q cannot be made in the private PostgreSQL", name)
	}
	return nil
}
