package store

import (
	"context"
	"database/sql"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/store/migrations"
)

// CodeDatabaseNewer says that a newer version of this program changed the schema.
const CodeDatabaseNewer errs.Code = "DATABASE_NEWER"

// migrationLock is the advisory lock that one migrating process holds.
const migrationLock = 0x6461746167756172

// Migrate brings the schema up to date. Several processes may call it at once:
// one works, the others wait for it. A database that is newer than this program
// is refused and not touched.
func (s *Store) Migrate(ctx context.Context) (err error) {
	config := s.pool.Config().ConnConfig
	for _, limit := range []string{"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"} {
		config.RuntimeParams[limit] = "0" // a large table may take its time
	}
	turn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return failure(err)
	}
	defer func() { err = errors.Join(err, turn.Close(context.WithoutCancel(ctx))) }()
	if _, err := turn.Exec(ctx, "select pg_advisory_lock($1)", int64(migrationLock)); err != nil {
		return failure(err)
	}
	if pending, err := s.Pending(ctx); err != nil || pending == 0 {
		return err
	}
	conn := stdlib.OpenDB(*config)
	defer func() { err = errors.Join(err, conn.Close()) }()
	return s.up(ctx, conn)
}

func (s *Store) up(ctx context.Context, conn *sql.DB) error {
	provider, err := newProvider(conn)
	if err != nil {
		return err
	}
	results, err := provider.Up(ctx)
	for _, r := range results {
		s.log.InfoContext(ctx, "the database was migrated", "step", r.Source.Path, "duration", r.Duration)
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == stateLockTimeout {
		return errs.Wrap(err, errs.Unavailable, errs.CodeTimeout, "the database could not be migrated: another session, such as a dump of it, holds a table; the step left no trace, start again when that session has ended")
	}
	if err != nil {
		return errs.Wrap(err, errs.KindOf(failure(err)), errs.CodeOf(failure(err)), "the database could not be migrated; the step that failed left no trace, fix its cause and start again")
	}
	return nil
}

func newProvider(conn *sql.DB) (*goose.Provider, error) {
	p, err := goose.NewProvider(goose.DialectPostgres, conn, migrations.Files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return nil, errs.Wrap(err, errs.Internal, errs.CodeInternal, "the migrations of this program are damaged")
	}
	return p, nil
}

// Pending returns how many migrations the database lacks. A database that is
// newer than this program is an error (CodeDatabaseNewer).
func (s *Store) Pending(ctx context.Context) (int, error) {
	current, err := s.version(ctx)
	if err != nil {
		return 0, err
	}
	conn := stdlib.OpenDBFromPool(s.pool)
	provider, err := newProvider(conn)
	if err != nil {
		return 0, errors.Join(err, conn.Close())
	}
	pending, newest := 0, int64(0)
	for _, step := range provider.ListSources() {
		newest = max(newest, step.Version)
		if step.Version > current {
			pending++
		}
	}
	if current > newest {
		return 0, errors.Join(errs.New(errs.Conflict, CodeDatabaseNewer,
			"the database has schema version %d, this program knows only %d; it was used by a newer dataguardian, install that one", current, newest), conn.Close())
	}
	return pending, conn.Close()
}

// version is the newest step the database has seen, 0 without any.
func (s *Store) version(ctx context.Context) (version int64, err error) {
	var exists bool
	if err := s.pool.QueryRow(ctx, "select to_regclass('goose_db_version') is not null").Scan(&exists); err != nil || !exists {
		return 0, failure(err)
	}
	err = s.pool.QueryRow(ctx, "select coalesce(max(version_id), 0) from goose_db_version where is_applied").Scan(&version)
	return version, failure(err)
}
