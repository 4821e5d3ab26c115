package mysql

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/engine/enginetest"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

// A server forgets who was let in when it starts, and with FLUSH PRIVILEGES. MySQL then
// wants to see the password itself, which without TLS takes a key of the server's.
func TestAServerThatHasForgottenItsUsersLetsThemInWithoutTLS(t *testing.T) {
	m := testkit.NewMariaDB(t) // others' users would be forgotten, too
	db := m.NewDatabase(t)
	m.Exec(t, db, townsPeopleOrders)
	m.Exec(t, "", "CREATE USER forgotten@'127.0.0.1' IDENTIFIED BY 'pass \"word'; GRANT ALL ON *.* TO forgotten@'127.0.0.1' WITH GRANT OPTION")
	forget := func() { m.Exec(t, "", "FLUSH PRIVILEGES") }
	engines := map[string]*Engine{"its own tools": New(Config{})}
	if m.IsMySQL {
		engines["the other's tools"] = toolsOfTheOtherKind(t, m)
	}
	for name, e := range engines {
		for _, mode := range []engine.SSLMode{engine.SSLDisable, ""} {
			t.Run(name+" "+string(mode), func(t *testing.T) {
				c := connTo(m, db)
				c.Username, c.Password, c.SSLMode = "forgotten", `pass "word`, mode
				forget()
				_, err := e.Ping(t.Context(), c)
				require.NoError(t, err)
				forget()
				_, err = e.Schema(t.Context(), c)
				require.NoError(t, err)
				forget()
				_, err = e.Query(t.Context(), c, "SELECT 1", engine.QueryLimits{})
				require.NoError(t, err)

				// We are let in before the tools come, which must not depend on that.
				before := func(engine.Level, string) { forget() }
				var dump enginetest.Memory
				_, err = e.Dump(t.Context(), c, engine.DumpOptions{TempDir: t.TempDir(), Log: before}, &dump)
				require.NoError(t, err)
				o := engine.RestoreOptions{DropExisting: true, TempDir: t.TempDir(), Log: before}
				require.NoError(t, e.Restore(t.Context(), c, o, &dump))
				digest, err := e.DigestSchema(t.Context(), c, "", t.TempDir())
				require.NoError(t, err)
				require.NotEmpty(t, digest)
			})
		}
	}
}

func TestOneConnectionAtATimeIsEnoughForABackup(t *testing.T) {
	files := enginetest.NewTLSFiles(t, "mysql")
	m := testkit.NewMariaDB(t, testkit.WithFlag("--ssl-cert="+files.Cert), testkit.WithFlag("--ssl-key="+files.Key))
	db := m.NewDatabase(t)
	m.Exec(t, db, townsPeopleOrders)
	m.Exec(t, "", "CREATE USER alone@'127.0.0.1' IDENTIFIED BY 'alone-password' WITH MAX_USER_CONNECTIONS 1; GRANT ALL ON *.* TO alone@'127.0.0.1'")
	c := connTo(m, db)
	c.Username, c.Password, c.SSLMode = "alone", "alone-password", ""
	e := New(Config{})
	if m.IsMySQL {
		e = toolsOfTheOtherKind(t, m) // which must be told whether there is TLS
	}
	d := &dump{engine: e, conn: c, rows: map[string]int64{}}
	require.NoError(t, d.prepare(t.Context()))
	require.Equal(t, c, d.conn, "as the server has TLS")
}
