package postgres

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

func TestPingTellsWhatIsThere(t *testing.T) {
	pg := testkit.Postgres(t)
	info, err := New(Config{}).Ping(t.Context(), connTo(pg, pg.NewDatabase(t)))
	require.NoError(t, err)
	require.Equal(t, pg.Major, info.VersionNum/10000)
	require.Regexp(t, `^\d+\.\d+$`, info.Version)
	require.Equal(t, engine.Postgres, info.Flavor)
	require.Positive(t, info.Latency)
	require.Positive(t, info.DatabaseSize)
}

func portOf(t *testing.T, l net.Listener) int {
	t.Helper()
	addr, ok := l.Addr().(*net.TCPAddr)
	require.True(t, ok)
	return addr.Port
}

func TestPingErrorsSayWhatIsWrong(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	pg.Exec(t, "postgres", "CREATE ROLE outsider LOGIN PASSWORD 'outsider-pw'")
	t.Cleanup(func() { pg.Exec(t, "postgres", "DROP ROLE outsider") })
	pg.Exec(t, "postgres", "REVOKE CONNECT ON DATABASE "+db+" FROM PUBLIC")
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts, says nothing
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, silent.Close()) })

	cases := map[string]struct {
		set  func(c *engine.Conn)
		code errs.Code
		says string
	}{
		"refused":          {func(c *engine.Conn) { c.Port = testkit.FreePort(t) }, errs.CodeDatasourceUnreachable, "connection refused"},
		"unknown host":     {func(c *engine.Conn) { c.Host = "nowhere.invalid" }, errs.CodeDatasourceUnreachable, "host name"},
		"no socket":        {func(c *engine.Conn) { c.Host = "/nonexistent" }, errs.CodeDatasourceUnreachable, "no socket"},
		"silence":          {func(c *engine.Conn) { c.Port = portOf(t, silent) }, errs.CodeDatasourceUnreachable, "timed out"},
		"wrong password":   {func(c *engine.Conn) { c.Password = "wrong-password" }, errs.CodeDatasourceAuth, "did not let user"},
		"unknown user":     {func(c *engine.Conn) { c.Username = "nobody" }, errs.CodeDatasourceAuth, `"nobody"`},
		"unknown database": {func(c *engine.Conn) { c.Database = "nothing" }, errs.CodeDatabaseMissing, `"nothing"`},
		"no privilege":     {func(c *engine.Conn) { c.Username, c.Password = "outsider", "outsider-pw" }, errs.CodeDatasourcePermission, "privilege"},
		"no TLS there":     {func(c *engine.Conn) { c.SSLMode = engine.SSLRequire }, errs.CodeDatasourceUnreachable, "TLS"},
		"not acceptable":   {func(c *engine.Conn) { c.Host = "a b" }, errs.CodeInvalidConnection, "host"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c := connTo(pg, db)
			tc.set(&c)
			limit := time.Minute
			if name == "silence" {
				limit = time.Second
			}
			_, err := New(Config{ConnectTimeout: limit}).Ping(t.Context(), c)
			require.Equal(t, tc.code, errs.CodeOf(err), "%v", err)
			require.Contains(t, errs.Message(err), tc.says)
			require.NotContains(t, err.Error(), c.Password)
		})
	}
}

// PgBouncer says so of a database that it does not know, or that the server has not.
func TestAPoolersRefusalIsTold(t *testing.T) {
	pooler, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pooler.Close()) })
	const said = `database "absent" does not exist`
	answered := make(chan error, 1)
	go func() {
		c, err := pooler.Accept()
		if err != nil {
			answered <- err
			return
		}
		b := pgproto3.NewBackend(c, c)
		_, err = b.ReceiveStartupMessage()
		b.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "08P01", Message: said})
		answered <- errors.Join(err, b.Flush(), c.Close())
	}()
	_, err = New(Config{}).Ping(t.Context(), engine.Conn{Host: "127.0.0.1", Port: portOf(t, pooler), Database: "absent", Username: "x", SSLMode: engine.SSLDisable})
	require.NoError(t, <-answered)
	require.Equal(t, errs.CodeDatasourceUnreachable, errs.CodeOf(err), "%v", err)
	for _, part := range []string{"connection pooler", said, "own address"} {
		require.Contains(t, errs.Message(err), part)
	}
}

