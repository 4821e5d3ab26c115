// Package testkit gives tests real servers: PostgreSQL, MariaDB and Redis, on
// free loopback ports and in private directories. A missing program fails the
// test, it never skips it.
//
// Postgres and MariaDB are shared by all tests of a binary, and each test takes
// databases of its own. A binary that uses them ends with
//
//	func TestMain(m *testing.M) { testkit.Main(m) }
//
// or, with goleak, goleak.VerifyTestMain(testkit.Wrap(m)). Without that, the
// kernel ends the servers with the binary and the next user of this package
// removes their directories.
package testkit

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

// shared holds the servers of this test binary. It is the one piece of state
// here: tests of a binary have no other place in common.
var shared struct {
	mu       sync.Mutex
	postgres *PG
	mariadb  *Maria
	failures map[string]error
}

// share returns the binary's server, started on the first call. A start that
// failed is not tried again.
func share[T any](t testing.TB, name string, slot **T, start func() (*T, error)) *T {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if *slot == nil && shared.failures[name] == nil {
		server, err := start()
		if err != nil {
			if shared.failures == nil {
				shared.failures = map[string]error{}
			}
			shared.failures[name] = err
		}
		*slot = server
	}
	if err := shared.failures[name]; err != nil {
		t.Fatalf("testkit: %s: %v", name, err)
	}
	return *slot
}

// stopShared stops what the tests shared.
func stopShared() error {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	var failures []error
	if shared.postgres != nil {
		failures = append(failures, shared.postgres.destroy())
		shared.postgres = nil
	}
	if shared.mariadb != nil {
		failures = append(failures, shared.mariadb.destroy())
		shared.mariadb = nil
	}
	return errors.Join(failures...)
}

// Runner is what runs a binary's tests: *testing.M, or a wrapped one.
type Runner interface{ Run() int }

type wrapped struct{ Runner }

// Run runs the tests, then stops the shared servers.
func (w wrapped) Run() int {
	code := w.Runner.Run()
	if err := stopShared(); err != nil {
		fmt.Fprintln(os.Stderr, "testkit: the shared servers did not stop:", err)
		return max(code, 1)
	}
	return code
}

// Wrap returns a runner that stops the shared servers after the tests.
func Wrap(m Runner) Runner { return wrapped{m} }

// Main runs the tests, stops the shared servers and exits.
func Main(m Runner) { os.Exit(Wrap(m).Run()) }

// IgnoreServers is for goleak checks while servers of this package run: each
// has one goroutine that waits for its end.
func IgnoreServers() goleak.Option {
	return goleak.IgnoreAnyFunction("github.com/dataguardian/dataguardian/internal/testkit.(*process).keep")
}
