package postgres

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/engine/postgres/archive"
	"github.com/dataguardian/dataguardian/internal/engine/tool"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/process"
)

// Restore brings a dump of Dump, of one member or several, into c's database. Whatever fails, the
// database is afterwards what it was before:
//
//   - An absent database is made (CreateDatabase), and gets its name when the
//     restore is done.
//   - With DropExisting the restore goes into a fresh database beside the old
//     one, with the old one's owner, locale, settings and grants. When it is
//     done, the sessions of the old one are ended, the two change names in one
//     transaction, and the old one is dropped. That needs the right to create
//     databases and, for a while, room for both.
//   - Without DropExisting, and with IncludeTables into a database that is
//     there, everything happens in one transaction in the database itself; with
//     DropExisting the included tables are replaced in it.
//
// What has to be committed is committed only after the dump was read to its end and is
// proven whole; some tables of a dump that is Proven, when what was read of it up to the
// last of their rows is proven again. When the work is cancelled or the connection breaks at that very
// moment, the server is asked whether it did commit: then the restore is done, and there
// is no error. When it cannot tell, the error has engine.ErrUnsettled in it.
//
// IncludeTables are literal names, "schema.table" or "table"; what belongs to a
// table (indexes, constraints, triggers, sequences, comments, partitions)
// comes along. Owners, privileges and tablespaces are left out unless asked
// for. With ParallelJobs above 1 a restore beside the target unpacks the archive into
// the temporary directory, when there is room, and several processes restore it;
// else the archive is read as a stream.
func (e *Engine) Restore(ctx context.Context, c engine.Conn, o engine.RestoreOptions, src engine.Source) error {
	if bad := append(ValidateConn(c), checkTables("include_tables", o.IncludeTables)...); len(bad) > 0 {
		return errs.InvalidFields(errs.CodeInvalidConnection, bad...)
	}
	if err := engine.CheckToken(o.Token); err != nil {
		return err
	}
	members, err := archiveOf(o, src)
	if err != nil {
		return err
	}
	var size int64
	for _, m := range members {
		size += m.Size
	}
	dir, remove, err := workDir(o.TempDir)
	if err != nil {
		return err
	}
	o.Token = cmp.Or(o.Token, engine.NewScratchSuffix())
	r := &restore{engine: e, conn: c, options: o, dir: dir, session: appName + "-" + o.Token, contentsLimit: maxContents, progress: engine.Progress{BytesTotal: size}}
	return also(r.run(ctx, src, members), remove())
}

// maxContents is how many bytes of a table of contents are read into memory: what
// half a million tables with all that belongs to them take.
const maxContents = 1 << 30

func checkFormat(format string) error {
	if format != "" && format != Format {
		return otherFormat()
	}
	return nil
}

func otherFormat() error {
	return errs.New(errs.Conflict, errs.CodeRestoreNotSupported,
		"the backup holds no %s dump (%s): restore it with the engine that made it", Format, Member)
}

// restore is one run.
type restore struct {
	engine  *Engine
	conn    engine.Conn
	options engine.RestoreOptions
	dir     string
	session string // the name of ours on the server that change something, no other restore's

	contentsLimit int

	input    *joined // the dump
	server   engine.ServerInfo
	tool     program
	proof    *archive.Verifier
	list     *selectionList // nil means everything
	progress engine.Progress
	items    items // of a restore by several processes
}

func (r *restore) run(ctx context.Context, src engine.Source, members []engine.Member) (err error) {
	target, err := r.engine.findTarget(ctx, r.conn)
	if err != nil {
		return err
	}
	if err := r.admit(target); err != nil {
		return err
	}
	in, err := join(ctx, src, members)
	if err != nil {
		return err
	}
	r.input = in
	defer func() { err = also(err, in.Close()) }()
	head, err := r.readContents(in)
	if err != nil {
		return err
	}
	if err := r.refuseNewer(majorOfText(r.proof.Header().ServerVersion)); err != nil {
		return err
	}
	if r.tool, err = r.engine.tools.chooseRestore(ctx, majorOf(r.server.VersionNum), r.proof.Header().MinToolMajor()); err != nil {
		return err
	}
	fresh := r.goesBeside(target)
	if err := r.choose(fresh); err != nil {
		return err
	}
	r.log(engine.LevelInfo, fmt.Sprintf("PostgreSQL %s, %s; dump of PostgreSQL %s by pg_dump %s",
		r.server.Version, r.tool, r.proof.Header().ServerVersion, r.proof.Header().ToolVersion))
	input := io.MultiReader(bytes.NewReader(head), in)
	if fresh {
		return r.intoFresh(ctx, target.exists, input)
	}
	return r.inPlace(ctx, input)
}

