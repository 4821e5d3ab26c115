package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/process"
)

const (
	// seekPause is between two looks for the tool's transaction.
	seekPause = 20 * time.Millisecond
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
	pid     int   // once ended is closed
	id      int64 // with its epoch; 0 when it was not seen
}

// seek begins to look for the transaction of the tool that is about to start.
func (r *restore) seek(ctx context.Context) (*toolTransaction, error) {
	conn, err := r.engine.connect(ctx, r.conn)
	if err != nil {
		return nil, err
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

// look returns when the transaction was seen, or cannot be.
func (t *toolTransaction) look(ctx context.Context, conn *pgx.Conn) {
	tick := time.NewTicker(seekPause)
	defer tick.Stop()
	for {
		// A transaction that began a moment ago may be as new as the newest that is known
		// here, or newer; its epoch is the one that makes it the nearest.
		err := conn.QueryRow(ctx, `SELECT pid, newest + ((xid - newest + 2147483648) & 4294967295) - 2147483648
			FROM (SELECT pid, backend_xid::text::bigint AS xid, txid_snapshot_xmax(txid_current_snapshot()) AS newest
				FROM pg_stat_activity WHERE application_name = $1 AND backend_xid IS NOT NULL) AS tool`, t.session).Scan(&t.pid, &t.id)
		if !errors.Is(err, pgx.ErrNoRows) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
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

// became asks what became of the transaction of a tool that has ended, with err. A
// session that still runs is ended. A tool that had not got its last bytes cannot
// commit, as far as we know it.
func (t *toolTransaction) became(ctx context.Context, r *restore, result process.Result, err error, proven bool) fate {
	if result.ExitCode == 0 {
		return committed
	}
	found := uncertain
	_, failed := errors.AsType[*process.ExitError](err)
	told := failed && result.Signal == 0 && errs.CodeOf(err) != errs.CodeDatasourceLost // by the server
	if told || !proven {
		found = rolledBack
	}
	if t.id == 0 {
		return found
	}
	r.insist(ctx, r.engine.connect, func(ctx context.Context, conn *pgx.Conn) (done bool) {
		var status string
		if err := conn.QueryRow(ctx, "SELECT coalesce(txid_status($1), '')", t.id).Scan(&status); err != nil {
			return false
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
			done := ask(ctx, conn)
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
