package postgres

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dataguardian/dataguardian/internal/engine"
)

const (
	undefinedTable = "42P01"
	closeTimeout   = 5 * time.Second
)

var _ engine.Inspector = (*Engine)(nil)

// CountRows implements engine.Inspector. A partitioned or inherited table is
// counted without its children, as a dump holds it.
func (e *Engine) CountRows(ctx context.Context, c engine.Conn, tables []engine.Table) ([]int64, error) {
	conn, err := e.connect(ctx, c)
	if err != nil {
		return nil, err
	}
	defer closeConn(conn)
	counts := make([]int64, 0, len(tables))
	for _, t := range tables {
		var n int64
		err := conn.QueryRow(ctx, "SELECT count(*) FROM ONLY "+pgx.Identifier{t.Schema, t.Name}.Sanitize()).Scan(&n)
		if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == undefinedTable {
			n, err = -1, nil
		}
		if err != nil {
			return nil, e.explain(ctx, c, err)
		}
		counts = append(counts, n)
	}
	return counts, nil
}

// DropDatabase implements engine.Inspector.
func (e *Engine) DropDatabase(ctx context.Context, c engine.Conn) error {
	maintenance := c
	maintenance.Database = "postgres"
	if c.Database == maintenance.Database {
		maintenance.Database = "template1"
	}
	conn, err := e.connect(ctx, maintenance)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	drop := "DROP DATABASE IF EXISTS " + pgx.Identifier{c.Database}.Sanitize()
	if version, err := strconv.Atoi(conn.PgConn().ParameterStatus("server_version_num")); err == nil && version >= 130000 {
		drop += " WITH (FORCE)"
	}
	_, err = conn.Exec(ctx, drop)
	if err != nil {
		return e.explain(ctx, c, err)
	}
	return nil
}

// closeConn says goodbye; a server that does not hear it loses nothing.
func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = conn.Close(ctx)
}
