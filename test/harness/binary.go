// Package harness starts the real program for end-to-end and fault tests: it
// builds the binary once, runs its commands against real servers in private
// directories, speaks REST and gRPC to it, and checks afterwards that what must
// always hold still does. A binary that uses it ends with
//
//	func TestMain(m *testing.M) { os.Exit(harness.Run(m)) }
package harness

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/dataguardian/dataguardian/internal/testkit"
)

// program is the path of the binary under test: it is built before the first test and
// never changes. Beside it only migrated is state here.
var program string

// Run builds the program, runs the tests and stops the servers they shared.
func Run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "dgbin-")
	if err != nil {
		return fail(err)
	}
	program = filepath.Join(dir, "dataguardian")
	build := exec.Command("go", "build", "-ldflags", "-w -X main.version=under-test", "-o", program,
		"github.com/dataguardian/dataguardian/cmd/dataguardian")
	if out, err := build.CombinedOutput(); err != nil {
		return fail(fmt.Errorf("building the program: %w\n%s", err, out), os.RemoveAll(dir))
	}
	code := testkit.Wrap(m).Run()
	if err := os.RemoveAll(dir); err != nil {
		return fail(err)
	}
	return code
}

func fail(failures ...error) int {
	fmt.Fprintln(os.Stderr, "harness:", errors.Join(failures...))
	return 1
}
