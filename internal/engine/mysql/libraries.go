package mysql

import (
	"bytes"
	"context"
	"regexp"
	"strings"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// libraryUses follows the lines of a dump. MySQL (since 9.2) names the libraries that a
// routine uses with their database, also its own: taken literally, a routine would go on
// with the libraries of the database that was dumped, or could not be made where that is
// not. So the dumped database is left out of such lists.
type libraryUses struct {
	database string // that was dumped; empty until the dump has told it
	head     bool   // of a routine: its body is yet to come
	language bool   // the line before named one, which is where the list follows
	folds    bool   // the server the text is for takes every spelling of the database
}

const (
	ofDatabase   = "    Database: "
	languageLine = "    LANGUAGE "
	usingLine    = "    USING ("
)

// line returns a whole line as it is meant for the database it runs in.
func (u *libraryUses) line(line []byte) []byte {
	has := func(prefix string) bool { return bytes.HasPrefix(line, []byte(prefix)) }
	after := u.language
	u.language = false
	switch {
	case len(line) == 0:
	case line[0] == '-' && u.database == "" && has(ofTheServer):
		_, name, _ := strings.Cut(string(line), ofDatabase)
		u.database = strings.TrimRight(name, "\r\n")
	case line[0] == 'C' && (has("CREATE DEFINER=") || has("CREATE FUNCTION ") || has("CREATE PROCEDURE ")):
		u.head = true
	case !u.head:
	case line[0] == 'A' && has("AS "), line[0] == 'D' && has("DELIMITER "):
		u.head = false
	case has(languageLine):
		u.language = true
	case after && has(usingLine):
		u.head = false
		return u.local(line)
	}
	return line
}

// usedName is one in such a list, with what is before its dot, or an alias.
var usedName = regexp.MustCompile("(?:(" + quotedName + `)\.)?` + quotedName)

const quotedName = "(?:`(?:[^`]|``)+`" + `|"(?:[^"]|"")+")`

func (u *libraryUses) local(line []byte) []byte {
	return usedName.ReplaceAllFunc(line, func(used []byte) []byte {
		schema := usedName.FindSubmatch(used)[1]
		if len(schema) == 0 {
			return used
		}
		if name := unquoted(schema); name == u.database || u.folds && strings.EqualFold(name, u.database) {
			return used[len(schema)+1:]
		}
		return used
	})
}

// withOwnLibraries is a script whose routines use the libraries of the database it runs in.
func withOwnLibraries(text []byte) []byte {
	var u libraryUses
	var all bytes.Buffer
	for line := range bytes.Lines(text) {
		all.Write(u.line(line))
	}
	return all.Bytes()
}

// unquoted is a name that is quoted one way or the other.
func unquoted(name []byte) string {
	quote := string(name[:1])
	return strings.ReplaceAll(string(name[1:len(name)-1]), quote+quote, quote)
}

// hasLibraries tells whether the server knows libraries.
func (s *session) hasLibraries(ctx context.Context) (bool, error) {
	found, err := s.names(ctx, "SELECT table_name FROM information_schema.tables WHERE table_schema = 'information_schema' AND table_name = 'ROUTINE_LIBRARIES'")
	return len(found) > 0, err
}

// libraries are those of a database.
func (s *session) libraries(ctx context.Context, database string) ([]string, error) {
	known, err := s.hasLibraries(ctx)
	if err != nil || !known {
		return nil, err
	}
	return s.names(ctx, ofLibraries, database)
}

// warnOfLibraries tells of libraries that routines use and the dump does not bring.
func (d *dump) warnOfLibraries(ctx context.Context, s *session) error {
	if d.selection.partially {
		return nil
	}
	known, err := s.hasLibraries(ctx)
	if err != nil || !known {
		return err
	}
	uses, err := s.pairs(ctx, `SELECT DISTINCT routine_name, concat(library_schema, '.', library_name) FROM information_schema.routine_libraries
		WHERE routine_schema = ? AND library_schema <> routine_schema ORDER BY 1, 2`, d.conn.Database)
	if err != nil || len(uses) == 0 {
		return err
	}
	var names []string
	for _, use := range uses {
		names = append(names, use[0]+" ("+use[1]+")")
	}
	d.warn("routines use libraries of other databases, which are not in the backup and must be there when it is restored: " + listed(names))
	return nil
}

// orphans are the routines of a database that use libraries which are not there, or not to
// be seen by the user, each with those. This is how MySQL's tool finds them, which then
// fails, late: of a dump all else is written by then, of a restore all is loaded.
func (s *session) orphans(ctx context.Context, database string) ([]string, error) {
	known, err := s.hasLibraries(ctx)
	if err != nil || !known {
		return nil, err
	}
	uses, err := s.pairs(ctx, `SELECT concat(lower(u.routine_type), ' ', u.routine_name), group_concat(u.library_schema, '.', u.library_name ORDER BY u.library_schema, u.library_name SEPARATOR ', ')
		FROM information_schema.routine_libraries u LEFT JOIN information_schema.libraries l ON l.library_schema = u.library_schema AND l.library_name = u.library_name
		WHERE u.routine_schema = ? AND l.library_name IS NULL GROUP BY u.routine_type, u.routine_name ORDER BY 1`, database)
	var all []string
	for _, use := range uses {
		all = append(all, use[0]+" ("+use[1]+")")
	}
	return all, err
}

// refuseOrphans fails where the tool would.
func (s *session) refuseOrphans(ctx context.Context, p program, database string) error {
	found, err := s.orphans(ctx, database)
	if err != nil || len(found) == 0 {
		return err
	}
	return errs.New(errs.Conflict, errs.CodeDumpFailed,
		"%s does not write routines of database %q that use libraries which are not there, or which user %q may not see: %s. Make those libraries (in brackets), grant EXECUTE on them, or drop the routines, then start again",
		p, database, s.target.Username, listed(found))
}
