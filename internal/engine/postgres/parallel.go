package postgres

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/engine/postgres/archive"
	"github.com/dataguardian/dataguardian/internal/engine/tool"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/process"
)

const (
	unpackBuffer = 1 << 20
	// spare is what unpacking leaves free on the disk, in bytes.
	spare = 1 << 30
)

// unpacks reports whether the archive is written to a file first, which a restore
// by several processes reads from many places at once.
func (r *restore) unpacks() bool {
	why := tooTight(r.options, r.dir, r.progress.BytesTotal)
	if why != "" {
		r.log(engine.LevelWarn, why)
	}
	return r.options.ParallelJobs > 1 && why == ""
}

// tooTight says why a dump of a size cannot be unpacked into a directory; empty when
// it can, or need not.
func tooTight(o engine.RestoreOptions, dir string, size int64) string {
	free, ok := engine.FreeSpace(dir)
	if need := size + spare; o.ParallelJobs > 1 && ok && free < need {
		return fmt.Sprintf("a restore by %d processes needs %s on the worker's disk and %s is free, so one process restores from the stream",
			o.ParallelJobs, mebibytes(need), mebibytes(free))
	}
	return ""
}

// feedParallel unpacks the archive, proves it whole, and lets the tool restore it
// into a database by several processes. conn is to another database of the server.
func (r *restore) feedParallel(ctx context.Context, conn *pgx.Conn, database string, input io.Reader) error {
	file := filepath.Join(r.dir, Member)
	if err := r.unpack(ctx, file, input); err != nil {
		return err
	}
	c := r.conn
	c.Database = database
	env, err := r.engine.environment(c, r.dir)
	if err != nil {
		return err
	}
	args := append(r.arguments(), "--verbose", "--jobs="+strconv.Itoa(r.options.ParallelJobs))
	if r.list != nil {
		list, err := r.list.write(r.dir)
		if err != nil {
			return err
		}
		args = append(args, "--use-list="+list)
	}
	r.items = r.countItems()
	var said listener
	_, err = tool.Work{
		Spec: process.Spec{
			Path: r.tool.path, Args: append(args, file), Env: process.Environment(r.dir, env...), Dir: r.dir,
			OnStderr: func(line string) { r.hear(&said, line) }, TailLines: 200,
		},
		Stall: r.options.StallTimeout,
		Alive: func(ctx context.Context) bool { return works(ctx, conn, database) },
	}.Run(ctx)
	if exit, ok := errors.AsType[*process.ExitError](err); ok {
		var heard listener
		if words := slices.DeleteFunc(slices.Clone(exit.Tail), func(line string) bool { return heard.passes(line) || saysNothing(line) }); len(words) > 0 {
			exit.Tail = words
		}
	}
	if err != nil {
		return r.failure(ctx, err)
	}
	r.progress.TablesDone, r.progress.BytesDone = r.progress.TablesTotal, r.progress.BytesTotal // whatever was heard of it
	r.report()
	return nil
}

// unpack writes the archive to a file, with what a parallel restore needs to know.
func (r *restore) unpack(ctx context.Context, file string, input io.Reader) (err error) {
	out, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // in a private directory of ours
	if err != nil {
		return errs.Wrap(err, errs.Internal, errs.CodeInternal, "the backup could not be unpacked into the temporary directory")
	}
	defer func() { err = also(err, out.Close()) }()
	r.proof = archive.NewVerifier(archive.Events{})
	proof, disk := &sourceProof{Verifier: r.proof}, bufio.NewWriterSize(out, unpackBuffer)
	buf := make([]byte, unpackBuffer)
	for {
		if ctx.Err() != nil {
			return ended(ctx)
		}
		n, err := input.Read(buf)
		if _, bad := proof.Write(buf[:n]); bad != nil {
			return bad
		}
		if _, full := disk.Write(buf[:n]); full != nil {
			return unpackError(full)
		}
		r.items.unpacked += int64(n)
		r.advance()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return r.failure(ctx, err)
		}
	}
	if err := proof.Done(); err != nil {
		return err
	}
	if err := disk.Flush(); err != nil {
		return unpackError(err)
	}
	return unpackError(r.proof.SetOffsets(out))
}

