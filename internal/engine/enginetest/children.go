package enginetest

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Children returns the command lines of this process's living children, except
// those of the servers that tests run.
func Children(t testing.TB) []string {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, stat := range stats {
		b, err := os.ReadFile(stat)
		if err != nil {
			continue // it ended meanwhile
		}
		_, rest, _ := strings.Cut(string(b), ") ") // after the name: state, parent
		fields := strings.Fields(rest)
		if len(fields) < 2 || fields[0] == "Z" || fields[1] != strconv.Itoa(os.Getpid()) {
			continue
		}
		cmd, err := os.ReadFile(filepath.Join(filepath.Dir(stat), "cmdline"))
		if err != nil {
			continue
		}
		line := strings.TrimSpace(strings.ReplaceAll(string(cmd), "\x00", " "))
		if line != "" && !isServer(line) {
			found = append(found, line)
		}
	}
	return found
}

func isServer(commandLine string) bool {
	program, _, _ := strings.Cut(commandLine, " ")
	switch filepath.Base(strings.TrimSuffix(program, ":")) {
	case "postgres", "mariadbd", "mysqld", "redis-server":
		return true
	}
	return false
}
