package mysql

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/engine/enginetest"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

// A refusal that could be known before costs nobody a session, and no load.
func TestWhatKeepsADatabaseFromBeingReplacedIsFoundBeforeTheLoad(t *testing.T) {
	m := testkit.MariaDB(t)
	_, num := parseNumber(m.Version)
	source := m.NewDatabase(t)
	m.Exec(t, source, "CREATE TABLE a (x int PRIMARY KEY); INSERT INTO a SELECT seq FROM seq_1_to_20000")
	_, dump := dumpOf(t, connTo(m, source), engine.DumpOptions{})
	m.Exec(t, "", "CREATE USER careful@'127.0.0.1' IDENTIFIED BY 'careful-password'; GRANT ALL ON `dg\\_%`.* TO careful@'127.0.0.1'")
	t.Cleanup(func() { m.Exec(t, "", "DROP USER careful@'127.0.0.1'") })
	onlyClient := fakeTool(t, "mysql", "mysql  Ver 10.11.19-MariaDB", "exit 1")

	type refusal struct {
		makes     string // in the target
		elsewhere string // in another database, %s being the target
		e         *Engine
		weak      bool
		code      errs.Code
		says      string
		preflight bool // which tells it, too
	}
	cases := map[string]refusal{
		"no tool for what is made anew": {e: New(Config{BinDirs: []string{onlyClient}}), code: errs.CodeDumpToolMissing, says: "no mariadb-dump or mysqldump", preflight: true},
		"a view of another user":        {makes: "CREATE VIEW of_another AS SELECT 1 AS one", e: New(Config{}), weak: true, code: errs.CodeDatasourcePermission, says: "could not make again"},
		"a key of another database":     {elsewhere: "CREATE TABLE b (x int, FOREIGN KEY (x) REFERENCES %s.a (x))", e: New(Config{}), code: errs.CodeRestoreFailed, says: "foreign keys of other databases"},
	}
	switch {
	case !m.IsMySQL:
		cases["a package and the other's tool"] = refusal{makes: "SET sql_mode = ORACLE; CREATE PACKAGE pack AS PROCEDURE p; END", e: toolsOfTheOtherKind(t, m), code: errs.CodeDumpToolMissing, says: `"pack" is a package`, preflight: true}
	case num >= 90200:
		cases["a library and the other's tool"] = refusal{makes: "CREATE LIBRARY lib LANGUAGE JAVASCRIPT AS 'export function f(n) { return n }'", e: toolsOfTheOtherKind(t, m), code: errs.CodeDumpToolMissing, says: `"lib" is a library`, preflight: true}
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			target, other := m.NewDatabase(t), m.NewDatabase(t)
			m.Exec(t, target, "CREATE TABLE a (x int PRIMARY KEY); INSERT INTO a VALUES (-1)")
			if tc.makes != "" {
				m.Exec(t, target, tc.makes)
			}
			if tc.elsewhere != "" {
				m.Exec(t, other, fmt.Sprintf(tc.elsewhere, target))
				t.Cleanup(func() { m.Exec(t, "", "DROP DATABASE "+other) }) // before the target
			}
			before := plain(t, m, target)
			session, err := m.DB(t, target).Conn(t.Context())
			require.NoError(t, err)
			defer session.Close() //nolint:errcheck // it only goes back to its pool
			c, o := connTo(m, target), engine.RestoreOptions{DropExisting: true, TempDir: t.TempDir()}
			if tc.weak {
				m.Exec(t, "", "GRANT ALL ON "+target+".* TO careful@'127.0.0.1'")
				c.Username, c.Password = "careful", "careful-password"
			}
			if tc.preflight {
				_, err := tc.e.Preflight(t.Context(), c, o)
				require.Equal(t, tc.code, errs.CodeOf(err), "%v", err)
				require.Contains(t, errs.Message(err), tc.says)
			}
			var read int64
			src := enginetest.Memory{OnRead: func(_ string, n int64) error { read = max(read, n); return nil }}
			src.Put(Member, dump.Bytes(Member))
			err = tc.e.Restore(t.Context(), c, o, &src)
			require.Equal(t, tc.code, errs.CodeOf(err), "%v", err)
			require.Contains(t, errs.Message(err), tc.says)
			require.LessOrEqual(t, read, int64(headSize), "nothing was loaded")
			require.NoError(t, session.PingContext(t.Context()), "nobody's session was ended")
			require.Equal(t, before, plain(t, m, target))
			require.Empty(t, scratchDatabases(t, m))
		})
	}
}
