package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dataguardian/dataguardian/internal/engine/tool"
	"github.com/dataguardian/dataguardian/internal/errs"
)

const (
	// sharedFrom is the oldest server whose dumps are shared out among connections.
	sharedFrom = 10
	// slicedFrom is the oldest server that reads a range of a table's pages without
	// reading all of them.
	slicedFrom = 14
	// sharedTables bounds how many tables are shared out: the largest ones. Dumping
	// the others takes one connection, which is pg_dump's own.
	sharedTables = 200
	// lockTries is how often the tables are looked up anew when one of them vanished
	// before it was locked.
	lockTries = 3
)

// SQLSTATEs of tables that changed before they were locked, and of locks that were
// not to be had.
const (
	stateNoTable   = "42P01"
	stateOtherKind = "42809"
	stateNoSchema  = "3F000"
	stateLocked    = "55P03"
	// These are a snapshot whose transaction has ended; the second one since version 17.
	stateBadSnapshot = "22023"
	stateNoSnapshot  = "42704"
)

// errMoved are tables that have other names than they had before they were locked.
var errMoved = errors.New("a table was renamed before it was locked")

// sharedTable is a table whose rows are read by connections of ours.
type sharedTable struct {
	oid    int64
	bytes  int64 // on disk, with what is stored out of line, without indexes
	pages  int64
	schema string // names are in the database's encoding, as in the archive
	name   string
	heap   bool // rows are addressed by page
	// columns are those that are dumped, quoted, in their order; quoted is the name.
	columns, quoted string
}

// plan is a statement that is planned like one that reads a slice.
func (t sharedTable) plan() string { return "EXPLAIN SELECT FROM ONLY " + t.ident() }

func (t sharedTable) ident() string { return pgx.Identifier{t.schema, t.name}.Sanitize() }

// findShared lists large tables whose rows pg_dump would read with a plain COPY, and
// load into the same table: none of an extension, whose tables may be dumped in part,
// and no partition whose rows are loaded through the table at the top ($5).
const findShared = `
SELECT oid::int8, bytes, pages, nspname, relname, relam IN (0, 2), columns,
	pg_catalog.quote_ident(nspname) || '.' || pg_catalog.quote_ident(relname)
FROM (
	SELECT c.*, n.nspname, pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::int8 AS pages, (
		SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
		WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND coalesce(pg_catalog.to_jsonb(a) ->> 'attgenerated', '') = '') AS columns
	FROM (SELECT t.oid, t.relname, t.relnamespace, t.relam, pg_catalog.pg_table_size(t.oid) AS bytes FROM (
		SELECT * FROM pg_catalog.pg_class r
		WHERE r.relkind = 'r' AND r.relpersistence = 'p' AND NOT (r.relispartition AND $5::bool)
		AND (pg_catalog.cardinality($1::int8[]) = 0 OR r.oid::int8 = ANY ($1)) AND NOT r.oid::int8 = ANY ($2::int8[])
		AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
			WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = r.oid AND d.deptype = 'e')
		AND NOT EXISTS (SELECT FROM pg_catalog.pg_extension x WHERE r.oid = ANY (x.extconfig)) OFFSET 0) t OFFSET 0) c
	JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
	WHERE bytes >= $3::int8
) large WHERE columns IS NOT NULL ORDER BY bytes DESC, oid LIMIT $4::int8`

// snapshot is a transaction whose view of the database others share. While it lives
// nobody changes the definition of its tables.
type snapshot struct {
	conn   *pgx.Conn
	id     string
	tables []sharedTable
}

// takeSnapshot returns nil when no table is worth sharing out, errWanted when one of
// them is locked.
func (d *dump) takeSnapshot(ctx context.Context) (*snapshot, error) {
	conn, err := d.engine.connectLikeTool(ctx, d.conn)
	if err != nil {
		return nil, err
	}
	s := &snapshot{conn: conn}
	for try := 1; err == nil && s.id == ""; try++ {
		var found bool
		if found, err = s.take(ctx, d); err == nil && !found {
			closeConn(ctx, conn)
			return nil, nil
		}
		if err != nil && try < lockTries && (errors.Is(err, errMoved) || isState(err, stateNoTable, stateOtherKind, stateNoSchema)) {
			s.id, s.tables = "", nil
			_, err = conn.Exec(ctx, "ROLLBACK")
		}
	}
	if errors.Is(err, errMoved) || isState(err, stateLocked) {
		err = errWanted
	}
	if err != nil {
		closeNow(ctx, conn)
		return nil, d.statementError(ctx, err, "sharing a snapshot")
	}
	return s, nil
}

