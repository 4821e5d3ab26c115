package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/engine/query"
	"github.com/dataguardian/dataguardian/internal/engine/tool"
)

var _ engine.Explorer = (*Engine)(nil)

const (
	stateCancelled = "57014"
	stateReadOnly  = "25006"
)

// goodbye is how much longer than its statement a query may take to connect, end
// and clean up.
const goodbye = 5 * time.Second

var dialect = query.Dialect{
	Reads: []string{"SELECT", "WITH", "VALUES", "TABLE", "SHOW", "EXPLAIN"}, Refused: stateReadOnly, NestedComments: true,
}

// Query implements engine.Explorer. It goes by the extended protocol, in which a
// second statement is an error of syntax.
func (e *Engine) Query(ctx context.Context, c engine.Conn, sql string, l engine.QueryLimits) (engine.QueryResult, error) {
	if err := dialect.Check(sql); err != nil {
		return engine.QueryResult{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, l.Timeout+e.connectTimeout+goodbye)
	defer cancel()
	conn, err := e.readOnly(ctx, c, l.Timeout)
	if err != nil {
		return engine.QueryResult{}, err
	}
	defer rollBack(ctx, conn)
	conn.PgConn().Frontend().SetMaxBodyLen(query.MaxRow)
	began := time.Now()
	rows, err := collect(ctx, conn, sql, l)
	if err != nil {
		return engine.QueryResult{}, failedQuery(ctx, err, c, l)
	}
	return rows.Result(time.Since(began))
}

// readOnly connects and begins a transaction that reads. What it sets is gone with
// the transaction: a pooler may give the session to somebody else.
func (e *Engine) readOnly(ctx context.Context, c engine.Conn, limit time.Duration) (*pgx.Conn, error) {
	conn, err := e.connect(ctx, c)
	if err != nil {
		return nil, err
	}
	begin := fmt.Sprintf(`BEGIN READ ONLY; SET LOCAL statement_timeout = %d; SET LOCAL datestyle = 'ISO'; SET LOCAL bytea_output = 'hex'`, limit.Milliseconds())
	if _, err := conn.PgConn().Exec(ctx, begin).ReadAll(); err != nil {
		closeConn(ctx, conn)
		return nil, queryError(ctx, err, c, "beginning a read-only transaction")
	}
	return conn, nil
}

// rollBack ends a transaction and its connection; a server rolls back by itself
// what was not ended.
func rollBack(ctx context.Context, conn *pgx.Conn) {
	if !conn.IsClosed() {
		_, _ = conn.PgConn().Exec(ctx, "ROLLBACK").ReadAll() // closing does it, too
	}
	closeConn(ctx, conn)
}

func collect(ctx context.Context, conn *pgx.Conn, sql string, l engine.QueryLimits) (*query.Rows, error) {
	answer := conn.PgConn().ExecParams(ctx, sql, nil, nil, nil, nil)
	fields := answer.FieldDescriptions()
	columns := make([]string, len(fields))
	for i, f := range fields {
		columns[i] = f.Name
	}
	rows, full := query.NewRows(columns, l), false
	for answer.NextRow() {
		values := answer.Values()
		if full = rows.Full(length(values), len(values)); full {
			break
		}
		rows.Add(shown(fields, values))
	}
	if full {
		stop(ctx, conn, answer)
		return rows, nil
	}
	_, err := answer.Close()
	if large, ok := errors.AsType[*pgproto3.ExceededMaxBodyLenErr](err); ok {
		if len(columns) == 0 {
			return nil, large
		}
		rows.CutShort()
		return rows, nil
	}
	return rows, err
}

// stop ends a statement of which enough was seen. How it ends says nothing: it may
// be over already.
func stop(ctx context.Context, conn *pgx.Conn, answer *pgconn.ResultReader) {
	if err := conn.PgConn().CancelRequest(ctx); err != nil {
		_ = conn.PgConn().Close(ctx)
		return
	}
	_, _ = answer.Close()
}

func length(values [][]byte) (n int64) {
	for _, v := range values {
		n += int64(len(v))
	}
	return n
}

func shown(fields []pgconn.FieldDescription, values [][]byte) []any {
	row := make([]any, len(values))
	for i, v := range values {
		if v != nil {
			row[i] = shownValue(fields[i].DataTypeOID, v)
		}
	}
	return row
}

// shownValue turns the server's text of a value into what JSON has.
func shownValue(oid uint32, v []byte) any {
	switch oid {
	case pgtype.BoolOID:
		return string(v) == "t"
	case pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.OIDOID, pgtype.NumericOID:
		return query.Number(string(v))
	case pgtype.Float4OID, pgtype.Float8OID:
		return query.Float(string(v))
	case pgtype.JSONOID, pgtype.JSONBOID:
		return query.JSON(v)
	case pgtype.TimestamptzOID:
		return query.Instant(string(v))
	case pgtype.TimestampOID:
		return query.LocalTime(string(v))
	}
	return query.Text(string(v))
}

// failedQuery says why a statement did not run.
func failedQuery(ctx context.Context, err error, c engine.Conn, l engine.QueryLimits) error {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case !ok:
		return queryError(ctx, err, c, "running the statement")
	case pg.Code == stateCancelled:
		return query.TimedOut(pg, pg.Code, l.Timeout)
	case pg.Code == stateAdminShutdown, pg.Code == stateCrashShutdown:
		return serverError(pg, c)
	}
	failure := query.Failed(pg, pg.Code, tool.Redact(pg.Message, c.Password))
	if pg.Position > 0 {
		failure = failure.With("position", int(pg.Position))
	}
	if pg.Hint != "" {
		failure = failure.With("hint", query.Words(tool.Redact(pg.Hint, c.Password)))
	}
	return failure
}
