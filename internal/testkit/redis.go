package testkit

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// RedisServer is a Redis on a loopback port that keeps nothing on disk.
type RedisServer struct {
	Host string
	Port int

	server  string
	scratch *scratch
	process *process // nil while stopped
}

// Redis returns an empty server of the test's own, gone when the test ends.
func Redis(t testing.TB) *RedisServer {
	t.Helper()
	r := &RedisServer{Host: "127.0.0.1"}
	var err error
	if r.server, err = program("redis-server", "redis-server"); err != nil {
		t.Fatalf("testkit: Redis: %v", err)
	}
	if r.scratch, err = newScratch(); err != nil {
		t.Fatalf("testkit: Redis: %v", err)
	}
	t.Cleanup(func() { check(t, r.destroy()) })
	for range 5 {
		if r.Port, err = freePort(); err != nil {
			t.Fatalf("testkit: Redis: %v", err)
		}
		if err = r.start(); err == nil {
			return r
		}
	}
	t.Fatalf("testkit: Redis: %v", err)
	return nil
}

// Addr returns host:port.
func (r *RedisServer) Addr() string { return net.JoinHostPort(r.Host, strconv.Itoa(r.Port)) }

// URL returns redis://host:port.
func (r *RedisServer) URL() string { return "redis://" + r.Addr() }

func (r *RedisServer) start() error {
	logPath := filepath.Join(r.scratch.dir, "server.log")
	out, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	cmd := account{}.command(out, r.scratch.dir, r.server, "--bind", r.Host, "--port", strconv.Itoa(r.Port),
		"--dir", r.scratch.dir, "--save", "", "--appendonly", "no", "--daemonize", "no")
	process, err := launch(cmd, syscall.SIGKILL)
	if err := errors.Join(err, out.Close()); err != nil {
		return err
	}
	if err := process.ready(r.ping); err != nil {
		return fmt.Errorf("%w\n%s", errors.Join(err, process.stop(syscall.SIGKILL)), tail(logPath))
	}
	r.process = process
	return nil
}

func (r *RedisServer) ping() error {
	conn, err := net.DialTimeout("tcp", r.Addr(), time.Second)
	if err != nil {
		return err
	}
	_, err = conn.Write([]byte("PING\r\n"))
	if err == nil {
		err = conn.SetReadDeadline(time.Now().Add(time.Second))
	}
	var answer string
	if err == nil {
		answer, err = bufio.NewReader(conn).ReadString('\n')
	}
	if err == nil && answer != "+PONG\r\n" {
		err = fmt.Errorf("PING was answered with %q", answer)
	}
	return errors.Join(err, conn.Close())
}

// Stop kills the server: every connection breaks, everything in it is lost.
func (r *RedisServer) Stop(t testing.TB) {
	t.Helper()
	if r.process == nil {
		t.Fatal("testkit: Redis does not run")
	}
	check(t, r.process.stop(syscall.SIGKILL))
	r.process = nil
}

// Start starts a stopped server again, empty, on the same port.
func (r *RedisServer) Start(t testing.TB) {
	t.Helper()
	if r.process != nil {
		t.Fatal("testkit: Redis runs already")
	}
	if err := r.start(); err != nil {
		t.Fatalf("testkit: Redis: %v", err)
	}
}

// Freeze makes the server hang: it takes connections and answers nothing.
func (r *RedisServer) Freeze(t testing.TB) {
	t.Helper()
	check(t, r.process.cmd.Process.Signal(syscall.SIGSTOP))
}

// Thaw lets a frozen server go on.
func (r *RedisServer) Thaw(t testing.TB) {
	t.Helper()
	check(t, r.process.cmd.Process.Signal(syscall.SIGCONT))
}

func (r *RedisServer) destroy() error {
	var err error
	if r.process != nil {
		err = r.process.stop(syscall.SIGKILL)
		r.process = nil
	}
	return errors.Join(err, r.scratch.remove())
}
