// Package test walks the real program from end to end, and through the faults it
// must survive.
package test

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Run(m)) }

// config is any part of a request.
type config = map[string]any

// unknownID is a well-formed id of nothing.
const unknownID = "00000000-0000-4000-8000-000000000000"

func itoa(n int) string { return strconv.Itoa(n) }

// writeFile writes a private file and returns its path.
func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}
