package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	driver "github.com/go-sql-driver/mysql"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// routineGrant is what somebody may do with one routine. Servers keep what is granted on
// tables and views when those go, and forget what is granted on routines with them, though
// ones of the same names come right after.
type routineGrant struct {
	Kind       string `json:"kind"` // as in object
	Name       string `json:"name"`
	User       string `json:"user"`
	Host       string `json:"host"`
	Privileges string `json:"privileges"` // a list, with "Grant" for the right to pass them on
}

// planGrants notes what is granted on the routines that go. Who may not see that is told
// that it may be lost.
func (b *beside) planGrants(ctx context.Context, w *swap) error {
	if !slices.ContainsFunc(w.Theirs, func(o object) bool { return o.Kind != "VIEW" && o.Kind != "EVENT" }) {
		return nil
	}
	grants, err := b.s.routineGrants(ctx, w.Target)
	if errs.CodeOf(err) == errs.CodeDatasourcePermission {
		b.restore.warn(fmt.Sprintf("what is granted on single routines of database %s goes with them, and user %q may not read it to grant it again: look at SHOW GRANTS of the users that call them, or grant SELECT ON mysql.procs_priv before the restore",
			w.Target, b.restore.conn.Username))
		return nil
	}
	w.Grants = grants
	return err
}

func (s *session) routineGrants(ctx context.Context, database string) (all []routineGrant, err error) {
	const doing = "looking for grants on routines"
	rows, err := s.conn.QueryContext(ctx, "SELECT routine_type, routine_name, user, host, proc_priv FROM mysql.procs_priv WHERE db = ? ORDER BY routine_type, routine_name, user, host", database)
	if err != nil {
		return nil, s.failed(ctx, err, doing)
	}
	defer rows.Close() //nolint:errcheck // Err tells
	for rows.Next() {
		var g routineGrant
		var privileges sql.NullString
		if err := rows.Scan(&g.Kind, &g.Name, &g.User, &g.Host, &privileges); err != nil {
			return nil, s.failed(ctx, err, doing)
		}
		g.Privileges = privileges.String
		all = append(all, g)
	}
	if err := rows.Err(); err != nil {
		return nil, s.failed(ctx, err, doing)
	}
	return all, nil
}

// statement grants it again.
func (g routineGrant) statement(database string, flavor engine.Type) string {
	privileges, option := []string{}, ""
	for _, p := range strings.Split(g.Privileges, ",") {
		switch p {
		case "":
		case "Grant":
			option = " WITH GRANT OPTION"
		default:
			privileges = append(privileges, p)
		}
	}
	if len(privileges) == 0 {
		privileges = []string{"USAGE"}
	}
	account := ident(g.User) + "@" + ident(g.Host)
	if g.Host == "" && flavor == engine.MariaDB { // a role
		account = ident(g.User)
	}
	return "GRANT " + strings.Join(privileges, ", ") + " ON " + g.Kind + " " + ident(database) + "." + ident(g.Name) + " TO " + account + option
}

// regrant grants again what routines of the target had that are there again. What is
// refused is told, and what went with a routine that is not there again: the routines
// themselves are what they should be.
func (w *swap) regrant(ctx context.Context, r *restore, s *session) error {
	if len(w.Grants) == 0 {
		return nil
	}
	there, err := s.objectsOf(ctx, w.Target)
	if err != nil {
		return err
	}
	if err := s.makeNoAccounts(ctx, r.server); err != nil {
		return err
	}
	var gone []string
	for _, g := range w.Grants {
		statement := g.statement(w.Target, r.server.Flavor)
		kind, _, _ := strings.Cut(g.Kind, " ") // a package's body comes with it
		if !slices.ContainsFunc(there, func(o object) bool { return o.Kind == kind && strings.EqualFold(o.Name, g.Name) }) {
			gone = append(gone, statement)
			continue
		}
		err := s.execOf(ctx, kind, statement, "granting a routine again")
		if _, refused := errors.AsType[*driver.MySQLError](err); refused && ctx.Err() == nil {
			r.warn(fmt.Sprintf("a grant that a routine of database %s had could not be given again (%s); have it done by somebody who may: %s", w.Target, reason(err), statement))
			continue
		}
		if err != nil {
			return err
		}
	}
	if len(gone) > 0 {
		r.warn(fmt.Sprintf("routines of database %s that are not in the backup are gone, and what was granted on them went with them; should they be made again, so are these grants to be: %s", w.Target, listed(gone)))
	}
	return nil
}

// makeNoAccounts lets a grant to an account that somebody has dropped meanwhile be refused.
// MariaDB, and MySQL before 8.0, would make one that needs no password.
func (s *session) makeNoAccounts(ctx context.Context, server engine.ServerInfo) error {
	if server.Flavor == engine.MySQL && server.VersionNum >= 80000 {
		return nil
	}
	return s.exec(ctx, "SET SESSION sql_mode = concat(@@sql_mode, ',NO_AUTO_CREATE_USER')", "granting a routine again")
}
