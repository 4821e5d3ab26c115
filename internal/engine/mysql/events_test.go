package mysql

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/engine/enginetest"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

// ticking writes down where it runs, in a table of another database.
const ticking = `CREATE TABLE people (id int PRIMARY KEY);
CREATE EVENT ` + "`tick ``s`" + ` ON SCHEDULE EVERY 1 SECOND ON COMPLETION PRESERVE COMMENT 'it''s' DO BEGIN INSERT INTO witness.ticks VALUES (database()); END;
SET time_zone = '+05:00', sql_mode = 'ANSI_QUOTES'; CREATE EVENT later ON SCHEDULE AT '2036-01-01 00:00:00' DO BEGIN SET @x = 1; END; SET time_zone = DEFAULT, sql_mode = DEFAULT;
CREATE EVENT off ON SCHEDULE EVERY 1 SECOND DISABLE DO INSERT INTO witness.ticks VALUES ('off');`

// overSince is of events whose time has passed, which servers make only at an earlier one.
const overSince = `SET time_zone = '-03:00', timestamp = 1000000000;
CREATE EVENT over_once ON SCHEDULE AT '2020-01-01 00:00:00' DO INSERT INTO witness.ticks VALUES ('once');
CREATE EVENT over_kept ON SCHEDULE AT '2020-01-01 00:00:00' ON COMPLETION PRESERVE DO INSERT INTO witness.ticks VALUES ('kept');
CREATE EVENT over_every ON SCHEDULE EVERY '1:30' HOUR_MINUTE STARTS '2010-01-01 00:00:00' ENDS '2020-01-01 00:00:00' DO INSERT INTO witness.ticks VALUES ('every');
SET time_zone = DEFAULT, timestamp = DEFAULT`

func TestEventsRunInTheTargetOnly(t *testing.T) {
	m := testkit.NewMariaDB(t, testkit.WithFlag("--event-scheduler=OFF"))
	m.Exec(t, "", `CREATE DATABASE witness; CREATE DATABASE source; CREATE DATABASE target; CREATE TABLE witness.ticks (place varchar(64)); CREATE TABLE witness.clock (n int);
		CREATE EVENT witness.clock ON SCHEDULE EVERY 1 SECOND DO INSERT INTO witness.clock VALUES (1)`)
	m.Exec(t, "source", ticking)
	m.Exec(t, "source", overSince)
	res, dump := dumpOf(t, connTo(m, "source"), engine.DumpOptions{})
	var slow enginetest.Memory // which leaves events the time to run
	slow.Put(Member, bytes.Replace(dump.Bytes(Member), []byte(footerBegin), []byte("DO SLEEP(3);\n"+footerBegin), 1))
	m.Exec(t, "target", otherContent)
	m.Exec(t, "source", "DROP EVENT over_once; DROP EVENT over_every; ALTER EVENT over_kept DISABLE")
	m.Exec(t, "", "SET GLOBAL event_scheduler = ON")
	count := func(query string) (n int) {
		require.NoError(t, m.DB(t, "").QueryRow(query).Scan(&n))
		return n
	}
	const clock = "SELECT count(*) FROM witness.clock"
	awaitTicks := func() {
		from := count(clock)
		require.Eventually(t, func() bool { return count(clock) > from+2 }, time.Minute, 50*time.Millisecond)
	}

	e := New(Config{})
	var log lines
	verification := engine.RestoreOptions{CreateDatabase: true, Inert: true, TempDir: t.TempDir(), Log: log.log}
	require.NoError(t, e.Restore(t.Context(), connTo(m, "source_verify_1"), verification, &slow))
	awaitTicks()
	const everywhere = "SELECT count(*) FROM witness.ticks WHERE place <> 'source'"
	require.Zero(t, count(everywhere), "a copy acts on what is not its own")
	digest := func(database string) engine.SchemaDigest {
		d, err := e.DigestSchema(t.Context(), connTo(m, database), res.SchemaDigest, t.TempDir())
		require.NoError(t, err)
		return d
	}
	require.Equal(t, res.SchemaDigest, digest("source_verify_1"), "with what is over, and what is enabled")
	require.Contains(t, log.String(), "are disabled there")
	require.Contains(t, log.String(), "later")
	require.NotContains(t, log.String(), "off")
	require.Zero(t, count("SELECT count(*) FROM information_schema.events WHERE event_schema = 'source_verify_1' AND status = 'ENABLED'"))
	m.Exec(t, "source_verify_1", "ALTER EVENT later COMMENT 'another'")
	require.NotEqual(t, res.SchemaDigest, digest("source_verify_1"))
	require.NoError(t, e.DropDatabase(t.Context(), connTo(m, "source_verify_1")))
	require.Empty(t, e.inert)

	log = lines{}
	require.NoError(t, e.Restore(t.Context(), connTo(m, "target"), engine.RestoreOptions{DropExisting: true, TempDir: t.TempDir(), Log: log.log}, &slow))
	require.Zero(t, count("SELECT count(*) FROM witness.ticks WHERE place NOT IN ('source', 'target')"), "a scratch database acts on what is not its own")
	require.Contains(t, log.String(), "has passed: over_every, over_once")
	require.Equal(t, plain(t, m, "source"), plain(t, m, "target"), "as they were dumped")
	require.Eventually(t, func() bool { return count("SELECT count(*) FROM witness.ticks WHERE place = 'target'") > 0 }, time.Minute, 50*time.Millisecond, "and they run")

	require.NoError(t, e.Restore(t.Context(), connTo(m, "asked_for"), engine.RestoreOptions{CreateDatabase: true, TempDir: t.TempDir()}, dump))
	require.Equal(t, plain(t, m, "source"), plain(t, m, "asked_for"))
}

