package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// occupied is a database that was not renamed: somebody is in it, or has a lock on it.
type occupied struct {
	error
	database string
	by       []visitor
	locked   bool
}

func (o *occupied) Unwrap() error { return o.error }

// rename gives a database another name. From its beginning to the end of tx nobody gets
// into the database, and it waits a few seconds itself for those who are in it.
func (b *beside) rename(ctx context.Context, tx pgx.Tx, from, to string) error {
	return renamed(execFormat(ctx, tx, renameDatabase, from, to), from)
}

const renameDatabase = "ALTER DATABASE %I RENAME TO %I"

// renamed tells what came of renaming a database.
func renamed(err error, database string) error {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == stateInUse {
		return &occupied{error: err, database: database}
	}
	return err
}

// settle gives the fresh database the target's name, where there is no target.
func (b *beside) settle(ctx context.Context) error {
	target := b.restore.conn.Database
	give := func(tx pgx.Tx) error {
		if err := b.open(ctx, tx, b.fresh); err != nil {
			return err
		}
		return b.rename(ctx, tx, b.fresh, target)
	}
	return b.take(ctx, give, func(err error) error {
		if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == stateExists {
			return errs.Wrap(err, errs.Conflict, errs.CodeRestoreFailed,
				"somebody made a database %q while the restore ran: choose another name, or drop_existing", target)
		}
		if busy, ok := errors.AsType[*occupied](err); ok {
			return errs.Wrap(err, errs.Unavailable, errs.CodeRestoreFailed, "the restored database could not be named %q: %s", target, b.advice(busy))
		}
		return b.failed(ctx, err, "naming the restored database")
	})
}

// swap lets the fresh database take the place of the old one.
func (b *beside) swap(ctx context.Context) error {
	err := b.take(ctx, func(tx pgx.Tx) error { return b.exchange(ctx, tx) }, func(err error) error {
		why := reason(err)
		if busy, ok := errors.AsType[*occupied](err); ok {
			why = b.advice(busy)
		}
		return errs.Wrap(err, errs.Unavailable, errs.CodeRestoreFailed,
			"the restored database could not take the place of %q, which is unchanged: %s", b.restore.conn.Database, why)
	})
	if err != nil {
		return err
	}
	b.restore.discardOrTell(ctx, b.replaced)
	return nil
}

// exchange holds the fresh database first, in which nobody may be. Only then, when
// nothing else is in the way, are the sessions of the old one ended.
func (b *beside) exchange(ctx context.Context, tx pgx.Tx) error {
	target, held := b.restore.conn.Database, b.fresh+"_held"
	if err := b.rename(ctx, tx, b.fresh, held); err != nil {
		return err
	}
	if err := b.vacate(ctx, tx, target, b.replaced); err != nil {
		return err
	}
	if err := b.reread(ctx, tx, held); err != nil {
		return err
	}
	if err := b.open(ctx, tx, held); err != nil {
		return err
	}
	return b.rename(ctx, tx, held, target)
}

var errStays = errors.New("it has sessions that may not be ended")

// vacate ends who is connected to the old database, says so, and gives it another name. It
// ends nobody when there is somebody it may not end, for then they would leave for
// nothing; nor is the database locked then, for nobody would get in for nothing. The
// server goes from the one to the other without asking back, or a pool that connects anew
// would be faster than we are from afar.
func (b *beside) vacate(ctx context.Context, tx pgx.Tx, from, to string) error {
	rename, err := formatted(ctx, tx, renameDatabase, from, to)
	if err != nil {
		return b.failed(ctx, err, "naming the old database")
	}
	visitors, err := visitorsOf(ctx, tx, from)
	if err != nil {
		return b.failed(ctx, err, "looking for sessions")
	}
	if slices.ContainsFunc(visitors, visitor.stays) {
		return &occupied{error: errStays, database: from, by: visitors}
	}
	var batch pgx.Batch
	var ended []visitor
	queueEnds(&batch, visitors, &ended)
	batch.Queue(rename)
	err = renamed(tx.SendBatch(ctx, &batch).Close(), from)
	if len(ended) > 0 {
		b.restore.log(engine.LevelWarn, fmt.Sprintf("%d sessions of database %s were ended to replace it: %s", len(ended), from, named(ended)))
	}
	return err
}

// take lets give, in one transaction, give the fresh database its name; again while
// somebody is in the way, for as long as the engine's patience. told says why it could
// not be given.
func (b *beside) take(ctx context.Context, give func(pgx.Tx) error, told func(error) error) error {
	deadline := time.Now().Add(b.restore.engine.placePatience)
	for {
		if err := b.endOwn(ctx); err != nil {
			return err
		}
		err := pgx.BeginFunc(ctx, b.conn, func(tx pgx.Tx) error { return b.briefly(ctx, tx, give) })
		if err == nil {
			return nil
		}
		busy, waits := errors.AsType[*occupied](err)
		if !waits {
			if ctx.Err() != nil {
				return b.placed(ctx, err, ended(ctx))
			}
			return b.placed(ctx, err, told(err))
		}
		if len(busy.by) == 0 {
			if busy.by, err = visitorsOf(ctx, b.conn, busy.database); err != nil {
				return b.failed(ctx, err, "looking for sessions")
			}
		}
		if time.Now().After(deadline) {
			return told(busy)
		}
		if busy.database == b.fresh {
			if err := b.showOut(ctx, busy.by); err != nil {
				return err
			}
			continue // at once, before they are back
		}
		select {
		case <-ctx.Done():
			return ended(ctx)
		case <-time.After(b.restore.engine.placePause):
		}
	}
}

