package mysql

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/engine/tool"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/process"
)

const (
	maxWarnings = 100
	// maxNames bounds the table names passed on, in bytes; the kernel's limit
	// for arguments and environment is 2 MiB.
	maxNames = 1 << 20
	// maxPacket is the largest row the protocol carries.
	maxPacket = "--max-allowed-packet=1G"
)

// Dump writes the member backup.sql: a line of ours that tells the database's
// character set, then what the dump tool writes. Table names of the options are
// literal. With IncludeTables there are no routines and events. Tables without
// rows (ExcludeTableData) are written by a first run of the tool, the others by
// a second one: structure takes no part in the snapshot anyway. ParallelJobs above
// 1 is answered by a warning: connections share a snapshot only while a lock of the
// whole server is held.
func (e *Engine) Dump(ctx context.Context, c engine.Conn, o engine.DumpOptions, sink engine.Sink) (engine.DumpResult, error) {
	d := &dump{engine: e, conn: c, options: o, rows: map[string]int64{}}
	if err := d.prepare(ctx); err != nil {
		return engine.DumpResult{}, err
	}
	dir, remove, err := workDir(o.TempDir)
	if err != nil {
		return engine.DumpResult{}, err
	}
	if err := also(d.run(ctx, dir, sink), remove()); err != nil {
		return engine.DumpResult{}, err
	}
	return d.result, nil
}

// dump is one run.
type dump struct {
	engine  *Engine
	conn    engine.Conn
	options engine.DumpOptions
	result  engine.DumpResult

	tool      program
	selection selection
	charset   charset
	history   bool // old rows of versioned tables are dumped, too
	rows      map[string]int64
	progress  engine.Progress
	estimate  int64

	mu sync.Mutex // for log lines: the tool's words have a goroutine of their own
}

// prepare asks the server what is to be dumped, and by which tool.
func (d *dump) prepare(ctx context.Context) error {
	var bad []errs.Field
	bad = append(bad, checkTables("include_tables", d.options.IncludeTables)...)
	bad = append(bad, checkTables("exclude_tables", d.options.ExcludeTables)...)
	bad = append(bad, checkTables("exclude_table_data", d.options.ExcludeTableData)...)
	if len(bad) > 0 {
		return errs.InvalidFields(errs.CodeValidation, bad...)
	}
	began := time.Now()
	s, err := d.engine.connect(ctx, d.conn, d.conn.Database)
	if err != nil {
		return err
	}
	defer s.close()
	if err := d.respell(ctx, s); err != nil {
		return err
	}
	if d.result.Server, err = s.serverInfo(ctx); err != nil {
		return err
	}
	d.result.Server.Latency = time.Since(began)
	d.result.Format = formatOf(d.result.Server.Flavor)
	if d.tool, err = d.engine.tools.choose(ctx, dumpNames[:], d.result.Server); err != nil {
		return err
	}
	d.result.Tools = map[string]string{d.tool.name: d.tool.version}
	if d.conn, err = s.forTool(ctx, d.conn, d.tool, d.result.Server); err != nil {
		return err
	}
	if d.charset, err = s.charset(ctx); err != nil {
		return err
	}
	all, err := s.tables(ctx)
	if err != nil {
		return err
	}
	for _, t := range all {
		d.result.Server.DatabaseSize += t.bytes
	}
	if d.selection, err = choose(all, d.conn.Database, d.options); err != nil {
		return err
	}
	if err := d.refuseLoss(ctx, s); err != nil {
		return err
	}
	d.announce()
	d.warnOfUnseen(s.askRights(ctx, d.result.Server.Flavor))
	if err := d.chooseHistory(ctx, s); err != nil {
		return err
	}
	if err := d.warnOfMasked(ctx, s); err != nil {
		return err
	}
	if err := d.warnOfFloats(ctx, s); err != nil {
		return err
	}
	if err := d.warnOfSettings(ctx, s); err != nil {
		return err
	}
	return d.warnOfLibraries(ctx, s)
}

// warnOfUnseen tells what the user's rights keep out of the dump.
func (d *dump) warnOfUnseen(u rights) {
	kinds := u.unseen(d.conn.Database, d.result.Server.Flavor)
	if d.selection.partially {
		kinds = slices.DeleteFunc(kinds, func(kind string) bool { return strings.HasPrefix(kind, "procedures") })
	}
	if len(kinds) > 0 {
		d.warn(fmt.Sprintf("user %q cannot see everything, so the backup lacks, if there are any: %s; grant what is in brackets and back up again",
			d.conn.Username, strings.Join(kinds, ", ")))
	}
}

