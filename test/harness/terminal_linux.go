package harness

import (
	"testing"

	"github.com/dataguardian/dataguardian/internal/testkit"
)

// Terminal runs a client command on a terminal and returns how it ended; Stdout is
// what went to the screen, control characters and all.
func (s *Server) Terminal(t testing.TB, args ...string) Result {
	t.Helper()
	screen, program := testkit.Terminal(t)
	seen := NewOutput()
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		buffer := make([]byte, 4096)
		for {
			n, err := screen.Read(buffer)
			if n > 0 {
				_, _ = seen.Write(buffer[:n]) // it never fails
			}
			if err != nil { // no program holds the other end any more
				return
			}
		}
	}()
	p := launchTo(t, program, s.Dir, "terminal", []string{"DATAGUARDIAN_TOKEN=" + s.Token, "TERM=xterm"}, append(args, "--server", s.GRPC)...)
	code := p.Wait(t)
	_ = program.Close() // the last one
	<-copied
	r := Result{Code: code, Stdout: seen.String(), Stderr: p.Stderr.String()}
	s.Plane.remember(r.Stdout + r.Stderr)
	return r
}

// Follow starts a client command that goes on until it is stopped.
func (s *Server) Follow(t testing.TB, name string, args ...string) *Process {
	t.Helper()
	p := launch(t, s.Dir, name, []string{"DATAGUARDIAN_TOKEN=" + s.Token}, append(args, "--server", s.GRPC)...)
	t.Cleanup(func() {
		if !p.Ended() {
			p.Kill(t)
		}
		s.Plane.remember(p.Stdout.String() + p.Stderr.String())
	})
	return p
}
