package query

import (
	"slices"
	"strings"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// Dialect says how a server's SQL is read.
type Dialect struct {
	// Reads are the words, in upper case, that statements begin with which only read.
	Reads []string
	// Refused is the server's own code for a statement that writes.
	Refused string
	// NestedComments: /* /* */ */ is one comment.
	NestedComments bool
	// HashComments: a # begins a comment.
	HashComments bool
	// CodeComments: /*! */ is no comment but runs.
	CodeComments bool
}

// Check lets statements pass that begin with a word that reads. The server's
// read-only mode stays the judge of what follows; this keeps away what that mode
// lets through, such as programs that COPY runs, or a COMMIT that would end it.
func (d Dialect) Check(sql string) error {
	if strings.ContainsRune(sql, 0) {
		return errs.InvalidFields(errs.CodeValidation, errs.Field{Field: "sql", Message: "must not contain a zero byte"})
	}
	if slices.Contains(d.Reads, d.firstWord(sql)) {
		return nil
	}
	return errs.New(errs.Invalid, errs.CodeQueryFailed,
		"only statements that read are run here, which begin with %s; use the database's own client for others", strings.Join(d.Reads, ", ")).With("code", d.Refused)
}

// firstWord returns the first word in upper case, after comments and opening
// parentheses; empty when the statement begins with something else.
func (d Dialect) firstWord(sql string) string {
	for {
		sql = strings.TrimLeft(sql, " \t\r\n\f\v(")
		rest, ok := d.skipComment(sql)
		if !ok {
			break
		}
		sql = rest
	}
	end := strings.IndexFunc(sql, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '_'
	})
	if end < 0 {
		end = len(sql)
	}
	return strings.ToUpper(sql[:end])
}

// skipComment returns what follows the comment that sql begins with.
func (d Dialect) skipComment(sql string) (rest string, ok bool) {
	switch {
	case strings.HasPrefix(sql, "--"), d.HashComments && strings.HasPrefix(sql, "#"):
		_, rest, _ = strings.Cut(sql, "\n")
		return rest, true
	case d.CodeComments && (strings.HasPrefix(sql, "/*!") || strings.HasPrefix(sql, "/*M!")):
		return "", false
	case strings.HasPrefix(sql, "/*"):
		return d.skipBlock(sql[2:]), true
	}
	return "", false
}

func (d Dialect) skipBlock(sql string) string {
	for depth := 1; depth > 0; {
		end := strings.Index(sql, "*/")
		if end < 0 {
			return ""
		}
		if inner := strings.Index(sql, "/*"); d.NestedComments && inner >= 0 && inner < end {
			depth, sql = depth+1, sql[inner+2:]
			continue
		}
		depth, sql = depth-1, sql[end+2:]
	}
	return sql
}
