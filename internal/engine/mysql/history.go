package mysql

import (
	"bytes"
	"context"
	"slices"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
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
		forbidden, err := s.forbidsHistory(ctx)
		if forbidden {
			d.warn("the backup has the history of system-versioned tables (" + listed(names) + "), which this server itself takes back from nobody, as it runs with --secure-timestamp=YES: it can be restored into a server that does not")
		}
		return err
	}
	d.warn("the backup has no history of system-versioned tables, only their current rows (" + listed(names) + "): " + why)
	return nil
}

// forbidsHistory reports whether MariaDB lets nobody write rows with times of their own.
func (s *session) forbidsHistory(ctx context.Context) (bool, error) {
	on, err := s.pairs(ctx, "SHOW GLOBAL VARIABLES LIKE 'secure_timestamp'")
	return len(on) > 0 && on[0][1] == "YES", err
}

// refuseHistory fails before the load with what would fail it in its middle. Some tables
// may be without history, so a restore of some is tried.
func (r *restore) refuseHistory(ctx context.Context, s *session, head []byte) error {
	if len(r.options.IncludeTables) > 0 || r.server.Flavor != engine.MariaDB || !bytes.Contains(head, []byte("@@session.system_versioning_insert_history=1 */")) {
		return nil
	}
	if forbidden, err := s.forbidsHistory(ctx); err != nil || !forbidden {
		return err
	}
	return errs.New(errs.Conflict, errs.CodeRestoreNotSupported, "the backup has the history of system-versioned tables, and %s takes no history, as it runs with --secure-timestamp=YES: %s", where(r.conn), historyAdvice)
}

const historyAdvice = "start it with another value of secure_timestamp for the restore (NO, or SUPER or REPLICATION where the user has that right), or restore into another server"
