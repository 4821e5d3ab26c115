package mysql

import (
	"context"
	"strings"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// What a database can be besides its character set; the tools leave it out. MySQL tells
// READ ONLY since 8.0.22, MariaDB comments since 10.5. Quotes are doubled, as a backslash is
// none to sessions with NO_BACKSLASH_ESCAPES.
const (
	settingsOfMySQL = `SELECT trim(concat(coalesce(e.options, ''), if(s.default_encryption = 'YES', ' DEFAULT ENCRYPTION=''Y''', '')))
		FROM information_schema.schemata s JOIN information_schema.schemata_extensions e ON e.schema_name = s.schema_name WHERE s.schema_name = ?`
	settingsOfMariaDB = `SELECT if(schema_comment = '', '', concat('COMMENT=', quote(schema_comment))) FROM information_schema.schemata WHERE schema_name = ?`
	readOnlySetting   = "READ ONLY=1"
)

// settings are those of a database that are not the usual ones, as one would write them.
func (s *session) settings(ctx context.Context, database string, server engine.ServerInfo) (string, error) {
	query := settingsOfMySQL
	switch {
	case server.Flavor == engine.MariaDB && server.VersionNum >= 100500:
		query = settingsOfMariaDB
	case server.Flavor == engine.MariaDB, server.VersionNum < 80022:
		return "", nil
	}
	found, err := s.names(ctx, query, database)
	return strings.Join(found, ""), err
}

// warnOfSettings tells what a new database will not be.
func (d *dump) warnOfSettings(ctx context.Context, s *session) error {
	if d.selection.partially {
		return nil
	}
	found, err := s.settings(ctx, d.conn.Database, d.result.Server)
	if found != "" {
		d.warn("the backup does not hold these settings of the database, which a new one has to be given (ALTER DATABASE): " + found)
	}
	return err
}

// refuseReadOnly fails when nothing may change in the target.
func (r *restore) refuseReadOnly(ctx context.Context, s *session, exists bool) error {
	if !exists || r.server.Flavor != engine.MySQL {
		return nil
	}
	found, err := s.settings(ctx, r.conn.Database, r.server)
	if err != nil || !strings.Contains(found, readOnlySetting) {
		return err
	}
	return errs.New(errs.Conflict, errs.CodeRestoreFailed,
		"database %q is read only: ALTER DATABASE %s READ ONLY = 0, then start the restore again", r.conn.Database, ident(r.conn.Database))
}
