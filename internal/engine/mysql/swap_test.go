package mysql

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
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
CREATE FUNCTION people_in(t int) RETURNS int READS SQL DATA RETURN (SELECT count(*) FROM people WHERE town = t);
CREATE EVENT hourly ON SCHEDULE EVERY 1 HOUR STARTS '2031-01-01 00:00:00' COMMENT 'it''s' DO DELETE FROM orders WHERE id < 0;`

// grown is what became of them after the backup.
const grown = `INSERT INTO people VALUES (3, 2, 1), (4, NULL, 3); INSERT INTO orders VALUES (3, 3);
DROP TRIGGER greet; CREATE TRIGGER later AFTER INSERT ON people FOR EACH ROW SET @x = 1; ALTER TABLE people ADD note text;
DROP VIEW a_view_on_it; CREATE OR REPLACE VIEW locals AS SELECT 1 AS one`

func TestTablesAreReplacedAmongOthersWithTheirKeysTriggersAndViews(t *testing.T) {
	m := testkit.MariaDB(t)
	source := m.NewDatabase(t)
	const unasked = "CREATE VIEW people_too AS SELECT id FROM people" // comes right after them in a dump
	m.Exec(t, source, townsPeopleOrders)
	m.Exec(t, source, unasked)
	_, dump := dumpOf(t, connTo(m, source), engine.DumpOptions{})
	target := m.NewDatabase(t)
	m.Exec(t, target, townsPeopleOrders)
	m.Exec(t, target, grown)
	m.Exec(t, target, unasked)
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
	client := toolFor(t, m, clientNames)
	real := client.path
	whole := plain(t, m, source)
	for name, tc := range map[string]struct {
		tables string // to restore; empty means all
		target string // what is there
		does   string // the client, before the process is killed
		held   string // without it, the restored table that is kept from moving
		after  string // the content; empty: what it was
	}{
		"all, before they move":         {target: grown, held: "towns"},
		"all, before the rest":          {target: grown, does: ":", after: whole},
		"all, in the middle of it":      {target: grown, does: "grep -v FUNCTION | " + real + ` "$@"`, after: whole},
		"some, before they move":        {tables: "people,locals,a_view_on_it", target: grown, held: "people"},
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
			if tc.held == "" {
				tools = inPlaceOf(t, client, dying(real, tc.does)) + ":" + tools
			}
			victim := exec.Command(os.Args[0], "-test.run=^TestHelperThatRestores$")
			victim.Env = append(os.Environ(), "RESTORE_FILE="+file, "RESTORE_INTO="+target, "RESTORE_TOOLS="+tools, "RESTORE_TABLES="+tc.tables, "RESTORE_TOKEN="+token,
				fmt.Sprintf("RESTORE_AT=%s %d %s %s", m.Host, m.Port, m.User, m.Password), "TMPDIR="+t.TempDir())
			if tc.held != "" {
				victim.Env = append(victim.Env, "RESTORE_ASKS=yes")
			}
			goOn, err := victim.StdinPipe()
			require.NoError(t, err)
			said, err := victim.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, victim.Start())
			if tc.held != "" {
				asked := bufio.NewScanner(said)
				for asked.Scan() && asked.Text() != question {
					continue
				}
				_, err := holder.ExecContext(t.Context(), "LOCK TABLES "+engine.ScratchPrefix+token+"."+tc.held+" READ")
				require.NoError(t, err)
				require.NoError(t, goOn.Close())
				waits := waitingRename(t, m, target)
				require.NoError(t, victim.Process.Kill())
				m.Exec(t, "", fmt.Sprintf("KILL %d", waits))
				awaitNoRename(t, m, waits)
				_, err = holder.ExecContext(t.Context(), "UNLOCK TABLES")
				require.NoError(t, err)
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

// question is what the process that is killed says before triggers and keys of the
// target go, to wait for its input to end.
const question = "before triggers go"

// waitingRename waits until a RENAME of tables of a database waits, and returns its
// connection.
func waitingRename(t *testing.T, m *testkit.Maria, database string) (id int64) {
	t.Helper()
	require.Eventually(t, func() bool {
		const waiting = "SELECT coalesce(max(id), 0) FROM information_schema.processlist WHERE state LIKE '%metadata lock%' AND info LIKE ?"
		return m.DB(t, "").QueryRow(waiting, "RENAME%"+database+"%").Scan(&id) == nil && id > 0
	}, time.Minute, 20*time.Millisecond, "nothing waits")
	return id
}

// awaitNoRename waits until a connection has given up its RENAME: one that is killed
// and gets its lock before it notices goes on.
func awaitNoRename(t *testing.T, m *testkit.Maria, id int64) {
	t.Helper()
	require.Eventually(t, func() bool {
		left := 1
		const working = "SELECT count(*) FROM information_schema.processlist WHERE id = ? AND info LIKE 'RENAME%'"
		return m.DB(t, "").QueryRow(working, id).Scan(&left) == nil && left == 0
	}, time.Minute, 20*time.Millisecond, "it goes on")
}

// madeAt is when the triggers of a database were made, in hundredths of a second.
func madeAt(t *testing.T, m *testkit.Maria, database string) (all string) {
	t.Helper()
	const query = "SELECT coalesce(group_concat(trigger_name, ' ', created ORDER BY trigger_name), '') FROM information_schema.triggers WHERE trigger_schema = ?"
	require.NoError(t, m.DB(t, "").QueryRow(query, database).Scan(&all))
	return all
}

func TestTablesInUseKeepTheirTriggersAndKeys(t *testing.T) {
	m := testkit.MariaDB(t)
	source, target := m.NewDatabase(t), m.NewDatabase(t)
	m.Exec(t, source, townsPeopleOrders)
	_, dump := dumpOf(t, connTo(m, source), engine.DumpOptions{})
	m.Exec(t, target, townsPeopleOrders)
	m.Exec(t, target, grown)
	before, made := plain(t, m, target), madeAt(t, m, target)
	holder, err := m.DB(t, "").BeginTx(t.Context(), nil)
	require.NoError(t, err)
	defer holder.Rollback() //nolint:errcheck // what it read is of no matter
	var rows int
	require.NoError(t, holder.QueryRow("SELECT count(*) FROM "+target+".orders").Scan(&rows))

	e := New(Config{})
	e.lockPatience = 1
	var log lines
	o := engine.RestoreOptions{DropExisting: true, IncludeTables: []string{"people"}, TempDir: t.TempDir(), Log: log.log}
	err = e.Restore(t.Context(), connTo(m, target), o, dump)
	require.Equal(t, errs.CodeRestoreFailed, errs.CodeOf(err), "%v", err)
	require.Equal(t, errs.Conflict, errs.KindOf(err))
	busy := "orders"
	if m.IsMySQL {
		busy = "(orders|people)" // it locks what refers to a table along with it, and may name that one
	}
	require.Regexp(t, `table "`+busy+`" of database`, errs.Message(err))
	require.Equal(t, before, plain(t, m, target))
	require.Equal(t, made, madeAt(t, m, target), "triggers went and came back")
	require.Empty(t, scratchDatabases(t, m))
	require.Contains(t, log.String(), "trigger later of people, foreign key buyer of orders")
	require.NotContains(t, log.String(), "for a while")

	require.NoError(t, holder.Rollback())
	e.lockPatience = defaultLockPatience
	require.NoError(t, e.Restore(t.Context(), connTo(m, target), o, dump))
	require.Contains(t, plain(t, m, target), "greet")
}

func TestAnExchangeThatIsKilledIsTakenBack(t *testing.T) {
	m := testkit.MariaDB(t)
	source := m.NewDatabase(t)
	m.Exec(t, source, townsPeopleOrders)
	_, dump := dumpOf(t, connTo(m, source), engine.DumpOptions{})
	for name, tc := range map[string]struct {
		tables []string
		kill   string
	}{
		"its statement, of some tables": {[]string{"people"}, "KILL QUERY %d"},
		"its connection, of all tables": {nil, "KILL %d"},
	} {
		t.Run(name, func(t *testing.T) {
			target, token := m.NewDatabase(t), engine.NewScratchSuffix()
			m.Exec(t, target, townsPeopleOrders)
			m.Exec(t, target, grown)
			before := plain(t, m, target)
			holder, err := m.DB(t, "").Conn(t.Context())
			require.NoError(t, err)
			defer holder.Close() //nolint:errcheck // the server ends what it holds
			var log lines
			about, goOn := make(chan struct{}), make(chan struct{})
			o := engine.RestoreOptions{DropExisting: true, IncludeTables: tc.tables, Token: token, TempDir: t.TempDir()}
			o.Log = func(level engine.Level, message string) {
				if log.log(level, message); strings.Contains(message, "about to be exchanged") {
					close(about)
					<-goOn
				}
			}
			e := New(Config{})
			e.lockPatience = 300
			ended := make(chan error, 1)
			var working sync.WaitGroup
			defer working.Wait()                                                          // after the tables were given back, also when an assertion fails
			defer holder.ExecContext(context.WithoutCancel(t.Context()), "UNLOCK TABLES") //nolint:errcheck // the end of the session does it, too
			open := sync.OnceFunc(func() { close(goOn) })
			defer open()
			working.Go(func() { ended <- e.Restore(t.Context(), connTo(m, target), o, dump) })
			select {
			case <-about:
			case err := <-ended:
				require.Failf(t, "it never came to the exchange", "%v", err)
			}
			_, err = holder.ExecContext(t.Context(), "LOCK TABLES "+engine.ScratchPrefix+token+".people READ")
			require.NoError(t, err)
			open()
			id := waitingRename(t, m, target)
			m.Exec(t, "", fmt.Sprintf(tc.kill, id))
			awaitNoRename(t, m, id)
			_, err = holder.ExecContext(t.Context(), "UNLOCK TABLES")
			require.NoError(t, err)
			err = <-ended
			require.Equal(t, errs.CodeRestoreFailed, errs.CodeOf(err), "%v", err)
			require.NotErrorIs(t, err, engine.ErrUnsettled)
			require.Equal(t, before, plain(t, m, target))
			require.Empty(t, scratchDatabases(t, m))
			require.Contains(t, log.String(), "for a while it was without triggers")
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
	c := engine.Conn{Database: os.Getenv("RESTORE_INTO"), SSLMode: engine.SSLDisable}
	_, err = fmt.Sscan(os.Getenv("RESTORE_AT"), &c.Host, &c.Port, &c.Username, &c.Password)
	require.NoError(t, err)
	var dump enginetest.Memory
	dump.Put(Member, text)
	o := engine.RestoreOptions{DropExisting: true, CreateDatabase: true, Token: os.Getenv("RESTORE_TOKEN"), TempDir: os.TempDir()}
	if os.Getenv("RESTORE_ASKS") != "" {
		o.Log = func(_ engine.Level, message string) {
			if strings.Contains(message, "about to be exchanged") {
				fmt.Println(question)
				_, _ = io.Copy(io.Discard, os.Stdin) // until it ends
			}
		}
	}
	if tables := os.Getenv("RESTORE_TABLES"); tables != "" {
		o.IncludeTables = strings.Split(tables, ",")
	}
	require.NoError(t, New(Config{BinDirs: strings.Split(os.Getenv("RESTORE_TOOLS"), ":")}).Restore(context.Background(), c, o, &dump))
}

// What comes after the tables have moved, or takes the place of what was dropped
// before, waits with all others behind it.
func TestWhatBelongsToTablesInUseIsNotWaitedForWithoutEnd(t *testing.T) {
	m := testkit.MariaDB(t)
	db := m.NewDatabase(t)
	m.Exec(t, db, "CREATE TABLE a (x int)")
	holder, err := m.DB(t, "").Conn(t.Context())
	require.NoError(t, err)
	defer holder.Close() //nolint:errcheck // the server ends what it holds
	_, err = holder.ExecContext(t.Context(), "LOCK TABLES "+db+".a READ")
	require.NoError(t, err)

	e := New(Config{})
	e.lockPatience = 1
	r := &restore{engine: e, conn: connTo(m, db), dir: t.TempDir()}
	s, err := e.connect(t.Context(), r.conn, "", patient)
	require.NoError(t, err)
	defer s.close()
	r.server, err = s.serverInfo(t.Context())
	require.NoError(t, err)
	r.tool, err = e.tools.choose(t.Context(), clientNames[:], r.server)
	require.NoError(t, err)

	const made = "CREATE TRIGGER tr BEFORE INSERT ON a FOR EACH ROW SET NEW.x = 1"
	err = r.runText(t.Context(), db, []byte(made+";\n-- Dump completed\n"))
	require.Equal(t, errs.CodeRestoreFailed, errs.CodeOf(err), "%v", err)
	require.Contains(t, errs.Message(err), "is used by somebody")

	collation, err := s.collationOf(t.Context(), db)
	require.NoError(t, err)
	w := &swap{Target: db, Triggers: []trigger{{Name: "tr", Table: "a", Client: "utf8mb4", Collation: "utf8mb4_general_ci", Default: collation, Statement: []byte(made)}}}
	err = w.backUnmoved(t.Context(), r, s)
	require.True(t, isBusy(err), "%v", err)
	require.Empty(t, madeAt(t, m, db))
	_, err = holder.ExecContext(t.Context(), "UNLOCK TABLES")
	require.NoError(t, err)
	require.NoError(t, w.backUnmoved(t.Context(), r, s), "and it may be tried again")
	require.Contains(t, madeAt(t, m, db), "tr ")
}
