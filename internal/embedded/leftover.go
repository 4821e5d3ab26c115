package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// stopLeftover shuts down a postmaster that outlived the process that started
// it. The locks are ours, so that nobody needs it. It is told by its process:
// the program postgres, working in this very directory.
func stopLeftover(ctx context.Context, dir string, logger *slog.Logger) error {
	pidFile := filepath.Join(dir, "postmaster.pid")
	pid, err := readPID(pidFile)
	if err != nil || pid == 0 {
		return err
	}
	process, err := os.FindProcess(pid) // holds on to the process, not the number
	if err != nil {
		return err
	}
	defer func() { _ = process.Release() }() // frees a handle; it cannot fail in a way that matters
	switch who, err := identify(pid, dir); {
	case err != nil:
		return errs.Wrap(err, errs.Unavailable, CodeInUse,
			"process %d, named in %q, cannot be looked at; stop it if it is a PostgreSQL of this directory, else remove the file", pid, pidFile)
	case who == nobody:
		return nil // PostgreSQL replaces the stale file
	case who == stranger:
		// Its number was given to another program; PostgreSQL, which only looks
		// at the number, would refuse to start.
		return os.Remove(pidFile)
	}
	logger.WarnContext(ctx, "a PostgreSQL of a killed dataguardian still runs on this cluster; shutting it down first", "process", pid)
	return end(ctx, process, dir)
}

// readPID returns the postmaster's process id, 0 when there is none.
func readPID(pidFile string) (int, error) {
	text, err := os.ReadFile(pidFile) //nolint:gosec // the cluster's own file
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, unreadable(pidFile, err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	if pid, err := strconv.Atoi(strings.TrimSpace(first)); err == nil && pid > 1 {
		return pid, nil
	}
	return 0, nil // PostgreSQL decides about a broken file
}

type identity int

const (
	nobody   identity = iota // no such process, or only its remains
	stranger                 // another program, or a server of another directory
	ours
)

// identify looks a process up. A zombie has no program and no directory.
func identify(pid int, dir string) (identity, error) {
	program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if gone(err) {
		return nobody, nil
	}
	if err != nil {
		return nobody, err
	}
	if !strings.HasPrefix(filepath.Base(program), "postgres") { // "postgres (deleted)" after an upgrade
		return stranger, nil
	}
	cwd, err := os.Stat(fmt.Sprintf("/proc/%d/cwd", pid))
	if gone(err) {
		return nobody, nil
	}
	if err != nil {
		return nobody, err
	}
	cluster, err := os.Stat(dir)
	if err != nil {
		return nobody, err
	}
	if !os.SameFile(cwd, cluster) {
		return stranger, nil
	}
	return ours, nil
}

func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH)
}

// end shuts a leftover down fast, then immediately. It is never killed: its
// children would go on writing.
func end(ctx context.Context, process *os.Process, dir string) error {
	for _, step := range []struct {
		signal syscall.Signal
		wait   time.Duration
	}{{syscall.SIGINT, defaultStopTimeout}, {syscall.SIGQUIT, immediateTimeout}} {
		if err := process.Signal(step.signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return errs.Wrap(err, errs.Unavailable, CodeInUse, "the left-over PostgreSQL (process %d) cannot be shut down; stop it", process.Pid)
		}
		for limit := time.Now().Add(step.wait); time.Now().Before(limit); {
			if who, err := identify(process.Pid, dir); err != nil || who != ours {
				return err
			}
			if err := sleep(ctx, pollEvery); err != nil {
				return err
			}
		}
	}
	return errs.New(errs.Unavailable, CodeInUse, "the left-over PostgreSQL (process %d) on %q does not shut down; stop it", process.Pid, dir)
}
