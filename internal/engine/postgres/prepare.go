package postgres

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
)

var (
	_ engine.Preparer = (*Engine)(nil)
	_ engine.Sweeper  = (*Engine)(nil)
)

// Identify implements engine.Preparer: it is the identifier that a cluster gets
// from initdb. A replica has that of its primary, and is never restored into.
func (e *Engine) Identify(ctx context.Context, c engine.Conn) (string, error) {
	conn, err := e.anywhere(ctx, c)
	if err != nil {
		return "", err
	}
	defer closeConn(ctx, conn)
	var id string
	if err := conn.QueryRow(ctx, "SELECT system_identifier::text FROM pg_control_system()").Scan(&id); err != nil {
		return "", queryError(ctx, err, c, "asking for the server's identifier")
	}
	return "postgres:" + id, nil
}

// anywhere connects to c's database, or to another of the server when it is
// absent.
func (e *Engine) anywhere(ctx context.Context, c engine.Conn) (*pgx.Conn, error) {
	conn, err := e.connect(ctx, c)
	if errs.CodeOf(err) == errs.CodeDatabaseMissing {
		return e.maintenance(ctx, c)
	}
	return conn, err
}

// Preflight implements engine.Preparer. What may be done in a database that is
// not replaced shows only when it is done.
func (e *Engine) Preflight(ctx context.Context, c engine.Conn, o engine.RestoreOptions) (engine.Target, error) {
	if err := checkFormat(o.Format); err != nil {
		return engine.Target{}, err
	}
	t, err := e.findTarget(ctx, c)
	if err != nil {
		return engine.Target{}, err
	}
	found := engine.Target{Server: t.server, Exists: t.exists}
	r := &restore{engine: e, conn: c, options: o}
	if err := r.admit(t); err != nil {
		return found, err
	}
	if _, err := e.tools.chooseRestore(ctx, majorOf(t.server.VersionNum), 0); err != nil {
		return found, err
	}
	if !r.goesBeside(t) {
		found.InPlace = true
		return found, nil
	}
	if why := tooTight(o, cmp.Or(o.TempDir, os.TempDir()), o.RawSize); why != "" {
		found.Warnings = append(found.Warnings, why)
	}
	conn, err := e.maintenance(ctx, c)
	if err != nil {
		return found, err
	}
	defer closeConn(ctx, conn)
	if err := r.mayMakeDatabases(ctx, conn, t.exists); err != nil {
		return found, err
	}
	why, err := r.whoStays(ctx, conn)
	if why != "" {
		found.Warnings = append(found.Warnings, why)
	}
	return found, err
}

// whoStays warns of sessions that a database cannot be replaced with.
func (r *restore) whoStays(ctx context.Context, conn *pgx.Conn) (why string, _ error) {
	visitors, err := visitorsOf(ctx, conn, r.conn.Database)
	if err != nil {
		return "", queryError(ctx, err, r.conn, "looking for sessions")
	}
	if visitors = slices.DeleteFunc(visitors, func(v visitor) bool { return v.Endable }); len(visitors) == 0 {
		return "", nil
	}
	what := fmt.Sprintf("sessions that user %q may not end or does not see enough of", r.conn.Username)
	if !slices.ContainsFunc(visitors, visitor.isClient) {
		what = "what is not a client's session, which a restore does not end"
	}
	return fmt.Sprintf("database %q has %s: %s; they have to leave it before it can be replaced, when the backup is restored",
		r.conn.Database, what, named(visitors)), nil
}

// mayMakeDatabases asks for the rights to make a database and, to replace one,
// to rename it.
func (r *restore) mayMakeDatabases(ctx context.Context, conn *pgx.Conn, replace bool) error {
	var create, owns bool
	const rights = `SELECT (SELECT rolsuper OR rolcreatedb FROM pg_roles WHERE rolname = current_user),
		coalesce((SELECT pg_has_role(datdba, 'USAGE') FROM pg_database WHERE datname = $1), false)`
	if err := conn.QueryRow(ctx, rights, r.conn.Database).Scan(&create, &owns); err != nil {
		return queryError(ctx, err, r.conn, "asking for the user's rights")
	}
	var missing string
	switch {
	case !create && replace && !owns:
		missing = "it needs CREATEDB and to own the database"
	case !create:
		missing = "it needs CREATEDB"
	case replace && !owns:
		missing = "it needs to own the database, or to be a member of the role that does"
	default:
		return nil
	}
	return errs.New(errs.Unavailable, errs.CodeDatasourcePermission,
		"user %q may not make a database to restore into beside %q on %s: %s; grant that, or restore without drop_existing into a prepared database",
		r.conn.Username, r.conn.Database, where(r.conn), missing)
}

// Sweep implements engine.Sweeper. A restore changes the target in one transaction,
// so that there is nothing to finish.
func (e *Engine) Sweep(ctx context.Context, c engine.Conn, token string, _ func(engine.Level, string)) error {
	if err := engine.CheckToken(token); err != nil || token == "" {
		return err
	}
	conn, err := e.maintenance(ctx, c)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn) // which gives the lock back
	var free bool
	if err := conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1, hashtext($2))", lockSpace, token).Scan(&free); err != nil {
		return queryError(ctx, err, c, "looking for leftovers")
	}
	if !free {
		return errs.New(errs.Conflict, errs.CodeConflict, "the restore whose leftovers are to be dropped still runs on %s", where(c))
	}
	for _, prefix := range []string{engine.ScratchPrefix, engine.ReplacedPrefix} {
		left := c
		left.Database = prefix + token
		if err := e.DropDatabase(ctx, left); err != nil {
			return err
		}
	}
	return nil
}
