package mysql

import (
	"context"
	"errors"
	"slices"

	driver "github.com/go-sql-driver/mysql"

	"github.com/dataguardian/dataguardian/internal/engine"
)

// noSuchTable is the server's number for a table that is not there.
const noSuchTable = 1146

var _ engine.Inspector = (*Engine)(nil)

// CountRows implements engine.Inspector. A table is looked for in the database
// of c, whatever it was called where the dump was made.
func (e *Engine) CountRows(ctx context.Context, c engine.Conn, tables []engine.Table) ([]int64, error) {
	s, err := e.connect(ctx, c, c.Database)
	if err != nil {
		return nil, err
	}
	defer s.close()
	versioned, err := s.names(ctx, "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() AND table_type = 'SYSTEM VERSIONED'")
	if err != nil {
		return nil, err
	}
	counts := make([]int64, 0, len(tables))
	for _, t := range tables {
		var n int64
		rows := quoted(t.Name)
		if slices.Contains(versioned, t.Name) { // a dump without old rows restores none
			rows += " FOR SYSTEM_TIME ALL"
		}
		err := s.conn.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+rows).Scan(&n)
		if refused, ok := errors.AsType[*driver.MySQLError](err); ok && refused.Number == noSuchTable {
			n, err = -1, nil
		}
		if err != nil {
			return nil, s.failed(ctx, err, "counting the rows of "+t.Name)
		}
		counts = append(counts, n)
	}
	return counts, nil
}

// DropDatabase implements engine.Inspector. Sessions in it lose their database,
// which is all that ending them would do.
func (e *Engine) DropDatabase(ctx context.Context, c engine.Conn) error {
	s, err := e.connect(ctx, c, "")
	if err != nil {
		return err
	}
	defer s.close()
	if _, err := s.conn.ExecContext(ctx, "DROP DATABASE IF EXISTS "+quoted(c.Database)); err != nil {
		return s.failed(ctx, err, "dropping the database")
	}
	e.noteInert(c, nil)
	return nil
}

// quoted writes a name as an identifier.
func quoted(name string) string { return "`" + quoteName(name) + "`" }
