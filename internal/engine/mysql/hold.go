package mysql

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	driver "github.com/go-sql-driver/mysql"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// makeWay takes away what keeps tables from moving: triggers, and foreign keys of
// tables that stay. It does so with all tables in its hands, and gives up with a
// target that is untouched when it cannot have them. What came after the plan stays,
// and keeps the tables from moving.
func (w *swap) makeWay(ctx context.Context, r *restore, s *session) (err error) {
	if len(w.Triggers)+len(w.Children) == 0 {
		return nil
	}
	r.log(engine.LevelWarn, w.announcement(r.engine.lockPatience))
	held, err := w.hold(ctx, r, s)
	if err != nil {
		return err
	}
	if held {
		defer func() {
			err = also(err, s.exec(context.WithoutCancel(ctx), "UNLOCK TABLES", "giving tables back"))
		}()
	}
	w.touched = true
	names := make([]string, 0, len(w.Triggers))
	for _, t := range w.Triggers {
		names = append(names, t.Name)
	}
	if err := s.drop(ctx, "TRIGGER", w.Target, names); err != nil {
		return err
	}
	return s.dropKeys(ctx, w.Target, w.Children)
}

// announcement tells what is about to happen to tables that others may use.
func (w *swap) announcement(patience int) string {
	var what []string
	for _, t := range w.Triggers {
		what = append(what, "trigger "+t.Name+" of "+t.Table)
	}
	for _, k := range w.Children {
		what = append(what, "foreign key "+k.Name+" of "+k.Table)
	}
	const most = 10
	if over := len(what) - most; over > 0 {
		what = append(what[:most], fmt.Sprintf("%d more", over))
	}
	return fmt.Sprintf("the tables of database %s are about to be exchanged, for which these are taken away and made again right after: %s. Whoever works with the tables is waited for first, %d s at most; rows that are written in between meet no triggers and no foreign keys",
		w.Target, strings.Join(what, ", "), patience)
}

// hold takes the tables that go, and those whose keys go, all at once. Statements of
// others wait until they are given back. It reports false, after a word in the log,
// when the server does not let us have them for another reason than their being in use.
func (w *swap) hold(ctx context.Context, r *restore, s *session) (bool, error) {
	tables := slices.Clone(w.Outgoing)
	for _, k := range w.Children {
		if !slices.Contains(tables, k.Table) {
			tables = append(tables, k.Table)
		}
	}
	err := s.lockTables(ctx, w.Target, tables)
	my, refused := errors.AsType[*driver.MySQLError](err)
	switch {
	case err == nil:
		return true, nil
	case ctx.Err() != nil:
		return false, ended(ctx)
	case isBusy(err):
		return false, errs.Wrap(err, errs.Conflict, errs.CodeRestoreFailed,
			"%s of database %q is used by somebody who did not let go of it for %d s, so nothing was exchanged and the database is as it was: end the sessions or transactions that use it (SHOW PROCESSLIST), then start the restore again",
			w.inUse(ctx, r, s, tables), w.Target, r.engine.lockPatience)
	case refused:
		r.log(engine.LevelWarn, fmt.Sprintf("the tables could not be locked beforehand (%s), so each is waited for on its own", reason(my)))
		return false, nil
	}
	return false, s.failed(ctx, err, "locking tables")
}

func (s *session) lockTables(ctx context.Context, database string, tables []string) error {
	locks := make([]string, 0, len(tables))
	for _, name := range tables {
		locks = append(locks, ident(database)+"."+ident(name)+" WRITE")
	}
	_, err := s.conn.ExecContext(ctx, "LOCK TABLES "+strings.Join(locks, ", "))
	return err
}

// isBusy: a lock was not given in time, or only waiting for ever would have given it.
func isBusy(err error) bool {
	my, ok := errors.AsType[*driver.MySQLError](err)
	return ok && (my.Number == 1205 || my.Number == 1213)
}

// inUse names the first table that is not to be had, as far as that can be found out.
func (w *swap) inUse(ctx context.Context, r *restore, s *session, tables []string) string {
	const most = 20
	const doing = "looking for the table that is in use"
	found := "a table"
	if s.exec(ctx, "SET SESSION lock_wait_timeout = 1", doing) != nil {
		return found
	}
	for _, name := range tables[:min(most, len(tables))] {
		if isBusy(s.lockTables(ctx, w.Target, []string{name})) {
			found = fmt.Sprintf("table %q", name)
			break
		}
	}
	if s.exec(ctx, "UNLOCK TABLES", doing) == nil {
		_ = s.exec(ctx, r.engine.waitNoLonger(), doing) // the session is given up right after
	}
	return found
}
