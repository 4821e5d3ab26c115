package mysql

import (
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
	m := testkit.MariaDB(t)
	db := m.NewDatabase(t)
	m.Exec(t, db, "CREATE TABLE people (id bigint unsigned AUTO_INCREMENT PRIMARY KEY, name varchar(40) NOT NULL UNIQUE, n decimal(10,2) DEFAULT 1.5, at timestamp NOT NULL DEFAULT current_timestamp(), c char(3) DEFAULT 'x');"+
		"CREATE TABLE `odd ``t. ü` (a int NOT NULL, b int, person bigint unsigned, PRIMARY KEY (a), UNIQUE (b, a), FOREIGN KEY (person) REFERENCES people (id));"+
		"CREATE VIEW names AS SELECT name FROM people; CREATE SEQUENCE not_a_table")
	number, big, now, letter := "int(11)", "bigint(20) unsigned", "current_timestamp()", "'x'"
	if m.IsMySQL {
		number, big, now, letter = "int", "bigint unsigned", "CURRENT_TIMESTAMP", "x"
	}
	got, err := New(Config{}).Schema(t.Context(), connTo(m, db))
	require.NoError(t, err)
	require.Equal(t, []engine.Schema{{Name: db, Tables: []engine.Relation{
		{Name: "names", Columns: []engine.Column{{Name: "name", Type: "varchar(40)"}}},
		{Name: "odd `t. ü", Columns: []engine.Column{
			{Name: "a", Type: number, PrimaryKey: true, Unique: true}, {Name: "b", Type: number, Nullable: true},
			{Name: "person", Type: big, Nullable: true, ForeignKey: text(db + ".people.id")},
		}},
		{Name: "people", Columns: []engine.Column{
			{Name: "id", Type: big, PrimaryKey: true, Unique: true},
			{Name: "name", Type: "varchar(40)", Unique: true},
			{Name: "n", Type: "decimal(10,2)", Nullable: true, Default: text("1.50")},
			{Name: "at", Type: "timestamp", Default: text(now)},
			{Name: "c", Type: "char(3)", Nullable: true, Default: text(letter)},
		}},
	}}}, got)

	empty := m.NewDatabase(t)
	got, err = New(Config{}).Schema(t.Context(), connTo(m, empty))
	require.NoError(t, err)
	require.Equal(t, []engine.Schema{{Name: empty, Tables: []engine.Relation{}}}, got)
}

func TestManyTablesAreShownAtOnce(t *testing.T) {
	m := testkit.MariaDB(t)
	db := m.NewDatabase(t)
	var script strings.Builder
	for i := range 300 {
		fmt.Fprintf(&script, "CREATE TABLE t_%04d (id int PRIMARY KEY, a varchar(20) DEFAULT 'x', b int, UNIQUE (b)) ENGINE=MyISAM;", i)
	}
	m.Exec(t, db, script.String())
	got, err := New(Config{}).Schema(t.Context(), connTo(m, db))
	require.NoError(t, err)
	require.Len(t, got[0].Tables, 300)
	require.True(t, got[0].Tables[299].Columns[2].Unique)
}

