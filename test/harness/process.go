package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Process is one run of the program. Everything it and its children write is
// below Dir, and so every one of them can be found by it.
type Process struct {
	Dir     string // private
	DataDir string // below Dir
	Temp    string // below Dir: the temporary directory of the process
	Stdout  *Output
	Stderr  *Output
	Pid     int

	name string
	cmd  *exec.Cmd
	done chan struct{}
	code int // read it after done
	once sync.Once

	killed atomic.Bool
}

// launch starts the program with an environment of its own. It is killed with
// the test binary.
func launch(t testing.TB, dir, name string, env []string, args ...string) *Process {
	t.Helper()
	return launchTo(t, nil, dir, name, env, args...)
}

// launchTo is launch with a file for the standard output, unless it is nil.
func launchTo(t testing.TB, stdout *os.File, dir, name string, env []string, args ...string) *Process {
	t.Helper()
	p := &Process{
		Dir: dir, DataDir: filepath.Join(dir, name), Temp: filepath.Join(dir, name+".tmp"),
		Stdout: NewOutput(), Stderr: NewOutput(), name: name, done: make(chan struct{}),
	}
	require.NoError(t, os.MkdirAll(p.Temp, 0o700))
	p.cmd = exec.Command(program, append(args, "--data-dir", p.DataDir)...)
	p.cmd.Dir = dir
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + p.Temp, "TZ=UTC"}, env...)
	p.cmd.Stdout, p.cmd.Stderr = p.Stdout, p.Stderr
	if stdout != nil {
		p.cmd.Stdout = stdout
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p.cmd.WaitDelay = 5 * time.Second // a child that outlives it and holds its output must not stop the test
	started := make(chan error, 1)
	go p.keep(started)
	require.NoError(t, <-started)
	p.Pid = p.cmd.Process.Pid
	return p
}

// keep holds the thread that forked: its end is what the kernel takes for the
// parent's death.
func (p *Process) keep(started chan<- error) {
	runtime.LockOSThread() // never unlocked: the thread ends with this function
	err := p.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	_ = p.cmd.Wait() // the state says how it ended
	p.code = p.cmd.ProcessState.ExitCode()
	close(p.done)
}

// Signal sends a signal to the process alone.
func (p *Process) Signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(s))
}

// Wait returns the exit code, -1 after a signal.
func (p *Process) Wait(t testing.TB) int {
	t.Helper()
	select {
	case <-p.done:
		return p.code
	case <-time.After(patience):
		t.Fatalf("%s does not end\n%s", p.name, p.said())
		return -1
	}
}

// Ended reports whether the process is gone.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Stop ends the process as a service manager would, and requires that it ends
// with 0 and leaves no child and no temporary file.
func (p *Process) Stop(t testing.TB) {
	t.Helper()
	p.once.Do(func() {
		if !p.Ended() {
			p.Signal(t, syscall.SIGTERM)
		}
		require.Zero(t, p.Wait(t), "exit code of %s\n%s", p.name, p.said())
		p.requireNoChildren(t)
		left, err := os.ReadDir(p.Temp)
		require.NoError(t, err)
		require.Empty(t, left, "temporary files of %s", p.name)
	})
}

// Kill ends the process as a crash would, and requires that its children end
// with it. Temporary files may stay.
func (p *Process) Kill(t testing.TB) {
	t.Helper()
	p.once.Do(func() {
		p.killed.Store(true)
		p.Signal(t, syscall.SIGKILL)
		p.Wait(t)
		p.requireNoChildren(t)
	})
}

func (p *Process) requireNoChildren(t testing.TB) {
	t.Helper()
	require.Eventually(t, func() bool { return len(p.Children(t)) == 0 }, patience, 10*time.Millisecond, "children of %s that outlive it", p.name)
}

// Child is a process that belongs to a Process: its environment, arguments or
// directory name one of its directories.
type Child struct {
	Pid         int
	Args        []string
	Environment []string
}

// Children lists the processes, other than p itself, that work in p's
// directories, whoever their parent is.
func (p *Process) Children(t testing.TB) []Child {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	require.NoError(t, err)
	var children []Child
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == p.Pid || pid == os.Getpid() {
			continue
		}
		if c, ok := p.child(pid); ok {
			children = append(children, c)
		}
	}
	return children
}

// child reads a process that may end meanwhile; a zombie has nothing to read.
func (p *Process) child(pid int) (Child, bool) {
	read := func(name string) string {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
		if err != nil {
			return ""
		}
		return string(text)
	}
	c := Child{Pid: pid, Args: fields(read("cmdline")), Environment: fields(read("environ"))}
	cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	if err != nil {
		cwd = ""
	}
	all := strings.Join(c.Args, "\n") + "\n" + strings.Join(c.Environment, "\n") + "\n" + cwd
	return c, strings.Contains(all, p.DataDir+"/") || strings.Contains(all, p.Temp+"/") || cwd == p.DataDir
}

func fields(text string) []string {
	text = strings.TrimRight(text, "\x00")
	if text == "" {
		return nil
	}
	return strings.Split(text, "\x00")
}

// said returns the ends of both outputs, for a failure.
func (p *Process) said() string {
	end := func(lines []string) string { return strings.Join(lines[max(0, len(lines)-15):], "\n") }
	return "stdout:\n" + end(p.Stdout.Lines()) + "\nstderr:\n" + end(p.Stderr.Lines())
}

// Result is how a command ended.
type Result struct {
	Code           int
	Stdout, Stderr string
}

// Complaint returns the one line that says why a command failed, and requires
// that there is exactly one, at the end.
func (r Result) Complaint(t testing.TB) string {
	t.Helper()
	lines := strings.Split(strings.TrimRight(r.Stderr, "\n"), "\n")
	var complaints []string
	for _, line := range lines {
		if !strings.HasPrefix(line, "{") { // the log is JSON
			complaints = append(complaints, line)
		}
	}
	require.Len(t, complaints, 1, "stderr: %s", r.Stderr)
	require.Equal(t, complaints[0], lines[len(lines)-1])
	require.True(t, strings.HasPrefix(complaints[0], "error: "), complaints[0])
	return complaints[0]
}

// Result waits for the end and returns everything that was written.
func (p *Process) Result(t testing.TB) Result {
	t.Helper()
	code := p.Wait(t)
	return Result{Code: code, Stdout: p.Stdout.String(), Stderr: p.Stderr.String()}
}

// Start runs the program in a directory of the test's own and waits for its
// end; its data directory is dir/name.
func Start(t testing.TB, dir, name string, env []string, args ...string) Result {
	t.Helper()
	_, absent := os.Stat(filepath.Join(dir, name, "endpoints.json")) // a server is running there
	p := launch(t, dir, name, env, args...)
	t.Cleanup(func() {
		if !p.Ended() {
			p.Kill(t)
		}
	})
	r := p.Result(t)
	if absent != nil {
		p.requireNoChildren(t)
	}
	return r
}
