package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/engine/query"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// schemaTimeout limits the look into the catalogue.
const schemaTimeout = 30 * time.Second

// columns lists every column of every table-like relation, each catalogue read
// once. A schema or relation without any has one row with nulls. An index counts
// as a key where it covers every row.
const columns = `
WITH spaces AS (
	SELECT oid, nspname FROM pg_namespace WHERE nspname <> 'information_schema' AND nspname !~ '^pg_'
), primaries AS (
	SELECT conrelid AS relid, unnest(conkey) AS attnum FROM pg_constraint WHERE contype = 'p'
), uniques AS (
	SELECT DISTINCT indrelid AS relid, indkey[0] AS attnum FROM pg_index
	WHERE indisunique AND indisvalid AND indnkeyatts = 1 AND indpred IS NULL
), foreigns AS (
	SELECT DISTINCT ON (k.conrelid, pair.attnum) k.conrelid AS relid, pair.attnum,
		s.nspname || '.' || r.relname || '.' || a.attname AS target
	FROM pg_constraint k
	CROSS JOIN LATERAL unnest(k.conkey, k.confkey) AS pair (attnum, fattnum)
	JOIN pg_class r ON r.oid = k.confrelid
	JOIN pg_namespace s ON s.oid = r.relnamespace
	JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = pair.fattnum
	WHERE k.contype = 'f'
	ORDER BY k.conrelid, pair.attnum, k.conname
)
SELECT s.nspname, r.relname, a.attname, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull,
	p.attnum IS NOT NULL, u.attnum IS NOT NULL, f.target, pg_get_expr(d.adbin, d.adrelid)
FROM spaces s
LEFT JOIN pg_class r ON r.relnamespace = s.oid AND r.relkind IN ('r', 'p', 'v', 'm', 'f')
LEFT JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
LEFT JOIN primaries p ON p.relid = a.attrelid AND p.attnum = a.attnum
LEFT JOIN uniques u ON u.relid = a.attrelid AND u.attnum = a.attnum
LEFT JOIN foreigns f ON f.relid = a.attrelid AND f.attnum = a.attnum
ORDER BY s.nspname, r.relname, a.attnum
LIMIT $1`

// Schema implements engine.Explorer. Types outside pg_catalog are shown with their
// schema.
func (e *Engine) Schema(ctx context.Context, c engine.Conn) ([]engine.Schema, error) {
	ctx, cancel := context.WithTimeout(ctx, schemaTimeout+e.connectTimeout+goodbye)
	defer cancel()
	conn, err := e.readOnly(ctx, c, schemaTimeout)
	if err != nil {
		return nil, err
	}
	defer rollBack(ctx, conn)
	found := query.NewSchemas()
	if _, err := conn.Exec(ctx, "SET LOCAL search_path = pg_catalog"); err != nil {
		return nil, queryError(ctx, err, c, "reading the schema")
	}
	rows, err := conn.Query(ctx, columns, engine.MaxColumns+1) //nolint:rowserrcheck // ForEachRow does
	if err != nil {
		return nil, queryError(ctx, err, c, "reading the schema")
	}
	var schema string
	var relation, name, kind *string
	var nullable *bool
	var column engine.Column
	into := []any{&schema, &relation, &name, &kind, &nullable, &column.PrimaryKey, &column.Unique, &column.ForeignKey, &column.Default}
	_, err = pgx.ForEachRow(rows, into, func() error {
		if name != nil {
			column.Name, column.Type, column.Nullable = *name, *kind, *nullable
		}
		return found.Add(schema, relation, name != nil, column)
	})
	if errs.As(err) != nil {
		return nil, err
	}
	if err != nil {
		return nil, queryError(ctx, err, c, "reading the schema")
	}
	return found.All(), nil
}
