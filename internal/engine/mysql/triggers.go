package mysql

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
)

// trigger is one with what it was made under.
type trigger struct {
	Name      string `json:"name"`
	Table     string `json:"table"`
	Mode      string `json:"mode"`
	Client    string `json:"client"`    // character set
	Collation string `json:"collation"` // of the connection
	Default   string `json:"default"`   // collation of the database
	Statement []byte `json:"statement"` // in that character set
}

// triggers are those of tables, in the order in which they are to be made.
func (s *session) triggers(ctx context.Context, database string, tables []string) (all []trigger, err error) {
	if len(tables) == 0 {
		return nil, nil
	}
	rows, err := s.conn.QueryContext(ctx, `SELECT trigger_name, event_object_table, sql_mode, character_set_client, collation_connection, database_collation
		FROM information_schema.triggers WHERE trigger_schema = ? ORDER BY event_object_table, event_manipulation, action_timing, action_order`, database)
	if err != nil {
		return nil, s.failed(ctx, err, "looking for triggers")
	}
	defer rows.Close() //nolint:errcheck // Err tells
	for rows.Next() {
		var t trigger
		if err := rows.Scan(&t.Name, &t.Table, &t.Mode, &t.Client, &t.Collation, &t.Default); err != nil {
			return nil, s.failed(ctx, err, "looking for triggers")
		}
		if slices.Contains(tables, t.Table) {
			all = append(all, t)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, s.failed(ctx, err, "looking for triggers")
	}
	return all, nil
}

// withStatements fills in what makes the triggers, byte for byte.
func (s *session) withStatements(ctx context.Context, database string, triggers []trigger) error {
	if len(triggers) == 0 {
		return nil
	}
	if err := s.exec(ctx, "SET SESSION character_set_results = NULL", "reading triggers"); err != nil {
		return err
	}
	for i := range triggers {
		var err error
		if triggers[i].Statement, err = s.createTrigger(ctx, database, triggers[i].Name); err != nil {
			return err
		}
	}
	return s.exec(ctx, "SET SESSION character_set_results = utf8mb4", "reading triggers")
}

func (s *session) createTrigger(ctx context.Context, database, name string) (statement []byte, err error) {
	rows, err := s.conn.QueryContext(ctx, "SHOW CREATE TRIGGER "+ident(database)+"."+ident(name))
	if err != nil {
		return nil, s.failed(ctx, err, "reading trigger "+name)
	}
	defer rows.Close() //nolint:errcheck // Err tells
	columns, err := rows.Columns()
	if err != nil {
		return nil, s.failed(ctx, err, "reading trigger "+name)
	}
	values := make([]any, len(columns))
	for i := range values {
		values[i] = new(sql.RawBytes)
	}
	values[2] = &statement
	for rows.Next() {
		if err := rows.Scan(values...); err != nil {
			return nil, s.failed(ctx, err, "reading trigger "+name)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, s.failed(ctx, err, "reading trigger "+name)
	}
	return statement, nil
}

// makeMissing makes those of the triggers that are not there. The session is in their
// database and good for nothing else afterwards.
func (s *session) makeMissing(ctx context.Context, database string, triggers []trigger) error {
	there, err := s.names(ctx, "SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = ?", database)
	if err != nil {
		return err
	}
	now, err := s.charset(ctx)
	if err != nil {
		return err
	}
	for _, t := range triggers {
		if slices.Contains(there, t.Name) {
			continue
		}
		if err := s.makeTrigger(ctx, database, now.collation, t); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) makeTrigger(ctx context.Context, database, collation string, t trigger) (err error) {
	doing := "making trigger " + t.Name + " again"
	if t.Default != collation {
		if err := s.exec(ctx, "ALTER DATABASE "+ident(database)+" COLLATE "+t.Default, doing); err != nil {
			return err
		}
		defer func() {
			err = also(err, s.exec(ctx, "ALTER DATABASE "+ident(database)+" COLLATE "+collation, doing))
		}()
	}
	if err := s.exec(ctx, fmt.Sprintf("SET SESSION sql_mode = '%s', character_set_client = %s, collation_connection = %s", t.Mode, t.Client, t.Collation), doing); err != nil {
		return err
	}
	err = s.exec(ctx, string(t.Statement), doing)
	return also(err, s.exec(ctx, "SET SESSION character_set_client = utf8mb4", doing))
}
