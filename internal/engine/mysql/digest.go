package mysql

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/engine/tool"
	"github.com/dataguardian/dataguardian/internal/process"
)

// maxDefinition bounds one statement that is kept to be digested, in bytes; the
// servers' own limits for definitions are far below.
const maxDefinition = 4 << 20

var errLongDefinition = errors.New("a definition is too long to be digested")

// definitions collects the statements of a dump that define something, in a form
// that two dumps of the same schema share: without the values of AUTO_INCREMENT,
// definers, and the comments in which the tools wrap what only some versions know.
type definitions struct {
	statement []byte            // as far as it has come
	settings  map[string]string // the session's, by name
	found     []string
	err       error
	uses      libraryUses
	disabled  []string // see asDumped
}

var (
	versionComment = regexp.MustCompile(`/\*M?!\d{5,6}-? ?| ?\*/`)
	spaces         = regexp.MustCompile(`\s+`)
	definer        = regexp.MustCompile("DEFINER ?= ?(`(?:[^`]|``)*`|'(?:[^']|'')*'|[^ @]+)(@(`(?:[^`]|``)*`|'(?:[^']|'')*'|[^ ]+))? ?")
	counter        = regexp.MustCompile(`(\) ENGINE=.*?) AUTO_INCREMENT=\d+`)
	// impliedCharset is of a column. MySQL tells it when it was named, or else only the
	// collation; once that came back from a dump it tells both.
	impliedCharset = regexp.MustCompile(" CHARACTER SET [0-9a-z]+ COLLATE")
	// setting is one that the tools write before what depends on it.
	setting = regexp.MustCompile(`^SET (sql_mode|character_set_client|collation_connection|time_zone) ?= ?([^@ ].*?) ?$`)
)

// line takes a line outside of tables' data, without its break.
func (d *definitions) line(line []byte, delimiter string) {
	if len(d.statement)+len(line) > maxDefinition {
		d.err = errLongDefinition
		return
	}
	d.statement = append(append(d.statement, line...), '\n')
	if text, whole := strings.CutSuffix(strings.TrimRight(string(line), " "), delimiter); whole {
		all := string(d.statement[:len(d.statement)-1-len(line)]) + text
		d.statement = d.statement[:0]
		d.end(all)
	}
}

// end sees a whole statement.
func (d *definitions) end(text string) {
	if strings.HasPrefix(text, string(triggerHead)) {
		text = string(unqualified([]byte(text)))
	}
	text = evened(text)
	if m := setting.FindStringSubmatch(text); m != nil {
		if d.settings == nil {
			d.settings = map[string]string{}
		}
		d.settings[m[1]] = m[2]
		return
	}
	if !strings.HasPrefix(text, "CREATE ") {
		return
	}
	text = counter.ReplaceAllString(definer.ReplaceAllString(text, ""), "$1")
	if !strings.HasPrefix(text, "CREATE TABLE ") {
		text = strings.TrimRight(text, "; ") // see withoutSurplus
	}
	if strings.HasPrefix(text, "CREATE VIEW ") {
		return // what stands in for a view until all tables are there
	}
	text = asDumped(text, d.disabled)
	d.found = append(d.found, text+d.madeUnder(text))
}

// madeUnder is the settings that the tools write right before a definition of its
// kind; others may be those of something else.
func (d *definitions) madeUnder(text string) (settings string) {
	names := []string{"character_set_client", "collation_connection", "sql_mode", "time_zone"}
	switch {
	case strings.HasPrefix(text, "CREATE TABLE "), strings.HasPrefix(text, "CREATE SEQUENCE "):
		names = nil
	case strings.HasPrefix(text, "CREATE ALGORITHM"):
		names = names[:2]
	case !strings.HasPrefix(text, "CREATE EVENT "):
		names = names[:3]
	}
	for _, name := range names {
		settings += "\x00" + d.settings[name]
	}
	return settings
}

// sum is empty where there was too much.
func (d *definitions) sum(method string, c charset) engine.SchemaDigest {
	if d.err != nil {
		return ""
	}
	found := append(d.found, "DATABASE "+c.clause())
	if strings.HasPrefix(method, string(engine.MySQL)) {
		for i := range found {
			found[i] = impliedCharset.ReplaceAllString(found[i], " COLLATE")
		}
	}
	return engine.NewSchemaDigest(method, found)
}

// digestMethod: the wording of definitions is that of a release of the server. MySQL's
// was once taken with character sets that come and go, hence the second edition.
func digestMethod(server engine.ServerInfo) string {
	if server.Flavor == engine.MySQL {
		return fmt.Sprintf("%s%s-2", server.Flavor, shortVersion(server.VersionNum))
	}
	return fmt.Sprintf("%s%s", server.Flavor, shortVersion(server.VersionNum))
}

// DigestSchema implements engine.Inspector.
func (e *Engine) DigestSchema(ctx context.Context, c engine.Conn, _ engine.SchemaDigest, tempDir string) (_ engine.SchemaDigest, err error) {
	dir, remove, err := workDir(tempDir)
	if err != nil {
		return "", err
	}
	defer func() { err = also(err, remove()) }()
	d := &dump{engine: e, conn: c, rows: map[string]int64{}}
	if err := d.prepare(ctx); err != nil {
		return "", err
	}
	file, err := optionFile(d.conn, d.tool, dir)
	if err != nil {
		return "", err
	}
	proof := &script{schema: definitions{disabled: e.inertIn(c)}}
	_, err = tool.Stream{
		Spec: process.Spec{
			Path: d.tool.path, Args: append(d.toolOptions(file), "--no-data", "--routines", "--events", "--", d.conn.Database),
			Env: process.Environment(dir, "MYSQL_HOME="+dir), Dir: dir,
		},
		Proof: proof, Member: io.Discard,
	}.Run(ctx)
	if err != nil {
		return "", d.failure(ctx, err)
	}
	return proof.schema.sum(digestMethod(d.result.Server), d.charset), nil
}
