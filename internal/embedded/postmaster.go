package embedded

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// How long the server's log may go on after the postmaster: its children end
// when they notice.
const logDrain = 5 * time.Second

// postmaster is a running server process.
type postmaster struct {
	cmd      *exec.Cmd
	done     chan struct{}
	failure  error // why it ended; set before done closes
	expected atomic.Bool

	log     *serverLog
	pipe    *os.File
	logDone chan struct{}
	drained sync.Once
}

// launch starts the server and keeps it. The server is told to shut down fast
// when this process dies, even by SIGKILL.
func launch(cmd *exec.Cmd, log *serverLog) (*postmaster, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, errs.Wrap(err, errs.Unavailable, CodeStart, "the private PostgreSQL cannot be started: no pipe for its log")
	}
	log.begin()
	cmd.Stdout, cmd.Stderr = w, w
	p := &postmaster{cmd: cmd, done: make(chan struct{}), log: log, pipe: r, logDone: make(chan struct{})}
	started := make(chan error)
	go p.keep(started)
	err = errors.Join(<-started, w.Close())
	if err != nil {
		return nil, errors.Join(errs.Wrap(err, errs.Unavailable, CodeStart, "the private PostgreSQL cannot be started"), r.Close())
	}
	go p.copyLog()
	return p, nil
}

// keep starts the server and waits for its end on a thread of its own: the
// kernel sends the death signal when the thread that forked ends, so that it
// has to live exactly as long as the server does.
func (p *postmaster) keep(started chan<- error) {
	runtime.LockOSThread() // never unlocked: the thread ends with this function
	if err := p.cmd.Start(); err != nil {
		started <- err
		return
	}
	started <- nil
	err := p.cmd.Wait()
	if !p.expected.Load() {
		if err == nil {
			err = errors.New("exit status 0")
		}
		p.failure = errs.Wrap(err, errs.Unavailable, CodeStopped,
			"the private PostgreSQL ended by itself; its log is %q; dataguardian has to start again", p.log.path)
	}
	close(p.done)
}

// copyLog reads until the last process of the server has closed its end. It
// never blocks on anything but the disk, and goes on when that is full.
func (p *postmaster) copyLog() {
	defer close(p.logDone)
	r := bufio.NewReaderSize(p.pipe, 64<<10)
	for {
		line, err := r.ReadSlice('\n')
		if len(line) > 0 {
			p.log.write(line)
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			if !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrClosed) {
				p.log.write([]byte("the log pipe broke: " + err.Error() + "\n"))
			}
			return
		}
	}
}

func (p *postmaster) pid() int { return p.cmd.Process.Pid }

// expectEnd makes the end to come an ordinary one.
func (p *postmaster) expectEnd() { p.expected.Store(true) }

func (p *postmaster) err() error {
	if p.gone() {
		return p.failure
	}
	return nil
}

func (p *postmaster) gone() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (p *postmaster) signal(s syscall.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return errs.Wrap(err, errs.Internal, CodeStopped, "the private PostgreSQL (process %d) cannot be told to shut down", p.pid())
	}
	return nil
}

// ended waits for the end, at most d and as long as ctx.
func (p *postmaster) ended(ctx context.Context, d time.Duration) bool {
	limit := time.NewTimer(d)
	defer limit.Stop()
	select {
	case <-p.done:
		return true
	case <-limit.C:
	case <-ctx.Done():
	}
	return p.gone()
}

// drain waits for the last lines, but not for a child that keeps its end open.
// The postmaster has ended.
func (p *postmaster) drain() (err error) {
	p.drained.Do(func() {
		limit := time.NewTimer(logDrain)
		defer limit.Stop()
		select {
		case <-p.logDone:
		case <-limit.C:
		}
		err = p.pipe.Close() // ends a read that still waits
		<-p.logDone
	})
	return err
}
