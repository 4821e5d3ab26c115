package mysql

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	driver "github.com/go-sql-driver/mysql"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/engine/tool"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/process"
)

// headSize is what is looked at before the target is touched.
const headSize = 64 << 10

// Restore runs the member backup.sql in c's server; the first failing statement
// ends it. The client takes no commands of its own from the text, so that a hostile
// dump reaches the server only, with the user's privileges, and reads no files here.
// Whatever fails, the database is afterwards what it was before: the restore goes
// into a scratch database beside the target. When it is done, tables move in one
// statement, and views, routines, triggers and events are made anew. When the process
// is killed in the middle of that, Sweep finishes it, or makes again what was dropped
// before tables moved. What it cannot prove it leaves and tells; until then another
// restore into the database is refused, with kind Conflict.
//
//   - An absent database is made (CreateDatabase).
//   - With DropExisting the content of the database is replaced, and its sessions are
//     ended; with IncludeTables those tables only, with their triggers and the foreign
//     keys between them and the others.
//   - Without DropExisting the database must be empty, or hold none of IncludeTables.
//
// That needs the right to create databases named dg_restore_... and dg_replaced_...,
// and for a while room for both. A user who may not create them can still restore
// into a database that is absent or has room; what came is dropped again after a
// failure, but stays when the process is killed.
//
// With IncludeTables there are no routines and events. Definers are part of the text
// and stay; giving objects to others needs a privilege. ParallelJobs is not used.
func (e *Engine) Restore(ctx context.Context, c engine.Conn, o engine.RestoreOptions, src engine.Source) error {
	if bad := append(ValidateConn(c), checkTables("include_tables", o.IncludeTables)...); len(bad) > 0 {
		return errs.InvalidFields(errs.CodeInvalidConnection, bad...)
	}
	if err := engine.CheckToken(o.Token); err != nil {
		return err
	}
	members := src.Members()
	i := slices.IndexFunc(members, func(m engine.Member) bool { return m.Name == Member })
	if i < 0 {
		return otherFormat()
	}
	if err := checkFormat(o.Format); err != nil {
		return err
	}
	dir, remove, err := workDir(o.TempDir)
	if err != nil {
		return err
	}
	r := &restore{engine: e, conn: c, options: o, dir: dir, progress: engine.Progress{BytesTotal: members[i].Size}}
	return also(r.run(ctx, src), remove())
}

// restore is one run.
type restore struct {
	engine  *Engine
	conn    engine.Conn
	options engine.RestoreOptions
	dir     string

	server   engine.ServerInfo
	folds    bool // the server takes names of databases in every case
	tool     program
	charset  charset // of the dump
	clock    bool    // of a session may be set
	progress engine.Progress
}

