package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/process"
)

const (
	// seekPause is between the first two looks for the tool's transaction; it doubles
	// up to seekPauseMax, for a tool may have nothing to do for long.
	seekPause    = 20 * time.Millisecond
	seekPauseMax = 250 * time.Millisecond
	// seekPatience is how long the tool waits for its last bytes until its transaction
	// was seen: behind some poolers it never is.
	seekPatience = 5 * time.Second
	// settlePause is between two questions for what became of a transaction.
	settlePause = 100 * time.Millisecond
)

// inPlace restores in one transaction of the tool's in the database itself. Who ends
// the tool in the middle of COMMIT, or loses the connection there, does not know
// whether it happened; the server does, when one can tell it which transaction it was.
func (r *restore) inPlace(ctx context.Context, input io.Reader) error {
	args := []string{"--single-transaction"}
	if r.options.DropExisting {
		args = append(args, "--clean", "--if-exists")
	}
	tx, err := r.seek(ctx)
	if err != nil {
		return err
	}
	if r.list != nil {
		until := "the whole backup was read"
		if r.options.Proven {
			until = "the backup was read up to the last of their rows"
		}
		r.log(engine.LevelInfo, fmt.Sprintf("The tables stay locked until %s, which may take longer than they do", until))
	}
	proven := false
	result, err := r.feed(ctx, r.conn.Database, input, args, func(gone <-chan struct{}) {
		proven = true
		if r.countParts(r.proof.Contents()) > 0 { // else the tool is not connected yet
			tx.await(gone)
		}
	})
	tx.stop()
	if err == nil {
		return nil
	}
	switch became := tx.became(ctx, r, result, err, proven); {
	case became == rolledBack:
		return err
	case became == uncertain:
		return errs.Wrap(errors.Join(err, engine.ErrUnsettled), errs.KindOf(err), errs.CodeOf(err),
			"%s. That may have been while the restore was committed, and %s does not say whether it was: database %q is either what it was or wholly restored; look at it before you run it again",
			errs.Message(err), where(r.conn), r.conn.Database)
	case !proven:
		return errs.Wrap(errors.Join(err, engine.ErrUnsettled), errs.KindOf(err), errs.CodeOf(err),
			"database %q on %s has changed: pg_restore had all it needs of the backup and committed it, before the rest of the backup failed: %s",
			r.conn.Database, where(r.conn), errs.Message(err))
	}
	r.log(engine.LevelWarn, fmt.Sprintf("the restore is done: %s had committed it already when this came: %s", where(r.conn), errs.Message(err)))
	return nil
}

// fate is what became of a transaction.
type fate int

const (
	uncertain fate = iota
	committed
	rolledBack
)

// toolTransaction is the one of a tool, as another session sees it.
type toolTransaction struct {
	session string // the name of the tool's
	stop    func() // ends the looking
	ended   chan struct{}
	// Once ended is closed:
	pid     int
	id      int64  // with its epoch; 0 when it was not seen
	history string // the server's timeline at that time
}

// seek begins to look for the transaction of the tool that is about to start.
func (r *restore) seek(ctx context.Context) (*toolTransaction, error) {
	conn, err := r.engine.connect(ctx, r.conn)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, "SET ROLE NONE"); err != nil { // which may not see the tool's session; see asLogin
		closeConn(ctx, conn)
		return nil, queryError(ctx, err, r.conn, "preparing to look after the restore")
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) // the tool outlives ctx for a moment
	t := &toolTransaction{session: r.session, ended: make(chan struct{})}
	t.stop = func() { cancel(); <-t.ended }
	go func() {
		defer close(t.ended)
		defer closeConn(ctx, conn)
		t.look(ctx, conn)
	}()
	return t, nil
}

const (
	// A transaction that began a moment ago may be as new as the newest that is known
	// here, or newer; its epoch is the one that makes it the nearest. Transactions that are
	// older than the session that asks are of another attempt.
	seekTransaction = `SELECT pid, newest + ((xid - newest + 2147483648) & 4294967295) - 2147483648
		FROM (SELECT pid, backend_xid::text::bigint AS xid, txid_snapshot_xmax(txid_current_snapshot()) AS newest
			FROM pg_stat_activity WHERE application_name = $1 AND backend_xid IS NOT NULL
				AND xact_start > (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid())) AS tool`
	// What is written after a transaction began keeps a server that crashes from giving
	// its number to another one afterwards. A standby that takes over may still do so; it
	// begins a timeline.
	timeline = "left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)"
	pin      = "SELECT " + timeline + " FROM set_config('synchronous_commit', 'local', true), pg_logical_emit_message(true, 'dataguardian', '')"
)

// look returns when the transaction was seen, or cannot be.
func (t *toolTransaction) look(ctx context.Context, conn *pgx.Conn) {
	for next := seekPause; ; next = min(2*next, seekPauseMax) {
		err := conn.QueryRow(ctx, seekTransaction, t.session).Scan(&t.pid, &t.id)
		if err == nil {
			if err := conn.QueryRow(ctx, pin).Scan(&t.history); err != nil {
				t.id = 0 // its number might mean another one one day
			}
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(next):
		}
	}
}

// await waits until the transaction was seen, for a moment at most.
func (t *toolTransaction) await(gone <-chan struct{}) {
	limit := time.NewTimer(seekPatience)
	defer limit.Stop()
	select {
	case <-t.ended:
	case <-gone:
	case <-limit.C:
	}
}

// unheardWords are of a tool that did not hear the server out.
var unheardWords = append([]string{"terminated by user"}, lostWords...)

// became asks what became of the transaction of a tool that has ended, with err. A
// session that still runs is ended. A tool that had not got its last bytes cannot
// commit, as far as we know it.
func (t *toolTransaction) became(ctx context.Context, r *restore, result process.Result, err error, proven bool) fate {
	if result.ExitCode == 0 {
		return committed
	}
	found := uncertain
	_, failed := errors.AsType[*process.ExitError](err)
	told := failed && result.Signal == 0 && !containsAny(errs.Message(err), unheardWords) // by the server
	if told || !proven {
		found = rolledBack
	}
	if t.id == 0 {
		return found
	}
	r.insist(ctx, r.engine.connect, func(ctx context.Context, conn *pgx.Conn) (done bool) {
		var status, history string
		err := conn.QueryRow(ctx, "SELECT coalesce(txid_status($1), ''), "+timeline, t.id).Scan(&status, &history)
		pg, refused := errors.AsType[*pgconn.PgError](err)
		switch {
		case refused && pg.Code == stateInvalidValue: // it has not begun it, or forgotten it in a crash
			found = rolledBack
			return true
		case err != nil:
			return false
		case history != t.history: // the number may be another one's
			return true
		}
		switch status {
		case "committed":
			found = committed
		case "aborted":
			found = rolledBack
		case "in progress":
			_, _ = conn.Exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = $1 AND application_name = $2", t.pid, t.session) // it is asked again
			return false
		}
		return true
	})
	return found
}

// insist asks a server until it has answered, also when ctx is over and over several
// connections, for as long as putting things in order may take.
func (r *restore) insist(ctx context.Context, connect func(context.Context, engine.Conn) (*pgx.Conn, error), ask func(context.Context, *pgx.Conn) (done bool)) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.engine.cleanupLimit)
	defer cancel()
	tick := time.NewTicker(settlePause)
	defer tick.Stop()
	for {
		if conn, err := connect(ctx, r.conn); err == nil {
			var done bool
			_ = asLogin(ctx, conn, func() error { done = ask(ctx, conn); return nil }) // it asks again
			closeConn(ctx, conn)
			if done {
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