// briefly lets give wait for locks a few seconds only: whoever wants to get into a
// database waits behind it.
func (b *beside) briefly(ctx context.Context, tx pgx.Tx, give func(pgx.Tx) error) error {
	limit := strconv.FormatInt(b.restore.engine.placeLock.Milliseconds(), 10)
	_, err := tx.Exec(ctx, "SELECT set_config('lock_timeout', $1, true)", limit)
	if err != nil {
		return err
	}
	err = give(tx)
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == stateLocked {
		return &occupied{error: pg, database: b.restore.conn.Database, locked: true}
	}
	return err
}

// showOut ends sessions of others on the fresh database that have not left it by
// themselves, where we may.
func (b *beside) showOut(ctx context.Context, visitors []visitor) error {
	ended, err := endVisitors(ctx, b.conn, slices.DeleteFunc(slices.Clone(visitors), visitor.stays))
	if err != nil {
		return b.failed(ctx, err, "ending sessions")
	}
	if len(ended) > 0 {
		b.restore.log(engine.LevelWarn, fmt.Sprintf("%d sessions of others in database %s, which only this restore has a use for, were ended: %s", len(ended), b.fresh, named(ended)))
	}
	return nil
}

// endOwn ends the sessions of our own user on the fresh database: those that a connection
// pooler keeps when the tools that had them are gone.
func (b *beside) endOwn(ctx context.Context) error {
	err := asLogin(ctx, b.conn, func() error {
		_, err := b.conn.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = $1 AND usename = session_user AND pid <> pg_backend_pid() AND backend_type = 'client backend'`, b.fresh)
		return err
	})
	if err != nil {
		return b.failed(ctx, err, "ending sessions")
	}
	return nil
}

// advice says who is in a database that was to be renamed, and what helps.
func (b *beside) advice(busy *occupied) string {
	if busy.locked {
		return "somebody's open transaction has a lock on it, such as that of COMMENT ON or ALTER DATABASE; end that transaction (pg_locks shows whose it is), and run it again"
	}
	if len(busy.by) == 0 {
		return fmt.Sprintf("%s; end what uses it, and run it again", reason(busy))
	}
	stay := slices.DeleteFunc(slices.Clone(busy.by), func(v visitor) bool { return v.Endable })
	switch {
	case busy.database == b.fresh:
		return fmt.Sprintf("sessions of others are in database %q, which only this restore has a use for: %s; keep them out of databases named %s... and run it again",
			b.fresh, named(busy.by), engine.ScratchPrefix)
	case len(stay) > 0:
		return "it has " + staying(stay, b.restore.conn.Username) + ", and run it again"
	}
	return fmt.Sprintf("it has sessions that come back as soon as they are ended: %s; keep them out for that moment, and run it again", named(busy.by))
}

// staying names who has to leave before the database is renamed, and says what helps. It
// does not advise rights that would change nothing.
func staying(stay []visitor, username string) string {
	if !slices.ContainsFunc(stay, visitor.isClient) {
		return fmt.Sprintf("what is not a client's session, which a restore does not end: %s; end it", named(stay))
	}
	return fmt.Sprintf("sessions that user %q may not end or does not see enough of: %s; end them, or grant the user pg_signal_backend and pg_monitor (nobody but a superuser ends a superuser's)",
		username, named(stay))
}

// placed tells what came of giving the fresh database the target's name, when err did:
// nil when it has the name, failed when it has not, engine.ErrUnsettled when the server
// does not say. A connection that breaks, or is given up, in the middle of COMMIT does
// not tell, nor does FATAL, which may come after it; ERROR comes before.
func (b *beside) placed(ctx context.Context, err, failed error) error {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.SeverityUnlocalized == "ERROR" {
		return failed
	}
	r := b.restore
	var answered, has bool
	r.insist(ctx, r.engine.maintenance, func(ctx context.Context, conn *pgx.Conn) (done bool) {
		var busy bool // the session of ours may not have noticed yet
		const end = "SELECT coalesce(bool_or(pg_terminate_backend(pid)), false) FROM pg_stat_activity WHERE application_name = $1 AND usename = session_user"
		if err := conn.QueryRow(ctx, end, r.session).Scan(&busy); err != nil || busy {
			return false
		}
		err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1 AND oid = $2)", r.conn.Database, b.oid).Scan(&has)
		answered = err == nil
		return answered
	})
	switch {
	case !answered:
		return errs.Wrap(errors.Join(failed, engine.ErrUnsettled), errs.KindOf(failed), errs.CodeOf(failed),
			"the connection to %s ended while the restored database took the place of %q, and the server does not say whether it did: %q is either what it was or wholly restored; look at it before you run it again",
			where(r.conn), r.conn.Database, r.conn.Database)
	case !has:
		return failed
	}
	r.log(engine.LevelWarn, fmt.Sprintf("the restore is done: the restored database had taken the place of %q already when this came: %s", r.conn.Database, reason(err)))
	return nil
}
