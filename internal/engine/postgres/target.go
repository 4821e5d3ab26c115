package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/engine/postgres/archive"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// lockSpace separates our advisory locks from other programs' ("DG").
const lockSpace = 0x4447

// target is what a restore finds.
type target struct {
	exists bool
	server engine.ServerInfo
}

func (e *Engine) findTarget(ctx context.Context, c engine.Conn) (target, error) {
	conn, err := e.connect(ctx, c)
	exists := errs.CodeOf(err) != errs.CodeDatabaseMissing
	if !exists {
		conn, err = e.maintenance(ctx, c)
	}
	if err != nil {
		return target{exists: exists}, err
	}
	defer closeConn(ctx, conn)
	server, err := serverInfo(ctx, conn, c)
	if err != nil {
		return target{exists: exists, server: server}, err
	}
	return target{exists: exists, server: server}, e.refuseShared(ctx, conn, c)
}

// maintenance connects to a database of the server that is not c's own.
func (e *Engine) maintenance(ctx context.Context, c engine.Conn) (*pgx.Conn, error) {
	var first error
	for _, name := range []string{"postgres", "template1"} {
		if name == c.Database {
			continue
		}
		other := c
		other.Database = name
		conn, err := e.connect(ctx, other)
		if err == nil {
			return conn, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

// intoFresh restores into a database made for it, which then takes the
// target's name.
func (r *restore) intoFresh(ctx context.Context, replace bool, input io.Reader) (err error) {
	conn, err := r.engine.maintenance(ctx, r.conn)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	b := beside{conn: conn, restore: r, suffix: r.options.Token}
	b.fresh, b.replaced = engine.ScratchPrefix+b.suffix, engine.ReplacedPrefix+b.suffix
	if err := b.claim(ctx); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			r.discardOrTell(ctx, b.fresh)
		}
	}()
	if err := b.create(ctx, replace); err != nil {
		return err
	}
	if err := b.identify(ctx); err != nil {
		return err
	}
	if err := b.shut(ctx); err != nil {
		return err
	}
	if err := r.createSchemas(ctx, b.fresh); err != nil {
		return err
	}
	if r.unpacks() {
		err = r.feedParallel(ctx, conn, b.fresh, input)
	} else {
		_, err = r.feed(ctx, b.fresh, input, nil, nil)
	}
	if err != nil {
		return err
	}
	if !replace {
		return b.settle(ctx)
	}
	return b.swap(ctx)
}

// beside is a fresh database next to the one it will be.
type beside struct {
	conn     *pgx.Conn // to another database of the server
	restore  *restore
	suffix   string
	fresh    string
	replaced string
	oid      uint32     // of the fresh one, which keeps it under any name
	like     properties // of the database that it will be
	admitted string     // the user that was let into the fresh one explicitly, if any
}

// claim marks our names as in use for as long as the connection lives, and
// drops what restores left behind whose processes are gone.
func (b *beside) claim(ctx context.Context) error {
	if err := b.persevere(ctx); err != nil {
		return err
	}
	const claim = "SELECT set_config('application_name', $3, false), pg_advisory_lock($1, hashtext($2))"
	if _, err := b.conn.Exec(ctx, claim, lockSpace, b.suffix, b.restore.session); err != nil {
		return b.failed(ctx, err, "marking the restore as running")
	}
	rows, err := b.conn.Query(ctx, `SELECT datname FROM pg_database
		WHERE datname ~ $1 AND pg_has_role(datdba, 'USAGE')`, engine.ScratchPattern)
	if err != nil {
		return b.failed(ctx, err, "looking for leftovers")
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return b.failed(ctx, err, "looking for leftovers")
	}
	for _, name := range names {
		if err := b.sweep(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// persevere lets the connection outlast the restore, whatever limits the user's settings
// put on sessions: while rows are loaded it is idle, and it waits for sessions to end.
func (b *beside) persevere(ctx context.Context) error {
	_, err := b.conn.Exec(ctx, `SELECT set_config(name, '0', false) FROM unnest(ARRAY['statement_timeout', 'lock_timeout',
			'idle_in_transaction_session_timeout', 'idle_session_timeout', 'transaction_timeout']) AS name
		WHERE current_setting(name, true) IS NOT NULL`)
	if err != nil {
		return b.failed(ctx, err, "lifting the limits of the user's sessions")
	}
	return nil
}

func (b *beside) sweep(ctx context.Context, name string) error {
	owner, _ := engine.ScratchSuffix(name)
	var free bool
	if err := b.conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1, hashtext($2))", lockSpace, owner).Scan(&free); err != nil {
		return b.failed(ctx, err, "looking for leftovers")
	}
	if !free {
		return nil
	}
	err := b.exec(ctx, "DROP DATABASE IF EXISTS %I", name)
	if err == nil {
		b.restore.log(engine.LevelInfo, fmt.Sprintf("database %s, left behind by a restore that was interrupted, is dropped", name))
	} else {
		b.restore.log(engine.LevelWarn, fmt.Sprintf("database %s was left behind by a restore that was interrupted and could not be dropped: %s", name, reason(err)))
	}
	if _, err := b.conn.Exec(ctx, "SELECT pg_advisory_unlock($1, hashtext($2))", lockSpace, owner); err != nil {
		return b.failed(ctx, err, "looking for leftovers")
	}
	return nil
}

func (b *beside) failed(ctx context.Context, err error, doing string) error {
	return queryError(ctx, err, b.restore.conn, doing)
}

// exec runs a statement whose names and values the server itself quotes:
// format is that of its function format().
func (b *beside) exec(ctx context.Context, format string, args ...string) error {
	return execFormat(ctx, b.conn, format, args...)
}

type execer interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

func execFormat(ctx context.Context, conn execer, format string, args ...string) error {
	sql, err := formatted(ctx, conn, format, args...)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql)
	return err
}

func formatted(ctx context.Context, conn execer, format string, args ...string) (sql string, err error) {
	if args == nil {
		args = []string{}
	}
	err = conn.QueryRow(ctx, "SELECT pg_catalog.format($1, VARIADIC $2::text[])", format, args).Scan(&sql)
	return sql, err
}

// create makes the fresh database like the one it will replace, else like the
// dumped one.
func (b *beside) create(ctx context.Context, replace bool) error {
	if replace {
		return b.createLikeTarget(ctx)
	}
	options := definedOptions(b.restore.proof.Contents())
	err := b.exec(ctx, "CREATE DATABASE %I TEMPLATE template0"+options.format, append([]string{b.fresh}, options.args...)...)
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && len(options.args) > 0 && isLocaleProblem(pg) {
		b.restore.log(engine.LevelWarn, fmt.Sprintf("the server does not have the dumped database's locale (%s); the new database gets the server's own", pg.Message))
		err = b.exec(ctx, "CREATE DATABASE %I TEMPLATE template0", b.fresh)
	}
	return b.createError(ctx, err)
}

func isLocaleProblem(pg *pgconn.PgError) bool {
	return slices.Contains([]string{"22023", "42809", "42704", "0A000", "42601", "22P02"}, pg.Code)
}

func (b *beside) createError(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == stateNoPrivilege {
		return errs.Wrap(err, errs.Unavailable, errs.CodeDatasourcePermission,
			"user %q may not create a database like %q beside it (%s): grant CREATEDB and ownership, or restore without drop_existing into a prepared database",
			b.restore.conn.Username, b.restore.conn.Database, pg.Message)
	}
	return b.failed(ctx, err, "creating a database to restore into")
}

// identify notes which database is the fresh one.
func (b *beside) identify(ctx context.Context) error {
	if err := b.conn.QueryRow(ctx, "SELECT oid FROM pg_database WHERE datname = $1", b.fresh).Scan(&b.oid); err != nil {
		return b.failed(ctx, err, "looking at the database to restore into")
	}
	return nil
}

// sqlOptions are options of CREATE DATABASE, for format().
type sqlOptions struct {
	format string
	args   []string
}

func (o *sqlOptions) add(format string, args ...string) {
	o.format += " " + format
	o.args = append(o.args, args...)
}

// definedOptions reads encoding and locale from the archive's CREATE DATABASE.
// Only these words are taken over; the values are quoted anew.
func definedOptions(entries []*archive.Entry) (o sqlOptions) {
	pattern := regexp.MustCompile(`\b(ENCODING|LOCALE_PROVIDER|LOCALE|LC_COLLATE|LC_CTYPE|ICU_LOCALE|ICU_RULES|BUILTIN_LOCALE) = (?:'((?:[^']|'')*)'|(libc|icu|builtin)\b)`)
	for _, e := range entries {
		if e.Desc != "DATABASE" {
			continue
		}
		for _, m := range pattern.FindAllStringSubmatch(e.Definition, -1) {
			if m[3] != "" {
				o.add(m[1] + " " + m[3])
			} else {
				o.add(m[1]+" %L", strings.ReplaceAll(m[2], "''", "'"))
			}
		}
	}
	return o
}

// createSchemas makes the schemas that a partial archive only mentions.
func (r *restore) createSchemas(ctx context.Context, database string) error {
	names := r.missingSchemas()
	if len(names) == 0 {
		return nil
	}
	c := r.conn
	c.Database = database
	conn, err := r.engine.connect(ctx, c)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	for _, name := range names {
		if err := execFormat(ctx, conn, "CREATE SCHEMA IF NOT EXISTS %I", name); err != nil {
			return queryError(ctx, err, c, "creating schema "+name)
		}
	}
	return nil
}

// missingSchemas returns schemas that restored entries are in and that no
// restored entry creates. Extensions create schemas of their own.
func (r *restore) missingSchemas() []string {
	var used, made []string
	for _, e := range r.proof.Contents() {
		if !r.list.has(e) {
			continue
		}
		switch {
		case e.Desc == "EXTENSION":
			return nil
		case e.Desc == "SCHEMA":
			made = append(made, e.Tag)
		case e.Namespace != "" && e.Namespace != "public" && !strings.HasPrefix(e.Namespace, "pg_"):
			used = append(used, e.Namespace)
		}
	}
	slices.Sort(used)
	return slices.DeleteFunc(slices.Compact(used), func(name string) bool { return slices.Contains(made, name) })
}

// discardOrTell drops a database whose fate does not change the outcome. The
// next restore on the server tries again.
func (r *restore) discardOrTell(ctx context.Context, name string) {
	if err := r.discard(ctx, name); err != nil {
		r.log(engine.LevelWarn, fmt.Sprintf("database %s, which is not needed any more, could not be dropped: %s", name, reason(err)))
	}
}

// discard drops one of our databases, also when ctx is over.
func (r *restore) discard(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.engine.cleanupLimit)
	defer cancel()
	conn, err := r.engine.maintenance(ctx, r.conn)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	format := "DROP DATABASE IF EXISTS %I WITH (FORCE)"
	if majorOf(r.server.VersionNum) < 13 {
		format = "DROP DATABASE IF EXISTS %I"
	}
	return execFormat(ctx, conn, format, name)
}

// reason is what a server said, for a log line.
func reason(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		if pg.Detail != "" {
			return pg.Message + " (" + pg.Detail + ")"
		}
		return pg.Message
	}
	return errs.Message(err)
}
