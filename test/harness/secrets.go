package harness

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/testkit"
)

// plant makes a password that looks different in every encoding.
func plant() string { return "pl4nt/" + rand.Text() + "+&=?% \"'" }

// forms are the ways a secret could be written.
func forms(secret string) [][]byte {
	quoted, err := json.Marshal(secret)
	if err != nil {
		quoted = []byte(secret)
	}
	all := [][]byte{
		[]byte(secret), []byte(url.QueryEscape(secret)), []byte(url.PathEscape(secret)),
		bytes.Trim(quoted, `"`), []byte(base64.StdEncoding.EncodeToString([]byte(secret))),
		[]byte(strings.ReplaceAll(secret, "'", "''")),
	}
	// Whatever the encoding of the rest, its core survives it.
	return append(all, []byte(secret[len("pl4nt/"):len("pl4nt/")+26]))
}

func leaks(text []byte, secrets [][]byte) bool {
	for _, form := range secrets {
		if bytes.Contains(text, form) {
			return true
		}
	}
	return false
}

// CheckSecrets looks for the planted password in everything the processes of
// the plane have written, answered and stored. They must have ended.
func (p *Plane) CheckSecrets(t testing.TB) {
	t.Helper()
	secrets := forms(p.Secret)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, process := range p.processes {
		require.False(t, leaks([]byte(process.Stdout.String()), secrets), "the standard output of %s holds the planted password", process.name)
		require.False(t, leaks([]byte(process.Stderr.String()), secrets), "the log of %s holds the planted password", process.name)
	}
	for _, answer := range p.api {
		require.False(t, leaks([]byte(answer), secrets), "an answer holds the planted password: %s", answer)
	}
	require.NoError(t, filepath.WalkDir(p.Dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		require.False(t, leaks(content, secrets) || leaks([]byte(path), secrets), "%s holds the planted password", path)
		return err
	}))
	if !p.embedded {
		dump := exec.Command(filepath.Join(testkit.Postgres(t).BinDir, "pg_dump"), "--dbname", p.DSN)
		content, err := dump.Output()
		require.NoError(t, err)
		require.Contains(t, string(content), "backup_executions")
		require.False(t, leaks(content, secrets), "the metadata holds the planted password")
	}
}
