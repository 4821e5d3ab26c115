package postgres

import (
	"net"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/engine/enginetest"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

// pooler gives its clients sessions of a server: one for all, by turns, or each its own.
type pooler struct {
	pg       *testkit.PG
	database string
	shared   bool

	mu      sync.Mutex
	session *pgconn.HijackedConn // the shared one
}

// start returns the port.
func (p *pooler) start(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p.session = p.connect(t)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { p.serve(t, c) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); serving.Wait(); _ = p.session.Conn.Close() })
	return portOf(t, l)
}

func (p *pooler) connect(t *testing.T) *pgconn.HijackedConn {
	t.Helper()
	conn, err := pgconn.Connect(t.Context(), p.pg.DSN(p.database))
	require.NoError(t, err)
	session, err := conn.Hijack()
	require.NoError(t, err)
	return session
}

// serve ends with the client, whatever that does.
func (p *pooler) serve(t *testing.T, c net.Conn) {
	defer c.Close() //nolint:errcheck // it is over
	turn, session := &p.mu, p.session
	if !p.shared {
		turn, session = &sync.Mutex{}, p.connect(t)
		defer session.Conn.Close() //nolint:errcheck // it is over
	}
	client := pgproto3.NewBackend(c, c)
	if _, err := client.ReceiveStartupMessage(); err != nil {
		return
	}
	client.Send(&pgproto3.AuthenticationOk{})
	for name, value := range session.ParameterStatuses {
		client.Send(&pgproto3.ParameterStatus{Name: name, Value: value})
	}
	client.Send(&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte{1, 2, 3, 4}})
	client.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	for err := client.Flush(); err == nil; err = client.Flush() {
		if !answer(client, session.Frontend, turn) {
			return
		}
	}
}

// answer carries one exchange, up to the server's being ready again.
func answer(client *pgproto3.Backend, server *pgproto3.Frontend, turn *sync.Mutex) bool {
	message, err := client.Receive()
	if _, bye := message.(*pgproto3.Terminate); bye || err != nil {
		return false
	}
	turn.Lock()
	defer turn.Unlock()
	for {
		server.Send(message)
		switch message.(type) {
		case *pgproto3.Query, *pgproto3.Sync:
			return server.Flush() == nil && untilReady(client, server)
		}
		if message, err = client.Receive(); err != nil {
			return false
		}
	}
}

func untilReady(client *pgproto3.Backend, server *pgproto3.Frontend) bool {
	for {
		message, err := server.Receive()
		if err != nil {
			return false
		}
		client.Send(message)
		if _, ready := message.(*pgproto3.ReadyForQuery); ready {
			return true
		}
	}
}

func TestSharedSessionsAreRefused(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	pg.Exec(t, db, "CREATE TABLE a AS SELECT 1 AS x")
	_, dump := dumpOf(t, connTo(pg, db), engine.DumpOptions{})
	e := New(Config{})
	for name, shared := range map[string]bool{"shared": true, "each its own": false} {
		t.Run(name, func(t *testing.T) {
			c := connTo(pg, db)
			c.Port = (&pooler{pg: pg, database: db, shared: shared}).start(t)
			_, err := e.Ping(t.Context(), c)
			require.NoError(t, err, "which needs no session of its own")
			var sink enginetest.Memory
			_, dumped := e.Dump(t.Context(), c, engine.DumpOptions{TempDir: t.TempDir()}, &sink)
			_, looked := e.Preflight(t.Context(), c, engine.RestoreOptions{DropExisting: true})
			restored := e.Restore(t.Context(), c, engine.RestoreOptions{TempDir: t.TempDir()}, dump)
			if !shared {
				require.NoError(t, dumped)
				require.NoError(t, looked)
				require.NotContains(t, errs.Message(restored), "pooler")
				return
			}
			require.Empty(t, sink.Members())
			for _, err := range []error{dumped, looked, restored} {
				require.Equal(t, errs.CodeInvalidConnection, errs.CodeOf(err), "%v", err)
				require.Contains(t, errs.Message(err), "pool_mode session")
			}
		})
	}
}