func TestValuesAreWhatJSONHas(t *testing.T) {
	m := testkit.MariaDB(t)
	db := m.NewDatabase(t)
	m.Exec(t, db, `SET sql_mode = ''; CREATE TABLE v (i int, u bigint unsigned, d decimal(30,15), f float, g double, bt bit(9), dt datetime(3), ts timestamp(3) NULL, da date, ti time, y year,
		c char(3), b binary(2), bl blob, tx text, e enum('a','b'), s set('x','y'), p point);
		INSERT INTO v VALUES (-1, 18446744073709551615, 1.5, 0.1, 1e300, b'100000001', '2026-01-02 03:04:05.5', '2026-01-02 03:04:05.5', '2026-01-02', '-12:00:00', 2026,
		'abc', unhex('00ff'), unhex('00ff27'), 'ü😀', 'b', 'x,y', point(1, 2)), (null, null, 123456789012345.123456789012345, null, null, null, '0000-00-00', null, '0000-00-00', null, null, '', null, '', '', null, '', null)`)
	r, err := New(Config{}).Query(t.Context(), connTo(m, db), "SELECT * FROM v", limits)
	require.NoError(t, err)
	require.Equal(t, []string{"i", "u", "d", "f", "g", "bt", "dt", "ts", "da", "ti", "y", "c", "b", "bl", "tx", "e", "s", "p"}, r.Columns)
	require.Equal(t, [][]any{
		{-1.0, "18446744073709551615", 1.5, 0.1, 1e300, 257.0, "2026-01-02T03:04:05.500", "2026-01-02T03:04:05.5Z", "2026-01-02", "-12:00:00", 2026.0,
			"abc", "0x00FF", "0x00FF27", "ü😀", "b", "x,y", "0x000000000101000000000000000000F03F0000000000000040"},
		{nil, nil, "123456789012345.123456789012345", nil, nil, nil, "0000-00-00 00:00:00.000", nil, "0000-00-00", nil, nil, "", nil, "0x", "", nil, "", nil},
	}, r.Rows)
	row := "VALUES (1)"
	if m.IsMySQL {
		row = "VALUES ROW(1)"
	}
	for _, sql := range []string{"SHOW TABLES", "DESC v", "DESCRIBE v", "EXPLAIN SELECT * FROM v", row, "(SELECT 1)", "WITH a AS (SELECT 1) SELECT * FROM a", "# x\nSELECT 1", "SELECT 1;", "SELECT CURRENT_TIMESTAMP"} {
		r, err := New(Config{}).Query(t.Context(), connTo(m, db), sql, limits)
		require.NoError(t, err, sql)
		require.NotEmpty(t, r.Rows, sql)
	}
	r, err = New(Config{}).Query(t.Context(), connTo(m, db), "SELECT 1 AS a, 2 AS a FROM v WHERE false", limits)
	require.NoError(t, err)
	require.Equal(t, []string{"a", "a"}, r.Columns)
	require.Equal(t, [][]any{}, r.Rows)
	require.Equal(t, map[string]any{"a": 1.0}, shownText("JSON", []byte(`{"a":1}`)), "as MySQL sends it")
}

func TestNothingCanBeChanged(t *testing.T) {
	m := testkit.MariaDB(t)
	db := m.NewDatabase(t)
	m.Exec(t, db, `CREATE TABLE t (a int); INSERT INTO t VALUES (1); CREATE TABLE old (a int) ENGINE=MyISAM; CREATE SEQUENCE s;
		CREATE FUNCTION writes() RETURNS int MODIFIES SQL DATA BEGIN INSERT INTO t VALUES (9); INSERT INTO old VALUES (9); RETURN 1; END;
		CREATE PROCEDURE proc() BEGIN COMMIT; INSERT INTO t VALUES (9); END`)
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("secret of the server"), 0o644))
	require.NoError(t, os.Chmod(filepath.Dir(secret), 0o777)) // the server must be able to read and write there
	out := filepath.Join(filepath.Dir(secret), "out")
	for sql, code := range map[string]string{
		"INSERT INTO t VALUES (2)": "1792", "DROP TABLE t": "1792", "CALL proc()": "1792", "COMMIT": "1792", "SET autocommit = 1": "1792", "DO writes()": "1792",
		"LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE t": "1792", "LOAD DATA INFILE '" + secret + "' INTO TABLE t": "1792", "CREATE TEMPORARY TABLE x (a int)": "1792",
		"SELECT 1 INTO OUTFILE '" + out + "'": "1792", "SELECT 'x' INTO DUMPFILE '" + out + "'": "1792", "SELECT LOAD_FILE('" + secret + "')": "1792", "SELECT `load_file`('" + secret + "')": "1792",
		"SELECT 1 /*!50000 INTO OUTFILE '" + out + "' */": "1792", "/*! SELECT 1 INTO OUTFILE '" + out + "' */": "1792", "SELECT 'a\\' INTO OUTFILE '" + out + "'": "1792",
		"EXECUTE IMMEDIATE concat('SELECT 1 INTO OUT', 'FILE ''" + out + "''')": "1792", "PREPARE x FROM 'DELETE FROM t'": "1792", "SET STATEMENT max_statement_time=0 FOR SELECT 1": "1792",
		"/*!50000 DELETE FROM t */": "1792", "/* SELECT */ DELETE FROM t": "1792", "ANALYZE TABLE t": "1792", "ANALYZE DELETE FROM t": "1792", "HANDLER t OPEN": "1792",
		"SELECT 1; DELETE FROM t": "1064", "SELECT 1; COMMIT; DELETE FROM t": "1064", "WITH d AS (SELECT 1) DELETE FROM t": "1064",
		"SELECT writes()": "1792", "SELECT nextval(s)": "1792",
		"SELECT nothing": "1054", "SELECT * FROM nowhere": "1146", "SELECT": "1064", "SELEC 1": "1792",
	} {
		_, err := New(Config{}).Query(t.Context(), connTo(m, db), sql, limits)
		require.Equal(t, errs.CodeQueryFailed, errs.CodeOf(err), "%s: %v", sql, err)
		require.Equal(t, errs.Invalid, errs.KindOf(err))
		if !m.IsMySQL { // which has other numbers for the same
			require.Equal(t, code, errs.As(err).Details["code"], "%s: %v", sql, err)
		}
	}
	require.NoFileExists(t, out)
	next := "(SELECT next_not_cached_value FROM s)"
	if m.IsMySQL {
		next = "1"
	}
	r, err := New(Config{}).Query(t.Context(), connTo(m, db), "SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM old), "+next+", @@local_infile", limits)
	require.NoError(t, err)
	require.Equal(t, []any{1.0, 0.0, 1.0}, r.Rows[0][:3])
}