func TestAPoolersRefusalIsToldWithWhatHelps(t *testing.T) {
	for said, advice := range map[string]string{
		`database "shop" does not exist`:                                     `let the pooler reach database "shop"`,
		"no such database: shop":                                             `let the pooler reach database "shop"`,
		"query_wait_timeout":                                                 "try again",
		"client_login_timeout (server down)":                                 "try again",
		"no more connections allowed (max_client_conn)":                      "try again",
		"server login has been failed, try again later (server_login_retry)": `check username "keeper"`,
		"SASL authentication failed":                                         `check username "keeper"`,
		"no such user: keeper":                                               `check username "keeper"`,
		"pooler is shut down":                                                "pooler's log",
	} {
		refused := &pgconn.PgError{Severity: "FATAL", Code: stateProtocol, Message: said}
		c := engine.Conn{Host: "127.0.0.1", Port: 6432, Database: "shop", Username: "keeper"}
		for _, err := range []error{serverError(refused, c), queryError(t.Context(), refused, c, "asking")} {
			require.Equal(t, errs.CodeDatasourceUnreachable, errs.CodeOf(err), "%v", err)
			for _, part := range []string{"looks like a connection pooler's refusal", said, "own address", advice} {
				require.Contains(t, errs.Message(err), part)
			}
			require.Equal(t, strings.Contains(advice, "let the pooler"), strings.Contains(errs.Message(err), "let the pooler"))
		}
	}
	ofTheStatement := &pgconn.PgError{Severity: "ERROR", Code: stateProtocol, Message: "bind message supplies 1 parameters"}
	require.Equal(t, errs.CodeInternal, errs.CodeOf(queryError(t.Context(), ofTheStatement, engine.Conn{}, "asking")))
}

func TestACancelledPingGivesItsCause(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, silent.Close()) })
	cause := errors.New("operator left")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		if c, err := silent.Accept(); err == nil {
			cancel(cause)
			_ = c.Close()
		}
	}()
	_, err = New(Config{}).Ping(ctx, engine.Conn{Host: "127.0.0.1", Port: portOf(t, silent), Database: "x", Username: "x"})
	require.ErrorIs(t, err, cause)
	require.Equal(t, errs.Cancelled, errs.KindOf(err))
}

func TestNothingButTheConnectionDecidesWhereToGo(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	home := t.TempDir()
	services := filepath.Join(home, "services")
	require.NoError(t, os.WriteFile(services, []byte("[evil]\nhost=203.0.113.9\ndbname=evil\nuser=evil\n"), 0o600))
	passwords := filepath.Join(home, ".pgpass")
	require.NoError(t, os.WriteFile(passwords, []byte("*:*:*:*:"+pg.Password+"\n"), 0o600))
	for name, value := range map[string]string{
		"HOME": home, "PGHOST": "203.0.113.9", "PGPORT": "1", "PGUSER": "evil", "PGDATABASE": "evil", "PGPASSWORD": "evil",
		"PGSERVICE": "evil", "PGSERVICEFILE": services, "PGPASSFILE": passwords, "PGSSLMODE": "verify-full", "PGSSLROOTCERT": "/nonexistent",
		"PGSSLCERT": "/nonexistent", "PGSSLKEY": "/nonexistent", "PGOPTIONS": "-c search_path=evil", "PGAPPNAME": "evil",
		"PGCONNECT_TIMEOUT": "soon", "PGTARGETSESSIONATTRS": "standby", "PGTZ": "Nowhere/Land", "PGREQUIREAUTH": "none",
		"PGMINPROTOCOLVERSION": "9", "PGMAXPROTOCOLVERSION": "9", "PGCHANNELBINDING": "require", "PGSSLNEGOTIATION": "direct",
	} {
		t.Setenv(name, value)
	}
	c := connTo(pg, db)
	_, err := New(Config{}).Ping(t.Context(), c)
	require.NoError(t, err)
	c.Password = ""
	_, err = New(Config{}).Ping(t.Context(), c)
	require.Equal(t, errs.CodeDatasourceAuth, errs.CodeOf(err), "a password file was read")
}

func TestHostileDatabaseNamesAreNames(t *testing.T) {
	pg := testkit.Postgres(t)
	for _, name := range []string{"host=203.0.113.9 dbname=postgres", "postgres://203.0.113.9/postgres", "--version", "a\nb", `quote"d 'name' \`, "😀"} {
		_, err := New(Config{}).Ping(t.Context(), connTo(pg, name))
		require.Equal(t, errs.CodeDatabaseMissing, errs.CodeOf(err), "%q: %v", name, err)
	}
}
