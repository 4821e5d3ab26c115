package mysql

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// Privileges that a dump takes where it is restored, and that tables take to move
// there and away.
var (
	loadRights = []string{"SELECT", "INSERT", "CREATE", "DROP", "ALTER", "LOCK TABLES"}
	moveRights = []string{"INSERT", "CREATE", "DROP", "ALTER"}
)

// rights is what a user may do, as far as the server tells.
type rights struct {
	grants []grant
	vague  string // why what is not granted may be allowed all the same
}

// grant is a line of SHOW GRANTS.
type grant struct {
	privileges []string // upper case
	database   *regexp.Regexp
	only       string // the one table or routine; empty for the whole database
}

// askRights reads the grants of the session's user, with those of its roles.
func (s *session) askRights(ctx context.Context, flavor engine.Type) rights {
	show, args := "SHOW GRANTS", ""
	if flavor == engine.MySQL {
		// It shows those of roles only when they are named; the answer names them as
		// the server itself quotes them.
		roles, err := s.names(ctx, "SELECT CURRENT_ROLE()")
		switch {
		case err != nil || len(roles) != 1:
			return rights{vague: "the server does not tell which roles the user has"}
		case roles[0] != "NONE" && roles[0] != "":
			args = " FOR CURRENT_USER() USING " + roles[0]
		}
	}
	lines, err := s.names(ctx, show+args)
	if err != nil {
		return rights{vague: "the server does not show the user's grants"}
	}
	return readGrants(lines)
}

var (
	grantLine = regexp.MustCompile("^GRANT (.+) ON (?:(?:TABLE|FUNCTION|PROCEDURE|PACKAGE|PACKAGE BODY|LIBRARY) )?(`(?:[^`]|``)*`|\\*)\\.(`(?:[^`]|``)*`|\\*) TO ")
	roleLine  = regexp.MustCompile("^GRANT [`'][^ ]* TO ")
)

func readGrants(lines []string) (r rights) {
	for _, line := range lines {
		m := grantLine.FindStringSubmatch(line)
		switch {
		case m == nil && (roleLine.MatchString(line) || strings.HasPrefix(line, "GRANT PROXY ") || strings.HasPrefix(line, "SET DEFAULT ROLE ")):
			// a role that is in use has lines of its own
		case m == nil:
			r.vague = "the server shows a grant that is not understood"
		case m[2] == "*":
			r.grants = append(r.grants, grant{privileges: privilegesOf(m[1]), database: regexp.MustCompile("")})
		case m[3] == "*":
			r.grants = append(r.grants, grant{privileges: privilegesOf(m[1]), database: likePattern(nameOf(m[2]))})
		default: // where no character stands for others
			exact := regexp.MustCompile("(?is)^" + regexp.QuoteMeta(nameOf(m[2])) + "$")
			r.grants = append(r.grants, grant{privileges: privilegesOf(m[1]), database: exact, only: nameOf(m[3])})
		}
	}
	return r
}

// nameOf is a name as grants quote it.
func nameOf(quoted string) string {
	return unquoteName(strings.TrimSuffix(strings.TrimPrefix(quoted, "`"), "`"))
}

var inColumns = regexp.MustCompile(`\([^)]*\)`)

func privilegesOf(list string) (all []string) {
	for name := range strings.SplitSeq(inColumns.ReplaceAllString(list, ""), ",") {
		all = append(all, strings.ToUpper(strings.TrimSpace(name)))
	}
	return all
}

// likePattern is a database of a grant: "_" is any character and "%" any text, unless
// a backslash stands before.
func likePattern(pattern string) *regexp.Regexp {
	var b strings.Builder
	escaped := false
	for _, c := range pattern {
		switch {
		case escaped:
			b.WriteString(regexp.QuoteMeta(string(c)))
			escaped = false
		case c == '\\':
			escaped = true
		case c == '%':
			b.WriteString(".*")
		case c == '_':
			b.WriteString(".")
		default:
			b.WriteString(regexp.QuoteMeta(string(c)))
		}
	}
	return regexp.MustCompile("(?is)^" + b.String() + "$")
}

// has tells whether a grant of a database, or of one table in it, gives a privilege.
func (g grant) has(database, privilege string) bool {
	return g.database.MatchString(database) &&
		(slices.Contains(g.privileges, privilege) || slices.Contains(g.privileges, "ALL PRIVILEGES") || slices.Contains(g.privileges, "ALL"))
}

// lacking are those of the privileges that no grant gives in a whole database.
func (r rights) lacking(database string, privileges []string) (missing []string) {
	for _, p := range privileges {
		if !slices.ContainsFunc(r.grants, func(g grant) bool { return g.only == "" && g.has(database, p) }) {
			missing = append(missing, p)
		}
	}
	return missing
}

