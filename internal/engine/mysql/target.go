package mysql

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
)

const (
	cleanupLimit = 30 * time.Second
	// lockPatience is how long replacing a database waits for its users, in
	// seconds.
	lockPatience = 30
)

// makeReady makes the database what the restore needs. It is the first thing
// that changes anything.
func (r *restore) makeReady(ctx context.Context, s *session, exists bool) error {
	switch {
	case !exists:
		return r.create(ctx, s, r.charset)
	case len(r.options.IncludeTables) > 0 && r.options.DropExisting:
		r.partial = true
		return nil
	case len(r.options.IncludeTables) > 0:
		return r.requireAbsent(ctx, s)
	case r.options.DropExisting:
		return r.replace(ctx, s)
	}
	r.partial = true
	return r.requireEmpty(ctx, s)
}

func (r *restore) create(ctx context.Context, s *session, c charset) error {
	_, err := s.conn.ExecContext(ctx, "CREATE DATABASE "+ident(r.conn.Database)+c.clause())
	if err != nil {
		return s.failed(ctx, err, fmt.Sprintf("creating database %q", r.conn.Database))
	}
	return nil
}

// replace drops the content, with everything that belongs to it. The
// database's own character set stays, and so do grants on it.
func (r *restore) replace(ctx context.Context, s *session) error {
	own, err := s.charset(ctx)
	if err != nil {
		return err
	}
	if err := r.endSessions(ctx, s); err != nil {
		return err
	}
	if _, err := s.conn.ExecContext(ctx, fmt.Sprintf("SET SESSION lock_wait_timeout = %d", lockPatience)); err != nil {
		return s.failed(ctx, err, "limiting the wait for locks")
	}
	if _, err := s.conn.ExecContext(ctx, "DROP DATABASE "+ident(r.conn.Database)); err != nil {
		return s.failed(ctx, err, fmt.Sprintf("replacing the content of database %q", r.conn.Database))
	}
	r.partial = true
	return r.create(ctx, s, own)
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
	if n > 0 {
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
		if slices.Contains(r.options.IncludeTables, t.name) || slices.Contains(r.options.IncludeTables, r.conn.Database+"."+t.name) {
			return errs.New(errs.Conflict, errs.CodeRestoreFailed,
				"database %q has a table %q, which is left as it is: ask for drop_existing, or for another database", r.conn.Database, t.name)
		}
	}
	return nil
}

// discard drops a database that was made for a restore that failed, also when
// ctx is over.
func (r *restore) discard(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupLimit)
	defer cancel()
	s, err := r.engine.connect(ctx, r.conn, "")
	if err == nil {
		defer s.close()
		_, err = s.conn.ExecContext(ctx, "DROP DATABASE IF EXISTS "+ident(r.conn.Database))
	}
	if err != nil {
		r.log(engine.LevelWarn, fmt.Sprintf("database %s, made for the restore that failed, could not be dropped: %s", r.conn.Database, errs.Message(err)))
	}
}
