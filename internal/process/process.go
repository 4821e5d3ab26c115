// Package process runs child processes so that none outlives its parent and
// none sees more than it was given: a complete environment instead of an
// inherited one, a process group of its own that is ended as a whole, and the
// kernel's promise that it dies with this process.
package process

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	defaultMaxLine = 4 << 10
	defaultTail    = 20
	pipeSize       = 1 << 20
	lingerLimit    = time.Second
)

var defaultGrace = 3 * time.Second // tests make it longer, to tell it from another

var errKilled = errors.New("the process was killed")

// Spec says what to run. Path and Args are passed to the kernel as they are;
// no shell takes part.
type Spec struct {
	Path string
	Args []string // without the program's own name
	Env  []string // the whole environment, see Environment
	Dir  string

	// Stdin and Stdout ask for a pipe; without it the child gets /dev/null.
	Stdin  bool
	Stdout bool

	// OnStderr receives each line of standard error, in order, from one
	// goroutine. Longer lines are cut at MaxLine bytes (4 KiB by default).
	OnStderr func(line string)
	MaxLine  int
	// TailLines is how many of the last lines Tail keeps (20 by default).
	TailLines int

	// Grace is the time between SIGTERM and SIGKILL (3 s by default).
	Grace time.Duration
}

// Process is a running child. Wait must be called exactly once; it returns
// only when the child is reaped, its process group is gone and no goroutine of
// this package is left.
type Process struct {
	// Stdin and Stdout are this side's ends of the pipes, nil when not asked
	// for. They support deadlines. Wait closes both.
	Stdin  *os.File
	Stdout *os.File

	name   string
	pid    int
	grace  time.Duration
	cmd    *exec.Cmd
	stderr *lines
	errR   *os.File

	mu     sync.Mutex
	reaped bool

	exited     chan struct{} // the child is a zombie: its streams are at their ends
	done       chan struct{} // the child is reaped
	killOnce   sync.Once
	killCause  error
	killed     chan struct{}
	background sync.WaitGroup
}

// Result is what the kernel knows about an ended child.
type Result struct {
	ExitCode int // -1 when a signal ended it
	Signal   syscall.Signal
	User     time.Duration
	System   time.Duration
	MaxRSS   int64 // bytes
}

// ExitError is a child that ended with a non-zero status or by a signal.
type ExitError struct {
	Name   string
	Result Result
	Tail   []string // the last lines of its standard error
}

// Error names the status and the last line the child wrote.
func (e *ExitError) Error() string {
	how := fmt.Sprintf("%s exited with status %d", e.Name, e.Result.ExitCode)
	if e.Result.Signal != 0 {
		how = fmt.Sprintf("%s was ended by signal %q", e.Name, e.Result.Signal)
	}
	if len(e.Tail) == 0 {
		return how
	}
	return how + ": " + e.Tail[len(e.Tail)-1]
}

// Silent returns the error without the child's words, which may hold anything.
func (e *ExitError) Silent() *ExitError {
	return &ExitError{Name: e.Name, Result: e.Result}
}

// Environment returns the whole environment of a child: a fixed search path,
// messages in English, dir as home and temporary directory, and what the
// caller adds as "KEY=value". Nothing of this process's environment is in it.
func Environment(dir string, extra ...string) []string {
	return append([]string{
		"PATH=/usr/local/bin:/usr/bin:/bin",
		"LC_ALL=C",
		"TZ=UTC",
		"HOME=" + dir,
		"TMPDIR=" + dir,
	}, extra...)
}

