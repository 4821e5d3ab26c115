package mysql

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

// grantsOf are what SHOW GRANTS tells of users, sorted.
func grantsOf(t *testing.T, m *testkit.Maria, users ...string) (all []string) {
	t.Helper()
	for _, user := range users {
		rows, err := m.DB(t, "").Query("SHOW GRANTS FOR " + user)
		require.NoError(t, err)
		defer rows.Close() //nolint:errcheck // Err tells
		for rows.Next() {
			var line string
			require.NoError(t, rows.Scan(&line))
			all = append(all, line)
		}
		require.NoError(t, rows.Err())
	}
	slices.Sort(all)
	return all
}

func TestGrantsOnWhatIsReplacedStay(t *testing.T) {
	m := testkit.MariaDB(t)
	_, num := parseNumber(m.Version)
	const made = `CREATE TABLE a (x int, y int); CREATE VIEW v AS SELECT 1 AS one; CREATE FUNCTION f() RETURNS int DETERMINISTIC RETURN 1;
		CREATE PROCEDURE Odd() SELECT 1; CREATE PROCEDURE ` + "`odd ``p.`" + `() SELECT 1; CREATE FUNCTION Odd() RETURNS int DETERMINISTIC RETURN 1;`
	const user, role = "`it's`@`127.0.0.1`", "callers"
	extra, grants := "", ""
	roleName := role
	switch {
	case !m.IsMySQL:
		extra = "SET sql_mode = ORACLE; CREATE PACKAGE pack AS PROCEDURE p; END; CREATE PACKAGE BODY pack AS PROCEDURE p AS BEGIN SELECT 1; END; END; SET sql_mode = DEFAULT;"
		grants = "SET sql_mode = ORACLE; GRANT EXECUTE ON PACKAGE %.pack TO " + user + "; GRANT EXECUTE ON PACKAGE BODY %.pack TO " + user + ";"
	case num >= 90200:
		extra = "CREATE LIBRARY lib LANGUAGE JAVASCRIPT AS 'x';"
		grants = "GRANT EXECUTE ON LIBRARY %.lib TO " + user + ";"
	}
	source, target := m.NewDatabase(t), m.NewDatabase(t)
	for _, db := range []string{source, target} {
		m.Exec(t, db, made)
		if extra != "" {
			m.Exec(t, db, extra)
		}
	}
	m.Exec(t, target, "CREATE FUNCTION gone() RETURNS int DETERMINISTIC RETURN 1")
	m.Exec(t, "", "CREATE USER "+user+" IDENTIFIED BY 'x-password'; CREATE ROLE "+role)
	t.Cleanup(func() { m.Exec(t, "", "DROP USER "+user+"; DROP ROLE "+role) })
	m.Exec(t, "", strings.ReplaceAll("GRANT SELECT, UPDATE (y) ON %.a TO "+user+"; GRANT SELECT ON %.v TO "+user+"; GRANT EXECUTE ON FUNCTION %.f TO "+user+" WITH GRANT OPTION; GRANT ALTER ROUTINE, EXECUTE ON PROCEDURE %.Odd TO "+roleName+
		"; GRANT EXECUTE ON PROCEDURE %.`odd ``p.` TO "+user+";"+grants, "%", target))
	before := grantsOf(t, m, user, roleName)
	require.GreaterOrEqual(t, len(before), 7)
	m.Exec(t, "", "GRANT EXECUTE ON FUNCTION "+target+".gone TO "+roleName)
	withGone := grantsOf(t, m, user, roleName)
	_, dump := dumpOf(t, connTo(m, source), engine.DumpOptions{})

	client := toolFor(t, m, clientNames)
	fails := `n=$(cat "$0.n" 2>/dev/null || echo 0); echo $((n+1)) > "$0.n"; [ $n = 1 ] && { echo 'ERROR 1064 (42000) at line 1: no luck' >&2; exit 1; }; exec ` + client.path + ` "$@"`
	e := New(Config{BinDirs: []string{inPlaceOf(t, client, fails), filepath.Dir(client.path)}})
	o := engine.RestoreOptions{DropExisting: true, TempDir: t.TempDir()}
	err := e.Restore(t.Context(), connTo(m, target), o, dump)
	require.Equal(t, errs.CodeRestoreFailed, errs.CodeOf(err), "%v", err)
	require.Equal(t, withGone, grantsOf(t, m, user, roleName), "after it was taken back")

	require.NoError(t, New(Config{}).Restore(t.Context(), connTo(m, target), o, dump))
	require.Equal(t, before, grantsOf(t, m, user, roleName), "but for what is not in the backup")

	// Who may not see them, or not grant, is told.
	m.Exec(t, "", "CREATE USER mover@'127.0.0.1' IDENTIFIED BY 'mover-password'; GRANT ALL ON *.* TO mover@'127.0.0.1'")
	t.Cleanup(func() { m.Exec(t, "", "DROP USER mover@'127.0.0.1'") })
	c := connTo(m, target)
	c.Username, c.Password = "mover", "mover-password"
	var log lines
	o.Log = log.log
	require.NoError(t, New(Config{}).Restore(t.Context(), c, o, dump))
	require.Contains(t, log.String(), "could not be given again")
	require.Contains(t, log.String(), "have it done by somebody who may: GRANT Execute ON FUNCTION `"+target+"`.`f` TO "+user+" WITH GRANT OPTION")
}

