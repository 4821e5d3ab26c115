package mysql

import (
	"context"
	"slices"

	"github.com/dataguardian/dataguardian/internal/engine"
)

// historyVersion is MariaDB's and its tool's since they write and take old rows.
const historyVersion = 101100

// chooseHistory lets old rows of versioned tables be dumped, which the tool leaves out
// unless it is told. Where it cannot, that is told.
func (d *dump) chooseHistory(ctx context.Context, s *session) error {
	var names []string
	for _, t := range d.selection.full {
		if t.versioned {
			names = append(names, t.name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	// The tool refuses a whole dump with one of these.
	precise, err := s.names(ctx, `SELECT table_name FROM information_schema.columns
		WHERE table_schema = ? AND generation_expression = 'ROW START' AND data_type = 'bigint' ORDER BY table_name`, d.conn.Database)
	if err != nil {
		return err
	}
	precise = slices.DeleteFunc(precise, func(name string) bool { return !slices.Contains(names, name) })
	var why string
	switch {
	case len(precise) > 0:
		why = "mariadb-dump does not write that of transaction-precise ones (" + listed(precise) + "), nor of any other table along with them: give those a job of their own"
	case d.tool.flavor != engine.MariaDB || d.tool.num < historyVersion:
		why = d.tool.String() + " does not write it: install mariadb-client 10.11 or newer"
	case d.result.Server.VersionNum < historyVersion:
		why = "MariaDB takes it back since 10.11"
	default:
		d.history = true
		return nil
	}
	d.warn("the backup has no history of system-versioned tables, only their current rows (" + listed(names) + "): " + why)
	return nil
}