// Start runs the child. When ctx ends, the child's process group gets SIGTERM
// and, after the grace period, SIGKILL.
func Start(ctx context.Context, s Spec) (*Process, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	p := &Process{
		name:   baseName(s.Path),
		grace:  cmp.Or(s.Grace, defaultGrace),
		exited: make(chan struct{}),
		done:   make(chan struct{}),
		killed: make(chan struct{}),
	}
	childEnds, err := p.prepare(s)
	if err == nil {
		err = p.launch()
	}
	closeAll(childEnds)
	if err != nil {
		closeAll([]*os.File{p.Stdin, p.Stdout, p.errR})
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	p.background.Go(func() { p.stderr.read(p.errR) })
	p.background.Go(func() { p.watch(ctx) })
	return p, nil
}

// prepare makes the pipes and returns the ends that belong to the child.
func (p *Process) prepare(s Spec) (childEnds []*os.File, err error) {
	cmd := exec.Command(s.Path, s.Args...) //nolint:gosec // a path chosen by the engine, arguments that no shell reads
	cmd.Env, cmd.Dir = s.Env, s.Dir
	if cmd.Env == nil {
		cmd.Env = []string{}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p.cmd = cmd
	p.stderr = newLines(s)

	pipe := func() (r, w *os.File) {
		if err != nil {
			return nil, nil
		}
		r, w, err = os.Pipe()
		return r, w
	}
	p.errR, cmd.Stderr = keep(pipe, &childEnds, true)
	if s.Stdout {
		p.Stdout, cmd.Stdout = keep(pipe, &childEnds, true)
		enlarge(p.Stdout)
	}
	if s.Stdin {
		var in *os.File
		p.Stdin, in = keep(pipe, &childEnds, false)
		cmd.Stdin = in
		enlarge(p.Stdin)
	}
	return childEnds, err
}

// keep makes a pipe, notes the child's end and returns (ours, the child's).
func keep(pipe func() (r, w *os.File), childEnds *[]*os.File, weRead bool) (ours, theirs *os.File) {
	r, w := pipe()
	if weRead {
		ours, theirs = r, w
	} else {
		ours, theirs = w, r
	}
	if theirs != nil {
		*childEnds = append(*childEnds, theirs)
	}
	return ours, theirs
}

// launch starts the child from a thread that stays alive as long as the child
// does: the kernel sends the parent-death signal when the *thread* that forked
// ends, and Go ends threads whenever it likes.
func (p *Process) launch() error {
	started := make(chan error, 1)
	p.background.Go(func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := p.cmd.Start(); err != nil {
			started <- err
			return
		}
		p.pid = p.cmd.Process.Pid
		started <- nil
		p.reap()
	})
	return <-started
}

// reap waits for the child without reaping it, ends what is left of its group
// while the group's number cannot have been given to anyone else, then reaps.
func (p *Process) reap() {
	for {
		err := unix.Waitid(unix.P_PID, p.pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	p.mu.Lock()
	_ = syscall.Kill(-p.pid, syscall.SIGKILL) // ESRCH means that nobody is left
	p.reaped = true
	p.mu.Unlock()
	close(p.exited)
	_ = p.cmd.Wait() // the state says how it ended
	close(p.done)
}

// watch turns a cancelled context or Kill into signals.
func (p *Process) watch(ctx context.Context) {
	select {
	case <-p.exited:
		return
	case <-ctx.Done():
		p.Kill(context.Cause(ctx))
	case <-p.killed:
	}
	p.signal(syscall.SIGTERM)
	timer := time.NewTimer(p.grace)
	defer timer.Stop()
	select {
	case <-p.exited:
		return
	case <-timer.C:
		p.signal(syscall.SIGKILL)
	}
}

func (p *Process) signal(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.reaped {
		_ = syscall.Kill(-p.pid, sig) // it may have ended by itself
	}
}

// Kill ends the child's process group: SIGTERM, then SIGKILL after the grace
// period. The first call's cause is what Wait returns. It does not block.
func (p *Process) Kill(cause error) {
	p.killOnce.Do(func() {
		p.killCause = cmp.Or(cause, errKilled)
		close(p.killed)
	})
}

// Exited is closed when the child has ended, before Wait returns.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Pid returns the child's process id, which is also that of its group.
func (p *Process) Pid() int { return p.pid }

// Tail returns the last lines of standard error.
func (p *Process) Tail() []string { return p.stderr.tail() }

// Wait returns when the child is gone. The error is the cause of its end when
// it was killed or its context ended, an *ExitError when it failed by itself,
// nil when it exited with 0 - even if that happened while it was being killed.
// Read Stdout to its end before: Wait closes it.
func (p *Process) Wait() (Result, error) {
	<-p.done
	p.drain()
	closeAll([]*os.File{p.Stdin, p.Stdout})
	res := resultOf(p.cmd.ProcessState)
	switch {
	case res.ExitCode == 0:
		return res, nil
	case p.wasKilled():
		return res, p.killCause
	default:
		return res, &ExitError{Name: p.name, Result: res, Tail: p.Tail()}
	}
}

// drain waits for the goroutines. Standard error may be held open by a process
// that left the group; it is not waited for longer than a moment.
func (p *Process) drain() {
	idle := make(chan struct{})
	go func() {
		p.background.Wait()
		close(idle)
	}()
	timer := time.NewTimer(lingerLimit)
	defer timer.Stop()
	select {
	case <-idle:
		closeAll([]*os.File{p.errR})
	case <-timer.C:
		closeAll([]*os.File{p.errR})
		<-idle
	}
}

func (p *Process) wasKilled() bool {
	select {
	case <-p.killed:
		return true
	default:
		return false
	}
}

func resultOf(st *os.ProcessState) Result {
	res := Result{ExitCode: st.ExitCode(), User: st.UserTime(), System: st.SystemTime()}
	if ws, ok := st.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		res.Signal = ws.Signal()
	}
	if ru, ok := st.SysUsage().(*syscall.Rusage); ok {
		res.MaxRSS = ru.Maxrss << 10
	}
	return res
}

// enlarge asks for a larger pipe buffer; fewer, larger reads are what makes a
// dump fast. A refusal costs only speed.
func enlarge(f *os.File) {
	if f == nil {
		return
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, pipeSize) // see above
	})
}

func closeAll(files []*os.File) {
	for _, f := range files {
		if f != nil {
			_ = f.Close() // pipes have nothing to flush
		}
	}
}

func baseName(path string) string {
	return path[strings.LastIndexByte(path, '/')+1:]
}
