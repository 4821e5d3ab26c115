package mysql

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// cleanupLimit is for what undoes a restore; of an exchange also cleanupEach for each
// object and grant that is made again.
const (
	cleanupLimit = 2 * time.Minute
	cleanupEach  = time.Second / 4
)

// intoFresh restores into a database made for it, which then gives its tables to
// the target.
func (r *restore) intoFresh(ctx context.Context, s *session, exists bool, input io.Reader) error {
	like := r.charset
	if exists {
		var err error
		if like, err = s.charset(ctx); err != nil {
			return err
		}
		if err := r.requireRoom(ctx, s); err != nil {
			return err
		}
	}
	b := &beside{restore: r, s: s, exists: exists}
	defer b.finish(ctx)
	err := b.create(ctx, like)
	switch denied := errs.CodeOf(err) == errs.CodeDatasourcePermission; {
	case denied && exists && r.options.DropExisting:
		return errs.Wrap(err, errs.Unavailable, errs.CodeDatasourcePermission,
			"user %q may not create a database beside %q to restore into: %s", r.conn.Username, r.conn.Database, besideAdvice)
	case denied && exists:
		return r.inPlace(ctx, input)
	case denied:
		return r.intoNew(ctx, s, input)
	case err != nil:
		return err
	}
	if err := b.foresee(ctx); err != nil {
		return err
	}
	f, err := r.feedBeside(ctx, b.fresh, input)
	if err != nil {
		return err
	}
	if err := b.judgeEvents(ctx, &f.events); err != nil {
		return err
	}
	b.views = f.views.Bytes()
	if len(f.events.names)+f.events.strange > 0 {
		b.events = f.events.text.Bytes()
	}
	if err := b.takePlace(ctx); err != nil {
		return err
	}
	r.noteInert(&f.events)
	return nil
}

// besideAdvice is what helps who may not make databases.
const besideAdvice = "grant all privileges on `dg\\_%`.*, or drop the tables first and restore without drop_existing"

// intoNew restores into the target itself, which is made for it.
func (r *restore) intoNew(ctx context.Context, s *session, input io.Reader) error {
	if err := r.create(ctx, s, r.conn.Database, r.charset); err != nil {
		return err
	}
	err := r.feed(ctx, r.conn.Database, input)
	if err != nil {
		r.discard(ctx, r.conn.Database, false)
	}
	return err
}

// requireRoom keeps what is there where it was not asked to be replaced.
func (r *restore) requireRoom(ctx context.Context, s *session) error {
	switch {
	case r.options.DropExisting:
		return nil
	case len(r.options.IncludeTables) > 0:
		return r.requireAbsent(ctx, s)
	}
	return r.requireEmpty(ctx, s)
}

// inPlace restores into a database that has room for it.
func (r *restore) inPlace(ctx context.Context, input io.Reader) error {
	err := r.feed(ctx, r.conn.Database, input)
	if err != nil {
		return r.takeBack(ctx, err)
	}
	return nil
}

func (r *restore) create(ctx context.Context, s *session, database string, c charset) error {
	return s.exec(ctx, "CREATE DATABASE "+ident(database)+c.clause(), fmt.Sprintf("creating database %q", database))
}

// takeBack drops what a failed restore brought into a database that had none of it,
// also when ctx is over. It returns the cause, and what became of the database if that
// did not succeed.
func (r *restore) takeBack(ctx context.Context, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupLimit)
	defer cancel()
	err := r.dropWhatCame(ctx)
	if err == nil {
		return cause
	}
	r.log(engine.LevelWarn, fmt.Sprintf("what the failed restore brought into database %s could not be dropped: %s", r.conn.Database, errs.Message(err)))
	return errs.Wrap(errors.Join(cause, err, engine.ErrUnsettled), errs.KindOf(cause), errs.CodeOf(cause),
		"%s; and what it had brought into database %q by then could not be dropped (%s): drop that before the next restore",
		errs.Message(cause), r.conn.Database, errs.Message(err))
}

func (r *restore) dropWhatCame(ctx context.Context) error {
	s, err := r.engine.connect(ctx, r.conn, r.conn.Database, patient)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.exec(ctx, "SET SESSION foreign_key_checks = 0", "preparing to drop tables"); err != nil {
		return err
	}
	if len(r.options.IncludeTables) == 0 {
		if err := s.dropObjects(ctx, r.conn.Database); err != nil {
			return err
		}
	}
	const ofKind = "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() AND table_type "
	for kind, query := range map[string]string{"VIEW": ofKind + "LIKE '%VIEW'", "SEQUENCE": ofKind + "= 'SEQUENCE'", "TABLE": ofKind + "NOT LIKE '%VIEW' AND table_type <> 'SEQUENCE'"} {
		names, err := s.names(ctx, query)
		if err != nil {
			return err
		}
		names = slices.DeleteFunc(names, func(name string) bool { return len(r.options.IncludeTables) > 0 && !r.includes(name) })
		if err := s.drop(ctx, kind, r.conn.Database, names); err != nil {
			return err
		}
	}
	return nil
}

