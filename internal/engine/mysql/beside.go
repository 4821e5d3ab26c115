package mysql

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	driver "github.com/go-sql-driver/mysql"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// longSession keeps a session alive that only waits, in seconds.
const longSession = 604800

// beside is a scratch database next to the target, which then gives its tables to
// it. These servers cannot exchange databases, but they move tables between them
// in one statement that happens wholly or not at all. What does not move
// (triggers, views, routines, events) is made anew from a dump of the scratch
// database; should that fail, everything goes back.
type beside struct {
	restore  *restore
	s        *session // holds the lock of our names
	suffix   string
	fresh    string
	replaced string
	replaces bool // the target is there
	made     bool // there is something to drop
	stuck    bool // the old content stayed where it was moved
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
	if err := b.s.exec(ctx, fmt.Sprintf("SET SESSION wait_timeout = %d, lock_wait_timeout = %d", longSession, lockPatience), marking); err != nil {
		return err
	}
	if err := b.s.exec(ctx, "DO GET_LOCK(?, 0)", marking, b.fresh); err != nil {
		return err
	}
	names, err := b.s.names(ctx, "SELECT schema_name FROM information_schema.schemata WHERE schema_name REGEXP ?", engine.ScratchPattern)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := b.sweep(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func (b *beside) sweep(ctx context.Context, name string) error {
	owner, _ := engine.ScratchSuffix(name)
	if owner == "" || owner == b.suffix {
		return nil
	}
	lock := engine.ScratchPrefix + owner
	var free *int
	if err := b.s.conn.QueryRowContext(ctx, "SELECT GET_LOCK(?, 0)", lock).Scan(&free); err != nil {
		return b.s.failed(ctx, err, "looking for leftovers")
	}
	if free == nil || *free != 1 {
		return nil
	}
	if _, err := b.s.conn.ExecContext(ctx, "DROP DATABASE IF EXISTS "+ident(name)); err == nil {
		b.restore.log(engine.LevelInfo, fmt.Sprintf("database %s, left behind by a restore that was interrupted, is dropped", name))
	} else {
		b.restore.log(engine.LevelWarn, fmt.Sprintf("database %s was left behind by a restore that was interrupted and could not be dropped: %s", name, reason(err)))
	}
	return b.s.exec(ctx, "DO RELEASE_LOCK(?)", "looking for leftovers", lock)
}

// takePlace moves what was restored into the target. After an error the target is
// what it was.
func (b *beside) takePlace(ctx context.Context) (err error) {
	objects, err := b.restore.objects(ctx, b.fresh)
	if err != nil {
		return err
	}
	var old []byte
	if b.replaces {
		if old, err = b.prepareTarget(ctx); err != nil {
			return err
		}
	} else if err := b.restore.create(ctx, b.s, b.restore.conn.Database, b.restore.charset); err != nil {
		return err
	}
	undo := &undoing{beside: b, old: old}
	defer func() {
		if err != nil {
			err = undo.all(ctx, err)
		}
	}()
	if err := b.exchange(ctx, undo); err != nil {
		return err
	}
	undo.emptied = true
	if err := b.s.dropObjects(ctx, b.restore.conn.Database); err != nil {
		return err
	}
	return b.restore.runText(ctx, b.restore.conn.Database, objects)
}

// prepareTarget ends who uses the target and returns its objects as text.
func (b *beside) prepareTarget(ctx context.Context) ([]byte, error) {
	if err := b.refuseForeignReferences(ctx); err != nil {
		return nil, err
	}
	if err := b.s.exec(ctx, "SET SESSION foreign_key_checks = 0", "preparing the exchange"); err != nil {
		return nil, err
	}
	if err := b.restore.create(ctx, b.s, b.replaced, charset{}); err != nil {
		return nil, err
	}
	if err := b.restore.endSessions(ctx, b.s); err != nil {
		return nil, err
	}
	return b.restore.objects(ctx, b.restore.conn.Database)
}

// refuseForeignReferences: a foreign key of another database would follow the old
// table and be lost with it.
func (b *beside) refuseForeignReferences(ctx context.Context) error {
	names, err := b.s.names(ctx, `SELECT DISTINCT concat(table_schema, '.', table_name) FROM information_schema.key_column_usage
		WHERE referenced_table_schema = ? AND table_schema <> referenced_table_schema`, b.restore.conn.Database)
	if err != nil || len(names) == 0 {
		return err
	}
	return errs.New(errs.Conflict, errs.CodeRestoreFailed,
		"tables of database %q are referred to by foreign keys of other databases (%s), which would be lost with them: drop those keys first, or restore into another database",
		b.restore.conn.Database, strings.Join(names, ", "))
}

// exchange moves the old tables out and the new ones in. Triggers keep tables from
// moving, so they go first.
func (b *beside) exchange(ctx context.Context, undo *undoing) error {
	target := b.restore.conn.Database
	incoming, err := b.s.movable(ctx, b.fresh)
	if err != nil {
		return err
	}
	if err := b.s.dropTriggers(ctx, b.fresh); err != nil {
		return err
	}
	if b.replaces {
		outgoing, err := b.s.movable(ctx, target)
		if err != nil {
			return err
		}
		undo.touched = true
		if err := b.s.dropTriggers(ctx, target); err != nil {
			return err
		}
		undo.outgoing = outgoing
	}
	undo.incoming = incoming
	moves := append(renames(undo.outgoing, target, b.replaced), renames(incoming, b.fresh, target)...)
	if err := b.move(ctx, moves); err != nil {
		return err
	}
	undo.moved = true
	return nil
}

// move is not interrupted: what a server does with a statement that nobody waits
// for would not be known.
func (b *beside) move(ctx context.Context, moves []string) error {
	if len(moves) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupLimit)
	defer cancel()
	if _, err := b.s.conn.ExecContext(ctx, "RENAME TABLE "+strings.Join(moves, ", ")); err != nil {
		return errs.Wrap(b.s.failed(ctx, err, "moving tables"), errs.Unavailable, errs.CodeRestoreFailed,
			"the restored tables could not take the place of those of %q: %s", b.restore.conn.Database, reason(err))
	}
	return nil
}

func renames(tables []string, from, to string) []string {
	moves := make([]string, 0, len(tables))
	for _, t := range tables {
		moves = append(moves, ident(from)+"."+ident(t)+" TO "+ident(to)+"."+ident(t))
	}
	return moves
}

// undoing is what takePlace has done so far.
type undoing struct {
	beside   *beside
	old      []byte // objects of the target before
	touched  bool   // triggers may be gone
	outgoing []string
	incoming []string
	moved    bool
	emptied  bool // views, routines and events may be gone, or new
}

// all makes the target what it was, also when ctx is over, and returns the error
// that made it necessary, with a word on the outcome.
func (u *undoing) all(ctx context.Context, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupLimit)
	defer cancel()
	b, r := u.beside, u.beside.restore
	if !b.replaces {
		r.discard(ctx, r.conn.Database)
		return cause
	}
	err := u.back(ctx)
	if err == nil {
		return cause
	}
	b.stuck = true
	r.log(engine.LevelError, fmt.Sprintf("database %s could not be made what it was (%s): its old tables are in database %s", r.conn.Database, errs.Message(err), b.replaced))
	return errs.Wrap(errors.Join(cause, err), errs.KindOf(cause), errs.CodeOf(cause),
		"%s; and the database could not be made what it was: its old tables are in database %q", errs.Message(cause), b.replaced)
}