// take locks the tables before the snapshot is taken: nothing may happen between.
func (s *snapshot) take(ctx context.Context, d *dump) (found bool, err error) {
	wait := fmt.Sprintf("SET LOCAL lock_timeout = %d", d.shareWait().Milliseconds())
	if _, err := s.conn.Exec(ctx, "BEGIN; SET LOCAL search_path = ''; "+wait); err != nil {
		return false, err
	}
	candidates, err := d.shared(ctx, s.conn, d.selection.included)
	if err != nil {
		return false, err
	}
	if _, err := s.conn.Exec(ctx, "COMMIT"); err != nil || len(candidates) == 0 {
		return false, err
	}
	return true, s.hold(ctx, d, wait, candidates)
}

// hold locks the tables, takes the snapshot and looks at them again.
func (s *snapshot) hold(ctx context.Context, d *dump, wait string, candidates []sharedTable) (err error) {
	var names []string
	var oids []int64
	for _, t := range candidates {
		names, oids = append(names, "ONLY "+t.ident()), append(oids, t.oid)
	}
	begin := d.beginLikeTool("") + "; " + wait + "; LOCK TABLE " + strings.Join(names, ", ") + " IN ACCESS SHARE MODE"
	if _, err := s.conn.Exec(ctx, begin); err != nil {
		return err
	}
	if err := s.conn.QueryRow(ctx, "SELECT pg_catalog.pg_export_snapshot()").Scan(&s.id); err != nil {
		return err
	}
	if _, err := s.conn.Exec(ctx, onlyTables); err != nil {
		return err
	}
	// They were locked by their names and are found by their oids.
	var locked int
	if err := s.conn.QueryRow(ctx, lockedTables, oids).Scan(&locked); err != nil {
		return err
	}
	if locked != len(oids) {
		return errMoved
	}
	if s.tables, err = d.shared(ctx, s.conn, oids); err != nil { // what they are now cannot change any more
		return err
	}
	if plans := d.plans(s.tables); plans != "" {
		if _, err := s.conn.Exec(ctx, plans); err != nil {
			return err
		}
	}
	_, err = s.conn.Exec(ctx, "SET LOCAL lock_timeout = 0")
	return err
}

// lockedTables counts those of some tables that this transaction has locked.
const lockedTables = `SELECT count(DISTINCT relation) FROM pg_catalog.pg_locks
	WHERE locktype = 'relation' AND granted AND mode = 'AccessShareLock' AND pid = pg_catalog.pg_backend_pid()
	AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) AND relation::int8 = ANY ($1::int8[])`

// plans takes the locks that planning to read parts of tables takes, which are those
// on their indexes: once the snapshot's own connection has them, it waits for nobody.
func (d *dump) plans(tables []sharedTable) string {
	var all strings.Builder
	for _, t := range tables {
		if t.heap && t.bytes > d.engine.sliceSize && majorOf(d.result.Server.VersionNum) >= slicedFrom {
			all.WriteString(t.plan() + "; ")
		}
	}
	return all.String()
}

func (d *dump) shared(ctx context.Context, conn *pgx.Conn, among []int64) ([]sharedTable, error) {
	rows, err := conn.Query(ctx, findShared, notNil(among), notNil(d.selection.left), d.engine.shareFrom, sharedTables, d.selection.viaRoot)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (t sharedTable, err error) {
		return t, row.Scan(&t.oid, &t.bytes, &t.pages, &t.schema, &t.name, &t.heap, &t.columns, &t.quoted)
	})
}

