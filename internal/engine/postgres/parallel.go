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
	"golang.org/x/sys/unix"

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
	if r.options.ParallelJobs < 2 {
		return false
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(r.dir, &disk); err != nil {
		return false
	}
	free := int64(disk.Bavail) * disk.Bsize //nolint:gosec // no disk is that large
	if need := r.progress.BytesTotal + spare; free < need {
		r.log(engine.LevelInfo, fmt.Sprintf("a restore by %d processes needs %s on the worker's disk and %s is free, so one process restores from the stream",
			r.options.ParallelJobs, megabytes(need), megabytes(free)))
		return false
	}
	return true
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
	r.progress.TablesDone = 0
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
	r.progress.TablesDone = r.progress.TablesTotal // whatever was heard of it
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
		r.read(n)
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
	problem   = regexp.MustCompile(`(?i:(?:^|pg_restore: )(?:error|warning|detail|hint|fatal):)|ERROR: `)
	doneTable = regexp.MustCompile(`finished item \d+ TABLE DATA (.*)$`)
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
	if m := doneTable.FindStringSubmatch(line); m != nil {
		r.progress.TablesDone, r.progress.Current = min(r.progress.TablesDone+1, r.progress.TablesTotal), m[1]
		r.report()
	}
	if !l.passes(line) && strings.TrimSpace(line) != "" {
		r.log(engine.LevelWarn, tool.Redact(line, r.conn.Password))
	}
}

// works reports whether a server is at work in a database: a session there that
// waits neither for a lock nor for its client.
func works(ctx context.Context, conn *pgx.Conn, database string) (yes bool) {
	err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_stat_activity
		WHERE datname = $1 AND state = 'active' AND coalesce(wait_event_type, '') NOT IN ('Lock', 'Client'))`, database).Scan(&yes)
	return err == nil && yes
}
