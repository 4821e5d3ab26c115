package mysql

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/dataguardian/dataguardian/internal/engine"
)

// foreignKey is a constraint, by names.
type foreignKey struct {
	Name       string   `json:"name"`
	Table      string   `json:"table"`
	Columns    []string `json:"columns"`
	RefSchema  string   `json:"ref_schema"`
	RefTable   string   `json:"ref_table"`
	RefColumns []string `json:"ref_columns"`
	OnUpdate   string   `json:"on_update"`
	OnDelete   string   `json:"on_delete"`
}

// foreignKeys are those of the tables of a database.
func (s *session) foreignKeys(ctx context.Context, database string) ([]foreignKey, error) {
	rows, err := s.conn.QueryContext(ctx, `
		SELECT k.constraint_name, k.table_name, k.column_name, k.referenced_table_schema, k.referenced_table_name, k.referenced_column_name, r.update_rule, r.delete_rule
		FROM information_schema.key_column_usage k JOIN information_schema.referential_constraints r
			ON r.constraint_schema = k.constraint_schema AND r.constraint_name = k.constraint_name AND r.table_name = k.table_name
		WHERE k.constraint_schema = ? AND k.table_schema = ? AND r.constraint_schema = ? AND k.referenced_table_name IS NOT NULL
		ORDER BY k.table_name, k.constraint_name, k.ordinal_position`, database, database, database)
	if err != nil {
		return nil, s.failed(ctx, err, "looking for foreign keys")
	}
	defer rows.Close() //nolint:errcheck // Err tells
	var all []foreignKey
	for rows.Next() {
		var k foreignKey
		var column, refColumn string
		if err := rows.Scan(&k.Name, &k.Table, &column, &k.RefSchema, &k.RefTable, &refColumn, &k.OnUpdate, &k.OnDelete); err != nil {
			return nil, s.failed(ctx, err, "looking for foreign keys")
		}
		if n := len(all); n == 0 || all[n-1].Table != k.Table || all[n-1].Name != k.Name {
			all = append(all, k)
		}
		last := &all[len(all)-1]
		last.Columns, last.RefColumns = append(last.Columns, column), append(last.RefColumns, refColumn)
	}
	if err := rows.Err(); err != nil {
		return nil, s.failed(ctx, err, "looking for foreign keys")
	}
	return all, nil
}

// references names tables of other databases whose foreign keys lead to tables of
// a database.
func (s *session) references(ctx context.Context, database string, tables []string) ([]string, error) {
	keys, err := s.pairs(ctx, `SELECT DISTINCT concat(table_schema, '.', table_name), referenced_table_name FROM information_schema.key_column_usage
		WHERE referenced_table_schema = ? AND table_schema <> referenced_table_schema`, database)
	if err != nil {
		return nil, err
	}
	var found []string
	for _, k := range keys {
		if slices.Contains(tables, k[1]) && !slices.Contains(found, k[0]) {
			found = append(found, k[0])
		}
	}
	return found, nil
}

func (s *session) dropKey(ctx context.Context, database string, k foreignKey) error {
	return s.exec(ctx, "ALTER TABLE "+ident(database)+"."+ident(k.Table)+" DROP FOREIGN KEY "+ident(k.Name), "dropping a foreign key")
}

// dropKeys drops those of the keys that are there.
func (s *session) dropKeys(ctx context.Context, database string, keys []foreignKey) error {
	return s.eachKey(ctx, database, keys, true, s.dropKey)
}

// addKeys adds those of the keys that are not there; they lead to tables of the
// same database. The session checks no foreign keys, as while a dump is restored.
func (s *session) addKeys(ctx context.Context, database string, flavor engine.Type, keys []foreignKey) error {
	return s.eachKey(ctx, database, keys, false, func(ctx context.Context, database string, k foreignKey) error {
		return s.exec(ctx, fmt.Sprintf("ALTER TABLE %s.%s ADD CONSTRAINT %s FOREIGN KEY (%s) REFERENCES %s.%s (%s)%s",
			ident(database), ident(k.Table), ident(k.Name), idents(k.Columns), ident(database), ident(k.RefTable), idents(k.RefColumns), k.rules(flavor)),
			"adding foreign key "+k.Name+" of table "+k.Table)
	})
}

// rules leaves out what is said by saying nothing: the servers call that by
// different names.
func (k foreignKey) rules(flavor engine.Type) (text string) {
	silent := "NO ACTION"
	if flavor == engine.MariaDB {
		silent = "RESTRICT"
	}
	if k.OnDelete != silent {
		text += " ON DELETE " + k.OnDelete
	}
	if k.OnUpdate != silent {
		text += " ON UPDATE " + k.OnUpdate
	}
	return text
}

// eachKey does something with those keys that are there, or are not.
func (s *session) eachKey(ctx context.Context, database string, keys []foreignKey, there bool, do func(context.Context, string, foreignKey) error) error {
	if len(keys) == 0 {
		return nil
	}
	found, err := s.foreignKeys(ctx, database)
	if err != nil {
		return err
	}
	for _, k := range keys {
		has := slices.ContainsFunc(found, func(f foreignKey) bool { return f.Table == k.Table && f.Name == k.Name })
		if has != there {
			continue
		}
		if err := do(ctx, database, k); err != nil {
			return err
		}
	}
	return nil
}

func idents(names []string) string {
	quoted := make([]string, 0, len(names))
	for _, name := range names {
		quoted = append(quoted, ident(name))
	}
	return strings.Join(quoted, ", ")
}
