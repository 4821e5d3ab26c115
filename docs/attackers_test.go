package docs_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	shell      = regexp.MustCompile(`"(?:/bin/|/usr/bin/)?(?:sh|bash|psql|env|sudo|su)"`)
	ourFolders = []string{"../cmd", "../internal", "../server", "../storage", "../worker"}
)

func TestNothingStartsAShell(t *testing.T) {
	for _, folder := range ourFolders {
		for path, source := range sources(t, folder) {
			if !strings.HasSuffix(path, "_test.go") && !strings.Contains(path, "testkit") && !strings.Contains(path, "/enginetest/") && !strings.Contains(path, "/storagetest/") {
				require.Empty(t, shell.FindString(source), path)
			}
		}
	}
}
