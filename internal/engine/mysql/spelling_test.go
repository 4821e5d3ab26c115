package mysql

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/engine/enginetest"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

// A server that folds case takes every spelling of a database's name.
func TestADatabaseIsTheSameInEverySpellingThatTheServerTakes(t *testing.T) {
	m := testkit.NewMariaDB(t, testkit.WithFlag("--lower-case-table-names=1"))
	const user = "`caller`@`127.0.0.1`"
	m.Exec(t, "", "CREATE DATABASE shop; CREATE USER "+user+" IDENTIFIED BY 'x-password'")
	m.Exec(t, "shop", "CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (id int PRIMARY KEY, p int, CONSTRAINT leads FOREIGN KEY (p) REFERENCES parent (id)); INSERT INTO parent VALUES (1); INSERT INTO child VALUES (1, 1); CREATE PROCEDURE asks() SELECT 1; GRANT EXECUTE ON PROCEDURE shop.asks TO "+user)
	_, num := parseNumber(m.Version)
	libraries := m.IsMySQL && num >= writesLibraries
	if libraries {
		m.Exec(t, "shop", "CREATE LIBRARY lib LANGUAGE JAVASCRIPT AS 'x'; CREATE FUNCTION f(x int) RETURNS int DETERMINISTIC LANGUAGE JAVASCRIPT USING (lib) AS 'return x'; GRANT EXECUTE ON FUNCTION shop.f TO "+user)
	}
	before, grants := plain(t, m, "shop"), grantsOf(t, m, user)
	c := connTo(m, "Shop")
	emptied, _ := dumpOf(t, c, engine.DumpOptions{ExcludeTableData: []string{"Shop.child"}})
	require.Equal(t, map[string]int64{"parent": 1, "child": -1}, rowsByName(emptied))
	res, dump := dumpOf(t, c, engine.DumpOptions{})
	require.Equal(t, "shop", res.Tables[0].Schema)
	require.Equal(t, res.SchemaDigest, digestAgain(t, c))

	restore := func(database string, o engine.RestoreOptions, src engine.Source) {
		t.Helper()
		o.TempDir, o.CreateDatabase = t.TempDir(), true
		require.NoError(t, New(Config{}).Restore(t.Context(), connTo(m, database), o, src))
		require.Empty(t, scratchDatabases(t, m))
	}
	restore("Shop", engine.RestoreOptions{DropExisting: true}, dump)
	require.Equal(t, grants, grantsOf(t, m, user), "what is granted on routines")
	require.Equal(t, before, plain(t, m, "shop"))
	restore("Shop", engine.RestoreOptions{DropExisting: true, IncludeTables: []string{"Shop.parent"}}, dump)
	require.Equal(t, before, plain(t, m, "shop"), "with the key that leads there")

	// A backup from before names the database as it was written.
	var older enginetest.Memory
	text := dump.Bytes(Member)
	require.Contains(t, string(text), "Database: shop\n")
	older.Put(Member, bytes.Replace(text, []byte("Database: shop\n"), []byte("Database: Shop\n"), 1))
	restore("First", engine.RestoreOptions{}, dump)
	restore("Second", engine.RestoreOptions{}, &older)
	for _, database := range []string{"first", "second"} {
		if libraries {
			var of string
			require.NoError(t, m.DB(t, "").QueryRow("SELECT library_schema FROM information_schema.routine_libraries WHERE routine_schema = ?", database).Scan(&of))
			require.Equal(t, database, of)
		}
	}
}
