package mysql

import (
	"context"
	"time"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/engine/query"
)

// schemaTimeout limits each look into the information schema.
const schemaTimeout = 30 * time.Second

// One query each: the server joins these without an index.
const (
	relations = `SELECT table_name FROM information_schema.tables
		WHERE table_schema = DATABASE() AND table_type <> 'SEQUENCE' ORDER BY table_name`
	columns = `SELECT table_name, column_name, column_type, is_nullable = 'YES', column_key = 'PRI', column_default
		FROM information_schema.columns WHERE table_schema = DATABASE() ORDER BY table_name, ordinal_position LIMIT ?`
	uniques = `SELECT table_name, min(column_name), '' FROM information_schema.statistics
		WHERE table_schema = DATABASE() AND non_unique = 0 GROUP BY table_name, index_name HAVING count(*) = 1`
	foreigns = `SELECT table_name, column_name, concat(referenced_table_schema, '.', referenced_table_name, '.', referenced_column_name)
		FROM information_schema.key_column_usage
		WHERE table_schema = DATABASE() AND referenced_table_name IS NOT NULL
		ORDER BY table_name, column_name, constraint_name DESC`
)

// Schema implements engine.Explorer. A database is a schema here, and it is the
// only one.
func (e *Engine) Schema(ctx context.Context, c engine.Conn) ([]engine.Schema, error) {
	ctx, cancel := context.WithTimeout(ctx, schemaTimeout+e.connectTimeout+goodbye)
	defer cancel()
	s, err := e.readOnly(ctx, c, schemaTimeout, 2*engine.MaxColumns)
	if err != nil {
		return nil, err
	}
	defer s.close()
	tables, err := s.relations(ctx)
	if err != nil {
		return nil, err
	}
	byTable, err := s.columns(ctx)
	if err != nil {
		return nil, err
	}
	found := query.NewSchemas()
	if err := found.Add(c.Database, nil, false, engine.Column{}); err != nil {
		return nil, err
	}
	for _, table := range tables {
		if err := found.Add(c.Database, &table, false, engine.Column{}); err != nil {
			return nil, err
		}
		for _, column := range byTable[table] {
			if err := found.Add(c.Database, &table, true, column); err != nil {
				return nil, err
			}
		}
	}
	return found.All(), nil
}

func (s *session) relations(ctx context.Context) ([]string, error) {
	rows, err := s.conn.QueryContext(ctx, relations)
	if err != nil {
		return nil, s.failed(ctx, err, "reading the schema")
	}
	defer rows.Close() //nolint:errcheck // Err tells
	var names []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, s.failed(ctx, err, "reading the schema")
		}
		names = append(names, name)
	}
	if err := rows.Err(); err != nil {
		return nil, s.failed(ctx, err, "reading the schema")
	}
	return names, nil
}

// columnName is a column of the database.
type columnName struct{ table, column string }

// perColumn reads rows of table, column and a text.
func (s *session) perColumn(ctx context.Context, sql string) (map[columnName]string, error) {
	rows, err := s.conn.QueryContext(ctx, sql)
	if err != nil {
		return nil, s.failed(ctx, err, "reading the schema")
	}
	defer rows.Close() //nolint:errcheck // Err tells
	found := map[columnName]string{}
	for rows.Next() {
		var name columnName
		var value string
		if err := rows.Scan(&name.table, &name.column, &value); err != nil {
			return nil, s.failed(ctx, err, "reading the schema")
		}
		found[name] = value
	}
	if err := rows.Err(); err != nil {
		return nil, s.failed(ctx, err, "reading the schema")
	}
	return found, nil
}

// columns of each table, in their order.
func (s *session) columns(ctx context.Context) (map[string][]engine.Column, error) {
	unique, err := s.perColumn(ctx, uniques)
	if err != nil {
		return nil, err
	}
	foreign, err := s.perColumn(ctx, foreigns)
	if err != nil {
		return nil, err
	}
	rows, err := s.conn.QueryContext(ctx, columns, engine.MaxColumns+1)
	if err != nil {
		return nil, s.failed(ctx, err, "reading the schema")
	}
	defer rows.Close() //nolint:errcheck // Err tells
	found := map[string][]engine.Column{}
	for rows.Next() {
		var table string
		var c engine.Column
		if err := rows.Scan(&table, &c.Name, &c.Type, &c.Nullable, &c.PrimaryKey, &c.Default); err != nil {
			return nil, s.failed(ctx, err, "reading the schema")
		}
		name := columnName{table, c.Name}
		_, c.Unique = unique[name]
		if target, ok := foreign[name]; ok {
			c.ForeignKey = &target
		}
		if c.Default != nil && *c.Default == "NULL" && c.Nullable { // how MariaDB writes none
			c.Default = nil
		}
		found[table] = append(found[table], c)
	}
	if err := rows.Err(); err != nil {
		return nil, s.failed(ctx, err, "reading the schema")
	}
	return found, nil
}