// readsRoutines tells whether the user sees the text of MariaDB's routines.
func (r rights) readsRoutines() bool {
	return slices.ContainsFunc(r.grants, func(g grant) bool { return (g.only == "" || g.only == "proc") && g.has("mysql", "SELECT") })
}

// uncertain is why what no grant gives in a whole database may be allowed all the same.
func (r rights) uncertain() string {
	if r.vague == "" && slices.ContainsFunc(r.grants, func(g grant) bool { return g.only != "" && !g.database.MatchString("mysql") }) {
		return "the user has grants of single tables or routines"
	}
	return r.vague
}

// unseen are kinds of what a database may have that the user certainly cannot see: the
// tools leave them out and say nothing. Each comes with the privilege that shows them.
func (r rights) unseen(database string, flavor engine.Type) (kinds []string) {
	if r.vague != "" {
		return nil
	}
	// Who has TRIGGER on single tables may have it on all of them.
	if !slices.ContainsFunc(r.grants, func(g grant) bool { return g.has(database, "TRIGGER") }) {
		kinds = append(kinds, "triggers (TRIGGER ON the database)")
	}
	// Any of these shows that there are routines; whose text is then refused is an error.
	listed := []string{"EXECUTE", "ALTER ROUTINE", "CREATE ROUTINE", "SHOW_ROUTINE", "SHOW CREATE ROUTINE"}
	reads, hidden := r.readsRoutines(), "procedures and functions of others (SELECT ON mysql.proc)"
	if flavor == engine.MySQL {
		// no database: only what is granted on all counts
		reads, hidden = len(r.lacking("\x00", []string{"SELECT"})) == 0, "procedures, functions and libraries of others (SHOW_ROUTINE ON *.*)"
	}
	if len(r.lacking(database, listed)) == len(listed) && !reads {
		kinds = append(kinds, hidden)
	}
	return kinds
}

// makesNoScratch tells whether a restore may have to go into the target itself: the user
// has no right, or none that is known of, to a database beside it.
func (r rights) makesNoScratch() bool {
	return len(r.lacking(engine.ScratchPrefix+"000000000000", loadRights)) > 0
}

// admits fails when the user certainly may not restore. What only may be missing is
// returned as a warning.
func (r *restore) admits(u rights, exists bool) (warning string, err error) {
	const scratch = engine.ScratchPrefix + "000000000000"
	var why string
	beside := u.lacking(scratch, loadRights)
	var away []string
	if exists {
		away = u.lacking(engine.ReplacedPrefix+"000000000000", moveRights)
	}
	switch {
	case len(beside) == 0 && len(away) > 0:
		why = fmt.Sprintf("user %q may not make a database %s... for the old tables of %q (it lacks %s there): %s", r.conn.Username, engine.ReplacedPrefix, r.conn.Database, strings.Join(away, ", "), besideAdvice)
	case len(beside) == 0: // ALTER and DROP there are for taking back
		if missing := u.lacking(r.conn.Database, moveRights); len(missing) > 0 {
			why = fmt.Sprintf("user %q may not exchange the tables of database %q: grant %s on it", r.conn.Username, r.conn.Database, strings.Join(missing, ", "))
		}
	case exists && r.options.DropExisting:
		why = fmt.Sprintf("user %q may not make a database beside %q to restore into (it lacks %s there): %s", r.conn.Username, r.conn.Database, strings.Join(beside, ", "), besideAdvice)
	default:
		if missing := u.lacking(r.conn.Database, loadRights); len(missing) > 0 {
			why = fmt.Sprintf("user %q may not restore into database %q: grant %s on it", r.conn.Username, r.conn.Database, strings.Join(missing, ", "))
		}
	}
	switch {
	case why == "":
		return "", nil
	case u.uncertain() != "":
		return "it seems that " + why + ". That is not certain, for " + u.uncertain() + ", so it is tried", nil
	}
	return "", errs.New(errs.Unavailable, errs.CodeDatasourcePermission, "%s", why)
}

// hiddenKeys is a warning for who replaces tables and sees foreign keys of some
// databases only: a server shows those of tables that one has rights to. Empty when
// there is nothing to warn of.
func (r *restore) hiddenKeys(ctx context.Context, s *session, u rights, exists bool) (string, error) {
	const anywhere = "a database that no grant names"
	if !exists || !r.options.DropExisting || len(u.lacking(anywhere, []string{"SELECT"})) == 0 {
		return "", nil
	}
	tables, err := s.movable(ctx, r.conn.Database)
	if err != nil || !slices.ContainsFunc(tables, func(name string) bool { return len(r.options.IncludeTables) == 0 || r.includes(name) }) {
		return "", err
	}
	return fmt.Sprintf("whether foreign keys of databases that user %q has no rights to lead to tables of %q is not known, as the server shows only those of the user's own: such a key would follow the old table and be lost with it. If there may be one, restore as a user with SELECT on *.*, or without drop_existing into another database",
		r.conn.Username, r.conn.Database), nil
}
