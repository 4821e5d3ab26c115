package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/engine/postgres/archive"
	"github.com/dataguardian/dataguardian/internal/engine/tool"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/process"
)

// maxWarnings bounds what a result remembers of a talkative tool.
const maxWarnings = 100

// Dump writes the member backup.dump. With ParallelJobs above 1, and tables that are
// large enough, several connections of one snapshot write backup-00001.dump and so on
// instead: one behind the other in that order they are the same archive. Table names of
// the options are literal: "schema.table", or "table" for one on the search path; a
// partitioned table stands for its partitions too.
func (e *Engine) Dump(ctx context.Context, c engine.Conn, o engine.DumpOptions, sink engine.Sink) (engine.DumpResult, error) {
	d := dump{engine: e, conn: c, options: o, result: engine.DumpResult{Format: Format}}
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

	mu sync.Mutex // for log lines: the tool's words have a goroutine of their own

	progressMu sync.Mutex
	progress   engine.Progress
}

// prepare asks the server what is to be dumped, and by which tool.
func (d *dump) prepare(ctx context.Context) error {
	var bad []errs.Field
	for field, names := range map[string][]string{
		"include_tables": d.options.IncludeTables, "exclude_tables": d.options.ExcludeTables, "exclude_table_data": d.options.ExcludeTableData,
	} {
		bad = append(bad, checkTables(field, names)...)
	}
	if len(bad) > 0 {
		return errs.InvalidFields(errs.CodeValidation, bad...)
	}
	conn, err := d.engine.connect(ctx, d.conn)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	began := time.Now()
	if d.result.Server, err = serverInfo(ctx, conn, d.conn); err != nil {
		return err
	}
	d.result.Server.Latency = time.Since(began)
	if err := d.engine.refuseShared(ctx, conn, d.conn); err != nil {
		return err
	}
	if d.tool, err = d.engine.tools.chooseDump(ctx, majorOf(d.result.Server.VersionNum)); err != nil {
		return err
	}
	d.result.Tools = map[string]string{d.tool.name: d.tool.version}
	if major := majorOf(d.result.Server.VersionNum); d.tool.tooNewFor(major) {
		d.warn(fmt.Sprintf("no tool older than %s is installed here: this backup comes back only into PostgreSQL %d or newer, not into PostgreSQL %d; install postgresql-client-%[3]d for the next one",
			d.tool, timeoutMajor, major))
	}
	if d.selection, err = resolve(ctx, conn, d.conn, d.options); err != nil {
		return err
	}
	if d.selection.viaRoot, err = hashesEnums(ctx, conn, d.conn); err != nil {
		return err
	}
	for _, name := range d.selection.missing {
		d.warn(fmt.Sprintf("table %q is to be left out, but does not exist", name))
	}
	d.progress = engine.Progress{BytesTotal: d.selection.bytes}
	d.log(engine.LevelInfo, fmt.Sprintf("PostgreSQL %s, %s; %s, about %s of data",
		d.result.Server.Version, d.tool, engine.Count(d.selection.tables, "table"), mebibytes(d.selection.bytes)))
	return nil
}

// arguments holds nothing of the connection.
func (d *dump) arguments() []string {
	args := []string{
		"--format=custom", "--compress=0", "--no-password",
		fmt.Sprintf("--lock-wait-timeout=%d", d.engine.lockWait.Milliseconds()),
	}
	if len(d.selection.include) > 0 {
		args = append(args, "--strict-names")
	}
	if d.selection.viaRoot {
		args = append(args, "--load-via-partition-root")
	}
	for _, p := range d.selection.include {
		args = append(args, "--table="+p)
	}
	for _, p := range d.selection.exclude {
		args = append(args, "--exclude-table="+p)
	}
	for _, p := range d.selection.excludeData {
		args = append(args, "--exclude-table-data="+p)
	}
	return args
}

func (d *dump) run(ctx context.Context, dir string, sink engine.Sink) error {
	env, err := d.engine.environment(d.conn, dir)
	if err != nil {
		return err
	}
	if shared, err := d.share(ctx, dir, env, sink); shared || err != nil {
		return err
	}
	member, err := sink.Create(ctx, Member)
	if err != nil {
		return err
	}
	if err := d.stream(ctx, dir, env, member); err != nil {
		return also(err, member.CloseWithError(err))
	}
	return member.Close()
}

// also adds a second error, unless there is none or it only repeats the first.
func also(err, second error) error {
	switch {
	case err == nil:
		return second
	case second == nil, errors.Is(second, err), errors.Is(err, second):
		return err
	}
	return errors.Join(err, second)
}

