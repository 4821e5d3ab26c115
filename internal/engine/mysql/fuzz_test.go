package mysql

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/engine"
)

// unquoteOption reads a value as the clients do.
func unquoteOption(t *testing.T, text string) string {
	t.Helper()
	require.GreaterOrEqual(t, len(text), 2)
	require.Equal(t, `""`, text[:1]+text[len(text)-1:])
	var b strings.Builder
	for rest := text[1 : len(text)-1]; rest != ""; rest = rest[1:] {
		if rest[0] != '\\' {
			require.NotEqual(t, byte('"'), rest[0], "the value ends early: %s", text)
			b.WriteByte(rest[0])
			continue
		}
		require.Greater(t, len(rest), 1)
		rest = rest[1:]
		meaning, ok := map[byte]byte{'n': '\n', 'r': '\r', 't': '\t', 'b': '\b', '\\': '\\', '"': '"'}[rest[0]]
		require.True(t, ok, text)
		b.WriteByte(meaning)
	}
	return b.String()
}

// What is accepted as a connection is in the option file as it is, a line for each
// setting: no value adds a line, a group or an option.
func FuzzAnAcceptedConnectionIsLiteral(f *testing.F) {
	f.Add("db.example", "app", "secret", 3306)
	f.Add("h", "x\n[client]\nplugin-dir=/tmp", `\`, 1)
	f.Add("::1", `!include /etc/passwd`, "\"#'\\\r\b\t", 65535)
	f.Fuzz(func(t *testing.T, host, user, password string, port int) {
		c := engine.Conn{Type: engine.MariaDB, Host: host, Port: port, Database: "shop", Username: user, Password: password, SSLMode: engine.SSLDisable}
		if len(ValidateConn(c)) > 0 {
			return
		}
		file, err := optionFile(c, program{flavor: engine.MariaDB}, t.TempDir())
		require.NoError(t, err)
		raw, err := os.ReadFile(file)
		require.NoError(t, err)
		got := map[string]string{}
		lines := strings.Split(strings.TrimSuffix(string(raw), "\n"), "\n")
		require.Equal(t, "[client]", lines[0])
		for _, line := range lines[1:] {
			name, value, ok := strings.Cut(line, "=")
			require.NotContains(t, got, name)
			if got[name] = ""; ok {
				got[name] = unquoteOption(t, value)
			}
		}
		require.Equal(t, password, got["password"])
		require.Equal(t, user, got["user"])
		for name := range got {
			require.Contains(t, []string{"protocol", "socket", "host", "port", "user", "password", "default-character-set", "skip-ssl"}, name)
		}
	})
}
