package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
)

const (
	source   = "company"
	dumpOnly = "dump only"
)

// backups compares our backup with what people would type.
func backups(ctx context.Context, b *bench) (t table, err error) {
	size, err := b.company(ctx)
	if err != nil {
		return t, err
	}
	tools, err := b.tools(b.cluster.client(source))
	if err != nil {
		return t, err
	}
	warm := tools[0]
	if b.noTools {
		tools = nil
	}
	contenders := tools
	for i, program := range b.servers {
		ours, stop, err := b.ours(ctx, program, numbered("backups", i), source)
		if err != nil {
			return t, err
		}
		defer func() { err = errors.Join(err, stop()) }()
		contenders = append(contenders, ours...)
	}
	if _, err := warm.once(ctx); err != nil { // the disk's cache is warm for all
		return t, err
	}
	standings, err := b.compete(ctx, contenders)
	if err != nil {
		return t, err
	}
	// Beside each of the tools but the first; without tools, beside the first of our servers.
	beside := standings[:1]
	if len(tools) > 0 {
		beside = standings[1:len(tools)]
	}
	return backupTable(fmt.Sprintf("Backup of a database of %s to the local disk", megabytes(size)), standings, beside, size, b.rounds), nil
}

// backupTable puts every contender beside some of them.
func backupTable(title string, standings, beside []standing, size int64, rounds int) table {
	t := table{
		title: title,
		notes: []string{
			fmt.Sprintf("Medians of %d. CPU and memory are those of the tools or of our server with its child processes, never of the database, which does the same for all. Memory is the sum of the peaks of the processes that ran at the same time. Every contender ends with its bytes on the disk (fsync).", rounds),
			"wall / NAME and CPU / NAME: the row's time divided by NAME's; below 1 is less.",
		},
		head: []string{"contender", "wall", "CPU", "peak memory", "written", "MB/s"},
	}
	for _, s := range beside {
		t.head = append(t.head, "wall / "+s.name, "CPU / "+s.name)
	}
	for _, s := range standings {
		m := s.median()
		row := []string{s.name, seconds(m.wall), seconds(m.cpu), megabytes(m.memory), megabytes(m.bytes), fmt.Sprintf("%.0f", float64(size)/1e6/m.wall.Seconds())}
		for _, tool := range beside {
			row = append(row, ratio(m.wall, tool.median().wall), ratio(m.cpu, tool.median().cpu))
		}
		t.add(row...)
	}
	return t
}

// tools are the contenders that are not ours. The first is no backup: it shows
// how fast the database gives its rows away. env says where that is.
func (b *bench) tools(env []string) ([]contender, error) {
	dump, err := b.cluster.program("pg_dump")
	if err != nil {
		return nil, err
	}
	zstd, err := exec.LookPath("zstd")
	if err != nil {
		return nil, fmt.Errorf("%w; scripts/install-packages.sh bench installs it", err)
	}
	file := b.path("dump")
	return []contender{
		pipeline(dumpOnly, env, "", []string{dump, "-Fc", "-Z0"}),
		pipeline("pg_dump -Fc", env, file, []string{dump, "-Fc"}),
		pipeline("pg_dump, zstd -1 -T2", env, file, []string{dump, "-Fc", "-Z0"}, []string{zstd, "-q", "-1", "-T2", "-c"}),
		intoDirectory("pg_dump -Fd -j2 -Z1", env, b.path("dump.d"), []string{dump, "-Fd", "-j2", "-Z1"}),
	}, nil
}

// intoDirectory is a contender that writes a directory of files.
func intoDirectory(name string, env []string, directory string, command []string) contender {
	return contender{
		name: name,
		run: func(ctx context.Context) (m measurement, err error) {
			began := time.Now()
			m.cpu, m.memory, err = runConnected(ctx, env, os.Stderr, [][]string{append(slices.Clone(command), "-f", directory)})
			if err != nil {
				return m, err
			}
			if m.bytes, err = syncFiles(directory); err != nil {
				return m, err
			}
			m.wall = time.Since(began)
			return m, nil
		},
		clean: func(context.Context) error { return os.RemoveAll(directory) },
	}
}

