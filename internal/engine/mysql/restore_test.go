package mysql

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/engine/enginetest"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

// scratchDatabases are those of restores.
func scratchDatabases(t *testing.T, m *testkit.Maria) (names []string) {
	t.Helper()
	rows, err := m.DB(t, "").Query("SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE 'dg\\_%'")
	require.NoError(t, err)
	defer rows.Close() //nolint:errcheck // Err tells
	for rows.Next() {
		var name string
		require.NoError(t, rows.Scan(&name))
		names = append(names, name)
	}
	require.NoError(t, rows.Err())
	return names
}

const otherContent = `CREATE TABLE people (mine int PRIMARY KEY, t text); INSERT INTO people VALUES (42, 'answer');
CREATE TABLE child (a int REFERENCES people (mine), FOREIGN KEY (a) REFERENCES people (mine)); INSERT INTO child VALUES (42);
CREATE SEQUENCE counter START WITH 9; CREATE VIEW names AS SELECT mine FROM people; CREATE VIEW over_it AS SELECT * FROM names;
CREATE TRIGGER own BEFORE INSERT ON child FOR EACH ROW SET NEW.a = NEW.a;
CREATE FUNCTION twice_of(x int) RETURNS int DETERMINISTIC RETURN x * 22; CREATE PROCEDURE keep_me() SELECT 1;
CREATE EVENT own_event ON SCHEDULE EVERY 1 DAY STARTS '2031-01-01 00:00:00' DO SELECT 2;`

