package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dataguardian/dataguardian/internal/engine"
)

const (
	undefinedTable = "42P01"
	// forcedDropSince is the version that drops a database with its sessions.
	forcedDropSince = 130000
)

var _ engine.Inspector = (*Engine)(nil)

// CountRows implements engine.Inspector. A partitioned or inherited table is
// counted without its children, as a dump holds it.
func (e *Engine) CountRows(ctx context.Context, c engine.Conn, tables []engine.Table) ([]int64, error) {
	conn, err := e.connect(ctx, c)
	if err != nil {
		return nil, err
	}
	defer closeConn(ctx, conn)
	counts := make([]int64, 0, len(tables))
	for _, t := range tables {
		var n int64
		err := conn.QueryRow(ctx, "SELECT count(*) FROM ONLY "+pgx.Identifier{t.Schema, t.Name}.Sanitize()).Scan(&n)
		if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == undefinedTable {
			n, err = -1, nil
		}
		if err != nil {
			return nil, queryError(ctx, err, c, "counting the rows of "+t.Schema+"."+t.Name)
		}
		counts = append(counts, n)
	}
	return counts, nil
}

// DropDatabase implements engine.Inspector.
func (e *Engine) DropDatabase(ctx context.Context, c engine.Conn) error {
	conn, err := e.maintenance(ctx, c)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	server, err := serverInfo(ctx, conn, c)
	if err != nil {
		return err
	}
	drop := "DROP DATABASE IF EXISTS " + pgx.Identifier{c.Database}.Sanitize()
	if server.VersionNum >= forcedDropSince {
		drop += " WITH (FORCE)"
	}
	if _, err := conn.Exec(ctx, drop); err != nil {
		return queryError(ctx, err, c, "dropping the database")
	}
	return nil
}
