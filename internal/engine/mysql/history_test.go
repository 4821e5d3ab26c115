package mysql

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

// Tables of which old rows are kept; of the last there is nothing else.
const withHistory = `CREATE TABLE v (a int PRIMARY KEY, b varchar(20)) WITH SYSTEM VERSIONING; INSERT INTO v VALUES (1, 'old'), (2, 'gone;);'); UPDATE v SET b = 'new' WHERE a = 1; DELETE FROM v WHERE a = 2;
CREATE TABLE named (a int, s timestamp(6) GENERATED ALWAYS AS ROW START INVISIBLE, e timestamp(6) GENERATED ALWAYS AS ROW END INVISIBLE, PERIOD FOR SYSTEM_TIME (s, e)) WITH SYSTEM VERSIONING; INSERT INTO named VALUES (1); UPDATE named SET a = 2;
CREATE TABLE parted (a int) WITH SYSTEM VERSIONING PARTITION BY SYSTEM_TIME (PARTITION p0 HISTORY, PARTITION pc CURRENT); INSERT INTO parted VALUES (1); UPDATE parted SET a = 2;
CREATE TABLE bare (a int) WITH SYSTEM VERSIONING; INSERT INTO bare VALUES (1); DELETE FROM bare;
CREATE TABLE unkept (a int WITHOUT SYSTEM VERSIONING, b int) WITH SYSTEM VERSIONING; INSERT INTO unkept VALUES (1, 1); UPDATE unkept SET b = 2;`

// allRows are the rows of such tables with the time they were valid in.
func allRows(t *testing.T, m *testkit.Maria, db string) (all []string) {
	t.Helper()
	for name, period := range map[string]string{"v": "row_start, ' ', row_end", "named": "s, ' ', e", "parted": "row_start, ' ', row_end", "bare": "row_start, ' ', row_end", "unkept": "row_start, ' ', row_end"} {
		rows, err := m.DB(t, db).Query("SELECT concat(a, ' ', " + period + ") FROM " + name + " FOR SYSTEM_TIME ALL")
		require.NoError(t, err)
		defer rows.Close() //nolint:errcheck // Err tells
		for rows.Next() {
			var row string
			require.NoError(t, rows.Scan(&row))
			all = append(all, name+" "+row)
		}
		require.NoError(t, rows.Err())
	}
	return all
}

func TestTheHistoryOfVersionedTablesComesBack(t *testing.T) {
	m := testkit.MariaDB(t)
	if m.IsMySQL {
		return // which has none
	}
	source, target := m.NewDatabase(t), m.NewDatabase(t)
	m.Exec(t, source, withHistory)
	res, dump := dumpOf(t, connTo(m, source), engine.DumpOptions{})
	if _, num := parseNumber(m.Version); num < historyVersion {
		require.Contains(t, strings.Join(res.Warning, "\n"), "has no history of system-versioned tables, only their current rows (bare, named, parted, unkept, v)")
		return
	}
	require.NotContains(t, strings.Join(res.Warning, "\n"), "history")
	want := allRows(t, m, source)
	require.Len(t, want, 10)
	require.Equal(t, map[string]int64{"v": 3, "named": 2, "parted": 2, "bare": 1, "unkept": 2}, rowsByName(res))

	require.NoError(t, New(Config{}).Restore(t.Context(), connTo(m, target), engine.RestoreOptions{}, dump))
	require.ElementsMatch(t, want, allRows(t, m, target))
	counts, err := New(Config{}).CountRows(t.Context(), connTo(m, target), res.Tables)
	require.NoError(t, err)
	require.Empty(t, engine.RowDifferences(res.Tables, counts))
	for _, o := range []engine.RestoreOptions{{DropExisting: true}, {DropExisting: true, IncludeTables: []string{"v", "named", "bare"}}} {
		m.Exec(t, target, "UPDATE v SET b = 'later'; UPDATE named SET a = 3; ALTER TABLE bare DROP SYSTEM VERSIONING")
		require.NoError(t, New(Config{}).Restore(t.Context(), connTo(m, target), o, dump))
		require.ElementsMatch(t, want, allRows(t, m, target))
	}

	// Of these the tool writes current rows only.
	m.Exec(t, source, `CREATE TABLE precise (a int, s bigint unsigned GENERATED ALWAYS AS ROW START, e bigint unsigned GENERATED ALWAYS AS ROW END, PERIOD FOR SYSTEM_TIME (s, e)) WITH SYSTEM VERSIONING ENGINE=InnoDB; INSERT INTO precise (a) VALUES (1)`)
	res, _ = dumpOf(t, connTo(m, source), engine.DumpOptions{})
	require.Contains(t, strings.Join(res.Warning, "\n"), "of transaction-precise ones (precise)")
	for _, o := range []engine.DumpOptions{{ExcludeTables: []string{"precise"}}, {ExcludeTableData: []string{"precise"}}} {
		res, _ = dumpOf(t, connTo(m, source), o)
		require.NotContains(t, strings.Join(res.Warning, "\n"), "history")
		require.EqualValues(t, 3, rowsByName(res)["v"])
	}
}

func TestHistoryThatAServerDoesNotTakeBackIsToldAndRefusedBeforeTheLoad(t *testing.T) {
	m := testkit.MariaDB(t)
	if _, num := parseNumber(m.Version); m.IsMySQL || num < historyVersion {
		return // no backup has history there
	}
	m = testkit.NewMariaDB(t, testkit.WithFlag("--secure-timestamp=YES"))
	source, target := m.NewDatabase(t), m.NewDatabase(t)
	m.Exec(t, source, withHistory+"CREATE TABLE plain (a int); INSERT INTO plain VALUES (1)")
	res, dump := dumpOf(t, connTo(m, source), engine.DumpOptions{})
	require.Contains(t, strings.Join(res.Warning, "\n"), "--secure-timestamp=YES")

	restore := func(tables ...string) error {
		return New(Config{}).Restore(t.Context(), connTo(m, target), engine.RestoreOptions{DropExisting: true, IncludeTables: tables, TempDir: t.TempDir()}, dump)
	}
	for asked, refused := range map[string]error{"before the load": restore(), "of one table": restore("v")} {
		require.Equal(t, errs.CodeRestoreNotSupported, errs.CodeOf(refused), "%s: %v", asked, refused)
		require.Contains(t, errs.Message(refused), "start it with another value of secure_timestamp", asked)
	}
	require.Empty(t, scratchDatabases(t, m))
	require.NoError(t, restore("plain"), "which has no history")
}