// shortName is a name of IncludeTables without that of the database.
func (r *restore) shortName(name string) string {
	short, _ := strings.CutPrefix(name, r.conn.Database+".")
	return short
}

// includes reports whether a table is one of IncludeTables.
func (r *restore) includes(name string) bool {
	return slices.Contains(r.options.IncludeTables, name) || slices.Contains(r.options.IncludeTables, r.conn.Database+"."+name)
}

// endSessions ends who uses the database, and says so.
func (r *restore) endSessions(ctx context.Context, s *session) error {
	rows, err := s.conn.QueryContext(ctx, "SELECT id, user FROM information_schema.processlist WHERE db = ? AND id <> CONNECTION_ID()", r.conn.Database)
	if err != nil {
		return s.failed(ctx, err, "listing sessions")
	}
	defer rows.Close() //nolint:errcheck // Err tells
	sessions := map[int64]string{}
	for rows.Next() {
		var id int64
		var user string
		if err := rows.Scan(&id, &user); err != nil {
			return s.failed(ctx, err, "listing sessions")
		}
		sessions[id] = user
	}
	if err := rows.Err(); err != nil {
		return s.failed(ctx, err, "listing sessions")
	}
	var users []string
	for id, user := range sessions {
		if _, err := s.conn.ExecContext(ctx, fmt.Sprintf("KILL %d", id)); err != nil {
			if ctx.Err() != nil {
				return ended(ctx)
			}
			r.log(engine.LevelWarn, fmt.Sprintf("a session of user %s could not be ended", user))
			continue
		}
		users = append(users, user)
	}
	if len(users) > 0 {
		slices.Sort(users)
		r.log(engine.LevelWarn, fmt.Sprintf("%d sessions of database %s were ended to replace it (users: %s)",
			len(users), r.conn.Database, strings.Join(slices.Compact(users), ", ")))
	}
	return nil
}

// requireEmpty: a dump replaces tables of the same names, which was not asked
// for.
func (r *restore) requireEmpty(ctx context.Context, s *session) error {
	var n int
	const count = `SELECT (SELECT count(*) FROM information_schema.tables WHERE table_schema = DATABASE())
		+ (SELECT count(*) FROM information_schema.routines WHERE routine_schema = DATABASE())
		+ (SELECT count(*) FROM information_schema.events WHERE event_schema = DATABASE())`
	if err := s.conn.QueryRowContext(ctx, count).Scan(&n); err != nil {
		return s.failed(ctx, err, "looking for content")
	}
	libraries, err := s.libraries(ctx, r.conn.Database)
	if err != nil {
		return err
	}
	if n+len(libraries) > 0 {
		return errs.New(errs.Conflict, errs.CodeRestoreFailed,
			"database %q is not empty and is left as it is: ask for drop_existing, or for another database", r.conn.Database)
	}
	return nil
}

// requireAbsent is requireEmpty for some tables.
func (r *restore) requireAbsent(ctx context.Context, s *session) error {
	all, err := s.tables(ctx)
	if err != nil {
		return err
	}
	for _, t := range all {
		if r.includes(t.name) {
			return errs.New(errs.Conflict, errs.CodeRestoreFailed,
				"database %q has a table %q, which is left as it is: ask for drop_existing, or for another database", r.conn.Database, t.name)
		}
	}
	return nil
}

// discard drops a database that was made for a restore, also when ctx is over. With
// unlessUsed it stays when it has tables. It reports whether the database is gone.
func (r *restore) discard(ctx context.Context, database string, unlessUsed bool) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupLimit)
	defer cancel()
	s, err := r.engine.connect(ctx, r.conn, "", patient)
	if err == nil {
		defer s.close()
		// its tables refer to each other, and nothing else to them
		_, err = s.conn.ExecContext(ctx, "SET SESSION foreign_key_checks = 0")
	}
	var tables []string
	if err == nil && unlessUsed {
		tables, err = s.movable(ctx, database)
	}
	if len(tables) > 0 {
		r.log(engine.LevelError, fmt.Sprintf("database %s holds tables that the restore replaced, though it failed, and is left: look into it, and move what is needed", database))
		return false
	}
	if err == nil {
		_, err = s.conn.ExecContext(ctx, "DROP DATABASE IF EXISTS "+ident(database))
	}
	if err != nil {
		r.log(engine.LevelWarn, fmt.Sprintf("database %s, made for a restore and not needed any more, could not be dropped: %s", database, reason(err)))
	}
	return err == nil
}