func (r *restore) run(ctx context.Context, src engine.Source) (err error) {
	s, exists, err := r.findTarget(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	if r.server, err = s.serverInfo(ctx); err != nil {
		return err
	}
	if err := r.refuse(); err != nil {
		return err
	}
	if err := r.refuseReadOnly(ctx, s, exists); err != nil {
		return err
	}
	if err := r.askForClock(ctx, s); err != nil {
		return err
	}
	if err := r.chooseTool(ctx, s); err != nil {
		return err
	}
	in, err := src.Open(ctx, Member)
	if err != nil {
		return err
	}
	defer func() { err = also(err, in.Close()) }()
	head, err := r.readHead(in)
	if err != nil {
		return err
	}
	if err := r.refuseHistory(ctx, s, head); err != nil {
		return err
	}
	r.log(engine.LevelInfo, fmt.Sprintf("%s %s, client %s", r.server.Flavor, r.server.Version, r.tool))
	if warning := r.tool.foreign(r.server.Flavor); warning != "" {
		r.warn(warning)
	}
	input := io.MultiReader(bytes.NewReader(head), in)
	return r.intoFresh(ctx, s, exists, input)
}

// chooseTool finds the client, and how it connects.
func (r *restore) chooseTool(ctx context.Context, s *session) (err error) {
	if r.tool, err = r.engine.tools.choose(ctx, clientNames[:], r.server); err != nil {
		return err
	}
	r.conn, err = s.forTool(ctx, r.conn, r.tool, r.server)
	return err
}

// findTarget connects to the database, or to none when it is absent and may be
// made. From then on it is named as the server spells it.
func (r *restore) findTarget(ctx context.Context) (s *session, exists bool, err error) {
	s, err = r.engine.connect(ctx, r.conn, r.conn.Database, patient)
	exists = err == nil
	if errs.CodeOf(err) == errs.CodeDatabaseMissing && r.options.CreateDatabase {
		s, err = r.engine.connect(ctx, r.conn, "", patient)
	}
	if err != nil {
		return nil, false, err
	}
	if err := r.respell(ctx, s); err != nil {
		s.close()
		return nil, false, err
	}
	return s, exists, nil
}

// patient waits for what takes a server long, such as dropping a large database;
// contexts end the wait.
func patient(cfg *driver.Config) { cfg.ReadTimeout = 0 }

// systemDatabases belong to the server, which does not work, or loses its users,
// without what is in them.
var systemDatabases = []string{"information_schema", "mysql", "performance_schema", "sys"}

// refuse keeps dumps from the server's own databases, and from targets that may not
// understand them.
func (r *restore) refuse() error {
	if slices.Contains(systemDatabases, strings.ToLower(r.conn.Database)) {
		return errs.New(errs.Conflict, errs.CodeRestoreNotSupported,
			"database %q belongs to the server itself, and nothing is restored into it: restore into a database of another name", r.conn.Database)
	}
	if r.options.Format != "" && r.options.Format != formatOf(r.server.Flavor) {
		return errs.New(errs.Conflict, errs.CodeRestoreNotSupported,
			"the dump is %s and the target is %s %s: restore it into a server of its own kind", r.options.Format, r.server.Flavor, r.server.Version)
	}
	if r.options.DumpVersion/100 > r.server.VersionNum/100 {
		return errs.New(errs.Conflict, errs.CodeRestoreNotSupported,
			"the dump is from version %s and the target has version %s, which may not understand it: restore into version %[1]s or newer",
			shortVersion(r.options.DumpVersion), r.server.Version)
	}
	return nil
}

func shortVersion(num int) string { return fmt.Sprintf("%d.%d", num/10000, num/100%100) }

// readHead reads the start of the text and refuses what is none.
func (r *restore) readHead(in io.Reader) ([]byte, error) {
	head := make([]byte, headSize)
	n, err := io.ReadFull(in, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	head = head[:n]
	begins := bytes.HasPrefix(head, []byte("--")) || bytes.HasPrefix(head, []byte("/*"))
	if !begins || !utf8.Valid(head[:min(n, 64)]) {
		return nil, corrupt(errs.New(errs.Conflict, errs.CodeArtifactCorrupt, "the text does not begin like a dump"))
	}
	r.charset = readCharset(head)
	return head, nil
}

func corrupt(err error) error {
	return errs.Wrap(err, errs.Conflict, errs.CodeArtifactCorrupt, "the backup does not hold a whole dump: restore another one, and check the storage")
}

// arguments: commands of the client are off, whichever way a version names it,
// and comments in bodies of routines are sent along.
func (r *restore) arguments(file, database string) []string {
	args := []string{
		"--defaults-file=" + file, "--batch", "--comments", "--binary-mode", "--skip-named-commands", "--local-infile=0",
		"--skip-reconnect", "--skip-auto-rehash", maxPacket,
	}
	if r.tool.flavor == engine.MariaDB {
		args = append(args, "--loose-sandbox")
	}
	// Not as an argument of its own: MySQL 9.7's client takes one that begins with "-" for
	// an option, "--" or not.
	return append(args, "--database="+database)
}

// feed runs the dump in a database.
func (r *restore) feed(ctx context.Context, database string, input io.Reader) error {
	f := r.filter(input)
	if err := r.stream(ctx, database, f); err != nil {
		return err
	}
	r.noteInert(&f.events)
	return nil
}

// feedBeside runs the dump in a database that has nothing else. With IncludeTables,
// views among them are kept as text: what they refer to may not be there. So are events,
// which are in that database, too, but do not run.
func (r *restore) feedBeside(ctx context.Context, database string, input io.Reader) (*filter, error) {
	f := r.filter(input)
	f.setAside = true
	return f, r.stream(ctx, database, f)
}

func (r *restore) filter(input io.Reader) *filter {
	f := newFilter(&counted{input, r.read}, r.conn.Database, r.options.IncludeTables)
	f.inert, f.events.clock = r.options.Inert, r.clock
	return f
}

func (r *restore) stream(ctx context.Context, database string, f *filter) error {
	file, err := optionFile(r.conn, r.tool, r.dir)
	if err != nil {
		return err
	}
	f.uses.folds = r.folds
	proof := &sourceProof{script: script{started: r.started, finished: r.finished}, missing: f.missing}
	_, err = tool.Feed{
		Spec: process.Spec{
			Path: r.tool.path, Args: r.arguments(file, database), Env: process.Environment(r.dir, "MYSQL_HOME="+r.dir), Dir: r.dir,
			OnStderr: tool.Pass(r.conn.Password, r.warn),
		},
		Stall: r.options.StallTimeout, Source: f, Proof: proof,
	}.Run(ctx)
	return r.failure(ctx, err)
}

func (r *restore) warn(message string) { r.log(engine.LevelWarn, message) }

// counted tells how many bytes of a backup were read; what reaches the client is
// another number.
type counted struct {
	io.Reader
	read func(n int)
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.read(n)
	return n, err
}

// sourceProof makes broken bytes of a backup a matter of the backup.
type sourceProof struct {
	script
	missing func() []string // included tables that did not come
}

func (p *sourceProof) Done() error {
	if err := p.script.Done(); err != nil {
		return corrupt(err)
	}
	if names := p.missing(); len(names) > 0 {
		return errs.New(errs.Invalid, errs.CodeRestoreFailed, "the backup has no table %q of include_tables", names[0])
	}
	return nil
}

func (r *restore) failure(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if exit, ok := errors.AsType[*process.ExitError](err); ok {
		return toolError(exit, r.conn, errs.CodeRestoreFailed)
	}
	switch {
	case errors.Is(err, tool.ErrStalled):
		return errs.Wrap(err, errs.Unavailable, errs.CodeRestoreFailed,
			"%s took no bytes for a long time and was ended: look for locks on the target's tables and network trouble", r.tool.name)
	case ctx.Err() != nil && errors.Is(err, context.Cause(ctx)):
		return ended(ctx)
	}
	return err
}

func (r *restore) started(table string) {
	r.progress.Current = table
	r.report()
}

func (r *restore) finished(string, int64) {
	r.progress.TablesDone++
	r.report()
}

func (r *restore) read(n int) {
	r.progress.BytesDone += int64(n)
	r.report()
}

func (r *restore) report() {
	if r.options.Progress != nil {
		r.options.Progress(r.progress)
	}
}

func (r *restore) log(level engine.Level, message string) {
	if r.options.Log != nil {
		r.options.Log(level, strings.ToValidUTF8(message, "?"))
	}
}