func TestARestoreThatFailsLeavesTheTargetAsItWas(t *testing.T) {
	m := testkit.MariaDB(t)
	source := m.NewDatabase(t)
	m.Exec(t, source, richDatabase)
	_, dump := dumpOf(t, connTo(m, source), engine.DumpOptions{})
	whole := string(dump.Bytes(Member))
	target := m.NewDatabase(t)
	m.Exec(t, target, otherContent)
	before := plain(t, m, target)
	lost := errors.New("storage lost")
	cause := errors.New("operator said so")
	client := toolFor(t, m, clientNames)
	real := client.path
	for name, tc := range map[string]struct {
		text   string
		at     int // where reading ends
		ends   error
		script string // of the client
		code   errs.Code
	}{
		"half a dump":              {text: whole[:len(whole)/2], code: errs.CodeArtifactCorrupt},
		"a byte short":             {text: whole[:len(whole)-1], code: errs.CodeArtifactCorrupt},
		"a statement failing":      {text: strings.Replace(whole, "CREATE TABLE `latin`", "CREATE TABEL `latin`", 1), code: errs.CodeRestoreFailed},
		"a routine failing":        {text: strings.Replace(whole, "PROCEDURE `add_one`", "PROCEDURE `add_one", 1), code: errs.CodeRestoreFailed},
		"a storage failing":        {text: whole, at: len(whole) / 2, ends: lost, code: errs.CodeInternal},
		"a storage failing at end": {text: whole, at: len(whole), ends: lost, code: errs.CodeInternal},
		"a cancelled one":          {text: whole, at: len(whole) / 2, ends: cause, code: errs.CodeCancelled},
		"one that fails after the tables have moved": {
			text: whole, code: errs.CodeRestoreFailed,
			script: `n=$(cat "$0.n" 2>/dev/null || echo 0); echo $((n+1)) > "$0.n"; [ $n = 1 ] && { echo 'ERROR 1064 (42000) at line 1: no luck' >&2; exit 1; }; exec ` + real + ` "$@"`,
		},
		"one whose client dies halfway through the objects": {
			text: whole, code: errs.CodeRestoreFailed,
			script: `n=$(cat "$0.n" 2>/dev/null || echo 0); echo $((n+1)) > "$0.n"; [ $n = 1 ] && { grep -v 'CREATE.*EVENT' | ` + real + ` "$@"; exit 1; }; exec ` + real + ` "$@"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			src := enginetest.Memory{OnRead: func(_ string, n int64) error {
				switch {
				case tc.ends == nil || n < int64(tc.at):
				case errors.Is(tc.ends, cause):
					cancel(cause)
				default:
					return tc.ends
				}
				return nil
			}}
			src.Put(Member, []byte(tc.text))
			e := New(Config{})
			if tc.script != "" {
				dir := inPlaceOf(t, client, tc.script)
				e = New(Config{BinDirs: []string{dir, filepath.Dir(real)}})
			}
			err := e.Restore(ctx, connTo(m, target), engine.RestoreOptions{DropExisting: true, TempDir: t.TempDir()}, &src)
			require.Equal(t, tc.code, errs.CodeOf(err), "%v", err)
			if tc.ends != nil {
				require.ErrorIs(t, err, tc.ends)
			}
			require.Equal(t, before, plain(t, m, target))
			require.Empty(t, scratchDatabases(t, m))
		})
	}
}

func TestKeysOfOtherDatabasesKeepTablesInTheirPlace(t *testing.T) {
	m := testkit.MariaDB(t)
	target, other := m.NewDatabase(t), m.NewDatabase(t)
	m.Exec(t, target, "CREATE TABLE a (x int PRIMARY KEY)")
	m.Exec(t, other, "CREATE TABLE b (x int, FOREIGN KEY (x) REFERENCES "+target+".a (x))")
	_, dump := dumpOf(t, connTo(m, target), engine.DumpOptions{})
	err := New(Config{}).Restore(t.Context(), connTo(m, target), engine.RestoreOptions{DropExisting: true}, dump)
	require.Equal(t, errs.CodeRestoreFailed, errs.CodeOf(err))
	require.Contains(t, errs.Message(err), other+".b")
	require.Empty(t, scratchDatabases(t, m))
	m.Exec(t, "", "DROP DATABASE "+other)
}

func TestDatabasesLeftBehindAreDroppedByTheNextRestore(t *testing.T) {
	m := testkit.MariaDB(t)
	target := m.NewDatabase(t)
	_, dump := dumpOf(t, connTo(m, target), engine.DumpOptions{})
	m.Exec(t, "", "CREATE DATABASE dg_restore_0123456789ab; CREATE DATABASE dg_replaced_00000000000f; CREATE DATABASE dg_restore_mine")
	t.Cleanup(func() { m.Exec(t, "", "DROP DATABASE dg_restore_mine") })
	holder, err := m.DB(t, "").Conn(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = holder.Close() })
	_, err = holder.ExecContext(t.Context(), "DO GET_LOCK('dg_restore_00000000000f', 0)")
	require.NoError(t, err)
	var log lines
	o := engine.RestoreOptions{DropExisting: true, Log: log.log}
	require.NoError(t, New(Config{}).Restore(t.Context(), connTo(m, target), o, dump))
	require.ElementsMatch(t, []string{"dg_replaced_00000000000f", "dg_restore_mine"}, scratchDatabases(t, m), "a running restore lost its database, or somebody else's was taken")
	require.Contains(t, log.String(), "dg_restore_0123456789ab")
	require.Equal(t, errs.Conflict, errs.KindOf(New(Config{}).Sweep(t.Context(), connTo(m, target), "00000000000f", nil)))
	_, err = holder.ExecContext(t.Context(), "DO RELEASE_ALL_LOCKS()")
	require.NoError(t, err)
	m.Exec(t, "dg_replaced_00000000000f", "CREATE TABLE the_only_copy (a int)")
	err = New(Config{}).Sweep(t.Context(), connTo(m, target), "00000000000f", nil)
	require.Contains(t, errs.Message(err), `"dg_replaced_00000000000f" holds tables`, "nothing proves that they are in the way")
	require.NoError(t, New(Config{}).Restore(t.Context(), connTo(m, target), o, dump))
	require.Contains(t, log.String(), `"dg_replaced_00000000000f" holds tables`)
	m.Exec(t, "dg_replaced_00000000000f", "DROP TABLE the_only_copy")

	// An exchange that another one has begun with our tables keeps us from them.
	s, err := New(Config{}).connect(t.Context(), connTo(m, target), "")
	require.NoError(t, err)
	defer s.close()
	m.Exec(t, "", "CREATE DATABASE dg_restore_00000000000f")
	w := &swap{Target: target, Fresh: "dg_restore_00000000000f", Replaced: "dg_replaced_00000000000f", Incoming: []string{"neither_here_nor_there"}}
	require.NoError(t, w.note(t.Context(), s))
	err = New(Config{}).Restore(t.Context(), connTo(m, target), o, dump)
	require.Equal(t, errs.Conflict, errs.KindOf(err), "%v", err)
	require.Contains(t, errs.Message(err), "another restore is exchanging")
	err = New(Config{}).Sweep(t.Context(), connTo(m, target), "00000000000f", nil)
	require.Contains(t, errs.Message(err), "all is left as it is")
	require.Len(t, scratchDatabases(t, m), 3)
	require.NoError(t, w.markDone(t.Context(), s))
	require.NoError(t, New(Config{}).Restore(t.Context(), connTo(m, target), o, dump))
	require.Equal(t, []string{"dg_restore_mine"}, scratchDatabases(t, m))
}

func TestWhatComesIntoTheTargetWhileADumpIsReadStays(t *testing.T) {
	m := testkit.MariaDB(t)
	source := m.NewDatabase(t)
	m.Exec(t, source, "CREATE TABLE people (id int PRIMARY KEY); CREATE PROCEDURE keep_me() SELECT 2")
	_, dump := dumpOf(t, connTo(m, source), engine.DumpOptions{})
	for name, o := range map[string]engine.RestoreOptions{
		"absent": {CreateDatabase: true}, "empty": {}, "without those tables": {IncludeTables: []string{"people"}},
	} {
		t.Run(name, func(t *testing.T) {
			target, before := m.NewDatabase(t), ""
			if o.CreateDatabase {
				m.Exec(t, "", "DROP DATABASE "+target)
			}
			src := enginetest.Memory{OnRead: func(string, int64) error {
				if before == "" {
					m.Exec(t, "", "CREATE DATABASE IF NOT EXISTS "+target)
					m.Exec(t, target, otherContent)
					before = plain(t, m, target)
				}
				return nil
			}}
			src.Put(Member, dump.Bytes(Member))
			require.Error(t, New(Config{}).Restore(t.Context(), connTo(m, target), o, &src))
			require.Equal(t, before, plain(t, m, target))
			require.Empty(t, scratchDatabases(t, m))
		})
	}
}

func TestAUserOfOneDatabaseRestoresIntoItWhenItIsEmpty(t *testing.T) {
	m := testkit.MariaDB(t)
	target, absent := m.NewDatabase(t), "absent_"+strings.TrimPrefix(m.NewDatabase(t), "test_")
	m.Exec(t, target, "CREATE TABLE a (x int)")
	_, dump := dumpOf(t, connTo(m, target), engine.DumpOptions{})
	before := plain(t, m, target)
	m.Exec(t, "", fmt.Sprintf("CREATE USER weak@'127.0.0.1' IDENTIFIED BY 'weak-password'; GRANT ALL ON %s.* TO weak@'127.0.0.1'; GRANT ALL ON %s.* TO weak@'127.0.0.1'", target, absent))
	t.Cleanup(func() { m.Exec(t, "", "DROP USER weak@'127.0.0.1'; DROP DATABASE IF EXISTS "+absent) })
	c := connTo(m, target)
	c.Username, c.Password = "weak", "weak-password"
	e := New(Config{})
	for _, o := range []engine.RestoreOptions{{DropExisting: true}, {DropExisting: true, IncludeTables: []string{"a"}}} {
		err := e.Restore(t.Context(), c, o, dump)
		require.Equal(t, errs.CodeDatasourcePermission, errs.CodeOf(err))
		require.Contains(t, errs.Message(err), "dg\\_%")
		_, err = e.Preflight(t.Context(), c, o)
		require.Equal(t, errs.CodeDatasourcePermission, errs.CodeOf(err), "it could be told before")
		require.Contains(t, errs.Message(err), "dg\\_%")
	}
	able, err := e.Preflight(t.Context(), c, engine.RestoreOptions{})
	require.NoError(t, err)
	require.Empty(t, able.Warnings)
	require.True(t, able.InPlace, "the whole backup has to be read before")
	to := "FOR"
	if m.IsMySQL {
		to = "TO"
	}
	// Rights that come with a role count, once it is the default.
	m.Exec(t, "", "CREATE ROLE restorer; GRANT ALL ON `dg\\_%`.* TO restorer; GRANT restorer TO weak@'127.0.0.1'")
	t.Cleanup(func() { m.Exec(t, "", "DROP ROLE restorer") })
	_, err = e.Preflight(t.Context(), c, engine.RestoreOptions{DropExisting: true})
	require.Equal(t, errs.CodeDatasourcePermission, errs.CodeOf(err))
	m.Exec(t, "", "SET DEFAULT ROLE restorer "+to+" weak@'127.0.0.1'")
	able, err = e.Preflight(t.Context(), c, engine.RestoreOptions{DropExisting: true})
	require.NoError(t, err)
	require.False(t, able.InPlace)
	require.Len(t, able.Warnings, 1)
	require.Contains(t, able.Warnings[0], "foreign keys of databases that user \"weak\" has no rights to", "what is not known is told")
	able, err = e.Preflight(t.Context(), c, engine.RestoreOptions{DropExisting: true, IncludeTables: []string{"not_there"}})
	require.NoError(t, err)
	require.Empty(t, able.Warnings, "no key leads to what is not there")
	require.NoError(t, e.Restore(t.Context(), c, engine.RestoreOptions{DropExisting: true}, dump), "and they do")
	// What they could not make again is not taken away.
	m.Exec(t, target, "CREATE VIEW of_another AS SELECT 1 AS one; CREATE TRIGGER of_another_too BEFORE INSERT ON a FOR EACH ROW SET NEW.x = 2")
	owned := plain(t, m, target)
	for _, o := range []engine.RestoreOptions{{DropExisting: true}, {DropExisting: true, IncludeTables: []string{"a"}}} {
		err = e.Restore(t.Context(), c, o, dump)
		require.Equal(t, errs.CodeDatasourcePermission, errs.CodeOf(err), "%v", err)
		require.Contains(t, errs.Message(err), "could not make again")
		require.Equal(t, owned, plain(t, m, target))
		require.Empty(t, scratchDatabases(t, m))
	}
	m.Exec(t, target, "DROP VIEW of_another; DROP TRIGGER of_another_too")
	m.Exec(t, "", "SET DEFAULT ROLE NONE "+to+" weak@'127.0.0.1'")
	require.Equal(t, before, plain(t, m, target))
	m.Exec(t, target, "DROP TABLE a")
	require.NoError(t, e.Restore(t.Context(), c, engine.RestoreOptions{}, dump))
	require.Equal(t, before, plain(t, m, target))
	c.Database = absent
	require.NoError(t, e.Restore(t.Context(), c, engine.RestoreOptions{CreateDatabase: true}, dump))
	require.Equal(t, before, strings.ReplaceAll(plain(t, m, absent), absent, target))
}

func TestRoutinesOfAnotherCharacterSetLeaveTheDumpedDatabaseAlone(t *testing.T) {
	m := testkit.MariaDB(t)
	db := m.NewDatabase(t)
	m.Exec(t, db, `ALTER DATABASE CHARACTER SET latin1 COLLATE latin1_german2_ci; CREATE TABLE a (x int);
		CREATE FUNCTION f() RETURNS varchar(10) DETERMINISTIC RETURN 'x'; CREATE TRIGGER tr BEFORE INSERT ON a FOR EACH ROW SET NEW.x = 1;
		CREATE EVENT e ON SCHEDULE EVERY 1 DAY STARTS '2031-01-01 00:00:00' DO SELECT 1; ALTER DATABASE CHARACTER SET utf8mb4 COLLATE utf8mb4_bin`)
	res, dump := dumpOf(t, connTo(m, db), engine.DumpOptions{})
	require.Contains(t, string(dump.Bytes(Member)), "ALTER DATABASE `"+db+"`")
	m.Exec(t, db, "ALTER DATABASE CHARACTER SET ascii COLLATE ascii_bin")
	target := "made_" + db
	t.Cleanup(func() { m.Exec(t, "", "DROP DATABASE IF EXISTS "+target) })
	for _, o := range []engine.RestoreOptions{{CreateDatabase: true}, {DropExisting: true}} {
		require.NoError(t, New(Config{}).Restore(t.Context(), connTo(m, target), o, dump))
		require.Equal(t, res.SchemaDigest, digestAgain(t, connTo(m, target)))
	}
	var collation string
	require.NoError(t, m.DB(t, db).QueryRow("SELECT @@collation_database").Scan(&collation))
	require.Equal(t, "ascii_bin", collation)
}
