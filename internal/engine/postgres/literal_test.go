package postgres

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/dataguardian/dataguardian/internal/engine"
)

func good() engine.Conn {
	return engine.Conn{Type: engine.Postgres, Host: "db.example", Port: 5432, Database: "shop", Username: "app"}
}

func TestConnectionValuesAreLiteralOrRefused(t *testing.T) {
	require.Empty(t, ValidateConn(good()))
	cases := []struct {
		name  string
		field string
		set   func(c *engine.Conn)
	}{
		{"no host", "host", func(c *engine.Conn) { c.Host = "" }},
		{"two hosts", "host", func(c *engine.Conn) { c.Host = "a,b" }},
		{"a connection string", "host", func(c *engine.Conn) { c.Host = "a dbname=b" }},
		{"a URL", "host", func(c *engine.Conn) { c.Host = "postgres://evil/x" }},
		{"an option", "host", func(c *engine.Conn) { c.Host = "--file=/x" }},
		{"an abstract socket", "host", func(c *engine.Conn) { c.Host = "@socket" }},
		{"a line break", "host", func(c *engine.Conn) { c.Host = "a\nb" }},
		{"a zero byte", "host", func(c *engine.Conn) { c.Host = "a\x00" }},
		{"a relative path", "host", func(c *engine.Conn) { c.Host = "var/run" }},
		{"a path with ..", "host", func(c *engine.Conn) { c.Host = "/run/../etc" }},
		{"two socket directories", "host", func(c *engine.Conn) { c.Host = "/run,/tmp" }},
		{"port 0", "port", func(c *engine.Conn) { c.Port = 0 }},
		{"port 65536", "port", func(c *engine.Conn) { c.Port = 65536 }},
		{"no database", "database", func(c *engine.Conn) { c.Database = "" }},
		{"a zero byte", "database", func(c *engine.Conn) { c.Database = "a\x00b" }},
		{"a name the server cuts", "database", func(c *engine.Conn) { c.Database = strings.Repeat("x", 64) }},
		{"bytes that are no text", "database", func(c *engine.Conn) { c.Database = "\xff" }},
		{"no user", "username", func(c *engine.Conn) { c.Username = "" }},
		{"a zero byte", "password", func(c *engine.Conn) { c.Password = "\x00" }},
		{"an unknown mode", "ssl_mode", func(c *engine.Conn) { c.SSLMode = "allow" }},
		{"a certificate that is none", "ssl_root_cert", func(c *engine.Conn) { c.SSLRootCert = "/etc/passwd" }},
	}
	for _, tc := range cases {
		t.Run(tc.field+": "+tc.name, func(t *testing.T) {
			c := good()
			tc.set(&c)
			bad := ValidateConn(c)
			require.Len(t, bad, 1)
			require.Equal(t, tc.field, bad[0].Field)
		})
	}
}

func TestUnusualButLiteralValuesAreAccepted(t *testing.T) {
	for _, set := range []func(c *engine.Conn){
		func(c *engine.Conn) { c.Host = "::1" },
		func(c *engine.Conn) { c.Host = "fe80::1%eth0" },
		func(c *engine.Conn) { c.Host = "/var/run/postgresql" },
		func(c *engine.Conn) { c.Host = "db_1.münchen.example" },
		func(c *engine.Conn) { c.Database = "--file=/x" },
		func(c *engine.Conn) { c.Database = "host=evil dbname='x'" },
		func(c *engine.Conn) { c.Database = "postgres://evil/x" },
		func(c *engine.Conn) { c.Database = "line\nbreak \"quoted\" 😀" },
		func(c *engine.Conn) { c.Password = "p@ss'\"\\ \n" },
	} {
		c := good()
		set(&c)
		require.Empty(t, ValidateConn(c))
	}
}

func TestAnAcceptedHostIsOneWord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := good()
		c.Host = rapid.String().Draw(t, "host")
		if len(ValidateConn(c)) > 0 {
			return
		}
		require.NotContains(t, c.Host, ",")
		require.NotContains(t, c.Host, "=")
		require.NotContains(t, c.Host, "\x00")
		require.False(t, strings.HasPrefix(c.Host, "-"))
		if !strings.HasPrefix(c.Host, "/") {
			require.Len(t, strings.Fields(c.Host), 1)
			require.NotContains(t, c.Host, "/")
		}
	})
}