// warnOfMasked tells of columns whose values a server shows to some users only: a tool
// writes what it is shown.
func (d *dump) warnOfMasked(ctx context.Context, s *session) error {
	if d.result.Server.Flavor != engine.MySQL || d.result.Server.VersionNum < 90000 {
		return nil
	}
	masked, err := d.columns(ctx, s, "extra LIKE '%MASKING POLICY%'")
	if err != nil {
		return err
	}
	if len(masked) > 0 {
		d.warn(fmt.Sprintf("masking policies decide what users see of these columns, and the backup has what user %q is shown, which must be the values themselves (CURRENT_USER_IN, CURRENT_ROLE_IN of the policies); the policies are the server's and not in the backup: %s",
			d.conn.Username, listed(masked)))
	}
	return nil
}

// columns are those of tables that are dumped with their rows for which a condition of
// information_schema.columns holds, each as table.column.
func (d *dump) columns(ctx context.Context, s *session, condition string) (found []string, err error) {
	all, err := s.pairs(ctx, "SELECT table_name, concat(table_name, '.', column_name) FROM information_schema.columns WHERE table_schema = ? AND "+
		condition+" ORDER BY table_name, ordinal_position", d.conn.Database)
	for _, c := range all {
		if slices.ContainsFunc(d.selection.full, func(t table) bool { return t.name == c[0] && !t.view }) {
			found = append(found, c[1])
		}
	}
	return found, err
}

// listed are names, not too many of them.
func listed(names []string) string {
	const most = 20
	if over := len(names) - most; over > 0 {
		names = append(names[:most:most], fmt.Sprintf("and %d more", over))
	}
	return strings.Join(names, ", ")
}

func (d *dump) announce() {
	d.estimate = d.selection.bytes()
	d.progress = engine.Progress{TablesTotal: d.selection.dataTables(), BytesTotal: d.estimate}
	d.log(engine.LevelInfo, fmt.Sprintf("%s %s, %s; %s, about %.1f MiB of data",
		d.result.Server.Flavor, d.result.Server.Version, d.tool, engine.Count(d.progress.TablesTotal, "table"), float64(d.estimate)/(1<<20)))
	for _, name := range d.selection.missing {
		d.warn(fmt.Sprintf("table %q is to be left out, but does not exist", name))
	}
	if d.options.ParallelJobs > 1 {
		d.warn(fmt.Sprintf("parallel_jobs is %d, but one connection dumps: several would need a lock of the whole server to see the same moment", d.options.ParallelJobs))
	}
	if names := d.selection.inconsistent(); names != "" {
		d.warn("these tables take no part in transactions, so they may change while they are dumped: " + names)
	}
	if warning := d.tool.foreign(d.result.Server.Flavor); warning != "" {
		d.warn(warning)
	} else if d.tool.num/100 < d.result.Server.VersionNum/100 {
		d.warn(fmt.Sprintf("%s is older than the server: install one of the server's version", d.tool))
	}
}

func (d *dump) run(ctx context.Context, dir string, sink engine.Sink) error {
	passes, err := d.passes()
	if err != nil {
		return err
	}
	file, err := optionFile(d.conn, d.tool, dir)
	if err != nil {
		return err
	}
	member, err := sink.Create(ctx, Member)
	if err != nil {
		return err
	}
	if err := d.stream(ctx, dir, file, passes, member); err != nil {
		return also(err, member.CloseWithError(err))
	}
	return member.Close()
}

// passes are the runs of the tool, each the arguments after the options.
func (d *dump) passes() ([][]string, error) {
	if d.selection.whole {
		return [][]string{{"--routines", "--events", "--", d.conn.Database}}, nil
	}
	var passes [][]string
	if len(d.selection.emptied) > 0 {
		passes = append(passes, d.pass(d.selection.emptied, "--no-data", "--skip-routines", "--skip-events"))
	}
	switch {
	case d.selection.partially && len(d.selection.full) > 0:
		passes = append(passes, d.pass(d.selection.full, "--skip-routines", "--skip-events"))
	case len(d.selection.full) > 0:
		passes = append(passes, d.pass(d.selection.full, "--routines", "--events"))
	case !d.selection.partially:
		passes = append(passes, []string{"--no-data", "--no-create-info", "--skip-triggers", "--routines", "--events", "--", d.conn.Database})
	}
	for _, p := range passes {
		size := 0
		for _, arg := range p {
			size += len(arg) + 1
		}
		if size > maxNames {
			return nil, errs.New(errs.Invalid, errs.CodeDumpFailed,
				"the selected tables are too many to be named one by one: dump the whole database, or fewer tables")
		}
	}
	return passes, nil
}