func (u *undoing) back(ctx context.Context) error {
	b, target := u.beside, u.beside.restore.conn.Database
	s, err := b.restore.engine.connect(ctx, b.restore.conn, "") // the other one may be what broke
	if err != nil {
		return err
	}
	defer s.close()
	again := beside{restore: b.restore, s: s}
	if err := s.exec(ctx, fmt.Sprintf("SET SESSION foreign_key_checks = 0, lock_wait_timeout = %d", lockPatience), "undoing"); err != nil {
		return err
	}
	if u.emptied {
		if err := s.dropObjects(ctx, target); err != nil {
			return err
		}
		if err := s.dropTriggers(ctx, target); err != nil {
			return err
		}
	}
	if u.moved {
		if err := again.move(ctx, append(renames(u.incoming, target, b.fresh), renames(u.outgoing, b.replaced, target)...)); err != nil {
			return err
		}
	}
	if !u.touched {
		return nil
	}
	if err := s.dropTriggers(ctx, target); err != nil {
		return err
	}
	return b.restore.runText(ctx, target, u.old)
}

// finish drops what is not needed any more.
func (b *beside) finish(ctx context.Context) {
	if !b.made {
		return
	}
	b.restore.discard(ctx, b.fresh)
	if b.replaces && !b.stuck {
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
