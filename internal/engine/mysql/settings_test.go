package mysql

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

func TestSettingsOfADatabaseThatABackupLacksAreTold(t *testing.T) {
	m := testkit.MariaDB(t)
	db := m.NewDatabase(t)
	m.Exec(t, db, "CREATE TABLE a (x int); CREATE TRIGGER tr BEFORE INSERT ON a FOR EACH ROW SET NEW.x = 1")
	const told = "does not hold these settings"
	usual, dump := dumpOf(t, connTo(m, db), engine.DumpOptions{})
	require.NotContains(t, strings.Join(usual.Warning, "\n"), told)
	if !m.IsMySQL {
		m.Exec(t, "", "ALTER DATABASE "+db+" COMMENT 'it''s'")
		res, _ := dumpOf(t, connTo(m, db), engine.DumpOptions{})
		require.Contains(t, strings.Join(res.Warning, "\n"), `COMMENT='it\'s'`)
		return
	}
	m.Exec(t, "", "ALTER DATABASE "+db+" DEFAULT ENCRYPTION='Y'; ALTER DATABASE "+db+" READ ONLY=1")
	t.Cleanup(func() { m.Exec(t, "", "ALTER DATABASE "+db+" READ ONLY=0") })
	res, _ := dumpOf(t, connTo(m, db), engine.DumpOptions{})
	require.Contains(t, strings.Join(res.Warning, "\n"), "READ ONLY=1 DEFAULT ENCRYPTION='Y'")
	some, _ := dumpOf(t, connTo(m, db), engine.DumpOptions{IncludeTables: []string{"a"}})
	require.NotContains(t, strings.Join(some.Warning, "\n"), told)

	session, err := m.DB(t, db).Conn(t.Context())
	require.NoError(t, err)
	defer session.Close() //nolint:errcheck // it only goes back to its pool
	for _, o := range []engine.RestoreOptions{{DropExisting: true}, {DropExisting: true, IncludeTables: []string{"a"}}} {
		o.TempDir = t.TempDir()
		_, err := New(Config{}).Preflight(t.Context(), connTo(m, db), o)
		require.Contains(t, errs.Message(err), "is read only")
		err = New(Config{}).Restore(t.Context(), connTo(m, db), o, dump)
		require.Equal(t, errs.CodeRestoreFailed, errs.CodeOf(err), "%v", err)
		require.Contains(t, errs.Message(err), "is read only")
	}
	require.NoError(t, session.PingContext(t.Context()))
	require.Empty(t, scratchDatabases(t, m))
}

func TestABackslashThatIsNoEscapeToTheServerKeepsNothingFromWorking(t *testing.T) {
	m := testkit.MariaDB(t)
	source, target := m.NewDatabase(t), m.NewDatabase(t)
	m.Exec(t, source, townsPeopleOrders)
	m.Exec(t, target, townsPeopleOrders)
	m.Exec(t, target, grown)
	want := plain(t, m, source)
	m.Exec(t, "", "SET GLOBAL sql_mode = concat(@@GLOBAL.sql_mode, ',NO_BACKSLASH_ESCAPES,ANSI_QUOTES')")
	t.Cleanup(func() {
		m.Exec(t, "", "SET GLOBAL sql_mode = replace(replace(@@GLOBAL.sql_mode, 'NO_BACKSLASH_ESCAPES', ''), 'ANSI_QUOTES', '')")
	})
	_, dump := dumpOf(t, connTo(m, source), engine.DumpOptions{})
	_, err := New(Config{}).Preflight(t.Context(), connTo(m, target), engine.RestoreOptions{DropExisting: true})
	require.NoError(t, err)
	require.NoError(t, New(Config{}).Restore(t.Context(), connTo(m, target), engine.RestoreOptions{DropExisting: true, TempDir: t.TempDir()}, dump))
	require.Equal(t, want, plain(t, m, target))
}
