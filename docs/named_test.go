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
	tableRow  = regexp.MustCompile(`(?m)^\| ([^|]*) \| ([^|]*) \|(?:[^|\n]*\|)?$`)
	numbered  = regexp.MustCompile(`^\*\*(\d+)\.`)
	packageOf = regexp.MustCompile("`([a-z0-9/]+)` ([A-Za-z0-9, ]+)")
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

// requireNamedTests requires that every test that a page's tables name in their second
// column is there, and returns how many they are, and the numbers of its rows.
func requireNamedTests(t *testing.T, page string) (names int, rules map[string]bool) {
	t.Helper()
	raw, err := os.ReadFile(page)
	require.NoError(t, err)
	rules = map[string]bool{}
	for _, row := range tableRow.FindAllStringSubmatch(string(raw), -1) {
		if number := numbered.FindStringSubmatch(row[1]); number != nil {
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
				require.Regexp(t, `\nfunc (\([^)]*\) )?`+strings.TrimSpace(name)+`\(`, text.String(), "%s names it in %s", row[1], place[1])
				names++
			}
		}
	}
	return names, rules
}

func TestEveryRuleHasTheTestsThatAreNamedForIt(t *testing.T) {
	names, rules := requireNamedTests(t, "attackers.md")
	require.Len(t, rules, 14, "the design has fourteen rules")
	require.Greater(t, names, 80)
}

func TestEveryFaultHasTheTestsThatAreNamedForIt(t *testing.T) {
	names, rules := requireNamedTests(t, "faults.md")
	require.Len(t, rules, 12, "the design has twelve faults")
	require.Greater(t, names, 100)
}
