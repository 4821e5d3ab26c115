package mysql

import (
	"context"
	"slices"
	"strings"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// movable are the tables and sequences of a database.
func (s *session) movable(ctx context.Context, database string) ([]string, error) {
	return s.names(ctx, "SELECT table_name FROM information_schema.tables WHERE table_schema = ? AND table_type NOT LIKE '%VIEW' ORDER BY table_name", database)
}

// views are those of a database.
func (s *session) views(ctx context.Context, database string) ([]string, error) {
	return s.names(ctx, "SELECT table_name FROM information_schema.views WHERE table_schema = ?", database)
}

// dropTriggers drops the triggers of tables.
func (s *session) dropTriggers(ctx context.Context, database string, tables []string) error {
	if len(tables) == 0 {
		return nil
	}
	triggers, err := s.pairs(ctx, "SELECT trigger_name, event_object_table FROM information_schema.triggers WHERE trigger_schema = ?", database)
	if err != nil {
		return err
	}
	var names []string
	for _, t := range triggers {
		if slices.Contains(tables, t[1]) {
			names = append(names, t[0])
		}
	}
	return s.drop(ctx, "TRIGGER", database, names)
}

// move moves tables; all of them or none. It is not interrupted: what a server does
// with a statement that nobody waits for would not be known. lock_wait_timeout ends it.
func (s *session) move(ctx context.Context, target string, moves []string) error {
	if len(moves) == 0 {
		return nil
	}
	ctx = context.WithoutCancel(ctx)
	if _, err := s.conn.ExecContext(ctx, "RENAME TABLE "+strings.Join(moves, ", ")); err != nil {
		return errs.Wrap(s.failed(ctx, err, "moving tables"), errs.Unavailable, errs.CodeRestoreFailed,
			"the restored tables could not take the place of those of %q: %s", target, reason(err))
	}
	return nil
}

func renames(tables []string, from, to string) []string {
	moves := make([]string, 0, len(tables))
	for _, t := range tables {
		moves = append(moves, ident(from)+"."+ident(t)+" TO "+ident(to)+"."+ident(t))
	}
	return moves
}

// object is what a database has besides tables and their triggers.
type object struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
}

// objectsOf are the views, routines, events and libraries of a database.
func (s *session) objectsOf(ctx context.Context, database string) (all []object, err error) {
	for _, q := range []struct{ kind, query string }{
		{"VIEW", "SELECT table_name FROM information_schema.views WHERE table_schema = ?"},
		{"FUNCTION", "SELECT routine_name FROM information_schema.routines WHERE routine_schema = ? AND routine_type = 'FUNCTION'"},
		{"PROCEDURE", "SELECT routine_name FROM information_schema.routines WHERE routine_schema = ? AND routine_type = 'PROCEDURE'"},
		{"PACKAGE", "SELECT routine_name FROM information_schema.routines WHERE routine_schema = ? AND routine_type = 'PACKAGE'"},
		{"EVENT", "SELECT event_name FROM information_schema.events WHERE event_schema = ?"},
	} {
		names, err := s.names(ctx, q.query, database)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			all = append(all, object{q.kind, name})
		}
	}
	libraries, err := s.libraries(ctx, database)
	for _, name := range libraries {
		all = append(all, object{"LIBRARY", name})
	}
	return all, err
}

// dropObjects drops all views, routines, events and libraries.
func (s *session) dropObjects(ctx context.Context, database string) error {
	all, err := s.objectsOf(ctx, database)
	if err != nil {
		return err
	}
	return s.dropThese(ctx, database, all)
}

// dropThese drops those of the objects that are there.
func (s *session) dropThese(ctx context.Context, database string, objects []object) error {
	for _, o := range objects {
		if err := s.drop(ctx, o.Kind, database, []string{o.Name}); err != nil {
			return err
		}
	}
	return nil
}

// drop drops objects of one kind.
func (s *session) drop(ctx context.Context, kind, database string, names []string) error {
	for _, name := range names {
		if err := s.execOf(ctx, kind, "DROP "+kind+" IF EXISTS "+ident(database)+"."+ident(name), "dropping a "+strings.ToLower(kind)); err != nil {
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

// execOf runs a statement about an object of a kind; before 11.4 MariaDB knows packages in
// Oracle's mode only.
func (s *session) execOf(ctx context.Context, kind, sql, doing string) (err error) {
	if kind != "PACKAGE" {
		return s.exec(ctx, sql, doing)
	}
	if err := s.exec(ctx, "SET @dg_mode = @@sql_mode, SESSION sql_mode = 'ORACLE'", doing); err != nil {
		return err
	}
	defer func() { err = also(err, s.exec(ctx, "SET SESSION sql_mode = @dg_mode", doing)) }()
	return s.exec(ctx, sql, doing)
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

// pairs returns the two columns of a query.
func (s *session) pairs(ctx context.Context, query string, args ...any) (found [][2]string, err error) {
	rows, err := s.conn.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, s.failed(ctx, err, "looking into the catalogue")
	}
	defer rows.Close() //nolint:errcheck // Err tells
	for rows.Next() {
		var pair [2]string
		if err := rows.Scan(&pair[0], &pair[1]); err != nil {
			return nil, s.failed(ctx, err, "looking into the catalogue")
		}
		found = append(found, pair)
	}
	if err := rows.Err(); err != nil {
		return nil, s.failed(ctx, err, "looking into the catalogue")
	}
	return found, nil
}
