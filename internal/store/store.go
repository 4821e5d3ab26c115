// Package store keeps everything in PostgreSQL: it implements the store
// interfaces of the domain packages. Queries are in queries/, the schema is in
// migrations/, db/ is generated from both.
package store

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/secret"
	"github.com/dataguardian/dataguardian/internal/store/db"
)

const defaultMaxConns = 16

// Config says where the database is.
type Config struct {
	DSN      string // a PostgreSQL URL or key/value string
	MaxConns int32  // 0: pool_max_conns of the DSN, or else 16
	// Box seals credentials. Without one, datasources and locations can neither be
	// written nor read.
	Box    *secret.Box
	Logger *slog.Logger // nil: nothing is logged
	// Noted is called after every commit that may have written notifications or
	// changed where they go. It must not wait. nil: nobody is told.
	Noted func()
}

// Store is a pool of connections to the database. Its parts implement the store
// interfaces of the domain packages. All methods may be called concurrently.
type Store struct {
	pool *pgxpool.Pool
	q    *db.Queries
	box  *secret.Box
	log  *slog.Logger

	noted func()
}

// Open connects to the database. It does not change the schema, see Migrate.
func Open(ctx context.Context, c Config) (*Store, error) {
	config, err := poolOf(c)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, failure(err)
	}
	s := &Store{pool: pool, q: db.New(pool), box: c.Box, log: c.Logger, noted: c.Noted}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := s.Ping(ctx); err != nil {
		pool.Close()
		return nil, err
	}
	return s, nil
}

// poolOf is how to connect, and how often.
func poolOf(c Config) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(c.DSN)
	if err != nil { // the cause may quote the password
		return nil, errs.New(errs.Invalid, errs.CodeValidation,
			"the database URL cannot be understood; write it as postgres://USER:PASSWORD@HOST:PORT/DATABASE")
	}
	switch {
	case c.MaxConns > 0:
		config.MaxConns = c.MaxConns
	case !strings.Contains(c.DSN, "pool_max_conns="):
		config.MaxConns = defaultMaxConns
	}
	configure(config.ConnConfig.RuntimeParams)
	config.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		readTimesInUTC(conn)
		return nil
	}
	return config, nil
}

// configure sets what every session needs, over the server's own defaults.
func configure(params map[string]string) {
	if params["application_name"] == "" {
		params["application_name"] = "dataguardian"
	}
	// Optional filters are "$1 is null or ...": only a plan made for the values at
	// hand can leave them out and find its index.
	params["plan_cache_mode"] = "force_custom_plan"
	params["random_page_cost"] = "1.1" // indexes are on solid state, or in memory
	params["default_transaction_isolation"] = "read committed"
	params["statement_timeout"] = milliseconds(time.Minute)
	params["lock_timeout"] = milliseconds(20 * time.Second)
	params["idle_in_transaction_session_timeout"] = milliseconds(time.Minute)
}

func readTimesInUTC(conn *pgx.Conn) {
	conn.TypeMap().RegisterType(&pgtype.Type{
		Name: "timestamptz", OID: pgtype.TimestamptzOID, Codec: &pgtype.TimestamptzCodec{ScanLocation: time.UTC},
	})
}

// Close waits for connections in use and closes all.
func (s *Store) Close() { s.pool.Close() }

// Ping answers when the database does.
func (s *Store) Ping(ctx context.Context) error { return failure(s.pool.Ping(ctx)) }

// tx runs fn in a transaction. An error of fn rolls it back and is returned as
// it is when it is an *errs.Error.
func (s *Store) tx(ctx context.Context, fn func(q *db.Queries) error) error {
	return failure(pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error { return fn(s.q.WithTx(tx)) }))
}

// telling is tx for work that may write notifications: whoever waits for them hears
// of it.
func (s *Store) telling(ctx context.Context, fn func(q *db.Queries) error) error {
	err := s.tx(ctx, fn)
	if err == nil {
		s.announce()
	}
	return err
}

func (s *Store) announce() {
	if s.noted != nil {
		s.noted()
	}
}
