package mysql

import (
	"bytes"
	"context"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/dataguardian/dataguardian/internal/engine/tool"
	"github.com/dataguardian/dataguardian/internal/process"
)

// Whether objects are with events.
const (
	withEvents    = "--events"
	withoutEvents = "--skip-events"
)

// objects returns a script that makes what a database has besides its tables:
// triggers, views, routines, libraries and, as events says, events. With names it is only
// what belongs to those tables, and those views.
func (r *restore) objects(ctx context.Context, s *session, database, events string, names ...string) ([]byte, error) {
	conn := r.conn
	conn.Database = database
	d := &dump{engine: r.engine, conn: conn}
	var err error
	if d.tool, err = r.engine.tools.choose(ctx, dumpNames[:], r.server); err != nil {
		return nil, err
	}
	var has []object
	if len(names) == 0 {
		if err := s.refuseLostRoutines(ctx, d.tool, r.server, database); err != nil {
			return nil, err
		}
		if has, err = s.objectsOf(ctx, database); err != nil {
			return nil, err
		}
	}
	if conn, err = s.forTool(ctx, conn, d.tool, r.server); err != nil {
		return nil, err
	}
	file, err := optionFile(conn, d.tool, r.dir)
	if err != nil {
		return nil, err
	}
	kinds := []string{"--no-data", "--routines", events, "--"}
	if len(names) > 0 {
		kinds = []string{"--no-data", "--"}
	}
	var text bytes.Buffer
	_, err = tool.Stream{
		Spec: process.Spec{
			Path: d.tool.path, Args: slices.Concat(d.toolOptions(file), kinds, []string{database}, names),
			Env: process.Environment(r.dir, "MYSQL_HOME="+r.dir), Dir: r.dir,
		},
		Stall: r.options.StallTimeout, Proof: &script{}, Member: &text,
	}.Run(ctx)
	if err != nil {
		return nil, d.failure(ctx, err)
	}
	script := withoutTables(text.Bytes())
	return script, d.tool.refuseIncomplete(script, database, has)
}

var ofTables = regexp.MustCompile(`^(?:/\*!\d{5,6} )?(?:CREATE TABLE|DROP TABLE|CREATE SEQUENCE|DROP SEQUENCE|DO SETVAL)\b`)

// withoutTables leaves the statements out that make tables and sequences.
func withoutTables(text []byte) []byte {
	var kept, statement bytes.Buffer
	var uses libraryUses
	delimiter := ";"
	for line := range bytes.Lines(text) {
		line := uses.line(retargeted(line))
		plain := strings.TrimSpace(string(line))
		if statement.Len() == 0 && (plain == "" || strings.HasPrefix(plain, "--") || plain == delimiterBegin || plain == delimiterEnd) {
			switch plain {
			case delimiterBegin:
				delimiter = ";;"
			case delimiterEnd:
				delimiter = ";"
			}
			kept.Write(line)
			continue
		}
		statement.Write(line)
		if strings.HasSuffix(plain, delimiter) {
			if !ofTables.Match(statement.Bytes()) {
				kept.Write(withoutSurplus(statement.Bytes()))
			}
			statement.Reset()
		}
	}
	kept.Write(statement.Bytes())
	return kept.Bytes()
}

// alterDatabase is how the tools frame what was made under another default
// character set. It names the dumped database, which is not the one to change.
var alterDatabase = regexp.MustCompile("^ALTER DATABASE `(?:[^`]|``)*` (CHARACTER SET \\w+ COLLATE \\w+ ;;?\n)$")

// Under the mode that dumps are restored in, a server changes dates such as
// 2024-02-31, which may be stored under another mode, and says nothing.
const (
	dumpMode     = ", SQL_MODE='NO_AUTO_VALUE_ON_ZERO' */;\n"
	faithfulMode = ", SQL_MODE='NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES' */;\n"
)

// retargeted is a line that is meant for the database it runs in, and for data of
// every mode.
func retargeted(line []byte) []byte {
	if m := alterDatabase.FindSubmatch(line); m != nil {
		return append([]byte("ALTER DATABASE "), m[1]...)
	}
	if head, ok := bytes.CutSuffix(line, []byte(dumpMode)); ok && bytes.HasPrefix(line, []byte("/*!40101 SET @OLD_SQL_MODE=")) {
		return append(bytes.Clone(head), faithfulMode...)
	}
	return line
}

// MySQL keeps the semicolon after a trigger or an event that came among other
// statements, and the tools write it into a comment, where no server takes it. MySQL's
// ends that comment on the same line, MariaDB's on the next.
var (
	surplusEnd = regexp.MustCompile(`;\s*(\s\*/ ?;;\n)$`)
	commentEnd = []byte("*/;;\n")
	spacedEnd  = []byte("*/ ;;\n")
)

func withoutSurplus(line []byte) []byte {
	if bytes.HasSuffix(line, commentEnd) || bytes.HasSuffix(line, spacedEnd) {
		return surplusEnd.ReplaceAll(line, []byte("$1"))
	}
	return line
}

// runText runs a script of ours in a database. What it makes waits for whoever uses the
// tables, and meanwhile nobody else gets at them: so it waits no longer than a RENAME.
func (r *restore) runText(ctx context.Context, database string, text []byte) error {
	file, err := optionFile(r.conn, r.tool, r.dir)
	if err != nil {
		return err
	}
	_, err = tool.Feed{
		Spec:  process.Spec{Path: r.tool.path, Args: r.arguments(file, database), Env: process.Environment(r.dir, "MYSQL_HOME="+r.dir), Dir: r.dir},
		Stall: r.options.StallTimeout, Source: io.MultiReader(strings.NewReader(r.engine.waitNoLonger()+";\n"), bytes.NewReader(text)), Proof: &script{},
	}.Run(ctx)
	return r.failure(ctx, err)
}
