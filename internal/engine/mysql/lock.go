package mysql

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	driver "github.com/go-sql-driver/mysql"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// lock takes a lock of the server, which lasts as long as the session; false when
// another one holds it for longer than the seconds.
func (s *session) lock(ctx context.Context, name string, seconds int) (bool, error) {
	var got *int
	if err := s.conn.QueryRowContext(ctx, "SELECT GET_LOCK(?, ?)", name, seconds).Scan(&got); err != nil {
		return false, s.failed(ctx, err, "taking a lock")
	}
	return got != nil && *got == 1, nil
}

// waitNoLonger is a statement after which a session waits for tables in use as long as
// the engine is patient, instead of a day or a year.
func (e *Engine) waitNoLonger() string {
	return fmt.Sprintf("SET SESSION lock_wait_timeout = %d", e.lockPatience)
}

// requireLock fails when the session does not hold a lock that it took.
func (s *session) requireLock(ctx context.Context, name string) error {
	var ours int
	if err := s.conn.QueryRowContext(ctx, "SELECT coalesce(IS_USED_LOCK(?) = CONNECTION_ID(), 0)", name).Scan(&ours); err != nil {
		return s.failed(ctx, err, "looking for a lock")
	}
	if ours != 1 {
		return errs.New(errs.Conflict, errs.CodeConflict, "the lock %q of the restore is lost, so another one may have put its databases in order: start the restore again", name)
	}
	return nil
}

// targetLock names the lock of who exchanges tables of a database.
func targetLock(database string) string {
	sum := sha256.Sum256([]byte(strings.ToLower(database)))
	return "dg_target_" + hex.EncodeToString(sum[:16])
}

// vanished reports whether a database or a table went while it was looked at.
func vanished(err error) bool {
	my, ok := errors.AsType[*driver.MySQLError](err)
	return ok && (my.Number == 1049 || my.Number == 1146)
}