// templates are what PostgreSQL makes new databases of.
var templates = []string{"template0", "template1"}

// admit refuses a target that is absent, is not for data, or does not understand the dump.
func (r *restore) admit(t target) error {
	r.server = t.server
	if slices.Contains(templates, r.conn.Database) {
		return errs.New(errs.Conflict, errs.CodeRestoreNotSupported,
			"PostgreSQL makes every new database of %q, so nothing is restored into it: restore into a database of another name", r.conn.Database)
	}
	if !t.exists && !r.options.CreateDatabase {
		return errs.New(errs.Unavailable, errs.CodeDatabaseMissing,
			"%s has no database %q: create it, or let the restore create it", where(r.conn), r.conn.Database)
	}
	return r.refuseNewer(r.options.DumpVersion / 10000)
}

// goesBeside tells whether the restore makes a database of its own first.
func (r *restore) goesBeside(t target) bool {
	return !t.exists || r.options.DropExisting && len(r.options.IncludeTables) == 0
}

func (r *restore) refuseNewer(dumped int) error {
	if have := majorOf(r.server.VersionNum); dumped > have {
		return errs.New(errs.Conflict, errs.CodeRestoreNotSupported,
			"the dump is from PostgreSQL %d and the target is PostgreSQL %s, which may not understand it: restore into version %d or newer",
			dumped, r.server.Version, dumped)
	}
	return nil
}

// majorOfText reads "15.18 (Debian 15.18-0)"; 0 when it is something else.
func majorOfText(version string) int {
	digits := version
	for i, c := range version {
		if c < '0' || c > '9' {
			digits = version[:i]
			break
		}
	}
	major, err := strconv.Atoi(digits)
	if err != nil {
		return 0
	}
	return major
}

// readContents reads as far as the table of contents goes and returns the
// bytes read: the tool will want them.
func (r *restore) readContents(in io.Reader) ([]byte, error) {
	probe := archive.NewVerifier(archive.Events{})
	var head bytes.Buffer
	buf := make([]byte, 64<<10)
	for probe.Contents() == nil {
		n, err := in.Read(buf)
		if head.Write(buf[:n]); head.Len() > r.contentsLimit {
			return nil, errs.New(errs.Conflict, errs.CodeRestoreFailed, "the dump's table of contents is longer than %d bytes, which no dump tool writes: look where this backup comes from", r.contentsLimit)
		}
		if _, bad := probe.Write(buf[:n]); bad != nil {
			return nil, corrupt(bad)
		}
		switch {
		case probe.Contents() != nil:
		case errors.Is(err, io.EOF):
			return nil, corrupt(probe.Done())
		case err != nil:
			return nil, err
		}
	}
	r.proof = probe
	return head.Bytes(), nil
}

func corrupt(err error) error {
	return errs.Wrap(err, errs.Conflict, errs.CodeArtifactCorrupt, "the backup does not hold a whole dump: restore another one, and check the storage")
}

// choose makes the list of what is restored.
func (r *restore) choose(fresh bool) error {
	entries := r.proof.Contents()
	if len(r.options.IncludeTables) == 0 {
		r.progress.TablesTotal = countData(entries, nil)
		return nil
	}
	list, err := choose(entries, r.options.IncludeTables, fresh)
	if err != nil {
		return err
	}
	for _, name := range list.leftOut {
		r.log(engine.LevelWarn, fmt.Sprintf("foreign key %s is left out: it refers to a table that is not restored", name))
	}
	r.list = list
	r.progress.TablesTotal = countData(entries, list)
	return nil
}

func countData(entries []*archive.Entry, list *selectionList) (n int) {
	for _, e := range entries {
		if isTableData(e) && list.has(e) {
			n++
		}
	}
	return n
}

