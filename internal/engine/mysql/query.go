package mysql

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/engine/query"
	"github.com/dataguardian/dataguardian/internal/engine/tool"
	"github.com/dataguardian/dataguardian/internal/errs"
)

var _ engine.Explorer = (*Engine)(nil)

// goodbye is how much longer than its statement a query may take to connect, end
// and clean up.
const goodbye = 5 * time.Second

// codeReadOnly is ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION.
const codeReadOnly = "1792"

var dialect = query.Dialect{
	Reads: []string{"SELECT", "WITH", "VALUES", "TABLE", "SHOW", "DESCRIBE", "DESC", "EXPLAIN"}, Refused: codeReadOnly,
	HashComments: true, CodeComments: true,
}

// files are the words by which a statement that reads reaches the server's files,
// which its read-only mode does not prevent. They are refused wherever they stand:
// what is text and what is not depends on settings of the server.
var files = regexp.MustCompile(`(?i)\b(outfile|dumpfile|load_file)\b`)

// Query implements engine.Explorer. Several statements at once are an error of
// syntax, as the protocol's option for them is off. Times are in UTC.
func (e *Engine) Query(ctx context.Context, c engine.Conn, text string, l engine.QueryLimits) (engine.QueryResult, error) {
	if err := check(text); err != nil {
		return engine.QueryResult{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, l.Timeout+e.connectTimeout+goodbye)
	defer cancel()
	var wire *query.Bounded
	s, err := e.readOnly(ctx, c, l.Timeout, l.Rows+1, func(cfg *driver.Config) {
		cfg.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := (&net.Dialer{Timeout: cfg.Timeout}).DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			wire = query.Bound(conn, query.MaxRow+2*l.Bytes)
			return wire, nil
		}
	})
	if err != nil {
		return engine.QueryResult{}, err
	}
	defer s.close()
	began := time.Now()
	rows, err := s.collect(ctx, text, l)
	switch {
	case err != nil && wire.Exceeded() && rows != nil:
		rows.CutShort()
	case err != nil:
		return engine.QueryResult{}, s.failedQuery(ctx, err, l)
	}
	return rows.Result(time.Since(began))
}

func check(text string) error {
	if err := dialect.Check(text); err != nil {
		return err
	}
	if word := files.FindString(text); word != "" {
		return errs.New(errs.Invalid, errs.CodeQueryFailed,
			"the word %s is not accepted here, wherever it stands, as it reaches files of the database's server; use the database's own client", strings.ToUpper(word)).With("code", codeReadOnly)
	}
	return nil
}

// readOnly connects and begins a transaction that reads, with a limit on time and
// one on rows for statements without a LIMIT of their own.
func (e *Engine) readOnly(ctx context.Context, c engine.Conn, limit time.Duration, rows int, edit ...func(*driver.Config)) (*session, error) {
	s, err := e.connect(ctx, c, c.Database, edit...)
	if err != nil {
		return nil, err
	}
	if err := s.beginReading(ctx, limit, rows); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *session) beginReading(ctx context.Context, limit time.Duration, rows int) error {
	info, err := s.serverInfo(ctx)
	if err != nil {
		return err
	}
	timeout := fmt.Sprintf("SET SESSION max_execution_time = %d", limit.Milliseconds())
	if info.Flavor == engine.MariaDB {
		timeout = fmt.Sprintf("SET SESSION max_statement_time = %f", limit.Seconds())
	}
	for _, statement := range []string{
		timeout, fmt.Sprintf("SET SESSION sql_select_limit = %d", rows), "SET SESSION time_zone = '+00:00'", "START TRANSACTION READ ONLY",
	} {
		if _, err := s.conn.ExecContext(ctx, statement); err != nil {
			return s.failed(ctx, err, "beginning a read-only transaction")
		}
	}
	return nil
}

// collect runs a statement. With an error, what was read before it is returned too.
func (s *session) collect(ctx context.Context, text string, l engine.QueryLimits) (*query.Rows, error) {
	// Closing rows reads them to the end; the end of their context does not.
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	found, err := s.conn.QueryContext(ctx, text)
	if err != nil {
		return nil, err
	}
	defer func() { stop(); _ = found.Close() }()
	types, err := found.ColumnTypes()
	if err != nil {
		return nil, err
	}
	columns := make([]string, len(types))
	for i, t := range types {
		columns[i] = t.Name()
	}
	rows := query.NewRows(columns, l)
	values, into := make([]any, len(types)), make([]any, len(types))
	for i := range values {
		into[i] = &values[i]
	}
	for found.Next() {
		if err := found.Scan(into...); err != nil {
			return rows, err
		}
		if rows.Full(length(values), len(values)) {
			return rows, nil
		}
		rows.Add(shown(types, values))
	}
	return rows, found.Err()
}

func length(values []any) (n int64) {
	for _, v := range values {
		if text, ok := v.([]byte); ok {
			n += int64(len(text))
		}
	}
	return n
}

func shown(types []*sql.ColumnType, values []any) []any {
	row := make([]any, len(values))
	for i, v := range values {
		row[i] = shownValue(types[i].DatabaseTypeName(), v)
	}
	return row
}

// shownValue turns what the driver made of a value into what JSON has.
func shownValue(kind string, value any) any {
	switch v := value.(type) {
	case int64:
		return query.Number(strconv.FormatInt(v, 10))
	case uint64:
		return query.Number(strconv.FormatUint(v, 10))
	case float32:
		return query.Float(strconv.FormatFloat(float64(v), 'g', -1, 32))
	case float64:
		return query.Float(strconv.FormatFloat(v, 'g', -1, 64))
	case []byte:
		return shownText(kind, v)
	}
	return nil
}

func shownText(kind string, v []byte) any {
	switch kind {
	case "DECIMAL":
		return query.Number(string(v))
	case "JSON":
		return query.JSON(v)
	case "DATETIME":
		return query.LocalTime(string(v))
	case "TIMESTAMP": // the session's zone is UTC
		return query.Instant(string(v) + "Z")
	case "BIT":
		return query.Number(strconv.FormatUint(bits(v), 10))
	case "BINARY", "VARBINARY", "TINYBLOB", "BLOB", "MEDIUMBLOB", "LONGBLOB", "GEOMETRY", "VECTOR":
		return fmt.Sprintf("0x%X", v)
	}
	return query.Text(string(v))
}

// bits reads a bit field of at most 64 bits.
func bits(v []byte) uint64 {
	var whole [8]byte
	copy(whole[max(0, 8-len(v)):], v)
	return binary.BigEndian.Uint64(whole[:])
}

// Numbers of a statement that was ended by its time limit: of MariaDB, of MySQL.
const (
	numberStatementTime = 1969
	numberExecutionTime = 3024
)

// failedQuery says why a statement did not run.
func (s *session) failedQuery(ctx context.Context, err error, l engine.QueryLimits) error {
	my, ok := errors.AsType[*driver.MySQLError](err)
	if !ok || ctx.Err() != nil {
		return s.failed(ctx, err, "running the statement")
	}
	code := strconv.Itoa(int(my.Number))
	if my.Number == numberStatementTime || my.Number == numberExecutionTime {
		return query.TimedOut(my, code, l.Timeout)
	}
	failure := query.Failed(my, code, tool.Redact(my.Message, s.target.Password))
	if my.SQLState != [5]byte{} {
		failure = failure.With("sqlstate", string(my.SQLState[:]))
	}
	return failure
}
