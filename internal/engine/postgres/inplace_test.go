package postgres

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/engine/enginetest"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/process"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

// road leads to a server until a statement comes by.
type road struct {
	net.Listener
	server    string
	statement []byte // to wait for
	done      []byte // what the server answers when it was run
	arrives   bool   // it reaches the server, whose answer gets lost
	closes    bool   // no other connection reaches the server from then on
	then      func() // before the connection is cut, may be nil
	over      <-chan struct{}

	met      atomic.Bool
	sessions sync.WaitGroup
}

// between makes r a road to pg and returns how to take it.
func between(t *testing.T, r *road, pg *testkit.PG, database string) engine.Conn {
	t.Helper()
	var err error
	r.over = t.Context().Done()
	r.Listener, err = net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r.server = net.JoinHostPort(pg.Host, strconv.Itoa(pg.Port))
	r.sessions.Go(func() {
		for {
			client, err := r.Accept()
			if err != nil {
				return
			}
			r.sessions.Go(func() { r.travel(client) })
		}
	})
	t.Cleanup(func() {
		_ = r.Close() // may be closed already
		r.sessions.Wait()
	})
	c := connTo(pg, database)
	c.Port = portOf(t, r.Listener)
	return c
}

func (r *road) travel(client net.Conn) {
	defer func() { _ = client.Close() }() // the test cuts it
	server, err := net.Dial("tcp", r.server)
	if err != nil {
		return
	}
	answers := make(chan []byte)
	r.sessions.Go(func() { pour(server, answers) })
	requests := make(chan []byte)
	r.sessions.Go(func() { pour(client, requests) })
	defer func() { // the last reads end with their connections
		_ = errors.Join(client.Close(), server.Close())
		for range answers {
			continue
		}
		for range requests {
			continue
		}
	}()
	for {
		var to net.Conn
		var b []byte
		var ok bool
		select {
		case b, ok = <-requests:
			to = server
		case b, ok = <-answers:
			to = client
		}
		if !ok {
			return
		}
		if to == server && r.meets(b) {
			r.part(b, server, answers)
			return
		}
		if _, err := to.Write(b); err != nil {
			return
		}
	}
}

// pour reads a connection to its end.
func pour(from net.Conn, to chan<- []byte) {
	defer close(to)
	for {
		b := make([]byte, 64<<10)
		n, err := from.Read(b)
		if err != nil {
			return
		}
		to <- b[:n]
	}
}

// meets reports that the statement is in b, once.
func (r *road) meets(b []byte) bool {
	return bytes.Contains(bytes.ToUpper(b), r.statement) && r.met.CompareAndSwap(false, true)
}

// part is the end of the connection.
func (r *road) part(b []byte, server net.Conn, answers <-chan []byte) {
	if r.closes {
		_ = r.Close()
	}
	if r.arrives {
		if _, err := server.Write(b); err != nil {
			return
		}
		var heard []byte
		for answer := range answers {
			if heard = append(heard, answer...); bytes.Contains(heard, r.done) {
				break
			}
		}
	}
	if r.then != nil {
		r.then()
		if !r.arrives && !r.closes { // whoever says that nothing was done has to end it
			select {
			case <-answers:
			case <-r.over:
			}
		}
	}
}

