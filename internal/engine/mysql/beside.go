package mysql

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// longSession keeps a session alive that only waits, in seconds.
const longSession = 604800

// beside is a scratch database next to the target, which then gives its tables to
// it: see swap.
type beside struct {
	restore  *restore
	s        *session // holds the lock of our names
	suffix   string
	fresh    string
	replaced string
	exists   bool   // the target is there
	views    []byte // of a restore of some tables, the views among them as text
	events   []byte // as text for the target
	id       int64  // of the session s
	made     bool   // the scratch database is ours to drop
	done     bool   // the old content may be dropped, too
	stuck    bool   // what was begun could be neither finished nor taken back

	madeReplaced bool
}

// create claims names and makes the scratch database with a character set.
func (b *beside) create(ctx context.Context, like charset) error {
	b.suffix = cmp.Or(b.restore.options.Token, engine.NewScratchSuffix())
	b.fresh, b.replaced = engine.ScratchPrefix+b.suffix, engine.ReplacedPrefix+b.suffix
	if err := b.claim(ctx); err != nil {
		return err
	}
	if err := b.restore.create(ctx, b.s, b.fresh, like); err != nil {
		return err
	}
	b.made = true
	return nil
}

// claim marks our names as in use for as long as the session lives, and drops what
// restores left behind whose processes are gone.
func (b *beside) claim(ctx context.Context) error {
	const marking = "marking the restore as running"
	if err := b.s.exec(ctx, fmt.Sprintf("SET SESSION wait_timeout = %d, lock_wait_timeout = %d, foreign_key_checks = 0", longSession, b.restore.engine.lockPatience), marking); err != nil {
		return err
	}
	if err := b.s.conn.QueryRowContext(ctx, "SELECT CONNECTION_ID()").Scan(&b.id); err != nil {
		return b.s.failed(ctx, err, marking)
	}
	switch ours, err := b.s.lock(ctx, b.fresh, 0); {
	case err != nil:
		return err
	case !ours:
		return errs.New(errs.Conflict, errs.CodeConflict, "a restore with the same databases (%q) still runs on %s: wait until it ends", b.fresh, where(b.restore.conn))
	}
	owners, err := b.others(ctx)
	if err != nil {
		return err
	}
	if err := b.refuseUnsettled(ctx, owners); err != nil {
		return err
	}
	if clustered, err := b.s.clustered(ctx); err != nil || clustered {
		return err
	}
	for _, owner := range owners {
		if err := b.sweep(ctx, owner); err != nil {
			return err
		}
	}
	return nil
}

// clustered reports whether the server is one of several that each have locks of
// their own: there a lock that is free proves nothing.
func (s *session) clustered(ctx context.Context) (bool, error) {
	on, err := s.pairs(ctx, "SHOW GLOBAL VARIABLES LIKE 'wsrep_on'")
	return len(on) > 0 && on[0][1] == "ON", err
}

// others are the digits of other restores that have databases on the server.
func (b *beside) others(ctx context.Context) (owners []string, err error) {
	names, err := b.s.names(ctx, "SELECT schema_name FROM information_schema.schemata WHERE schema_name REGEXP ?", engine.ScratchPattern)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		owner, ok := engine.ScratchSuffix(name)
		if ok && owner != b.suffix && !slices.Contains(owners, owner) {
			owners = append(owners, owner)
		}
	}
	return owners, nil
}

// refuseUnsettled: what another restore has begun with the tables of our target would
// be finished over what we bring.
func (b *beside) refuseUnsettled(ctx context.Context, owners []string) error {
	for _, owner := range owners {
		w, err := b.s.noted(ctx, engine.ScratchPrefix+owner)
		switch {
		case vanished(err):
		case err != nil:
			return err
		case w != nil && !w.done && strings.EqualFold(w.Target, b.restore.conn.Database):
			return errs.New(errs.Conflict, errs.CodeConflict,
				"another restore is exchanging the tables of database %q, or was interrupted while it did (its databases are %q and %q): wait until it ends, or until the cleanup worker has put it in order, whose log tells what keeps it from that",
				w.Target, w.Fresh, w.Replaced)
		}
	}
	return nil
}

// sweep drops what another restore has left, when that is gone. An exchange that it
// had begun is left to the cleanup worker, which knows that the restore was its own.
// What cannot be dropped stays, and is told.
func (b *beside) sweep(ctx context.Context, owner string) error {
	lock := engine.ScratchPrefix + owner
	if free, err := b.s.lock(ctx, lock, 0); err != nil || !free {
		return err
	}
	w, err := b.s.noted(ctx, lock)
	switch {
	case err != nil:
	case w != nil && !w.done:
		err = errs.New(errs.Conflict, errs.CodeConflict, "it was exchanging the tables of database %q, which the cleanup worker of its installation finishes or takes back", w.Target)
	default:
		err = b.s.dropLeftovers(ctx, owner, w != nil, b.restore.log)
	}
	if err != nil {
		if ctx.Err() != nil {
			return ended(ctx)
		}
		b.restore.log(engine.LevelWarn, fmt.Sprintf("what a restore that was interrupted has left (databases %s and %s) is left as it is: %s",
			engine.ScratchPrefix+owner, engine.ReplacedPrefix+owner, errs.Message(err)))
	}
	return b.s.exec(ctx, "DO RELEASE_LOCK(?)", "looking for leftovers", lock)
}

