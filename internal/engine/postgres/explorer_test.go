package postgres

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

var limits = engine.QueryLimits{Rows: 1000, Bytes: 1 << 20, Timeout: 10 * time.Second}

func text(s string) *string { return &s }

func TestASchemaShowsTablesColumnsAndKeys(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	pg.Exec(t, db, `
		CREATE TYPE mood AS ENUM ('ok');
		CREATE TABLE people (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name varchar(40) NOT NULL UNIQUE, m mood DEFAULT 'ok', n numeric(10,2) DEFAULT 1 + 1, at timestamptz);
		CREATE UNIQUE INDEX ON people (at); CREATE UNIQUE INDEX ON people (n) WHERE n > 0; CREATE UNIQUE INDEX ON people (lower(name));
		ALTER TABLE people ADD gone int; ALTER TABLE people DROP gone;
		CREATE SCHEMA "odd ""schema"; CREATE SCHEMA zzz_empty;
		CREATE TABLE "odd ""schema"."t.t" (a int, b int, person bigint REFERENCES people, PRIMARY KEY (a, b), UNIQUE (b, a));
		CREATE TABLE none ();
		CREATE VIEW names AS SELECT name FROM people;
		CREATE MATERIALIZED VIEW mat AS SELECT 1 AS one;
		CREATE TABLE parted (k int) PARTITION BY RANGE (k);
		CREATE SEQUENCE not_a_table; CREATE TEMP TABLE not_this (a int)`)
	got, err := New(Config{}).Schema(t.Context(), connTo(pg, db))
	require.NoError(t, err)
	require.Equal(t, []engine.Schema{
		{Name: `odd "schema`, Tables: []engine.Relation{{Name: "t.t", Columns: []engine.Column{
			{Name: "a", Type: "integer", PrimaryKey: true}, {Name: "b", Type: "integer", PrimaryKey: true},
			{Name: "person", Type: "bigint", Nullable: true, ForeignKey: text("public.people.id")},
		}}}},
		{Name: "public", Tables: []engine.Relation{
			{Name: "mat", Columns: []engine.Column{{Name: "one", Type: "integer", Nullable: true}}},
			{Name: "names", Columns: []engine.Column{{Name: "name", Type: "character varying(40)", Nullable: true}}},
			{Name: "none", Columns: []engine.Column{}},
			{Name: "parted", Columns: []engine.Column{{Name: "k", Type: "integer", Nullable: true}}},
			{Name: "people", Columns: []engine.Column{
				{Name: "id", Type: "bigint", PrimaryKey: true, Unique: true},
				{Name: "name", Type: "character varying(40)", Unique: true},
				{Name: "m", Type: "public.mood", Nullable: true, Default: text("'ok'::public.mood")},
				{Name: "n", Type: "numeric(10,2)", Nullable: true, Default: text("(1 + 1)")},
				{Name: "at", Type: "timestamp with time zone", Nullable: true, Unique: true},
			}},
		}},
		{Name: "zzz_empty", Tables: []engine.Relation{}},
	}, got)
}

func TestManyTablesAreShownAtOnce(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	for batch := range 2 {
		pg.Exec(t, db, fmt.Sprintf(`DO $$ BEGIN FOR i IN 1..500 LOOP
			EXECUTE format('CREATE TABLE t_%d_%%s (id int PRIMARY KEY, a text DEFAULT ''x'', b int, c int)', i);
		END LOOP; END $$`, batch))
	}
	got, err := New(Config{}).Schema(t.Context(), connTo(pg, db))
	require.NoError(t, err)
	require.Len(t, got[0].Tables, 1000)
	require.True(t, got[0].Tables[999].Columns[0].PrimaryKey)
}