// syncFiles puts a directory's files on the disk and returns how many bytes they have.
func syncFiles(directory string) (size int64, err error) {
	entries, err := os.ReadDir(directory)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		f, err := os.Open(filepath.Join(directory, e.Name())) //nolint:gosec // below our own directory
		if err != nil {
			return 0, err
		}
		info, err := f.Stat()
		if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
			return 0, err
		}
		size += info.Size()
	}
	return size, nil
}

// pipeline is a contender made of one or two programs; the last one writes to
// the file, or nowhere.
func pipeline(name string, env []string, file string, commands ...[]string) contender {
	c := contender{name: name}
	c.run = func(ctx context.Context) (measurement, error) {
		return runPipeline(ctx, env, file, commands)
	}
	if file != "" {
		c.clean = func(context.Context) error { return os.Remove(file) }
	}
	return c
}

func runPipeline(ctx context.Context, env []string, file string, commands [][]string) (m measurement, err error) {
	if file == "" {
		file = os.DevNull
	}
	out, err := os.Create(file) //nolint:gosec // below our own directory
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	began := time.Now()
	m.cpu, m.memory, err = runConnected(ctx, env, out, commands)
	if err != nil {
		return m, err
	}
	if file != os.DevNull {
		if err := out.Sync(); err != nil {
			return m, err
		}
	}
	m.wall = time.Since(began)
	info, err := out.Stat()
	if err != nil {
		return m, err
	}
	m.bytes = info.Size()
	return m, nil
}

// runConnected runs programs whose outputs are the next one's inputs. The kernel
// moves the bytes, nothing of ours does.
func runConnected(ctx context.Context, env []string, out *os.File, commands [][]string) (cpu time.Duration, memory int64, err error) {
	runtime.LockOSThread() // as keep does
	defer runtime.UnlockOSThread()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var running []*exec.Cmd
	var pids []int
	var input *os.File
	for i, argv := range commands {
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // the tools that are measured
		cmd.Env, cmd.Stderr, cmd.Stdout = env, os.Stderr, out
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if input != nil {
			cmd.Stdin = input
		}
		var next, end *os.File
		if i < len(commands)-1 {
			if next, end, err = os.Pipe(); err != nil {
				return 0, 0, err
			}
			cmd.Stdout = end
		}
		err = cmd.Start()
		for _, ours := range []io.Closer{input, end} {
			if f, ok := ours.(*os.File); ok && f != nil {
				err = errors.Join(err, f.Close())
			}
		}
		if err != nil {
			return 0, 0, err
		}
		input = next
		running, pids = append(running, cmd), append(pids, cmd.Process.Pid)
	}
	w := watchProcesses(ctx, pids...)
	for _, cmd := range running {
		err = errors.Join(err, cmd.Wait())
		cpu += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	_, memory = w.end()
	return cpu, memory, err
}

// ours is the whole way through our server: from the call that runs the job until
// the execution is known to have completed. It dumps by one connection, and by two.
func (b *bench) ours(ctx context.Context, program serverProgram, name, database string) ([]contender, func() error, error) {
	control, err := b.startControl(ctx, program.path, name, "all")
	if err != nil {
		return nil, nil, err
	}
	one, err := control.job(ctx, b.cluster, database, name)
	if err != nil {
		return nil, nil, errors.Join(err, control.stop())
	}
	two, err := control.jobLike(ctx, one, name+" by two", &pb.BackupOptions{ParallelJobs: new(int32(2))})
	if err != nil {
		return nil, nil, errors.Join(err, control.stop())
	}
	return []contender{control.contender(program.name, one), control.contender(program.name+", parallel_jobs 2", two)}, control.stop, nil
}

// contender runs a job of the server.
func (c *control) contender(name, job string) contender {
	var execution string
	return contender{
		name: name,
		run: func(ctx context.Context) (m measurement, err error) {
			w := watchProcesses(ctx, c.pid())
			began := time.Now()
			e, err := c.backUp(ctx, job)
			m.wall = time.Since(began)
			m.cpu, m.memory = w.end()
			execution, m.bytes = e.GetId(), e.GetCompressedSizeBytes()
			return m, err
		},
		clean: func(ctx context.Context) error { return c.remove(ctx, execution) },
	}
}
