package mysql

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// table is one table, view or sequence of the database.
type table struct {
	name   string
	view   bool // it has no rows of its own
	engine string
	bytes  int64

	versioned bool // MariaDB keeps its old rows, see history.go
}

func (s *session) tables(ctx context.Context) ([]table, error) {
	rows, err := s.conn.QueryContext(ctx, `
		SELECT table_name, table_type NOT IN ('BASE TABLE', 'SYSTEM VERSIONED'), coalesce(engine, ''), coalesce(data_length, 0), table_type = 'SYSTEM VERSIONED'
		FROM information_schema.tables WHERE table_schema = DATABASE() ORDER BY table_name`)
	if err != nil {
		return nil, s.failed(ctx, err, "listing tables")
	}
	defer rows.Close() //nolint:errcheck // Err tells
	var all []table
	for rows.Next() {
		var t table
		if err := rows.Scan(&t.name, &t.view, &t.engine, &t.bytes, &t.versioned); err != nil {
			return nil, s.failed(ctx, err, "listing tables")
		}
		all = append(all, t)
	}
	if err := rows.Err(); err != nil {
		return nil, s.failed(ctx, err, "listing tables")
	}
	return all, nil
}

// selection is what a dump takes.
type selection struct {
	whole     bool    // everything there is, also what is made meanwhile
	full      []table // with their rows
	emptied   []table // without
	missing   []string
	partially bool // only some tables: no routines, no events
}

// choose applies the options' literal names: "table", or "database.table".
func choose(all []table, database string, o engine.DumpOptions) (selection, error) {
	match := func(names []string) (found map[string]bool, absent []string) {
		found = map[string]bool{}
		for _, name := range names {
			exact := slices.ContainsFunc(all, func(t table) bool { return t.name == name })
			if short, ok := strings.CutPrefix(name, database+"."); ok && !exact {
				exact = slices.ContainsFunc(all, func(t table) bool { return t.name == short })
				name = short
			}
			if exact {
				found[name] = true
			} else {
				absent = append(absent, name)
			}
		}
		return found, absent
	}
	included, absent := match(o.IncludeTables)
	if len(absent) > 0 {
		return selection{}, errs.New(errs.Invalid, errs.CodeDumpFailed,
			"database %q has no table %q of include_tables: correct the name", database, absent[0])
	}
	excluded, noTable := match(o.ExcludeTables)
	emptied, noData := match(o.ExcludeTableData)
	s := selection{
		missing:   append(noTable, noData...),
		partially: len(included) > 0,
		whole:     len(included)+len(excluded)+len(emptied) == 0,
	}
	for _, t := range all {
		switch {
		case excluded[t.name], s.partially && !included[t.name]:
		case emptied[t.name] && !t.view:
			s.emptied = append(s.emptied, t)
		default:
			s.full = append(s.full, t)
		}
	}
	return s, nil
}

// inconsistent names the tables whose engine takes no part in the snapshot.
func (s selection) inconsistent() string {
	var names []string
	for _, t := range s.full {
		if !t.view && !slices.Contains([]string{"innodb", "rocksdb", "tokudb", "xtradb", ""}, strings.ToLower(t.engine)) {
			names = append(names, fmt.Sprintf("%s (%s)", t.name, t.engine))
		}
	}
	return listed(names)
}

func (s selection) bytes() (n int64) {
	for _, t := range s.full {
		n += t.bytes
	}
	return n
}

func (s selection) dataTables() (n int) {
	for _, t := range s.full {
		if !t.view {
			n++
		}
	}
	return n
}