// A restore that was killed is finished by whoever sweeps, who must hear what could not
// be granted again, and make no account that is not there any more.
func TestGrantsThatRecoveryCannotGiveAreToldAndMakeNoAccounts(t *testing.T) {
	m := testkit.MariaDB(t)
	target := m.NewDatabase(t)
	m.Exec(t, target, "CREATE TABLE a (x int); CREATE PROCEDURE p() SELECT 1")
	token := engine.NewScratchSuffix()
	fresh, replaced := engine.ScratchPrefix+token, engine.ReplacedPrefix+token
	m.Exec(t, "", "CREATE DATABASE "+fresh+"; CREATE DATABASE "+replaced)
	if !m.IsMySQL {
		m.Exec(t, "", "SET GLOBAL sql_mode = ''")
		t.Cleanup(func() { m.Exec(t, "", "SET GLOBAL sql_mode = DEFAULT") })
	}
	e := New(Config{})
	s, err := e.connect(t.Context(), connTo(m, target), "")
	require.NoError(t, err)
	defer s.close()
	w := &swap{
		Target: target, Fresh: fresh, Replaced: replaced, Replaces: true, Incoming: []string{"a"},
		Objects: []byte("CREATE PROCEDURE p() SELECT 2;\n-- Dump completed\n"), Ours: []object{{"PROCEDURE", "p"}},
		Theirs: []object{{"PROCEDURE", "p"}, {"FUNCTION", "gone"}},
		Grants: []routineGrant{
			{Kind: "PROCEDURE", Name: "p", User: "dropped", Host: "%", Privileges: "Execute"},
			{Kind: "FUNCTION", Name: "gone", User: "somebody", Host: "%", Privileges: "Execute"},
		},
	}
	require.NoError(t, w.note(t.Context(), s))
	var log lines
	require.NoError(t, e.putInOrder(t.Context(), s, connTo(m, target), token, log.log))
	require.Contains(t, log.String(), "could not be given again")
	require.Contains(t, log.String(), "TO `dropped`@`%`")
	require.Contains(t, log.String(), "are not in the backup are gone")
	require.Contains(t, log.String(), "GRANT Execute ON FUNCTION `"+target+"`.`gone` TO `somebody`@`%`")
	var accounts int
	require.NoError(t, m.DB(t, "mysql").QueryRow("SELECT count(*) FROM user WHERE user = 'dropped'").Scan(&accounts))
	require.Zero(t, accounts)
}

func TestTheTimeToTakeAnExchangeBackGrowsWithWhatIsMadeAgain(t *testing.T) {
	require.Equal(t, cleanupLimit, (&swap{}).undoLimit())
	w := &swap{Theirs: make([]object, 2000), Grants: make([]routineGrant, 4000), Triggers: make([]trigger, 1000)}
	require.Equal(t, cleanupLimit+7000*cleanupEach, w.undoLimit())
}
