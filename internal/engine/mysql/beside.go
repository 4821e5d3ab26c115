package mysql

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

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
	made     bool   // there is something to drop
	stuck    bool   // what was begun could be neither finished nor taken back
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
	if err := b.s.exec(ctx, fmt.Sprintf("SET SESSION wait_timeout = %d, lock_wait_timeout = %d, foreign_key_checks = 0", longSession, lockPatience), marking); err != nil {
		return err
	}
	if err := b.s.exec(ctx, "DO GET_LOCK(?, 0)", marking, b.fresh); err != nil {
		return err
	}
	names, err := b.s.names(ctx, "SELECT schema_name FROM information_schema.schemata WHERE schema_name REGEXP ?", engine.ScratchPattern)
	if err != nil {
		return err
	}
	var owners []string
	for _, name := range names {
		owner, ok := engine.ScratchSuffix(name)
		if ok && owner != b.suffix && !slices.Contains(owners, owner) {
			owners = append(owners, owner)
		}
	}
	for _, owner := range owners {
		if err := b.sweep(ctx, owner); err != nil {
			return err
		}
	}
	return nil
}

// sweep puts in order what another restore has left, when that is gone. What it
// cannot, it leaves and tells.
func (b *beside) sweep(ctx context.Context, owner string) error {
	lock := engine.ScratchPrefix + owner
	var free *int
	if err := b.s.conn.QueryRowContext(ctx, "SELECT GET_LOCK(?, 0)", lock).Scan(&free); err != nil {
		return b.s.failed(ctx, err, "looking for leftovers")
	}
	if free == nil || *free != 1 {
		return nil
	}
	if err := b.restore.engine.putInOrder(ctx, b.s, b.restore.conn, owner, b.restore.log); err != nil {
		if ctx.Err() != nil {
			return ended(ctx)
		}
		b.restore.log(engine.LevelWarn, fmt.Sprintf("what a restore that was interrupted has left (databases %s and %s) could not be put in order: %s",
			engine.ScratchPrefix+owner, engine.ReplacedPrefix+owner, errs.Message(err)))
	}
	return b.s.exec(ctx, "DO RELEASE_LOCK(?)", "looking for leftovers", lock)
}

// takePlace moves what was restored into the target. After an error the target is
// what it was, unless the error says otherwise.
func (b *beside) takePlace(ctx context.Context) error {
	w, err := b.plan(ctx)
	if err != nil {
		return err
	}
	if err := w.note(ctx, b.s); err != nil {
		return err
	}
	if err := w.apply(ctx, b.restore, b.s); err != nil {
		return b.takeBack(ctx, w, err)
	}
	if err := w.settle(ctx, b.s); err != nil {
		b.restore.log(engine.LevelWarn, fmt.Sprintf("that database %s is restored could not be noted beside it: %s", w.Target, errs.Message(err)))
	}
	return nil
}

// takeBack makes the target what it was, also when ctx is over, and returns the
// error that made it necessary, with a word on the outcome.
func (b *beside) takeBack(ctx context.Context, w *swap, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupLimit)
	defer cancel()
	r := b.restore
	if w.Made {
		r.discard(ctx, w.Target)
		return cause
	}
	err := b.back(ctx, w)
	if err == nil {
		return cause
	}
	b.stuck = true
	r.log(engine.LevelError, fmt.Sprintf("database %s could not be made what it was (%s): its old tables are in database %s, and the cleanup worker tries again", w.Target, errs.Message(err), w.Replaced))
	return errs.Wrap(errors.Join(cause, err), errs.KindOf(cause), errs.CodeOf(cause),
		"%s; and the database could not be made what it was, which the cleanup worker tries again: its old tables are in database %q", errs.Message(cause), w.Replaced)
}

func (b *beside) back(ctx context.Context, w *swap) error {
	s, err := b.restore.engine.connect(ctx, b.restore.conn, "", patient) // the other one may be what broke
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.exec(ctx, fmt.Sprintf("SET SESSION foreign_key_checks = 0, lock_wait_timeout = %d", lockPatience), "undoing"); err != nil {
		return err
	}
	if err := w.back(ctx, b.restore, s); err != nil {
		return err
	}
	return w.settle(ctx, s)
}

// finish drops what is not needed any more.
func (b *beside) finish(ctx context.Context) {
	if !b.made || b.stuck {
		return
	}
	b.restore.discard(ctx, b.fresh)
	if b.exists {
		b.restore.discard(ctx, b.replaced)
	}
}

// reason is what a server said, for a log line.
func reason(err error) string {
	if my, ok := errors.AsType[*driver.MySQLError](err); ok {
		return fmt.Sprintf("%s (error %d)", my.Message, my.Number)
	}
	return errs.Message(err)
}
