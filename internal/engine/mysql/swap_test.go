package mysql

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/engine/enginetest"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

// Tables in the middle: people refer to towns and are referred to by orders.
const townsPeopleOrders = `CREATE TABLE towns (id int PRIMARY KEY, name varchar(20)); INSERT INTO towns VALUES (1, 'Ulm'), (2, 'Bern');
CREATE TABLE people (id int PRIMARY KEY, town int, boss int, KEY t (town), KEY b (boss),
	CONSTRAINT lives FOREIGN KEY (town) REFERENCES towns (id) ON DELETE SET NULL ON UPDATE CASCADE, CONSTRAINT reports FOREIGN KEY (boss) REFERENCES people (id));
INSERT INTO people VALUES (1, 1, NULL), (2, 2, 1);
CREATE TABLE orders (id int PRIMARY KEY, person int, KEY p (person), CONSTRAINT buyer FOREIGN KEY (person) REFERENCES people (id) ON DELETE CASCADE);
INSERT INTO orders VALUES (1, 1), (2, 2);
CREATE TRIGGER greet BEFORE INSERT ON people FOR EACH ROW SET NEW.town = coalesce(NEW.town, 1);
CREATE TRIGGER count_orders BEFORE INSERT ON orders FOR EACH ROW SET NEW.id = NEW.id;
CREATE VIEW locals AS SELECT p.id FROM people p JOIN towns t ON t.id = p.town; CREATE VIEW a_view_on_it AS SELECT * FROM locals;
CREATE FUNCTION people_in(t int) RETURNS int READS SQL DATA RETURN (SELECT count(*) FROM people WHERE town = t);`

// grown is what became of them after the backup.
const grown = `INSERT INTO people VALUES (3, 2, 1), (4, NULL, 3); INSERT INTO orders VALUES (3, 3);
DROP TRIGGER greet; CREATE TRIGGER later AFTER INSERT ON people FOR EACH ROW SET @x = 1; ALTER TABLE people ADD note text;
DROP VIEW a_view_on_it; CREATE OR REPLACE VIEW locals AS SELECT 1 AS one`

func TestTablesAreReplacedAmongOthersWithTheirKeysTriggersAndViews(t *testing.T) {
	m := testkit.MariaDB(t)
	source := m.NewDatabase(t)
	m.Exec(t, source, townsPeopleOrders)
	_, dump := dumpOf(t, connTo(m, source), engine.DumpOptions{})
	target := m.NewDatabase(t)
	m.Exec(t, target, townsPeopleOrders)
	m.Exec(t, target, grown)
	before := plain(t, m, target)
	busy := m.DB(t, target)
	require.NoError(t, busy.Ping())

	restore := func(o engine.RestoreOptions) error {
		o.TempDir = t.TempDir()
		return New(Config{}).Restore(t.Context(), connTo(m, target), o, dump)
	}
	require.Error(t, restore(engine.RestoreOptions{IncludeTables: []string{"people"}}), "it is there")
	require.Equal(t, before, plain(t, m, target))
	require.NoError(t, restore(engine.RestoreOptions{DropExisting: true, IncludeTables: []string{"people", target + ".a_view_on_it", "locals"}}))
	require.Empty(t, scratchDatabases(t, m))

	m.Exec(t, target, "DELETE FROM orders WHERE id = 3") // which stayed, as its key was not asked
	require.Equal(t, plain(t, m, source), plain(t, m, target))
	for _, refused := range []string{"INSERT INTO orders VALUES (9, 99)", "INSERT INTO people VALUES (9, 99, NULL)"} {
		_, err := m.DB(t, target).Exec(refused)
		require.ErrorContains(t, err, "foreign key constraint fails", refused)
	}
	require.NoError(t, busy.Ping(), "nobody's session was ended")

	// Into a database that has none of it, keys to what is not there are left out.
	empty := m.NewDatabase(t)
	var log lines
	require.NoError(t, New(Config{}).Restore(t.Context(), connTo(m, empty), engine.RestoreOptions{IncludeTables: []string{"people"}, Log: log.log}, dump))
	require.Contains(t, log.String(), "lives")
	m.Exec(t, empty, "INSERT INTO people VALUES (9, 99, NULL)")
	_, err := m.DB(t, empty).Exec("INSERT INTO people VALUES (10, 99, 77)")
	require.ErrorContains(t, err, "reports")

	m.Exec(t, empty, "DROP TABLE people; CREATE VIEW people AS SELECT 1")
	err = New(Config{}).Restore(t.Context(), connTo(m, empty), engine.RestoreOptions{DropExisting: true, IncludeTables: []string{"people"}}, dump)
	require.Equal(t, errs.CodeRestoreFailed, errs.CodeOf(err), "%v", err)
	require.Contains(t, errs.Message(err), `"people" is a view`)
	require.Empty(t, scratchDatabases(t, m))
}

// dying is a client of which the second run, which makes what belongs to the tables,
// does what is said and kills the process that wanted it.
func dying(real, does string) string {
	return `n=$(cat "$0.n" 2>/dev/null || echo 0); echo $((n+1)) > "$0.n"; [ $n = 1 ] && { ` + does + `; kill -9 $PPID; exit 1; }; exec ` + real + ` "$@"`
}

