package mysql

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

func TestValuesThatTheServerWritesShortAreToldOf(t *testing.T) {
	m := testkit.MariaDB(t)
	source, target := m.NewDatabase(t), m.NewDatabase(t)
	m.Exec(t, source, `CREATE TABLE f (id int PRIMARY KEY, short float, fixed float(10,3), whole double);
		INSERT INTO f VALUES (1, 16777216, 1234567.875, 16777216.123456789), (2, 0.1, 0.001, 1e300/3);
		CREATE TABLE other (short float); CREATE VIEW seen AS SELECT short FROM f`)
	res, dump := dumpOf(t, connTo(m, source), engine.DumpOptions{ExcludeTableData: []string{"other"}})
	warned := strings.Join(res.Warning, "\n")
	require.Contains(t, warned, "these columns DOUBLE, which keeps every value as it is: f.short")
	require.NotContains(t, warned, "fixed")
	require.NotContains(t, warned, "other.short", "it is dumped without rows")

	require.NoError(t, New(Config{}).Restore(t.Context(), connTo(m, target), engine.RestoreOptions{}, dump))
	read := func(db string) (short, fixed, whole float64) {
		require.NoError(t, m.DB(t, db).QueryRow("SELECT short + 0e0, fixed + 0e0, whole FROM f WHERE id = 1").Scan(&short, &fixed, &whole))
		return short, fixed, whole
	}
	_, fixed, whole := read(source)
	short, sameFixed, sameWhole := read(target)
	require.Equal(t, []float64{fixed, whole}, []float64{sameFixed, sameWhole}, "the others need no warning")
	require.InDelta(t, 16777200, short, 0, "six digits; a server that writes more needs no warning any more")

	m.Exec(t, source, "ALTER TABLE f MODIFY short double")
	res, _ = dumpOf(t, connTo(m, source), engine.DumpOptions{IncludeTables: []string{"f"}})
	require.NotContains(t, strings.Join(res.Warning, "\n"), "FLOAT")
}