func (d *dump) stream(ctx context.Context, dir string, env []string, member engine.MemberWriter) error {
	proof := archive.NewVerifier(archive.Events{Contents: d.contents, Started: d.started, Finished: d.finished})
	_, err := tool.Stream{
		Spec: process.Spec{
			Path: d.tool.path, Args: d.arguments(), Env: process.Environment(dir, env...), Dir: dir,
			OnStderr: tool.Pass(d.conn.Password, d.warn),
		},
		Stall:  d.options.StallTimeout,
		Proof:  proof,
		Member: member,
		OnRead: d.read,
	}.Run(ctx)
	if err != nil {
		return d.failure(ctx, err)
	}
	d.result.Tables, d.result.SchemaDigest = tables(proof.Contents()), d.digestOf(proof.Contents())
	d.update(func(p *engine.Progress) { p.BytesTotal, p.Current = p.BytesDone, "" })
	return nil
}

// failure types what ended the run.
func (d *dump) failure(ctx context.Context, err error) error {
	if exit, ok := errors.AsType[*process.ExitError](err); ok {
		return toolError(exit, d.conn, errs.CodeDumpFailed)
	}
	switch {
	case errors.Is(err, tool.ErrStalled):
		return errs.Wrap(err, errs.Unavailable, errs.CodeDumpStalled,
			"pg_dump wrote nothing for %s and was ended: look for locks and network trouble between here and %s", d.stall(), where(d.conn))
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

func (d *dump) contents(_ archive.Header, entries []*archive.Entry) {
	d.update(func(p *engine.Progress) {
		for _, e := range entries {
			if isTableData(e) {
				p.TablesTotal++
			}
		}
	})
}

func (d *dump) started(e *archive.Entry) {
	d.update(func(p *engine.Progress) { p.Current = e.Name() })
}

func (d *dump) finished(e *archive.Entry) {
	if !isTableData(e) {
		return
	}
	var done int
	d.update(func(p *engine.Progress) {
		p.TablesDone++
		done = p.TablesDone
	})
	if done <= tool.TableLines {
		d.log(engine.LevelDebug, fmt.Sprintf("table %s: %d rows", e.Name(), e.Rows()))
	}
}

func (d *dump) read(n int) {
	d.update(func(p *engine.Progress) {
		p.BytesDone += int64(n)
		p.BytesTotal = max(p.BytesTotal, p.BytesDone)
		if d.selection.bytes == 0 {
			p.BytesTotal = 0
		}
	})
}

// update changes the progress and tells of it.
func (d *dump) update(change func(p *engine.Progress)) {
	d.progressMu.Lock()
	defer d.progressMu.Unlock()
	change(&d.progress)
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

func isTableData(e *archive.Entry) bool { return e.Desc == "TABLE DATA" }

// tables lists what an archive holds: every table, and data of tables that
// belong to extensions. Rows are those of the data, -1 where it was left out or
// where the table has none of its own.
func tables(entries []*archive.Entry) []engine.Table {
	type key struct{ schema, name string }
	at := map[key]int{}
	roots := rootsOf(entries)
	var list []engine.Table
	for _, e := range entries {
		if e.Desc != "TABLE" && !isTableData(e) {
			continue
		}
		k := key{e.Namespace, e.Tag}
		i, known := at[k]
		if !known {
			i, at[k] = len(list), len(list)
			list = append(list, engine.Table{Schema: e.Namespace, Name: e.Tag, Rows: -1, Root: roots[e.DumpID]})
		}
		if isTableData(e) {
			list[i].Rows = e.Rows()
		}
	}
	return list
}

// rootsOf maps the dump ids of partitions to the tables at the top.
func rootsOf(entries []*archive.Entry) map[int]*engine.TableName {
	byID, parent := map[int]*archive.Entry{}, map[int]int{}
	for _, e := range entries {
		byID[e.DumpID] = e
	}
	for _, e := range entries {
		if e.Desc != "TABLE ATTACH" && !e.Attaches {
			continue
		}
		child, above := 0, 0
		if e.Attaches {
			child = e.DumpID
		}
		for _, id := range e.Dependencies {
			switch d := byID[id]; {
			case d == nil || !isRelation(d.Desc):
			case d.Tag == e.Tag && d.Namespace == e.Namespace:
				child = id
			default:
				above = id
			}
		}
		if child != 0 && above != 0 {
			parent[child] = above
		}
	}
	roots := map[int]*engine.TableName{}
	for child := range parent {
		top := child
		for range len(parent) { // no more steps than there are partitions, whatever the archive says
			if parent[top] == 0 {
				break
			}
			top = parent[top]
		}
		roots[child] = &engine.TableName{Schema: byID[top].Namespace, Name: byID[top].Tag}
	}
	return roots
}

func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