// takePlace moves what was restored into the target. After an error the target is
// what it was, unless the error says otherwise.
func (b *beside) takePlace(ctx context.Context) error {
	switch alone, err := b.s.lock(ctx, targetLock(b.restore.conn.Database), 0); {
	case err != nil:
		return err
	case !alone:
		return errs.New(errs.Conflict, errs.CodeConflict, "another restore is exchanging the tables of database %q: wait until it ends", b.restore.conn.Database)
	}
	owners, err := b.others(ctx)
	if err != nil {
		return err
	}
	if err := b.refuseUnsettled(ctx, owners); err != nil {
		return err
	}
	w, err := b.plan(ctx)
	if err != nil {
		return err
	}
	if err := b.s.requireLock(ctx, b.fresh); err != nil {
		return err
	}
	if err := w.note(ctx, b.s); err != nil {
		return err
	}
	if err := w.apply(ctx, b.restore, b.s); err != nil {
		return b.takeBack(ctx, w, err)
	}
	if err := w.markDone(context.WithoutCancel(ctx), b.s); err != nil {
		b.stuck = true
		b.restore.log(engine.LevelWarn, fmt.Sprintf("database %s is restored, but that could not be noted beside it, so its old tables stay in database %s until the cleanup worker has looked at them: %s",
			w.Target, w.Replaced, errs.Message(err)))
		return nil
	}
	b.done = true
	return nil
}

// takeBack makes the target what it was, also when ctx is over, and returns the
// error that made it necessary, with a word on the outcome.
func (b *beside) takeBack(ctx context.Context, w *swap, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.undoLimit())
	defer cancel()
	r := b.restore
	err := b.back(ctx, w)
	if err == nil {
		if w.touched {
			r.log(engine.LevelWarn, fmt.Sprintf("database %s is what it was before, but for a while it was without triggers and foreign keys of the tables that were to be replaced: look at rows that were written then", w.Target))
		}
		return cause
	}
	b.stuck = true
	r.log(engine.LevelError, fmt.Sprintf("database %s could not be made what it was (%s): nothing is dropped, its old tables are in it or in database %s, and the cleanup worker tries again", w.Target, errs.Message(err), w.Replaced))
	return errs.Wrap(errors.Join(cause, err, engine.ErrUnsettled), errs.KindOf(cause), errs.CodeOf(cause),
		"%s; and the database could not be made what it was, which the cleanup worker tries again within minutes (%s): nothing is dropped, its old tables are in it or in database %q. Until the cleanup worker's log says what came of it, drop neither %[3]q nor %[4]q, and start no other restore into it",
		errs.Message(cause), errs.Message(err), w.Replaced, w.Fresh)
}

func (w *swap) undoLimit() time.Duration {
	return cleanupLimit + time.Duration(len(w.Theirs)+len(w.Triggers)+len(w.Grants))*cleanupEach
}

func (b *beside) back(ctx context.Context, w *swap) error {
	s, err := b.alone(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	if w.Made {
		return b.unmake(ctx, w, s)
	}
	if err := w.back(ctx, b.restore, s); err != nil {
		return err
	}
	return w.settle(ctx, s)
}

// alone ends our session, in which a statement may still run, and returns another one
// that holds our lock: what that one sees is what stays.
func (b *beside) alone(ctx context.Context) (s *session, err error) {
	b.s.close()
	s, err = b.restore.engine.connect(ctx, b.restore.conn, "", patient)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if err := s.exec(ctx, fmt.Sprintf("SET SESSION foreign_key_checks = 0, lock_wait_timeout = %d", b.restore.engine.lockPatience), "undoing"); err != nil {
		return nil, err
	}
	_, _ = s.conn.ExecContext(ctx, fmt.Sprintf("KILL %d", b.id)) // it may be gone already; the lock tells
	ours, err := s.lock(ctx, b.fresh, defaultLockPatience)       // how soon a server ends a session is of no engine's choice
	if err != nil {
		return nil, err
	}
	if !ours {
		return nil, errs.New(errs.Unavailable, errs.CodeRestoreFailed, "the server still works on a statement of the restore (connection %d)", b.id)
	}
	return s, nil
}

// unmake drops a target that we made, with nothing in it but what we brought.
func (b *beside) unmake(ctx context.Context, w *swap, s *session) error {
	switch {
	case w.making:
		b.restore.log(engine.LevelWarn, fmt.Sprintf("whether database %s was made could not be seen: look for it, and drop it if it is there and empty", w.Target))
		return nil
	case !w.created:
		return nil
	}
	tables, err := s.movable(ctx, w.Target)
	if err != nil {
		return err
	}
	objects, err := s.objectsOf(ctx, w.Target)
	if err != nil {
		return err
	}
	for _, o := range objects {
		if !slices.Contains(w.Ours, o) && !slices.Contains(w.Views, o.Name) && !slices.Contains(b.restore.options.IncludeTables, o.Name) {
			tables = append(tables, o.Name)
		}
	}
	for _, name := range tables {
		if !slices.Contains(w.Incoming, name) {
			b.restore.log(engine.LevelWarn, fmt.Sprintf("database %s, made for the restore, is left, for somebody made %s in it", w.Target, name))
			return nil
		}
	}
	return s.exec(ctx, "DROP DATABASE IF EXISTS "+ident(w.Target), "dropping the database that was made")
}

// finish drops what is not needed any more. The note of what was done goes last.
func (b *beside) finish(ctx context.Context) {
	if !b.made || b.stuck {
		return
	}
	if b.madeReplaced && !b.restore.discard(ctx, b.replaced, !b.done) {
		return
	}
	b.restore.discard(ctx, b.fresh, false)
}

// reason is what a server said, for a log line.
func reason(err error) string {
	if my, ok := errors.AsType[*driver.MySQLError](err); ok {
		return fmt.Sprintf("%s (error %d)", my.Message, my.Number)
	}
	return errs.Message(err)
}
