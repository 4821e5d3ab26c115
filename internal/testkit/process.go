package testkit

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	startLimit = 90 * time.Second
	stopLimit  = 30 * time.Second
	pollEvery  = 20 * time.Millisecond
)

// process is a running server. It dies with the test binary.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // of its end; read it after done
}

// launch starts a program that gets the signal death when the binary ends.
func launch(cmd *exec.Cmd, death syscall.Signal) (*process, error) {
	cmd.SysProcAttr.Pdeathsig = death
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go p.keep(started)
	return p, <-started
}

// keep holds the thread that forked for as long as the process lives: its end
// is what the kernel takes for the parent's death.
func (p *process) keep(started chan<- error) {
	runtime.LockOSThread() // never unlocked: the thread ends with this function
	err := p.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	p.err = p.cmd.Wait()
	close(p.done)
}

// runToEnd runs a short program that is killed with the binary.
func runToEnd(cmd *exec.Cmd) error {
	p, err := launch(cmd, syscall.SIGKILL)
	if err != nil {
		return err
	}
	<-p.done
	return p.err
}

// stop sends a signal and waits for the end, by SIGKILL if need be.
func (p *process) stop(signal syscall.Signal) error {
	if err := p.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(stopLimit):
	}
	err := p.cmd.Process.Kill()
	<-p.done
	return errors.Join(fmt.Errorf("%s did not end on %v within %v", p.cmd.Path, signal, stopLimit), err)
}

// ready polls until check answers, the process ends or time is up.
func (p *process) ready(check func() error) error {
	for limit := time.Now().Add(startLimit); ; {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("it ended while starting: %w", errors.Join(p.err, err))
		case <-time.After(pollEvery):
		}
		if time.Now().After(limit) {
			return fmt.Errorf("it does not answer after %v: %w", startLimit, err)
		}
	}
}

// account is who a server runs as: the named one when the tests run as root,
// else whoever runs the tests.
type account struct{ credential *syscall.Credential }

// Where there is no such account, since only a part of its package is installed,
// the account that owns nothing will do.
func accountFor(name string) (account, error) {
	if os.Geteuid() != 0 {
		return account{}, nil
	}
	u, err := user.Lookup(name)
	if _, unknown := errors.AsType[user.UnknownUserError](err); unknown {
		u, err = user.Lookup("nobody")
	}
	if err != nil {
		return account{}, err
	}
	uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
	gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
	return account{&syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, errors.Join(uidErr, gidErr)
}

// mkdir makes a private directory of the account's.
func (a account) mkdir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if a.credential == nil {
		return nil
	}
	return os.Lchown(dir, int(a.credential.Uid), int(a.credential.Gid))
}

// command prepares a program with a clean environment and its own process
// group, writing to log.
func (a account) command(log *os.File, dir, program string, args ...string) *exec.Cmd {
	return &exec.Cmd{
		Path: program, Args: append([]string{program}, args...), Dir: dir,
		Env:    []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "TZ=UTC", "HOME=" + dir},
		Stdout: log, Stderr: log,
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Credential: a.credential},
	}
}

// program finds a system program, in the administrator's directories too.
func program(name, packages string) (string, error) {
	return programIn(name, fmt.Sprintf("is missing; install it with `apt-get install %s`", packages),
		append(filepath.SplitList(os.Getenv("PATH")), "/usr/local/sbin", "/usr/sbin")...)
}

func programIn(name, missing string, dirs ...string) (string, error) {
	for _, dir := range dirs {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("the program %s %s", name, missing)
}

// tail returns the end of a log file, for an error.
func tail(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}