func TestValuesAreWhatJSONHas(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	for sql, want := range map[string]any{
		"SELECT null::text": nil, "SELECT true": true, "SELECT 42": 42.0, "SELECT 9223372036854775807": "9223372036854775807", "SELECT 1.50": 1.5,
		"SELECT 0.12345678901234567890": "0.12345678901234567890", "SELECT 'NaN'::numeric": "NaN", "SELECT 'NaN'::float8": "NaN", "SELECT '-Infinity'::float4": "-Infinity",
		"SELECT 1e300::float8": 1e300, "SELECT 0.1::float4": 0.1, `SELECT '\x00ff'::bytea`: `\x00ff`,
		`SELECT '{"a": [1, 12345678901234567890]}'::jsonb`: map[string]any{"a": []any{1.0, "12345678901234567890"}}, `SELECT '[]'::json`: []any{},
		"SELECT timestamptz '2026-01-02 03:04:05.5+02' AT TIME ZONE 'UTC'": "2026-01-02T01:04:05.5", "SELECT date '2026-01-02'": "2026-01-02",
		"SELECT 'infinity'::timestamptz": "infinity", "SELECT ARRAY[1, 2]": "{1,2}", "SELECT ''": "", "SELECT 'ü😀'": "ü😀",
		"SHOW transaction_read_only": "on", "VALUES (1)": 1.0, "(SELECT 1)": 1.0, "WITH a AS (SELECT 7 AS x) TABLE a": 7.0, "/* /* x */ */ select 1 ; -- end": 1.0,
	} {
		r, err := New(Config{}).Query(t.Context(), connTo(pg, db), sql, limits)
		require.NoError(t, err, sql)
		require.Equal(t, [][]any{{want}}, r.Rows, sql)
		require.Empty(t, r.Message)
	}
	r, err := New(Config{}).Query(t.Context(), connTo(pg, db), "SELECT timestamptz '2026-01-02 03:04:05.5+02'", limits)
	require.NoError(t, err)
	at, err := time.Parse(time.RFC3339Nano, fmt.Sprint(r.Rows[0][0]))
	require.NoError(t, err)
	require.True(t, at.Equal(time.Date(2026, 1, 2, 1, 4, 5, 5e8, time.UTC)))

	r, err = New(Config{}).Query(t.Context(), connTo(pg, db), "SELECT 1 AS a, 2 AS a WHERE false", limits)
	require.NoError(t, err)
	require.Equal(t, []string{"a", "a"}, r.Columns)
	require.Equal(t, [][]any{}, r.Rows)
	r, err = New(Config{}).Query(t.Context(), connTo(pg, db), "EXPLAIN SELECT 1", limits)
	require.NoError(t, err)
	require.NotEmpty(t, r.Rows)
}

func TestNothingCanBeChanged(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	pg.Exec(t, db, `CREATE TABLE t (a int); INSERT INTO t VALUES (1); CREATE SEQUENCE s;
		CREATE FUNCTION writes() RETURNS int LANGUAGE plpgsql AS $$ BEGIN INSERT INTO t VALUES (9); RETURN 1; END $$;
		CREATE FUNCTION sneaks() RETURNS int LANGUAGE plpgsql AS $$ BEGIN SET TRANSACTION READ WRITE; INSERT INTO t VALUES (9); RETURN 1; END $$;
		CREATE PROCEDURE proc() LANGUAGE plpgsql AS $$ BEGIN COMMIT; INSERT INTO t VALUES (9); COMMIT; END $$`)
	file := filepath.Join(t.TempDir(), "out")
	require.NoError(t, os.Chmod(filepath.Dir(file), 0o777))
	for sql, code := range map[string]string{
		"INSERT INTO t VALUES (2)": "25006", "DROP TABLE t": "25006", "CALL proc()": "25006", "DO $$ BEGIN COMMIT; DELETE FROM t; END $$": "25006",
		"COMMIT": "25006", "SET TRANSACTION READ WRITE": "25006", "VACUUM": "25006", "NOTIFY x": "25006", "LOAD 'x'": "25006",
		"COPY t TO PROGRAM 'touch " + file + "'": "25006", "COPY (SELECT 1) TO '" + file + "'": "25006", "PREPARE TRANSACTION 'x'": "25006", "LOCK t": "25006",
		"SELECT 1; DELETE FROM t": "42601", "SELECT 1; COMMIT; DELETE FROM t": "42601", "select 1;;delete from t": "42601",
		"WITH d AS (DELETE FROM t RETURNING 1) SELECT * FROM d": "25006", "SELECT writes()": "25006", "SELECT sneaks()": "25001", "SELECT nextval('s')": "25006",
		"SELECT * INTO other FROM t": "25006", "EXPLAIN ANALYZE DELETE FROM t": "25006", "SELECT set_config('transaction_read_only', 'off', false), writes()": "25001",
		"SELECT * FROM t FOR UPDATE": "25006",
		"SELECT":                     "", "SELECT lo_create(0)": "", // not refused before version 16, but rolled back
		"SELEC 1": "25006", "SELECT nothing": "42703", "SELECT 1/0": "22012", "SELECT * FROM nowhere": "42P01", "SELECT $1": "08P01",
	} {
		_, err := New(Config{}).Query(t.Context(), connTo(pg, db), sql, limits)
		if code == "" {
			continue
		}
		require.Equal(t, errs.CodeQueryFailed, errs.CodeOf(err), "%s: %v", sql, err)
		require.Equal(t, errs.Invalid, errs.KindOf(err))
		require.Equal(t, code, errs.As(err).Details["code"], "%s: %v", sql, err)
	}
	require.NoFileExists(t, file)
	r, err := New(Config{}).Query(t.Context(), connTo(pg, db), "SELECT (SELECT count(*) FROM t), (SELECT is_called FROM s), (SELECT count(*) FROM pg_tables WHERE schemaname = 'public'), (SELECT count(*) FROM pg_largeobject_metadata)", limits)
	require.NoError(t, err)
	require.Equal(t, [][]any{{1.0, false, 1.0, 0.0}}, r.Rows)
}