func unpackError(err error) error {
	if err == nil {
		return nil
	}
	return errs.Wrap(err, errs.Exhausted, errs.CodeSpoolFull,
		"the backup could not be unpacked on the worker's disk: make room, or restore with parallel_jobs 1, which needs none")
}

// Words of a tool that says what it does. Its processes write at the same time, so
// that two lines may become one.
var (
	problem  = regexp.MustCompile(`(?i:(?:^|pg_restore: )(?:error|warning|detail|hint|fatal):)|ERROR: `)
	doneItem = regexp.MustCompile(`finished item (\d+) ([A-Z ]+?) \S`)
)

// listener tells chatter from problems. Names with line breaks go on in lines
// without the tool's own name; so do the words of servers.
type listener struct{ chatting bool }

func (l *listener) passes(line string) bool {
	switch {
	case problem.MatchString(line):
		l.chatting = false
	case strings.HasPrefix(line, "pg_restore: "):
		l.chatting = true
	}
	return l.chatting
}

// saysNothing reports a line that does not tell why the tool failed.
func saysNothing(line string) bool {
	return strings.Trim(line, " ^") == "" || strings.HasSuffix(line, "error: a worker process died unexpectedly")
}

// hear makes progress of what the tool says, and log lines of the rest.
func (r *restore) hear(l *listener, line string) {
	if m := doneItem.FindStringSubmatch(line); m != nil {
		if id, err := strconv.Atoi(m[1]); err == nil {
			r.finishedItem(id)
		}
	}
	if !l.passes(line) {
		tool.Pass(r.conn.Password, r.warn)(line)
	}
}

// items is how far a restore by several processes is. Its progress is told in bytes
// of the dump, of which unpacking, the tables' data, and all that is made after it
// (indexes, constraints) have a share each.
type items struct {
	unpacked int64                  // bytes
	open     map[int]*archive.Entry // what will be heard of, by its number
	total    int
	rows     int64 // bytes of tables' data
	loaded   int64 // of them in the database
}

// Shares of the progress, in hundredths.
const (
	unpackShare = 20
	loadShare   = 60
	itemShare   = 20
)

// countItems lists what the processes will say they have finished: all that is not
// made before the data.
func (r *restore) countItems() items {
	n := items{unpacked: r.items.unpacked, open: map[int]*archive.Entry{}}
	for _, e := range r.proof.Contents() {
		switch e.Desc {
		case "TABLE DATA", "INDEX", "CONSTRAINT", "FK CONSTRAINT", "TRIGGER", "RULE", "SEQUENCE SET", "MATERIALIZED VIEW DATA":
			if r.list.has(e) {
				n.open[e.DumpID] = e
				n.rows += e.DataSize()
			}
		}
	}
	n.total = len(n.open)
	return n
}

func (r *restore) finishedItem(id int) {
	e := r.items.open[id]
	if e == nil {
		return
	}
	delete(r.items.open, id)
	r.items.loaded += e.DataSize()
	if isTableData(e) {
		r.progress.TablesDone, r.progress.Current = min(r.progress.TablesDone+1, r.progress.TablesTotal), e.Name()
	}
	r.advance()
}

// advance tells how far it is; the whole is told only at the end.
func (r *restore) advance() {
	n, total := &r.items, float64(r.progress.BytesTotal)
	done := unpackShare * min(1, float64(n.unpacked)/max(1, total))
	if n.total > 0 {
		done += loadShare*float64(n.loaded)/float64(max(1, n.rows)) + itemShare*float64(n.total-len(n.open))/float64(n.total)
	}
	r.progress.BytesDone = max(r.progress.BytesDone, int64(min(99, done)/100*total))
	r.report()
}

// works reports whether a server is at work in a database: a session there that
// waits neither for a lock nor for its client.
func works(ctx context.Context, conn *pgx.Conn, database string) (yes bool) {
	err := asLogin(ctx, conn, func() error {
		return conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_stat_activity
			WHERE datname = $1 AND state = 'active' AND coalesce(wait_event_type, '') NOT IN ('Lock', 'Client'))`, database).Scan(&yes)
	})
	return err == nil && yes
}