func TestAFailureSaysWhatTheServerSaid(t *testing.T) {
	m := testkit.MariaDB(t)
	db := m.NewDatabase(t)
	_, err := New(Config{}).Query(t.Context(), connTo(m, db), "SELECT nam", limits)
	e := errs.As(err)
	require.Contains(t, e.Msg, "Unknown column 'nam'")
	require.Equal(t, "42S22", e.Details["sqlstate"])
	c := connTo(m, db)
	_, err = New(Config{}).Query(t.Context(), c, "SELECT * FROM `"+c.Password+"`", limits)
	require.NotContains(t, errs.Message(err), c.Password)
	c.Port = testkit.FreePort(t)
	_, err = New(Config{}).Query(t.Context(), c, "SELECT 1", limits)
	require.Equal(t, errs.CodeDatasourceUnreachable, errs.CodeOf(err))
	_, err = New(Config{}).Schema(t.Context(), c)
	require.Equal(t, errs.CodeDatasourceUnreachable, errs.CodeOf(err))
}

func TestAnAnswerIsBounded(t *testing.T) {
	m := testkit.MariaDB(t)
	db := m.NewDatabase(t)
	e := New(Config{})
	thousand, milliard := m.Numbers(1000), m.Numbers(1_000_000_000)
	for _, sql := range []string{"SELECT seq FROM " + milliard, "SELECT seq FROM " + milliard + " LIMIT 900000000"} {
		r, err := e.Query(t.Context(), connTo(m, db), sql, limits)
		require.NoError(t, err)
		require.Len(t, r.Rows, 1000)
		require.Contains(t, r.Message, "first 1000 are shown")
	}
	r, err := e.Query(t.Context(), connTo(m, db), "SELECT seq FROM "+thousand, limits)
	require.NoError(t, err)
	require.Len(t, r.Rows, 1000)
	require.Empty(t, r.Message, "all of them")
	r, err = e.Query(t.Context(), connTo(m, db), "SELECT repeat('x', 100000) FROM "+thousand, limits)
	require.NoError(t, err)
	require.Len(t, r.Rows, 10)
	require.Contains(t, r.Message, "1 MiB")
	for _, bytes := range []int{2_000_000, 30_000_000} {
		_, err = e.Query(t.Context(), connTo(m, db), fmt.Sprintf("SELECT repeat('x', %d)", bytes), limits)
		require.Equal(t, errs.CodeQueryFailed, errs.CodeOf(err), "%v", err)
		require.Contains(t, errs.Message(err), "the first row alone")
	}
	short := limits
	short.Timeout = 300 * time.Millisecond
	long := "SELECT sleep(60)"
	if m.IsMySQL { // where a sleep that is ended is no error
		long = "SELECT count(*) FROM " + milliard + " WHERE sin(seq * other) > 2"
	}
	_, err = e.Query(t.Context(), connTo(m, db), long, short)
	require.Error(t, err)
	require.Contains(t, []any{"1969", "3024"}, errs.As(err).Details["code"], "%v", err)
	require.Contains(t, errs.Message(err), "300ms")
}
