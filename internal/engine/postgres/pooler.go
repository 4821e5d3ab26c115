package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// sharingTries is how often two connections are compared: between two questions a pooler
// may give a session to somebody else.
const sharingTries = 10

// refuseShared fails when a connection pooler lets its clients share sessions, as
// PgBouncer does with pool_mode "transaction" and "statement". What the tools set, an
// empty search_path among it, would stay in a session for whoever comes next, and theirs
// for the tools. A session of its own, direct or pooled, costs at most a second connection.
func (e *Engine) refuseShared(ctx context.Context, conn *pgx.Conn, c engine.Conn) error {
	own, err := backend(ctx, conn, c)
	if err != nil {
		return err
	}
	if own == conn.PgConn().PID() {
		return nil // nobody is between
	}
	second, err := e.connect(ctx, c)
	if err != nil {
		return err
	}
	defer closeConn(ctx, second)
	for range sharingTries {
		theirs, err := backend(ctx, second, c)
		if err != nil {
			return err
		}
		if own, err = backend(ctx, conn, c); err != nil {
			return err
		}
		if own == theirs {
			return errs.New(errs.Invalid, errs.CodeInvalidConnection,
				"a connection pooler at %s shares its sessions between clients (pool_mode transaction or statement), and the tools would leave one with an empty search_path to whoever comes next: name the PostgreSQL server's own address, or a pool with pool_mode session",
				engine.Address(c))
		}
	}
	return nil
}

// backend is the process of the server that answers.
func backend(ctx context.Context, conn *pgx.Conn, c engine.Conn) (pid uint32, err error) {
	if err := conn.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&pid); err != nil {
		return 0, queryError(ctx, err, c, "asking for the session")
	}
	return pid, nil
}
