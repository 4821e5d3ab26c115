package mysql

import (
	"context"
	"strings"
)

// movable are the tables and sequences of a database.
func (s *session) movable(ctx context.Context, database string) ([]string, error) {
	return s.names(ctx, "SELECT table_name FROM information_schema.tables WHERE table_schema = ? AND table_type NOT LIKE '%VIEW' ORDER BY table_name", database)
}

func (s *session) dropTriggers(ctx context.Context, database string) error {
	names, err := s.names(ctx, "SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = ?", database)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := s.exec(ctx, "DROP TRIGGER "+ident(database)+"."+ident(name), "dropping triggers"); err != nil {
			return err
		}
	}
	return nil
}

// dropObjects drops views, routines and events.
func (s *session) dropObjects(ctx context.Context, database string) error {
	for kind, query := range map[string]string{
		"VIEW":      "SELECT table_name FROM information_schema.views WHERE table_schema = ?",
		"FUNCTION":  "SELECT routine_name FROM information_schema.routines WHERE routine_schema = ? AND routine_type = 'FUNCTION'",
		"PROCEDURE": "SELECT routine_name FROM information_schema.routines WHERE routine_schema = ? AND routine_type = 'PROCEDURE'",
		"PACKAGE":   "SELECT routine_name FROM information_schema.routines WHERE routine_schema = ? AND routine_type = 'PACKAGE'",
		"EVENT":     "SELECT event_name FROM information_schema.events WHERE event_schema = ?",
	} {
		names, err := s.names(ctx, query, database)
		if err != nil {
			return err
		}
		if err := s.drop(ctx, kind, database, names); err != nil {
			return err
		}
	}
	return nil
}

// drop drops objects of one kind.
func (s *session) drop(ctx context.Context, kind, database string, names []string) error {
	for _, name := range names {
		if err := s.exec(ctx, "DROP "+kind+" IF EXISTS "+ident(database)+"."+ident(name), "dropping a "+strings.ToLower(kind)); err != nil {
			return err
		}
	}
	return nil
}

// exec runs a statement that returns nothing.
func (s *session) exec(ctx context.Context, sql, doing string, args ...any) error {
	if _, err := s.conn.ExecContext(ctx, sql, args...); err != nil {
		return s.failed(ctx, err, doing)
	}
	return nil
}

// names returns the one column of a query.
func (s *session) names(ctx context.Context, query string, args ...any) (found []string, err error) {
	rows, err := s.conn.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, s.failed(ctx, err, "looking into the catalogue")
	}
	defer rows.Close() //nolint:errcheck // Err tells
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, s.failed(ctx, err, "looking into the catalogue")
		}
		found = append(found, name)
	}
	if err := rows.Err(); err != nil {
		return nil, s.failed(ctx, err, "looking into the catalogue")
	}
	return found, nil
}
