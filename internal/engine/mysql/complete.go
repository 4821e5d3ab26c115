package mysql

import (
	"bytes"
	"regexp"
	"slices"
	"strings"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// makesRoutine is how the tools begin a statement that makes a routine or a library.
var makesRoutine = regexp.MustCompile(`^(?:/\*!\d{5,6} )?CREATE\b(?:` + between + `OR REPLACE)?(?:` + between + `DEFINER=` + quotedName + `(?:@` + quotedName + `)?)?(?:` + between + `AGGREGATE)?` +
	between + `(FUNCTION|PROCEDURE|LIBRARY|PACKAGE BODY|PACKAGE)(?: IF NOT EXISTS)? (` + quotedName + `)`)

// between words there may be the ends of comments that older servers skip.
const between = `(?:\s*\*/\s*/\*!\d{5,6}\s*|\s+)`

// madeBy are the routines and libraries that a script makes.
func madeBy(text []byte) (made []object) {
	delimiter, begins, next := ";", true, 0
	for line := range bytes.Lines(text) {
		at := next
		next += len(line)
		plain := strings.TrimSpace(string(line))
		if begins && (plain == "" || strings.HasPrefix(plain, "--") || plain == delimiterBegin || plain == delimiterEnd) {
			switch plain {
			case delimiterBegin:
				delimiter = ";;"
			case delimiterEnd:
				delimiter = ";"
			}
			continue
		}
		if begins {
			if m := makesRoutine.FindSubmatch(text[at:]); m != nil {
				made = append(made, object{string(m[1]), unquoted(m[2])})
			}
		}
		begins = strings.HasSuffix(plain, delimiter)
	}
	return made
}

// refuseIncomplete fails when a script of the tool makes fewer routines or libraries than
// the database has. Tools leave some out and say that all went well; what is replaced
// could not come back then, nor what is restored arrive. Names are written in more than
// one character set, so only their number counts.
func (p program) refuseIncomplete(text []byte, database string, has []object) error {
	made := madeBy(text)
	for _, kind := range []string{"FUNCTION", "PROCEDURE", "LIBRARY", "PACKAGE"} {
		other := func(o object) bool { return o.Kind != kind }
		wanted := slices.DeleteFunc(slices.Clone(has), other)
		came := slices.DeleteFunc(slices.Clone(made), other)
		if len(came) >= len(wanted) {
			continue
		}
		var names []string
		for _, o := range wanted {
			if !slices.Contains(came, o) {
				names = append(names, o.Name)
			}
		}
		return errs.New(errs.Conflict, errs.CodeRestoreFailed,
			"%s leaves out %s %s of database %q, which would be lost, so nothing was exchanged: see with SHOW CREATE what is wrong with it, mend or drop it, and start the restore again",
			p, strings.ToLower(kind), listed(names), database)
	}
	return nil
}
