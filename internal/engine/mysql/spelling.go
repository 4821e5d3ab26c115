package mysql

import (
	"context"
	"slices"
	"strings"
)

// spelling is a database's name as the server writes it. One that folds case
// (lower_case_table_names) takes every spelling of a name, and gives back, and stores with
// grants, its own only: so that is the one to compare with.
func (s *session) spelling(ctx context.Context, database string) (name string, folds bool, err error) {
	const doing = "asking for the spelling of the database"
	var mode int
	if err := s.conn.QueryRowContext(ctx, "SELECT @@lower_case_table_names").Scan(&mode); err != nil {
		return "", false, s.failed(ctx, err, doing)
	}
	if mode == 0 {
		return database, false, nil
	}
	found, err := s.names(ctx, "SELECT schema_name FROM information_schema.schemata WHERE lower(schema_name) = lower(?)", database)
	if err != nil {
		return "", false, err
	}
	switch {
	case len(found) > 0:
		return found[0], true, nil
	case mode == 2: // it is made as it is written
		return database, true, nil
	}
	if err := s.conn.QueryRowContext(ctx, "SELECT lower(?)", database).Scan(&name); err != nil {
		return "", false, s.failed(ctx, err, doing)
	}
	return name, true, nil
}

// respelled are names of tables, those of one database under another spelling of it.
func respelled(tables []string, from, to string) []string {
	tables = slices.Clone(tables)
	for i, name := range tables {
		if short, ok := strings.CutPrefix(name, from+"."); ok {
			tables[i] = to + "." + short
		}
	}
	return tables
}

func (d *dump) respell(ctx context.Context, s *session) error {
	name, _, err := s.spelling(ctx, d.conn.Database)
	if err != nil || name == d.conn.Database {
		return err
	}
	for _, tables := range []*[]string{&d.options.IncludeTables, &d.options.ExcludeTables, &d.options.ExcludeTableData} {
		*tables = respelled(*tables, d.conn.Database, name)
	}
	d.conn.Database = name
	return nil
}

func (r *restore) respell(ctx context.Context, s *session) (err error) {
	var name string
	if name, r.folds, err = s.spelling(ctx, r.conn.Database); err != nil || name == r.conn.Database {
		return err
	}
	r.options.IncludeTables = respelled(r.options.IncludeTables, r.conn.Database, name)
	r.conn.Database = name
	return nil
}