// A COMMIT whose answer nobody heard was done, or was not. Whatever a restore says
// of it has to be so.
func TestWhatIsToldOfACommitThatWasCutOffIsSo(t *testing.T) {
	pg := testkit.NewPostgres(t)
	source := pg.NewDatabase(t)
	pg.Exec(t, source, "CREATE TABLE a AS SELECT 1 AS x; CREATE TABLE z AS SELECT md5(g::text) FROM generate_series(1, 3000) g")
	_, dump := dumpOf(t, connTo(pg, source), engine.DumpOptions{})
	word := func(s string) []byte { return append([]byte{'Q', 0, 0, 0, byte(4 + len(s) + 1)}, s+"\x00"...) }
	commit := struct{ statement, done []byte }{word("COMMIT"), []byte("COMMIT\x00")}
	old, restored := "CREATE TABLE a AS SELECT 2 AS x", "SELECT x = 1 FROM a"
	for name, way := range map[string]struct {
		before  string // the target's content; empty: it is absent
		options engine.RestoreOptions
	}{
		"some tables in place": {old, engine.RestoreOptions{DropExisting: true, IncludeTables: []string{"a"}}},
		"all in place":         {"SELECT", engine.RestoreOptions{}},
		"in the place of":      {old, engine.RestoreOptions{DropExisting: true}},
		"under a new name":     {"", engine.RestoreOptions{CreateDatabase: true}},
	} {
		for how, end := range map[string]struct{ arrives, closes, cancels bool }{
			"before it arrived":                       {},
			"after it was done":                       {arrives: true},
			"after it was done, for good":             {arrives: true, closes: true},
			"before it arrived, for good":             {closes: true},
			"by a cancellation before it arrived":     {cancels: true},
			"by a cancellation after it was done":     {cancels: true, arrives: true},
			"by a cancellation as the road is closed": {cancels: true, arrives: true, closes: true},
		} {
			t.Run(name+", "+how, func(t *testing.T) {
				target := "absent_" + engine.NewScratchSuffix()
				if way.before != "" {
					target = pg.NewDatabase(t)
					pg.Exec(t, target, way.before)
				}
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				cause := errors.New("operator said so")
				r := road{statement: commit.statement, done: commit.done, arrives: end.arrives, closes: end.closes}
				if end.cancels {
					r.then = func() { cancel(cause) }
				}
				c := between(t, &r, pg, target)
				e := New(Config{})
				if end.closes {
					e.cleanupLimit = time.Second
				}
				var log lines
				o := way.options
				o.Log, o.Token = log.log, engine.NewScratchSuffix()
				err := e.Restore(ctx, c, o, dump)

				require.True(t, r.met.Load(), "nothing was cut off")
				require.Empty(t, enginetest.Children(t))
				is := isRestored(t, pg, target, restored)
				switch {
				case end.closes:
					require.ErrorIs(t, err, engine.ErrUnsettled)
					require.Contains(t, errs.Message(err), "either what it was or wholly restored")
				case end.arrives:
					require.NoError(t, err)
					require.Contains(t, log.String(), "the restore is done")
					require.True(t, is)
				default:
					require.Error(t, err)
					require.NotErrorIs(t, err, engine.ErrUnsettled)
					require.False(t, is)
				}
				watching := pg.Conn(t, "postgres")
				require.Eventually(t, func() (alone bool) {
					const none = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name LIKE 'dataguardian-%')"
					return watching.QueryRow(t.Context(), none).Scan(&alone) == nil && alone
				}, time.Minute, 20*time.Millisecond, "a session of the restore lives on")
				if end.cancels && err != nil {
					require.ErrorIs(t, err, cause)
				}
				if !end.closes {
					require.NotContains(t, strings.Join(databases(t, pg), " "), o.Token)
				}
			})
		}
	}
}

// isRestored asks a question of a database; false when it or what is asked for is not
// there.
func isRestored(t *testing.T, pg *testkit.PG, database, question string) (is bool) {
	t.Helper()
	var there bool
	require.NoError(t, pg.Conn(t, "postgres").QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", database).Scan(&there))
	if !there {
		return false
	}
	conn := pg.Conn(t, database)
	_, err := conn.Exec(t.Context(), "SET lock_timeout = '30s'") // a restore that lives on holds locks
	require.NoError(t, err)
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT to_regclass('a') IS NOT NULL").Scan(&there))
	if there {
		require.NoError(t, conn.QueryRow(t.Context(), question).Scan(&is))
	}
	return is
}

// A server that crashes may forget a transaction, and give its number to the next.
func TestATransactionThatACrashUndidIsNotTakenForTheOneAfterIt(t *testing.T) {
	pg := testkit.NewPostgres(t)
	db := pg.NewDatabase(t)
	r := &restore{engine: New(Config{}), conn: connTo(pg, db), session: appName + "-crash"}
	tx, err := r.seek(t.Context())
	require.NoError(t, err)
	tool, err := pgx.Connect(t.Context(), pg.DSN(db)+"&application_name="+r.session)
	require.NoError(t, err)
	defer func() { _ = tool.Close(context.Background()) }() // its server is gone
	_, err = tool.Exec(t.Context(), "BEGIN; SELECT txid_current()")
	require.NoError(t, err)
	<-tx.ended
	tx.stop()
	require.NotZero(t, tx.id)

	pg.Crash(t)
	pg.Start(t)
	for range 10 {
		pg.Exec(t, db, "CREATE TABLE IF NOT EXISTS others (x int); INSERT INTO others VALUES (1)")
	}
	killed := process.Result{ExitCode: -1, Signal: syscall.SIGTERM}
	require.Equal(t, rolledBack, tx.became(t.Context(), r, killed, errors.New("lost"), true))

	tx.history = "00000002" // as a standby would say that took over
	require.Equal(t, uncertain, tx.became(t.Context(), r, killed, errors.New("lost"), true))
	tx.id += 1000 // as if this server had never heard of it
	require.Equal(t, rolledBack, tx.became(t.Context(), r, killed, errors.New("lost"), true))
}
