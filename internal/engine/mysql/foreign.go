package mysql

import (
	"context"
	"fmt"
	"slices"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// foreign is a warning that a tool is of the other kind than the server; empty when it is
// of the server's own.
func (p program) foreign(flavor engine.Type) string {
	if p.flavor == flavor {
		return ""
	}
	return fmt.Sprintf("%s is %s's and not made for this server: %s", p, productOf(p.flavor), installation(flavor))
}

// The other kind's tool says that all went well, and what it wrote of these fails where it
// is restored, or is not there. MariaDB's writes the values of generated columns, which
// MySQL refuses (3105), and vectors as text (6136), and knows no libraries; MySQL's knows
// no packages.
const (
	ofGenerated = `SELECT DISTINCT table_name FROM information_schema.columns WHERE table_schema = ?
		AND (extra LIKE '%VIRTUAL GENERATED%' OR extra LIKE '%STORED GENERATED%') ORDER BY table_name`
	ofVectors   = `SELECT DISTINCT table_name FROM information_schema.columns WHERE table_schema = ? AND data_type = 'vector' ORDER BY table_name`
	ofLibraries = `SELECT library_name FROM information_schema.libraries WHERE library_schema = ? ORDER BY library_name` // since 9.2
	ofPackages  = `SELECT routine_name FROM information_schema.routines WHERE routine_schema = ? AND routine_type = 'PACKAGE' ORDER BY routine_name`
)

// writesLibraries is MySQL's and its tool's version since they know libraries.
const writesLibraries = 90200

// refuseLoss fails when the tool is of the other kind, or too old, and would lose something
// of what is selected, or fail at it.
func (d *dump) refuseLoss(ctx context.Context, s *session) error {
	server := d.result.Server
	if server.Flavor == engine.MySQL && d.tool.flavor != server.Flavor {
		filled := func(name string) bool {
			return slices.ContainsFunc(d.selection.full, func(t table) bool { return t.name == name && !t.view })
		}
		if err := s.refuseAny(ctx, d.tool, server, d.conn.Database, ofGenerated, "table %q has generated columns", filled); err != nil {
			return err
		}
		if err := s.refuseAny(ctx, d.tool, server, d.conn.Database, ofVectors, "table %q has vectors", filled); err != nil {
			return err
		}
	}
	if d.selection.partially {
		return nil
	}
	return s.refuseLostRoutines(ctx, d.tool, server, d.conn.Database)
}

// refuseLostRoutines is refuseLoss for what comes with the routines of a database.
func (s *session) refuseLostRoutines(ctx context.Context, p program, server engine.ServerInfo, database string) error {
	every := func(string) bool { return true }
	switch {
	case p.flavor == server.Flavor && (p.flavor != engine.MySQL || server.VersionNum < writesLibraries):
	case p.flavor == server.Flavor && p.num < writesLibraries:
		return s.refuseAny(ctx, p, server, database, ofLibraries, "%q is a library", every)
	case p.flavor == server.Flavor:
		return s.refuseOrphans(ctx, p, database)
	case server.Flavor == engine.MariaDB:
		return s.refuseAny(ctx, p, server, database, ofPackages, "%q is a package", every)
	case server.VersionNum >= writesLibraries:
		return s.refuseAny(ctx, p, server, database, ofLibraries, "%q is a library", every)
	}
	return nil
}

// refuseAny fails when a query of the database gives a name that matters.
func (s *session) refuseAny(ctx context.Context, p program, server engine.ServerInfo, database, query, what string, matters func(string) bool) error {
	names, err := s.names(ctx, query, database)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(names, matters)
	if i < 0 {
		return nil
	}
	return errs.New(errs.Unavailable, errs.CodeDumpToolMissing,
		"only %s of %s is installed, and "+what+", which that tool does not write so that it comes back into %s %s: %s",
		p, productOf(p.flavor), names[i], productOf(server.Flavor), server.Version, installation(server.Flavor))
}