func TestAFailureSaysWhere(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	pg.Exec(t, db, "CREATE TABLE people (name text)")
	_, err := New(Config{}).Query(t.Context(), connTo(pg, db), "SELECT nam FROM people", limits)
	e := errs.As(err)
	require.Contains(t, e.Msg, `column "nam" does not exist (42703)`)
	require.Equal(t, 8, e.Details["position"])
	require.Contains(t, e.Details["hint"], "name")
	c := connTo(pg, db)
	_, err = New(Config{}).Query(t.Context(), c, "SELECT '"+c.Password+"'::int", limits)
	require.NotContains(t, errs.Message(err), c.Password)
	c.Port = testkit.FreePort(t)
	_, err = New(Config{}).Query(t.Context(), c, "SELECT 1", limits)
	require.Equal(t, errs.CodeDatasourceUnreachable, errs.CodeOf(err))
	_, err = New(Config{}).Schema(t.Context(), c)
	require.Equal(t, errs.CodeDatasourceUnreachable, errs.CodeOf(err))
}

func TestAnAnswerIsBounded(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	e := New(Config{})
	r, err := e.Query(t.Context(), connTo(pg, db), "SELECT generate_series(1, 1000000000)", limits)
	require.NoError(t, err)
	require.Len(t, r.Rows, 1000)
	require.Equal(t, []any{1000.0}, r.Rows[999])
	require.Contains(t, r.Message, "first 1000 are shown")

	r, err = e.Query(t.Context(), connTo(pg, db), "SELECT repeat(repeat('x', 1000), 100) FROM generate_series(1, 1000)", limits)
	require.NoError(t, err)
	require.Len(t, r.Rows, 10)
	require.Contains(t, r.Message, "1 MiB")
	r, err = e.Query(t.Context(), connTo(pg, db), "SELECT g FROM generate_series(1, 1000) g", limits)
	require.NoError(t, err)
	require.Len(t, r.Rows, 1000)
	require.Empty(t, r.Message, "all of them")

	for _, sql := range []string{"SELECT repeat(repeat('x', 1000), 2000)", "SELECT repeat(repeat('x', 1000), 20000)"} {
		_, err = e.Query(t.Context(), connTo(pg, db), sql, limits)
		require.Equal(t, errs.CodeQueryFailed, errs.CodeOf(err), "%v", err)
		require.Contains(t, errs.Message(err), "the first row alone")
	}
	r, err = e.Query(t.Context(), connTo(pg, db), "SELECT 'small' UNION ALL SELECT repeat(repeat('x', 1000), 20000)", limits)
	require.NoError(t, err)
	require.Equal(t, [][]any{{"small"}}, r.Rows)
	require.NotEmpty(t, r.Message)

	short := limits
	short.Timeout = 300 * time.Millisecond
	_, err = e.Query(t.Context(), connTo(pg, db), "SELECT pg_sleep(60)", short)
	require.Equal(t, "57014", errs.As(err).Details["code"])
	require.Contains(t, errs.Message(err), "300ms")
}

func TestACallerThatLeavesEndsItsQuery(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	ctx, cancel := context.WithCancel(t.Context())
	patient := limits
	patient.Timeout = 10 * time.Minute
	witness := pg.Conn(t, db)
	running := func() (n int) {
		require.NoError(t, witness.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(600)%' AND state = 'active'").Scan(&n))
		return n
	}
	failed := make(chan error, 1)
	go func() {
		_, err := New(Config{}).Query(ctx, connTo(pg, db), "SELECT pg_sleep(600)", patient)
		failed <- err
	}()
	require.Eventually(t, func() bool { return running() == 1 }, time.Minute, 10*time.Millisecond)
	cancel()
	require.Equal(t, errs.Cancelled, errs.KindOf(<-failed))
	require.Eventually(t, func() bool { return running() == 0 }, time.Minute, 10*time.Millisecond, "the server works on")
}

func TestNoLongStatementHidesASecondOne(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	pg.Exec(t, db, "CREATE TABLE t (a int)")
	_, err := New(Config{}).Query(t.Context(), connTo(pg, db), "SELECT 1 /* "+strings.Repeat("x", 90_000)+" */; DROP TABLE t", limits)
	require.Equal(t, "42601", errs.As(err).Details["code"])
}