func TestAVerificationByAUserOfOneDatabaseRunsNoEvents(t *testing.T) {
	// Nor need anybody be allowed to set the clock of a session.
	m := testkit.NewMariaDB(t, testkit.WithFlag("--event-scheduler=OFF"), testkit.WithFlag("--loose-secure-timestamp=YES"))
	m.Exec(t, "", "CREATE DATABASE witness; CREATE DATABASE source; CREATE TABLE witness.ticks (place varchar(64))")
	m.Exec(t, "source", strings.ReplaceAll(ticking, "DO BEGIN", "DO\nBEGIN"))
	res, dump := dumpOf(t, connTo(m, "source"), engine.DumpOptions{})
	m.Exec(t, "", "CREATE USER weak@'127.0.0.1' IDENTIFIED BY 'weak-password'; GRANT ALL ON source_verify.* TO weak@'127.0.0.1'; GRANT ALL ON source.* TO weak@'127.0.0.1'")
	c := connTo(m, "source_verify")
	c.Username, c.Password = "weak", "weak-password"
	var ours enginetest.Memory
	ours.Put(Member, bytes.ReplaceAll(dump.Bytes(Member), []byte("DEFINER=`root`@`127.0.0.1`"), []byte("DEFINER=`weak`@`127.0.0.1`")))
	e := New(Config{})
	require.NoError(t, e.Restore(t.Context(), c, engine.RestoreOptions{CreateDatabase: true, Inert: true, TempDir: t.TempDir()}, &ours))
	d, err := e.DigestSchema(t.Context(), c, res.SchemaDigest, t.TempDir())
	require.NoError(t, err)
	require.Equal(t, res.SchemaDigest, d)
	var enabled int
	require.NoError(t, m.DB(t, "").QueryRow("SELECT count(*) FROM information_schema.events WHERE event_schema = 'source_verify' AND status = 'ENABLED'").Scan(&enabled))
	require.Zero(t, enabled)
}

func TestOnlyTheStatementsOfEventsAreSetAside(t *testing.T) {
	const settings = "/*!50106 SET @save_time_zone= @@TIME_ZONE */ ;\n/*!50106 DROP EVENT IF EXISTS `a\nb` */;\nDELIMITER ;;\n/*!50003 SET time_zone = 'SYSTEM' */ ;;\n"
	const made = "/*!50106 CREATE*/ /*!50117 DEFINER=`x`@`%`*/ /*!50106 EVENT `a\nb` ON SCHEDULE EVERY 1 DAY ENDS '2020-01-01 00:00:00' ON COMPLETION NOT PRESERVE ENABLE DO begin\n-- ENABLE\nend */ ;;\n"
	const odd = "/*!50106 CREATE*/ /*!50106 EVENT `odd` ON SCHEDULE WHENEVER\nIT RAINS */ ;;\n"
	const after = "DELIMITER ;\n/*!50106 SET TIME_ZONE= @save_time_zone */ ;\n"
	const section = eventsOf + "shop'\n--\n" + settings + made + odd + after
	// A name may say that a section begins where it does not.
	const forged = "DROP TABLE IF EXISTS `\n--\n" + eventsOf + "x'\n`;\nCREATE TABLE `\n--\n" + eventsOf + "x'\n` (x int);\n"
	text := headOfText + forged + textOfTowns + "--\n" + section + "--\n-- Dumping routines for database 'shop'\n--\n" + finalOfTownsV + footOfText
	off := strings.Replace(made, " ENABLE", " DISABLE", 1)
	for name, tc := range map[string]struct {
		aside, inert bool
		want         string // in place of what makes events
	}{
		"beside": {aside: true, want: off},
		"inert": {inert: true, want: "SET SESSION timestamp = GREATEST(1, LEAST(UNIX_TIMESTAMP(), UNIX_TIMESTAMP('2020-01-01 00:00:00') - 1)) ;;\n" +
			off + "SET SESSION timestamp = DEFAULT ;;\n"},
		"in place": {want: made + odd},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFilter(iotest.OneByteReader(strings.NewReader(text)), "shop", nil)
			f.setAside, f.inert, f.events.clock = tc.aside, tc.inert, true
			raw, err := io.ReadAll(f)
			require.NoError(t, err)
			require.Equal(t, strings.Replace(text, made+odd, tc.want, 1), string(raw))
			aside := f.events.text.String()
			if !tc.aside {
				require.Empty(t, aside)
				return
			}
			require.NotContains(t, aside, "TABLE")
			require.NotContains(t, aside, "VIEW")
			require.Contains(t, aside, settings+made+odd+after)
			require.Equal(t, []string{"a\nb"}, f.events.names)
			require.Equal(t, []string{"`a\nb`"}, f.events.disabled)
			require.Equal(t, 1, f.events.strange)
		})
	}
}
