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
// for the tools. A session of its own, direct or pooled, costs at most a second connection,
// to conn's database; where that is not to be had in time, conn alone has to tell.
func (e *Engine) refuseShared(ctx context.Context, conn *pgx.Conn, c engine.Conn) error {
	c.Database = conn.Config().Database // c's own may be absent
	own, err := sessionOf(ctx, conn, c)
	if err != nil {
		return err
	}
	if own.pid == conn.PgConn().PID() {
		return nil // nobody is between
	}
	limited, cancel := context.WithTimeout(ctx, e.sharingLimit)
	defer cancel()
	second, err := e.connect(limited, c)
	alone := err != nil // a pool of one connection, or one that is full
	if !alone {
		defer closeConn(ctx, second)
	}
	for range sharingTries {
		var theirs session
		if !alone {
			theirs, err = sessionOf(limited, second, c)
			alone = err != nil
		}
		for range 2 { // in a row: of two sessions by turns, each second question meets the same one
			now, err := sessionOf(ctx, conn, c)
			if err != nil {
				return err
			}
			if now == theirs || now != own && now.started == own.started { // another server alone proves nothing
				return errs.New(errs.Invalid, errs.CodeInvalidConnection,
					"a connection pooler at %s shares its sessions between clients (pool_mode transaction or statement), and the tools would leave one with an empty search_path to whoever comes next: name the PostgreSQL server's own address, or a pool with pool_mode session",
					engine.Address(c))
			}
		}
	}
	return nil
}

// session is the process that answers, of the server that began at that microsecond:
// behind one address there may be several servers.
type session struct {
	pid     uint32
	started int64
}

func sessionOf(ctx context.Context, conn *pgx.Conn, c engine.Conn) (s session, err error) {
	const sql = "SELECT pg_backend_pid(), (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint"
	if err := conn.QueryRow(ctx, sql).Scan(&s.pid, &s.started); err != nil {
		return session{}, queryError(ctx, err, c, "asking for the session")
	}
	return s, nil
}
