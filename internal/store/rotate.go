package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dataguardian/dataguardian/internal/auth"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/secret"
)

// sealedColumn is a column of ciphertexts, each bound to its row.
type sealedColumn struct{ table, column string }

// sealedColumns are all there are: a rotation seals them anew. A test holds the list
// against the schema.
func sealedColumns() []sealedColumn {
	columns := []sealedColumn{{"keyset_check", "sealed"}}
	for _, table := range SealedTables() {
		columns = append(columns, sealedColumn{table, secretsColumn})
	}
	return columns
}

// SealedColumns names the columns of ciphertexts, as "table.column".
func SealedColumns() []string {
	return each(sealedColumns(), func(c sealedColumn) string { return c.table + "." + c.column })
}

const (
	rotationLock  = 0x64676b6579 // of pg_advisory_lock: one rotation at a time
	resealAtOnce  = 100
	settleTimeout = 2 * time.Minute
	settlePause   = 100 * time.Millisecond
)

// Rotation says how far to rotate.
type Rotation struct {
	// PrepareOnly adds the new key to the file and does not use it yet.
	PrepareOnly bool
	// DropOld removes keys that nothing needs any more at the end.
	DropOld bool
	// Step, when set, is called after each step; an error ends the rotation there.
	Step func(step string) error
}

// RotateKey puts a new key in use and seals every credential with it, in batches,
// while others read and write. Each step leaves everything readable; a rotation
// that was cut off is continued by the next.
func (s *Store) RotateKey(ctx context.Context, r Rotation) (done auth.KeyRotation, err error) {
	if r.Step == nil {
		r.Step = func(string) error { return nil }
	}
	box, err := s.needBox()
	if err != nil {
		return done, err
	}
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return done, failure(err)
	}
	defer conn.Release()
	release, err := lockRotation(ctx, conn)
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, release()) }()
	if err := box.Refresh(); err != nil { // another process may have rotated before
		return done, err
	}
	if r.PrepareOnly {
		id, err := box.Prepare()
		return s.rotated(id, 0, "the new key is in the key file and not in use yet: copy the file to every other machine, then rotate"), err
	}
	message, err := s.newKey(ctx, box, r.Step)
	if err != nil {
		return done, err
	}
	resealed, err := s.resealAll(ctx, box)
	if err == nil {
		err = r.Step("resealed")
	}
	if err != nil {
		return done, err
	}
	if r.DropOld {
		dropped, more, err := s.dropOld(ctx, box)
		if err != nil {
			return done, err
		}
		resealed += more
		message += dropped
	}
	return s.rotated(box.Primary(), resealed, message), nil
}

// Rotate is RotateKey as the API calls it.
func (s *Store) Rotate(ctx context.Context, prepareOnly, dropOld bool) (auth.KeyRotation, error) {
	return s.RotateKey(ctx, Rotation{PrepareOnly: prepareOnly, DropOld: dropOld})
}

func (s *Store) rotated(id uint32, resealed int, message string) auth.KeyRotation {
	return auth.KeyRotation{KeyID: fmt.Sprint(id), Resealed: resealed, Keys: s.box.Keys(), Path: s.box.Path(), Message: message}
}

// lockRotation keeps other rotations out, in every process.
func lockRotation(ctx context.Context, conn *pgxpool.Conn) (release func() error, err error) {
	var locked bool
	if err := conn.QueryRow(ctx, "select pg_try_advisory_lock($1)", int64(rotationLock)).Scan(&locked); err != nil {
		return nil, failure(err)
	}
	if !locked {
		return nil, errs.New(errs.Conflict, errs.CodeConflict, "the key is being rotated already; wait for its end")
	}
	return func() error {
		_, err := conn.Exec(context.WithoutCancel(ctx), "select pg_advisory_unlock($1)", int64(rotationLock))
		return failure(err)
	}, nil
}

// newKey puts a new key in use, unless a rotation was cut off after that.
func (s *Store) newKey(ctx context.Context, box *secret.Box, step func(string) error) (message string, err error) {
	left, err := s.sealedByOthers(ctx, box)
	if err != nil {
		return "", err
	}
	if left > 0 {
		return "a rotation that was interrupted has been completed", nil
	}
	id, err := box.Prepare()
	if err == nil {
		err = step("prepared")
	}
	if err == nil {
		err = box.Promote(id)
	}
	if err == nil {
		err = step("promoted")
	}
	return "every stored credential is encrypted with the new key; keep a new copy of the key file in a safe place", err
}