// beginLikeTool begins a transaction that writes values as pg_dump's does. With the
// id of a snapshot it sees that one.
func (d *dump) beginLikeTool(id string) string {
	statements := []string{"BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"}
	if id != "" {
		statements = append(statements, "SET TRANSACTION SNAPSHOT '"+strings.ReplaceAll(id, "'", "''")+"'")
	}
	settings := []string{
		"search_path = ''", "datestyle = ISO", "intervalstyle = POSTGRES", "extra_float_digits = 3", "synchronize_seqscans = off",
		"statement_timeout = 0", "lock_timeout = 0", "idle_in_transaction_session_timeout = 0", "row_security = off",
	}
	if majorOf(d.result.Server.VersionNum) >= 17 {
		settings = append(settings, "transaction_timeout = 0")
	}
	for _, s := range settings {
		statements = append(statements, "SET LOCAL "+s)
	}
	return strings.Join(statements, "; ")
}

// onlyTables keeps servers that can from reading anything else by a table's name.
const onlyTables = `SELECT pg_catalog.set_config(name, 'view, foreign-table', true)
	FROM pg_catalog.pg_settings WHERE name = 'restrict_nonsystem_relation_kind'`

// join opens further connections that see the snapshot; fewer when the server has no
// more of them to give.
func (d *dump) join(ctx context.Context, s *snapshot, n int) (conns []*pgx.Conn, err error) {
	for range n {
		conn, err := d.engine.connectLikeTool(ctx, d.conn)
		if err != nil && isState(err, stateTooMany) {
			d.warn(fmt.Sprintf("the server gives %d of %d connections of parallel_jobs, so the dump takes longer: raise max_connections or the user's limit",
				len(conns)+1, n+1))
			return conns, nil
		}
		if err != nil {
			return conns, err
		}
		conns = append(conns, conn)
		_, err = conn.Exec(ctx, d.beginLikeTool(s.id))
		if isState(err, stateBadSnapshot, stateNoSnapshot) {
			return conns, errs.Wrap(err, errs.Unavailable, errs.CodeDatasourceLost,
				"the connection to %s that keeps the dump's snapshot broke: check the server's log, then run it again", where(d.conn))
		}
		if err != nil {
			return conns, d.statementError(ctx, err, "joining the snapshot")
		}
		if _, err := conn.Exec(ctx, onlyTables); err != nil {
			return conns, d.statementError(ctx, err, "joining the snapshot")
		}
	}
	return conns, nil
}

// end proves that the transaction lived until now.
func (s *snapshot) end(ctx context.Context, d *dump) error {
	if _, err := s.conn.Exec(ctx, "COMMIT"); err != nil {
		return d.statementError(ctx, err, "ending the shared snapshot")
	}
	return nil
}

func isState(err error, states ...string) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return false
	}
	for _, s := range states {
		if pg.Code == s {
			return true
		}
	}
	return false
}

// statementError types what a statement of a parallel dump ended with.
func (d *dump) statementError(ctx context.Context, err error, doing string) error {
	if errors.Is(context.Cause(ctx), tool.ErrStalled) {
		return errs.Wrap(tool.ErrStalled, errs.Unavailable, errs.CodeDumpStalled,
			"%s brought nothing for %s and was ended: look for locks and network trouble between here and %s", doing, d.stall(), where(d.conn))
	}
	if errors.Is(err, errWanted) {
		return err
	}
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || ctx.Err() != nil || isState(err, stateNoPrivilege, stateAdminShutdown, stateCrashShutdown) {
		return queryError(ctx, err, d.conn, doing)
	}
	said := strings.ToValidUTF8(tool.Redact(pg.Message, d.conn.Password), "\uFFFD") // it is in the database's encoding
	return errs.New(errs.Unavailable, errs.CodeDumpFailed, "%s failed in database %q: %s (SQLSTATE %s)", doing, d.conn.Database, said, pg.Code)
}

// closeNow ends a connection, and what it still does on the server. It returns when
// that is done, or after a moment.
func closeNow(ctx context.Context, conn *pgx.Conn) {
	closeConn(ctx, conn)
	select {
	case <-conn.PgConn().CleanupDone():
	case <-time.After(closeTimeout):
	}
}
