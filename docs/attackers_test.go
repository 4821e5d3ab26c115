package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	packageOf  = regexp.MustCompile("`([a-z0-9/]+)` ([A-Za-z, ]+)")
	shell      = regexp.MustCompile(`"(?:/bin/|/usr/bin/)?(?:sh|bash|psql|env|sudo|su)"`)
	ourFolders = []string{"../cmd", "../internal", "../server", "../storage", "../worker"}
)

// sources returns the Go sources of a folder, by path.
func sources(t *testing.T, root string) map[string]string {
	t.Helper()
	found := map[string]string{}
	require.NoError(t, filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		raw, err := os.ReadFile(path)
		found[path] = string(raw)
		return err
	}))
	require.NotEmpty(t, found, root)
	return found
}

func TestEveryRuleHasTheTestsThatAreNamedForIt(t *testing.T) {
	raw, err := os.ReadFile("attackers.md")
	require.NoError(t, err)
	rows, rules := 0, map[string]bool{}
	for _, row := range regexp.MustCompile(`(?m)^\| (.*) \| (.*) \|$`).FindAllStringSubmatch(string(raw), -1) {
		if number := regexp.MustCompile(`^\*\*(\d+)\.`).FindStringSubmatch(row[1]); number != nil {
			rules[number[1]] = true
		}
		for _, place := range packageOf.FindAllStringSubmatch(row[2], -1) {
			var text strings.Builder
			for path, source := range sources(t, filepath.Join("..", place[1])) {
				if filepath.Dir(path) == filepath.Join("..", place[1]) {
					text.WriteString(source)
				}
			}
			for name := range strings.SplitSeq(place[2], ", ") {
				require.Contains(t, text.String(), "\nfunc "+strings.TrimSpace(name)+"(", "%s names it in %s", row[1], place[1])
				rows++
			}
		}
	}
	require.Len(t, rules, 14, "the design has fourteen rules")
	require.Greater(t, rows, 80)
}

func TestNothingStartsAShell(t *testing.T) {
	for _, folder := range ourFolders {
		for path, source := range sources(t, folder) {
			if !strings.HasSuffix(path, "_test.go") && !strings.Contains(path, "testkit") && !strings.Contains(path, "/enginetest/") && !strings.Contains(path, "/storagetest/") {
				require.Empty(t, shell.FindString(source), path)
			}
		}
	}
}
