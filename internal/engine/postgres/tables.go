package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// estimateTimeout limits how long the size is asked for.
const estimateTimeout = 5 * time.Second

// selection is what a dump takes, as patterns of pg_dump that each match one
// relation literally.
type selection struct {
	include     []string
	exclude     []string
	excludeData []string
	missing     []string // names to exclude that are not there
	bytes       int64    // estimated size of the data
	tables      int
	included    []int64 // what include names; empty means all
	left        []int64 // what exclude and excludeData name
	viaRoot     bool    // rows are to be loaded through the table at the top
}

// relations finds what each literal name means: "schema.name" anywhere, or
// "name" on the search path. A partitioned table brings its partitions along.
// The pattern is in the database's own encoding, for pg_dump speaks that.
const relations = `
WITH RECURSIVE named AS (
	SELECT w.name AS literal, c.oid, c.relkind, n.nspname, c.relname
	FROM unnest($1::text[]) AS w(name)
	JOIN pg_catalog.pg_class c ON true
	JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
	AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
	AND (n.nspname || '.' || c.relname = w.name OR c.relname = w.name AND pg_catalog.pg_table_is_visible(c.oid))
), family AS (
	SELECT * FROM named
	UNION
	SELECT f.literal, c.oid, c.relkind, n.nspname, c.relname
	FROM family f
	JOIN pg_catalog.pg_inherits i ON i.inhparent = f.oid AND f.relkind = 'p'
	JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
	JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
)
SELECT literal, oid::int8, pg_catalog.convert_to(
	'"' || replace(nspname, '"', '""') || '"."' || replace(relname, '"', '""') || '"',
	pg_catalog.getdatabaseencoding())
FROM family ORDER BY literal, nspname, relname`

// resolve turns the options' names into patterns.
func resolve(ctx context.Context, conn *pgx.Conn, c engine.Conn, o engine.DumpOptions) (selection, error) {
	var s selection
	var included, excluded, emptied []int64
	var err error
	var absent []string
	if s.include, included, absent, err = find(ctx, conn, c, o.IncludeTables); err != nil {
		return s, err
	}
	if len(absent) > 0 {
		return s, errs.New(errs.Invalid, errs.CodeDumpFailed,
			"database %q has no table %s of include_tables: correct the name (write schema.table for one outside the search path)", c.Database, quoted(absent))
	}
	if s.exclude, excluded, absent, err = find(ctx, conn, c, o.ExcludeTables); err != nil {
		return s, err
	}
	s.missing = append(s.missing, absent...)
	if s.excludeData, emptied, absent, err = find(ctx, conn, c, o.ExcludeTableData); err != nil {
		return s, err
	}
	s.missing = append(s.missing, absent...)
	s.included, s.left = included, append(excluded, emptied...)
	s.tables, s.bytes = estimate(ctx, conn, s.included, s.left)
	return s, nil
}

func find(ctx context.Context, conn *pgx.Conn, c engine.Conn, names []string) (patterns []string, oids []int64, absent []string, err error) {
	if len(names) == 0 {
		return nil, nil, nil, nil
	}
	rows, err := conn.Query(ctx, relations, names)
	if err != nil {
		return nil, nil, nil, queryError(ctx, err, c, "looking up tables")
	}
	type relation struct {
		literal string
		oid     int64
		pattern []byte
	}
	matches, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r relation, err error) {
		return r, row.Scan(&r.literal, &r.oid, &r.pattern)
	})
	if err != nil {
		return nil, nil, nil, queryError(ctx, err, c, "looking up tables")
	}
	found := map[string]bool{}
	for _, m := range matches {
		found[m.literal] = true
		patterns = append(patterns, string(m.pattern))
		oids = append(oids, m.oid)
	}
	for _, name := range names {
		if !found[name] {
			absent = append(absent, name)
		}
	}
	return patterns, oids, absent, nil
}

// estimate returns how many tables there are and their size on disk without
// indexes. It must not wait for locks; when it cannot be had, it is unknown.
func estimate(ctx context.Context, conn *pgx.Conn, included, excluded []int64) (tables int, bytes int64) {
	ctx, cancel := context.WithTimeout(ctx, estimateTimeout)
	defer cancel()
	const sql = `
SELECT count(*), coalesce(sum(pg_catalog.pg_table_size(c.oid)), 0)::int8
	+ CASE WHEN cardinality($1::int8[]) = 0 THEN pg_catalog.pg_table_size('pg_catalog.pg_largeobject') ELSE 0 END
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND c.relpersistence <> 't'
AND (cardinality($1::int8[]) = 0 OR c.oid::int8 = ANY($1)) AND NOT c.oid::int8 = ANY($2)`
	tx, err := conn.Begin(ctx)
	if err != nil {
		return 0, 0
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // it only read
	if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '500ms'"); err != nil {
		return 0, 0
	}
	if err := tx.QueryRow(ctx, sql, notNil(included), notNil(excluded)).Scan(&tables, &bytes); err != nil {
		return 0, 0
	}
	return tables, bytes
}

// hashesEnums reports whether a table is partitioned by the hash of an enum. Such
// hashes are of object ids, which a restored database chooses anew: a row may
// belong into another partition there. From version 16 on pg_dump sees to that by
// itself.
func hashesEnums(ctx context.Context, conn *pgx.Conn, c engine.Conn) (yes bool, err error) {
	err = conn.QueryRow(ctx, `
		SELECT EXISTS (SELECT FROM pg_catalog.pg_partitioned_table p
			JOIN pg_catalog.pg_attribute a ON a.attrelid = p.partrelid AND (p.partattrs::int2[] @> ARRAY[a.attnum] OR 0 = ANY (p.partattrs::int2[]))
			JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
			WHERE p.partstrat = 'h' AND t.typtype IN ('e', 'c', 'd', 'r') AND a.attnum > 0)`).Scan(&yes)
	if err != nil {
		return false, queryError(ctx, err, c, "looking up partitioned tables")
	}
	return yes, nil
}

func notNil(oids []int64) []int64 {
	if oids == nil {
		return []int64{}
	}
	return oids
}

func quoted(names []string) string {
	var q []string
	for _, n := range names {
		q = append(q, fmt.Sprintf("%q", n))
	}
	return strings.Join(q, ", ")
}