// sealedByOthers counts what the key that writes has not sealed.
func (s *Store) sealedByOthers(ctx context.Context, box *secret.Box) (int, error) {
	total := 0
	for _, c := range sealedColumns() {
		var n int
		sql := fmt.Sprintf("select count(*) from %[1]s where %[2]s is not null and substring(%[2]s from 1 for 5) <> $1", c.table, c.column)
		if err := s.pool.QueryRow(ctx, sql, box.Prefix()).Scan(&n); err != nil {
			return 0, failure(err)
		}
		total += n
	}
	return total, nil
}

// resealAll seals anew what the key that writes has not sealed, until nothing is
// left: others may still write with the key before.
func (s *Store) resealAll(ctx context.Context, box *secret.Box) (int, error) {
	total := 0
	for {
		changed := 0
		for _, c := range sealedColumns() {
			n, err := s.resealColumn(ctx, box, c)
			changed += n
			if err != nil {
				return total + changed, err
			}
		}
		total += changed
		if changed == 0 {
			return total, nil
		}
	}
}

// resealColumn goes through a column in batches. A row that does not open keeps its
// ciphertext; the rest is sealed all the same, and the failure names it.
func (s *Store) resealColumn(ctx context.Context, box *secret.Box, c sealedColumn) (changed int, failed error) {
	after := ""
	for {
		rows, err := s.resealBatch(ctx, box, c, after, &failed)
		if err != nil {
			return changed, err
		}
		if len(rows) == 0 {
			return changed, failed
		}
		after = rows[len(rows)-1].id
		changed += len(rows)
	}
}

type sealedRow struct {
	id     string
	sealed []byte
}

func (s *Store) resealBatch(ctx context.Context, box *secret.Box, c sealedColumn, after string, failed *error) (rows []sealedRow, err error) {
	find := fmt.Sprintf("select id::text, %[2]s from %[1]s where %[2]s is not null and substring(%[2]s from 1 for 5) <> $1 and id::text > $2 order by id::text limit $3 for update", c.table, c.column)
	save := fmt.Sprintf("update %s set %s = $2 where id::text = $1", c.table, c.column)
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		found, err := tx.Query(ctx, find, box.Prefix(), after, resealAtOnce)
		if err != nil {
			return err
		}
		rows, err = pgx.CollectRows(found, func(row pgx.CollectableRow) (r sealedRow, err error) { return r, row.Scan(&r.id, &r.sealed) })
		if err != nil {
			return err
		}
		for _, row := range rows {
			aad := secret.RowAAD(c.table, c.column, row.id)
			plain, err := box.Open(row.sealed, aad)
			if err != nil {
				*failed = errors.Join(*failed, err)
				continue
			}
			sealed, err := box.Seal(plain, aad)
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, save, row.id, sealed); err != nil {
				return err
			}
		}
		return nil
	})
	return rows, failure(err)
}

// dropOld removes the old keys once nothing is sealed with them, and nobody can be
// about to store what is.
func (s *Store) dropOld(ctx context.Context, box *secret.Box) (message string, resealed int, err error) {
	if err := s.settle(ctx); err != nil {
		return "", 0, err
	}
	if resealed, err = s.resealAll(ctx, box); err != nil {
		return "", resealed, err
	}
	left, err := s.sealedByOthers(ctx, box)
	if err != nil || left > 0 {
		return "", resealed, errors.Join(err, errs.New(errs.Conflict, errs.CodeConflict, "%s still need an old key; rotate again", count(int64(left), "credential")))
	}
	copied, err := box.DropOld()
	if err != nil || copied == "" {
		return "", resealed, err
	}
	return "; the old keys are gone from the file, and " + copied + " still has them: remove it when nothing older than this needs to be restored", resealed, nil
}

// settle waits for the end of every transaction that may hold what an old key has
// sealed.
func (s *Store) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, settleTimeout,
		errs.New(errs.Conflict, errs.CodeConflict, "other transactions go on for too long; everything is encrypted with the new key, drop the old ones later"))
	defer cancel()
	ticker := time.NewTicker(settlePause)
	defer ticker.Stop()
	var since time.Time
	if err := s.pool.QueryRow(ctx, "select clock_timestamp()").Scan(&since); err != nil {
		return failure(err)
	}
	for {
		var open int
		err := s.pool.QueryRow(ctx, "select count(*) from pg_stat_activity where datname = current_database() and xact_start < $1 and pid <> pg_backend_pid()", since).Scan(&open)
		if err != nil || open == 0 {
			return failure(err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}