func (d *dump) pass(tables []table, options ...string) []string {
	args := append(options, "--", d.conn.Database)
	for _, t := range tables {
		args = append(args, t.name)
	}
	return args
}

// options are those of every run; the first must be the option file.
func (d *dump) toolOptions(file string) []string {
	args := []string{
		"--defaults-file=" + file, "--single-transaction", "--quick", "--hex-blob", "--triggers",
		"--no-tablespaces", "--skip-dump-date", maxPacket,
	}
	if d.tool.flavor == engine.MySQL {
		// A tool says that it does not know a loose option, which would be a warning of
		// every backup.
		args = append(args, "--loose-set-gtid-purged=OFF")
		if d.tool.num >= 80000 {
			args = append(args, "--loose-column-statistics=0")
		}
		if d.tool.num >= 90700 { // masking policies are the server's: a restore would change them for all
			args = append(args, "--loose-skip-masking-policies")
		}
	}
	return args
}

func (d *dump) stream(ctx context.Context, dir, file string, passes [][]string, member engine.MemberWriter) error {
	proof := &script{started: d.started, finished: d.finished}
	first := d.charset.line()
	if _, err := member.Write([]byte(first)); err != nil {
		return err
	}
	d.progress.BytesDone += int64(len(first))
	for _, pass := range passes {
		proof.again()
		options := d.toolOptions(file)
		if d.history && pass[0] != "--no-data" {
			options = append(options, "--dump-history")
		}
		_, err := tool.Stream{
			Spec: process.Spec{
				Path: d.tool.path, Args: append(options, pass...), Env: process.Environment(dir, "MYSQL_HOME="+dir), Dir: dir,
				OnStderr: tool.Pass(d.conn.Password, d.warn),
			},
			Stall: d.options.StallTimeout, Proof: proof, Member: member, OnRead: d.read,
		}.Run(ctx)
		if err != nil {
			return d.failure(ctx, err)
		}
	}
	d.result.SchemaDigest = proof.schema.sum(digestMethod(d.result.Server), d.charset)
	d.finish()
	return nil
}

func (d *dump) failure(ctx context.Context, err error) error {
	if exit, ok := errors.AsType[*process.ExitError](err); ok {
		return toolError(exit, d.conn, errs.CodeDumpFailed)
	}
	switch {
	case errors.Is(err, tool.ErrStalled):
		return errs.Wrap(err, errs.Unavailable, errs.CodeDumpStalled,
			"%s wrote nothing for %s and was ended: look for locks and network trouble between here and %s", d.tool.name, d.stall(), where(d.conn))
	case ctx.Err() != nil && errors.Is(err, context.Cause(ctx)):
		return ended(ctx)
	}
	return err
}

func (d *dump) stall() time.Duration {
	if d.options.StallTimeout > 0 {
		return d.options.StallTimeout
	}
	return tool.DefaultStall
}

// finish lists what was dumped.
func (d *dump) finish() {
	for _, list := range [][]table{d.selection.emptied, d.selection.full} {
		for _, t := range list {
			if t.view {
				continue
			}
			rows, counted := d.rows[t.name]
			if !counted {
				rows = -1
			}
			d.result.Tables = append(d.result.Tables, engine.Table{Schema: d.conn.Database, Name: t.name, Rows: rows})
		}
	}
	d.progress.BytesTotal, d.progress.Current = d.progress.BytesDone, ""
	d.report()
}

func (d *dump) started(name string) {
	d.progress.Current = name
	d.report()
}

func (d *dump) finished(name string, rows int64) {
	d.rows[name] = rows
	d.progress.TablesDone++
	if d.progress.TablesDone <= tool.TableLines {
		d.log(engine.LevelDebug, fmt.Sprintf("table %s: %d rows", name, rows))
	}
	d.report()
}

func (d *dump) read(n int) {
	d.progress.BytesDone += int64(n)
	if d.estimate > 0 {
		d.progress.BytesTotal = max(d.estimate, d.progress.BytesDone)
	}
	d.report()
}

func (d *dump) report() {
	if d.options.Progress != nil {
		d.options.Progress(d.progress)
	}
}

func (d *dump) log(level engine.Level, message string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.options.Log != nil {
		d.options.Log(level, message)
	}
}

// warn also keeps the message for the result.
func (d *dump) warn(message string) {
	d.log(engine.LevelWarn, message)
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.result.Warning) < maxWarnings {
		d.result.Warning = append(d.result.Warning, message)
	}
}
