package postgres

import (
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/engine/enginetest"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

// pooler gives its clients sessions of servers: each its own, of the servers by turns, in
// the database that it names, or each question one of a few by turns.
type pooler struct {
	servers []*testkit.PG
	shares  int    // sessions that are shared; none: each client has its own
	room    int    // clients that have a session at a time; 0: as many as come
	refusal string // of more than room, by its SQLSTATE; empty: they wait
	pid     string // that all processes of the servers have; empty: their own

	database string // of the shared sessions

	turn    sync.Mutex
	shared  []*pgconn.HijackedConn
	asked   int           // questions to shared ones
	clients int           // that came
	rooms   chan struct{} // taken by those that have a session
}

// start returns the port.
func (p *pooler) start(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	for range p.shares {
		session, err := p.connect(t, p.servers[0], p.database)
		require.NoError(t, err)
		p.shared = append(p.shared, session)
	}
	p.rooms = make(chan struct{}, p.room)
	over := make(chan struct{})
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { p.serve(t, c, over) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		close(over)
		serving.Wait()
		for _, session := range p.shared {
			_ = session.Conn.Close()
		}
	})
	return portOf(t, l)
}

func (p *pooler) connect(t *testing.T, pg *testkit.PG, database string) (*pgconn.HijackedConn, error) {
	conn, err := pgconn.Connect(t.Context(), pg.DSN(database))
	if err != nil {
		return nil, err
	}
	return conn.Hijack()
}

// next is the session for a question to the shared ones.
func (p *pooler) next() *pgconn.HijackedConn {
	p.asked++
	return p.shared[p.asked%len(p.shared)]
}

// serve ends with the client, whatever that does.
func (p *pooler) serve(t *testing.T, c net.Conn, over <-chan struct{}) {
	defer c.Close() //nolint:errcheck // it is over
	client := pgproto3.NewBackend(c, c)
	first, err := client.ReceiveStartupMessage()
	hello, ok := first.(*pgproto3.StartupMessage)
	if err != nil || !ok {
		return
	}
	refuse := func(code, message string) {
		client.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: code, Message: message})
		_ = client.Flush() // the client may have gone
	}
	p.turn.Lock()
	server := p.servers[p.clients%len(p.servers)]
	p.clients++
	p.turn.Unlock()
	session, err := p.connect(t, server, hello.Parameters["database"])
	if err != nil {
		refuse(stateNoDatabase, err.Error())
		return
	}
	defer session.Conn.Close() //nolint:errcheck // it is over
	enter := func() bool {
		select {
		case p.rooms <- struct{}{}:
			return true
		case <-over:
			return false
		}
	}
	if p.room > 0 && p.refusal != "" && len(p.rooms) == p.room {
		refuse(p.refusal, "no more connections allowed")
		return
	}
	if p.room > 0 && p.refusal != "" {
		if !enter() {
			return
		}
		defer func() { <-p.rooms }()
	}
	client.Send(&pgproto3.AuthenticationOk{})
	for name, value := range session.ParameterStatuses {
		client.Send(&pgproto3.ParameterStatus{Name: name, Value: value})
	}
	client.Send(&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte{1, 2, 3, 4}})
	client.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	if client.Flush() != nil {
		return
	}
	if p.room > 0 && p.refusal == "" { // it is in, and its first question waits
		if !enter() {
			return
		}
		defer func() { <-p.rooms }()
	}
	own := sync.Mutex{}
	for err := error(nil); err == nil; err = client.Flush() {
		turn, of := &own, func() *pgconn.HijackedConn { return session }
		if p.shares > 0 {
			turn, of = &p.turn, p.next
		}
		if !p.answer(client, turn, of) {
			return
		}
	}
}

// answer carries one exchange, up to the server's being ready again.
func (p *pooler) answer(client *pgproto3.Backend, turn *sync.Mutex, of func() *pgconn.HijackedConn) bool {
	message, err := client.Receive()
	if _, bye := message.(*pgproto3.Terminate); bye || err != nil {
		return false
	}
	turn.Lock()
	defer turn.Unlock()
	server := of().Frontend
	for {
		server.Send(message)
		switch message.(type) {
		case *pgproto3.Query, *pgproto3.Sync:
			return server.Flush() == nil && p.untilReady(client, server)
		}
		if message, err = client.Receive(); err != nil {
			return false
		}
	}
}

func (p *pooler) untilReady(client *pgproto3.Backend, server *pgproto3.Frontend) bool {
	for {
		message, err := server.Receive()
		if err != nil {
			return false
		}
		if row, ok := message.(*pgproto3.DataRow); ok && p.pid != "" {
			message = &pgproto3.DataRow{Values: slices.Concat([][]byte{[]byte(p.pid)}, row.Values[1:])}
		}
		client.Send(message)
		switch message.(type) {
		case *pgproto3.ReadyForQuery:
			return true
		case *pgproto3.CopyInResponse:
			if client.Flush() != nil || !copyIn(client, server) {
				return false
			}
		}
	}
}