func TestARestoreThatIsKilledWhileItsTablesMoveIsFinishedOrTakenBack(t *testing.T) {
	m := testkit.MariaDB(t)
	source := m.NewDatabase(t)
	m.Exec(t, source, townsPeopleOrders)
	_, dump := dumpOf(t, connTo(m, source), engine.DumpOptions{})
	file := filepath.Join(t.TempDir(), "dump")
	require.NoError(t, os.WriteFile(file, dump.Bytes(Member), 0o600))
	real, err := exec.LookPath("mariadb")
	require.NoError(t, err)
	whole := plain(t, m, source)
	for name, tc := range map[string]struct {
		tables string // to restore; empty means all
		target string // what is there
		does   string // the client, before the process is killed
		held   string // without it, the table that keeps tables from moving
		after  string // the content; empty: what it was
	}{
		"all, before they move":         {target: grown, held: "towns"},
		"all, before the rest":          {target: grown, does: ":", after: whole},
		"all, in the middle of it":      {target: grown, does: "grep -v FUNCTION | " + real + ` "$@"`, after: whole},
		"some, before they move":        {tables: "people,locals,a_view_on_it", target: grown, held: "orders"},
		"some, in the middle of it":     {tables: "people,locals,a_view_on_it", target: grown + "; DELETE FROM orders WHERE id = 3", does: "grep -v VIEW | " + real + ` "$@"`, after: whole},
		"into an empty one, in between": {target: "empty", does: ":", after: whole},
		"into a new one, in between":    {target: "absent", does: ":", after: whole},
	} {
		t.Run(name, func(t *testing.T) {
			target, token := m.NewDatabase(t), engine.NewScratchSuffix()
			switch tc.target {
			case "empty":
			case "absent":
				m.Exec(t, "", "DROP DATABASE "+target)
			default:
				m.Exec(t, target, townsPeopleOrders)
				m.Exec(t, target, tc.target)
			}
			before := ""
			if tc.after == "" {
				before = plain(t, m, target)
			}
			tools := filepath.Dir(real)
			holder, err := m.DB(t, "").Conn(t.Context())
			require.NoError(t, err)
			defer holder.Close() //nolint:errcheck // the server ends what it holds
			if tc.held != "" {
				_, err := holder.ExecContext(t.Context(), "LOCK TABLES "+target+"."+tc.held+" READ")
				require.NoError(t, err)
			} else {
				tools = fakeTool(t, "mariadb", mariaLine, dying(real, tc.does)) + ":" + tools
			}
			victim := exec.Command(os.Args[0], "-test.run=^TestHelperThatRestores$")
			victim.Env = append(os.Environ(), "RESTORE_FILE="+file, "RESTORE_INTO="+target, "RESTORE_TOOLS="+tools, "RESTORE_TABLES="+tc.tables, "RESTORE_TOKEN="+token,
				fmt.Sprintf("RESTORE_AT=%s %d %s %s", m.Host, m.Port, m.User, m.Password), "TMPDIR="+t.TempDir())
			require.NoError(t, victim.Start())
			if tc.held != "" {
				var waits int
				require.Eventually(t, func() bool {
					const waiting = "SELECT coalesce(max(id), 0) FROM information_schema.processlist WHERE state LIKE '%metadata lock%' AND info LIKE ?"
					require.NoError(t, m.DB(t, "").QueryRow(waiting, "%"+target+"%").Scan(&waits))
					return waits > 0
				}, time.Minute, 20*time.Millisecond, "nothing waits")
				require.NoError(t, victim.Process.Kill())
				m.Exec(t, "", fmt.Sprintf("KILL %d", waits))
				require.NoError(t, holder.Close())
			}
			require.Error(t, victim.Wait())
			require.NotEmpty(t, scratchDatabases(t, m))
			var log lines
			c := connTo(m, target)
			require.Eventually(t, func() bool { // the server needs a moment to see that nobody is there any more
				err := New(Config{}).Sweep(t.Context(), c, token, log.log)
				require.True(t, err == nil || errs.CodeOf(err) == errs.CodeConflict, "%v", err)
				return err == nil
			}, time.Minute, 20*time.Millisecond)
			require.Empty(t, scratchDatabases(t, m))
			if tc.after == "" {
				require.Contains(t, log.String(), "was taken back")
				require.Equal(t, before, plain(t, m, target))
			} else {
				require.Contains(t, log.String(), "is wholly restored")
				require.Equal(t, tc.after, plain(t, m, target))
			}
		})
	}
}

// TestHelperThatRestores is the process that is killed.
func TestHelperThatRestores(t *testing.T) {
	file := os.Getenv("RESTORE_FILE")
	if file == "" {
		return
	}
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	c := engine.Conn{Type: engine.MariaDB, Database: os.Getenv("RESTORE_INTO"), SSLMode: engine.SSLDisable}
	_, err = fmt.Sscan(os.Getenv("RESTORE_AT"), &c.Host, &c.Port, &c.Username, &c.Password)
	require.NoError(t, err)
	var dump enginetest.Memory
	dump.Put(Member, text)
	o := engine.RestoreOptions{DropExisting: true, CreateDatabase: true, Token: os.Getenv("RESTORE_TOKEN"), TempDir: os.TempDir()}
	if tables := os.Getenv("RESTORE_TABLES"); tables != "" {
		o.IncludeTables = strings.Split(tables, ",")
	}
	require.NoError(t, New(Config{BinDirs: strings.Split(os.Getenv("RESTORE_TOOLS"), ":")}).Restore(context.Background(), c, o, &dump))
}
