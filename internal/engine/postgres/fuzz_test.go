package postgres

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/engine"
)

// What is accepted as a connection reaches the driver and the tool as it is: one place,
// one database, no option.
func FuzzAnAcceptedConnectionIsLiteral(f *testing.F) {
	f.Add("db.example", "shop", "app", "secret", 5432)
	f.Add("a dbname=b", "--file=/x", "-U", "\x00", 0)
	f.Add("/run/postgresql", "host=elsewhere dbname=other", "it's \"quoted\"", "line\nbreak", 1)
	f.Add("::1", "postgres://elsewhere/other", "%n", "=;#", 65535)
	e := New(Config{})
	f.Fuzz(func(t *testing.T, host, database, user, password string, port int) {
		c := engine.Conn{Type: engine.Postgres, Host: host, Port: port, Database: database, Username: user, Password: password, SSLMode: engine.SSLDisable}
		if len(ValidateConn(c)) > 0 {
			return
		}
		cfg, err := e.pgxConfig(c)
		require.NoError(t, err)
		require.Equal(t, []string{host, database, user, password}, []string{cfg.Host, cfg.Database, cfg.User, cfg.Password})
		require.Empty(t, cfg.Fallbacks)
		env, err := e.environment(c, "/nonexistent")
		require.NoError(t, err)
		for _, pair := range env {
			require.NotContains(t, pair, "\x00")
		}
		require.Len(t, slices.DeleteFunc(slices.Clone(env), func(pair string) bool { return !strings.HasPrefix(pair, "PGHOST=") }), 1)
		for name, value := range map[string]string{"PGHOST": host, "PGDATABASE": database, "PGUSER": user} {
			require.Contains(t, env, name+"="+value)
		}
		// libpq takes a host with a comma for several, and a database name in an argument
		// for a connection string: neither can happen.
		require.NotContains(t, host, ",")
		require.False(t, strings.HasPrefix(host, "-"))
	})
}