// copyIn carries the data of a COPY.
func copyIn(client *pgproto3.Backend, server *pgproto3.Frontend) bool {
	for {
		message, err := client.Receive()
		if err != nil {
			return false
		}
		server.Send(message)
		switch message.(type) {
		case *pgproto3.CopyDone, *pgproto3.CopyFail:
			return server.Flush() == nil
		}
	}
}

func TestSharedSessionsAreRefused(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	pg.Exec(t, db, "CREATE TABLE a AS SELECT 1 AS x")
	_, dump := dumpOf(t, connTo(pg, db), engine.DumpOptions{})
	e := New(Config{})
	for name, shares := range map[string]int{"shared": 1, "shared by turns": 2, "shared by turns of three": 3, "each its own": 0} {
		t.Run(name, func(t *testing.T) {
			c := connTo(pg, db)
			c.Port = (&pooler{servers: []*testkit.PG{pg}, database: db, shares: shares}).start(t)
			_, err := e.Ping(t.Context(), c)
			require.NoError(t, err, "which needs no session of its own")
			var sink enginetest.Memory
			_, dumped := e.Dump(t.Context(), c, engine.DumpOptions{TempDir: t.TempDir()}, &sink)
			_, looked := e.Preflight(t.Context(), c, engine.RestoreOptions{DropExisting: true})
			restored := e.Restore(t.Context(), c, engine.RestoreOptions{TempDir: t.TempDir()}, dump)

			absent := c
			absent.Database = "absent_" + engine.NewScratchSuffix()
			t.Cleanup(func() { pg.Exec(t, "postgres", "DROP DATABASE IF EXISTS "+absent.Database+" WITH (FORCE)") })
			found, sought := e.Preflight(t.Context(), absent, engine.RestoreOptions{CreateDatabase: true})
			require.False(t, found.Exists)
			made := e.Restore(t.Context(), absent, engine.RestoreOptions{CreateDatabase: true, TempDir: t.TempDir()}, dump)
			if shares == 0 {
				require.NoError(t, dumped)
				require.NoError(t, looked)
				require.NotContains(t, errs.Message(restored), "pooler")
				require.NoError(t, sought)
				require.NoError(t, made)
				require.Equal(t, plain(t, pg, db), plain(t, pg, absent.Database))
				return
			}
			require.Empty(t, sink.Members())
			for _, err := range []error{dumped, looked, restored, sought, made} {
				require.Equal(t, errs.CodeInvalidConnection, errs.CodeOf(err), "%v", err)
				require.Contains(t, errs.Message(err), "pool_mode session")
			}
		})
	}
}

func refusesShared(t *testing.T, e *Engine, c engine.Conn) bool {
	t.Helper()
	conn, err := e.connect(t.Context(), c)
	require.NoError(t, err)
	defer closeConn(t.Context(), conn)
	if err = e.refuseShared(t.Context(), conn, c); err != nil {
		require.Equal(t, errs.CodeInvalidConnection, errs.CodeOf(err), "%v", err)
	}
	return err != nil
}

func TestAPoolWithRoomForOneNeedsNoSecondConnection(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	pg.Exec(t, db, "CREATE TABLE a AS SELECT 1 AS x")
	e, hasty := New(Config{}), New(Config{})
	hasty.sharingLimit = 200 * time.Millisecond
	for name, refusal := range map[string]string{"the second waits": "", "the server refuses it": stateTooMany, "the pooler refuses it": stateProtocol} {
		for shares := range 3 {
			e := e
			if refusal == "" {
				e = hasty
			}
			p := &pooler{servers: []*testkit.PG{pg}, database: db, shares: shares, room: 1, refusal: refusal}
			c := connTo(pg, db)
			c.Port = p.start(t)
			require.Equal(t, shares == 2, refusesShared(t, e, c), "%s, %d shared", name, shares) // by one alone it is not seen that others have it, too
		}
	}
	c := connTo(pg, db)
	c.Port = (&pooler{servers: []*testkit.PG{pg}, room: 1}).start(t)
	var sink enginetest.Memory
	_, err := hasty.Dump(t.Context(), c, engine.DumpOptions{TempDir: t.TempDir()}, &sink)
	require.NoError(t, err)
}

func TestProcessesOfTwoServersWithTheSameNumberAreNotOneSession(t *testing.T) {
	one, other := testkit.Postgres(t), testkit.NewPostgres(t)
	e := New(Config{})
	for _, servers := range [][]*testkit.PG{{one, other}, {one}} {
		c := connTo(one, "postgres")
		c.Port = (&pooler{servers: servers, pid: "7"}).start(t)
		require.Equal(t, len(servers) == 1, refusesShared(t, e, c))
	}
}