// arguments are those of every run. The database comes from the environment; a
// value of --dbname is needed to connect at all. A tool that has all it needs says
// nothing while the rest of the dump is read.
func (r *restore) arguments() []string {
	args := []string{"--exit-on-error", "--no-password", "--dbname=keepalives_idle=60 application_name=" + r.session}
	if !r.options.WithOwners {
		args = append(args, "--no-owner", "--no-tablespaces")
	}
	if !r.options.WithPrivileges {
		args = append(args, "--no-privileges")
	}
	return args
}

// feed runs the tool on a database. proven is that of tool.Feed.
func (r *restore) feed(ctx context.Context, database string, input io.Reader, more []string, proven func(gone <-chan struct{})) (process.Result, error) {
	conn := r.conn
	conn.Database = database
	notStarted := process.Result{ExitCode: -1}
	env, err := r.engine.environment(conn, r.dir)
	if err != nil {
		return notStarted, err
	}
	args := append(r.arguments(), more...)
	if r.list != nil {
		file, err := r.list.write(r.dir)
		if err != nil {
			return notStarted, err
		}
		args = append(args, "--use-list="+file)
	}
	var left int     // parts of the dump that the tool has yet to read
	var needed int64 // bytes up to the end of the last one it has read
	r.proof = archive.NewVerifier(archive.Events{
		Contents: func(_ archive.Header, entries []*archive.Entry) {
			left, needed = r.countParts(entries), r.proof.ContentsEnd()
		},
		Started: r.started,
		Finished: func(e *archive.Entry) {
			if r.list.has(e) {
				left, needed = left-1, r.proof.Position()
			}
			r.finished(e)
		},
	})
	proof := &sourceProof{Verifier: r.proof}
	result, err := tool.Feed{
		Spec: process.Spec{
			Path: r.tool.path, Args: args, Env: process.Environment(r.dir, env...), Dir: r.dir,
			OnStderr: tool.Pass(r.conn.Password, r.warn), TailLines: 200,
		},
		Stall: r.options.StallTimeout, Source: input, Proof: proof, OnFeed: r.read, Proven: proven,
		Needs: func() (int64, bool) { return needed, needed > 0 && left == 0 },
		Prove: r.proveEarly,
	}.Run(ctx)
	if err == nil {
		r.progress.BytesDone = r.progress.BytesTotal // what was not needed, too
		r.report()
	}
	return result, r.failure(ctx, err)
}

// proveEarly implements tool.Feed's Prove. A dump of which all is restored is read to
// its end all the same.
func (r *restore) proveEarly() (proven bool, err error) {
	if !r.options.Proven || r.list == nil {
		return false, nil
	}
	return r.input.prove()
}

// countParts counts the entries whose data is restored.
func (r *restore) countParts(entries []*archive.Entry) (n int) {
	for _, e := range entries {
		if e.HasData && r.list.has(e) {
			n++
		}
	}
	return n
}

func (r *restore) warn(message string) { r.log(engine.LevelWarn, message) }

// sourceProof makes broken bytes of a backup a matter of the backup.
type sourceProof struct{ *archive.Verifier }

func (p *sourceProof) Write(b []byte) (int, error) {
	n, err := p.Verifier.Write(b)
	if err != nil {
		return n, corrupt(err)
	}
	return n, nil
}

func (p *sourceProof) Done() error {
	if err := p.Verifier.Done(); err != nil {
		return corrupt(err)
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
			"pg_restore took no bytes for a long time and was ended: look for locks on the target's tables and network trouble")
	case ctx.Err() != nil && errors.Is(err, context.Cause(ctx)):
		return ended(ctx)
	}
	return err
}

func (r *restore) started(e *archive.Entry) {
	if r.list.has(e) {
		r.progress.Current = e.Name()
		r.report()
	}
}

func (r *restore) finished(e *archive.Entry) {
	if isTableData(e) && r.list.has(e) {
		r.progress.TablesDone++
		r.report()
	}
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

// log may be called by the reader of the tool's words; it is the only one to
// do so while the tool runs.
func (r *restore) log(level engine.Level, message string) {
	if r.options.Log != nil {
		r.options.Log(level, message)
	}
}
