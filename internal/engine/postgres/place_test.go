package postgres

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/engine/enginetest"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/process"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

const rolePassword = "role-password"

// newRole makes a role that may log in, with these options.
func newRole(t *testing.T, pg *testkit.PG, options string) string {
	t.Helper()
	role := "role_" + engine.NewScratchSuffix()
	pg.Exec(t, "postgres", "CREATE ROLE "+role+" LOGIN PASSWORD '"+rolePassword+"' "+options)
	t.Cleanup(func() { pg.Exec(t, "postgres", "DROP ROLE "+role) })
	return role
}

// newDatabaseOf makes a database of a role's.
func newDatabaseOf(t *testing.T, pg *testkit.PG, role string) string {
	t.Helper()
	db := pg.NewDatabase(t)
	t.Cleanup(func() {
		pg.Exec(t, db, "DROP OWNED BY "+role)
		pg.Exec(t, "postgres", "ALTER DATABASE "+db+" OWNER TO postgres")
	})
	pg.Exec(t, "postgres", "ALTER DATABASE "+db+" OWNER TO "+role)
	return db
}

func connAs(pg *testkit.PG, database, role string) engine.Conn {
	c := connTo(pg, database)
	c.Username, c.Password = role, rolePassword
	return c
}

// sessionAs opens a session, of the superuser without a role.
func sessionAs(ctx context.Context, pg *testkit.PG, database, role, application string) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(pg.DSN(database))
	if err != nil {
		return nil, err
	}
	if role != "" {
		cfg.User, cfg.Password = role, rolePassword
	}
	cfg.RuntimeParams["application_name"] = application
	return pgx.ConnectConfig(ctx, cfg)
}

// monitor holds a session on every database that lets it in, and looks every 50 ms for
// those it has none on.
type monitor struct {
	entered map[string]int // how often it got into each database
}

func monitorAll(t *testing.T, pg *testkit.PG, role string) (stop func() monitor) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	m := monitor{entered: map[string]int{}}
	var watching sync.WaitGroup
	watching.Go(func() {
		sessions := map[string]*pgx.Conn{}
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			m.look(ctx, pg, role, sessions)
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
		for s := range maps.Values(sessions) {
			_ = s.Close(context.WithoutCancel(ctx)) // the server may have ended it
		}
	})
	stop = sync.OnceValue(func() monitor {
		cancel()
		watching.Wait()
		return m
	})
	t.Cleanup(func() { stop() })
	return stop
}

func (m *monitor) look(ctx context.Context, pg *testkit.PG, role string, sessions map[string]*pgx.Conn) {
	for name, s := range sessions {
		if s.Ping(ctx) != nil {
			_ = s.Close(ctx) // the server has ended it
			delete(sessions, name)
		}
	}
	main := sessions["postgres"]
	names := []string{"postgres"}
	if main != nil {
		rows, err := main.Query(ctx, "SELECT datname FROM pg_database WHERE datallowconn")
		if err != nil {
			return
		}
		if names, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
			return
		}
	}
	for _, name := range names {
		if sessions[name] != nil {
			continue
		}
		if s, err := sessionAs(ctx, pg, name, role, "monitor"); err == nil {
			sessions[name] = s
			m.entered[name]++
		}
	}
}

func TestAMonitorThatHoldsASessionOnEveryDatabaseIsNotInTheWay(t *testing.T) {
	pg := testkit.NewPostgres(t)
	for name, options := range map[string]string{"any role's": "", "a superuser's": "SUPERUSER"} {
		t.Run(name, func(t *testing.T) {
			db := pg.NewDatabase(t)
			pg.Exec(t, db, "CREATE TABLE a AS SELECT 1 AS x")
			_, dump := dumpOf(t, connTo(pg, db), engine.DumpOptions{})
			stop := monitorAll(t, pg, newRole(t, pg, options))
			absent := "absent_" + engine.NewScratchSuffix()
			t.Cleanup(func() { pg.Exec(t, "postgres", "DROP DATABASE IF EXISTS "+absent+" WITH (FORCE)") })
			var tokens []string
			for target, o := range map[string]engine.RestoreOptions{db: {DropExisting: true}, absent: {CreateDatabase: true}} {
				o.Token, o.TempDir = engine.NewScratchSuffix(), t.TempDir()
				tokens = append(tokens, o.Token)
				require.NoError(t, New(Config{}).Restore(t.Context(), connTo(pg, target), o, dump))
				require.True(t, isRestored(t, pg, target, "SELECT x = 1 FROM a"))
				var all bool
				require.NoError(t, pg.Conn(t, "postgres").QueryRow(t.Context(), "SELECT has_database_privilege('pg_monitor', $1, 'CONNECT')", target).Scan(&all))
				require.True(t, all, "who might connect before may not any more")
			}
			m := stop()
			require.Positive(t, m.entered[db])
			if options == "" {
				for _, token := range tokens {
					require.Zero(t, m.entered[engine.ScratchPrefix+token], "it was let in")
				}
			}
		})
	}
}

// A session of a superuser on the scratch database, which a superuser may end.
func TestAGuestOfTheScratchDatabaseThatDoesNotLeaveIsEndedAndNamed(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	pg.Exec(t, db, "CREATE TABLE a AS SELECT 1 AS x")
	_, dump := dumpOf(t, connTo(pg, db), engine.DumpOptions{})
	role := newRole(t, pg, "SUPERUSER")
	var log lines
	o := engine.RestoreOptions{DropExisting: true, Token: engine.NewScratchSuffix(), TempDir: t.TempDir(), Log: log.log}
	guest := scratchGuest(t, pg, dump, o.Token, role)
	require.NoError(t, New(Config{}).Restore(t.Context(), connTo(pg, db), o, dump))
	require.Error(t, guest().Ping(t.Context()))
	require.Contains(t, log.String(), "1 sessions of others in database "+engine.ScratchPrefix+o.Token)
	require.Contains(t, log.String(), `user "`+role+`" (application "guest" from 127.0.0.1)`)
	_ = guest().Close(t.Context()) // the server has ended it
}

// Whoever keeps the restored database from its place, nobody loses a session for it.
func TestWhoKeepsARestoredDatabaseFromItsPlaceIsNamedAndNobodyIsSentAway(t *testing.T) {
	pg := testkit.Postgres(t)
	plainRole := newRole(t, pg, "CREATEDB IN ROLE pg_monitor")
	db := newDatabaseOf(t, pg, plainRole)
	pg.Exec(t, db, "CREATE TABLE a AS SELECT 1 AS x")
	_, dump := dumpOf(t, connTo(pg, db), engine.DumpOptions{})
	super := newRole(t, pg, "SUPERUSER")
	e := New(Config{})
	e.placePatience = 0
	for _, where := range []string{"on the fresh database", "on the old database"} {
		t.Run(where, func(t *testing.T) {
			user, err := sessionAs(t.Context(), pg, db, plainRole, "shop")
			require.NoError(t, err)
			defer func() { require.NoError(t, user.Close(context.Background())) }()
			before := plain(t, pg, db)
			var log lines
			o := engine.RestoreOptions{DropExisting: true, Token: engine.NewScratchSuffix(), TempDir: t.TempDir(), Log: log.log}
			says := "databases named dg_restore_"
			var guest func() *pgx.Conn
			if where == "on the old database" {
				says = `user "` + plainRole + `" may not end`
				s, err := sessionAs(t.Context(), pg, db, super, "guest")
				require.NoError(t, err)
				guest = func() *pgx.Conn { return s }
				found, err := e.Preflight(t.Context(), connAs(pg, db, plainRole), o)
				require.NoError(t, err)
				require.Len(t, found.Warnings, 1)
				require.Contains(t, found.Warnings[0], `user "`+super+`" (application "guest" from 127.0.0.1); they have to leave`)
			} else {
				guest = scratchGuest(t, pg, dump, o.Token, super)
			}
			err = e.Restore(t.Context(), connAs(pg, db, plainRole), o, dump)
			require.Equal(t, errs.CodeRestoreFailed, errs.CodeOf(err))
			require.NotErrorIs(t, err, engine.ErrUnsettled)
			require.Contains(t, errs.Message(err), `"`+db+`", which is unchanged`)
			require.Contains(t, errs.Message(err), `user "`+super+`" (application "guest" from 127.0.0.1)`)
			require.Contains(t, errs.Message(err), says)
			require.Equal(t, where == "on the old database", errors.Is(err, errStays), "the old database is not locked for nothing")
			require.NoError(t, user.Ping(t.Context()), "a user was sent away for nothing")
			require.NotContains(t, log.String(), "were ended")
			require.Equal(t, before, plain(t, pg, db))
			require.NotNil(t, guest())
			_ = guest().Close(t.Context()) // the scratch database is gone
			dump.OnRead = nil
			require.NoError(t, New(Config{}).Restore(t.Context(), connAs(pg, db, plainRole), o, dump), "with nobody in the way")
			require.Empty(t, databases(t, pg))
			require.Error(t, user.Ping(t.Context()))
		})
	}
}

// What the error advises helps.
func TestARoleThatMaySignalOthersReplacesADatabaseInUse(t *testing.T) {
	pg := testkit.Postgres(t)
	guest := newRole(t, pg, "")
	for options, replaces := range map[string]bool{"CREATEDB": false, "CREATEDB IN ROLE pg_signal_backend, pg_monitor": true} {
		t.Run(options, func(t *testing.T) {
			role := newRole(t, pg, options)
			db := newDatabaseOf(t, pg, role)
			pg.Exec(t, db, "CREATE TABLE a AS SELECT 1 AS x")
			_, dump := dumpOf(t, connTo(pg, db), engine.DumpOptions{})
			session, err := sessionAs(t.Context(), pg, db, guest, "shop")
			require.NoError(t, err)
			e := New(Config{})
			e.placePatience = 0
			err = e.Restore(t.Context(), connAs(pg, db, role), engine.RestoreOptions{DropExisting: true, TempDir: t.TempDir()}, dump)
			if replaces {
				require.NoError(t, err)
				require.Error(t, session.Ping(t.Context()))
			} else {
				require.NoError(t, session.Ping(t.Context()))
				require.Contains(t, errs.Message(err), `user "`+guest+`" (application "shop")`, "its address is hidden from the role")
				require.Contains(t, errs.Message(err), "pg_signal_backend and pg_monitor")
			}
			_ = session.Close(t.Context()) // the server may have ended it
		})
	}
}

// Settings of a user may make it another role as soon as it is in. Its sessions are its
// own all the same.
func TestARoleThatAUserTakesOnDoesNotHideItsSessions(t *testing.T) {
	pg := testkit.Postgres(t)
	owner := newRole(t, pg, "CREATEDB")
	for name, inherits := range map[string]string{"inherits": "INHERIT", "does not inherit": "NOINHERIT"} {
		t.Run(name, func(t *testing.T) {
			user := newRole(t, pg, inherits+" IN ROLE "+owner)
			pg.Exec(t, "postgres", "ALTER ROLE "+user+" SET role = '"+owner+"'")
			db := newDatabaseOf(t, pg, owner)
			pg.Exec(t, db, "CREATE TABLE a AS SELECT 1 AS x; ALTER TABLE a OWNER TO "+owner)
			_, dump := dumpOf(t, connTo(pg, db), engine.DumpOptions{})
			c := connAs(pg, db, user)

			o := engine.RestoreOptions{DropExisting: true, Token: engine.NewScratchSuffix(), TempDir: t.TempDir()}
			guest := scratchGuest(t, pg, dump, o.Token, user)
			e := New(Config{})
			e.placePatience = 0
			require.NoError(t, e.Restore(t.Context(), c, o, dump))
			require.Error(t, guest().Ping(t.Context()), "a session that a pooler of ours kept")
			_ = guest().Close(t.Context()) // the server has ended it
			dump.OnRead = nil

			r := &restore{engine: e, conn: c, session: appName + "-" + o.Token}
			tx, err := r.seek(t.Context())
			require.NoError(t, err)
			tool, err := sessionAs(t.Context(), pg, db, user, r.session)
			require.NoError(t, err)
			_, err = tool.Exec(t.Context(), "BEGIN; SELECT txid_current()")
			require.NoError(t, err)
			select {
			case <-tx.ended:
			case <-time.After(time.Minute):
				t.Error("the tool's transaction is not seen")
			}
			tx.stop()
			lost := errors.New("lost")
			require.Equal(t, rolledBack, tx.became(t.Context(), r, process.Result{ExitCode: -1, Signal: syscall.SIGTERM}, lost, true), "after it was ended")
			require.Error(t, tool.Ping(t.Context()))
			_ = tool.Close(t.Context()) // the server has ended it
			require.Empty(t, enginetest.Children(t))
		})
	}
}

// replaces restores dump in place of db once, without patience for who is in the way.
func replaces(t *testing.T, c engine.Conn, dump *enginetest.Memory, log *lines) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	e := New(Config{})
	e.placePatience, e.placeLock = 0, 100*time.Millisecond
	return e.Restore(ctx, c, engine.RestoreOptions{DropExisting: true, TempDir: t.TempDir(), Log: log.log}, dump)
}

func TestParallelWorkersOfAQueryEndWithItsSession(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	pg.Exec(t, db, "CREATE TABLE a AS SELECT 1 AS x FROM generate_series(1, 10000)")
	pg.Exec(t, db, "ALTER TABLE a SET (parallel_workers = 2)")
	_, dump := dumpOf(t, connTo(pg, db), engine.DumpOptions{})
	report, err := sessionAs(t.Context(), pg, db, "", "report")
	require.NoError(t, err)
	_, err = report.Exec(t.Context(), "SET min_parallel_table_scan_size = 0; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0")
	require.NoError(t, err)
	var query sync.WaitGroup
	var ended error
	query.Go(func() { _, ended = report.Exec(t.Context(), "SELECT count(*) FROM a WHERE pg_sleep(600) IS NOT NULL") })
	admin := pg.Conn(t, "postgres")
	require.Eventually(t, func() (works bool) {
		err := admin.QueryRow(t.Context(), "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = $1 AND backend_type = 'parallel worker'", db).Scan(&works)
		return err == nil && works
	}, time.Minute, 20*time.Millisecond)
	var log lines
	restored := replaces(t, connTo(pg, db), dump, &log)
	_ = report.PgConn().Conn().Close() // the server has ended it
	query.Wait()
	require.NoError(t, restored)
	require.Error(t, ended)
	require.Contains(t, log.String(), "1 sessions of database "+db)
}

func TestASessionThatOutlivesItsRoleIsEndedAndNamed(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	pg.Exec(t, db, "CREATE TABLE a AS SELECT 1 AS x")
	_, dump := dumpOf(t, connTo(pg, db), engine.DumpOptions{})
	leaver := "leaver_" + engine.NewScratchSuffix()
	pg.Exec(t, "postgres", "CREATE ROLE "+leaver+" LOGIN PASSWORD '"+rolePassword+"'")
	session, err := sessionAs(t.Context(), pg, db, leaver, "shop")
	require.NoError(t, err)
	var oid string
	require.NoError(t, session.QueryRow(t.Context(), "SELECT current_user::regrole::oid::text").Scan(&oid))
	pg.Exec(t, "postgres", "DROP ROLE "+leaver)
	var log lines
	require.NoError(t, replaces(t, connTo(pg, db), dump, &log))
	require.Contains(t, log.String(), `user "`+oid+`" (application "shop"`)
	require.Error(t, session.Ping(t.Context()))
	_ = session.Close(t.Context()) // the server has ended it
}

// While rows are loaded, the connection that holds the names is idle for hours.
func TestLimitsOfTheUsersSessionsDoNotEndTheOneThatPlacesTheDatabase(t *testing.T) {
	pg := testkit.Postgres(t)
	role := newRole(t, pg, "CREATEDB")
	db := newDatabaseOf(t, pg, role)
	limits := []string{"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout", "transaction_timeout"}
	admin := pg.Conn(t, "postgres")
	var known []string
	for _, limit := range limits {
		var is bool
		require.NoError(t, admin.QueryRow(t.Context(), "SELECT current_setting($1, true) IS NOT NULL", limit).Scan(&is))
		if is {
			known = append(known, limit)
			pg.Exec(t, "postgres", "ALTER ROLE "+role+" SET "+limit+" = '1h'")
		}
	}
	require.Contains(t, known, "statement_timeout")
	e, c := New(Config{}), connAs(pg, db, role)
	conn, err := e.maintenance(t.Context(), c)
	require.NoError(t, err)
	defer closeConn(t.Context(), conn)
	b := beside{conn: conn, restore: &restore{engine: e, conn: c, session: appName}, suffix: engine.NewScratchSuffix()}
	require.NoError(t, b.claim(t.Context()))
	for _, limit := range known {
		var value string
		require.NoError(t, conn.QueryRow(t.Context(), "SHOW "+limit).Scan(&value))
		require.Equal(t, "0", value, limit)
	}
}

// Nobody gets into a database behind a statement that waits for the lock to rename it.
func TestARestoreDoesNotWaitForALockOnTheOldDatabase(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	pg.Exec(t, db, "CREATE TABLE a AS SELECT 1 AS x")
	_, dump := dumpOf(t, connTo(pg, db), engine.DumpOptions{})
	admin := pg.Conn(t, "postgres")
	tx, err := admin.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "COMMENT ON DATABASE "+db+" IS 'x'")
	require.NoError(t, err)
	var log lines
	err = replaces(t, connTo(pg, db), dump, &log)
	require.Equal(t, errs.CodeRestoreFailed, errs.CodeOf(err))
	require.NotErrorIs(t, err, engine.ErrUnsettled)
	require.Contains(t, errs.Message(err), `"`+db+`", which is unchanged: somebody's open transaction has a lock on it`)
	require.NoError(t, tx.Rollback(t.Context()))
	require.NoError(t, replaces(t, connTo(pg, db), dump, &log))
}

// A prepared transaction keeps a database from being renamed as a session does.
func TestNobodyIsSentAwayForAPreparedTransaction(t *testing.T) {
	pg := testkit.NewPostgres(t, testkit.WithSetting("max_prepared_transactions", "5"))
	db := pg.NewDatabase(t)
	pg.Exec(t, db, "CREATE TABLE a AS SELECT 1 AS x")
	_, dump := dumpOf(t, connTo(pg, db), engine.DumpOptions{})
	shop, err := sessionAs(t.Context(), pg, db, "", "shop")
	require.NoError(t, err)
	for _, sql := range []string{"BEGIN", "INSERT INTO a VALUES (2)", "PREPARE TRANSACTION 'order 1'"} {
		_, err := shop.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	says := `what is not a client's session, which a restore does not end: prepared transaction "order 1" of user "postgres"`
	found, err := New(Config{}).Preflight(t.Context(), connTo(pg, db), engine.RestoreOptions{DropExisting: true})
	require.NoError(t, err)
	require.Len(t, found.Warnings, 1)
	require.Contains(t, found.Warnings[0], says)
	var log lines
	err = replaces(t, connTo(pg, db), dump, &log)
	require.Equal(t, errs.CodeRestoreFailed, errs.CodeOf(err))
	require.Contains(t, errs.Message(err), says)
	require.NotContains(t, errs.Message(err), "pg_signal_backend")
	require.NoError(t, shop.Ping(t.Context()), "it was sent away for nothing")
	_, err = shop.Exec(t.Context(), "ROLLBACK PREPARED 'order 1'")
	require.NoError(t, err)
	require.NoError(t, replaces(t, connTo(pg, db), dump, &log))
	_ = shop.Close(t.Context()) // the server has ended it
}

// atScratch does something once, when the scratch database is there.
func atScratch(t *testing.T, pg *testkit.PG, dump *enginetest.Memory, token string, do func()) {
	t.Helper()
	done := false
	dump.OnRead = func(string, int64) error {
		var there bool
		err := pg.Conn(t, "postgres").QueryRow(t.Context(), "SELECT count(*) > 0 FROM pg_database WHERE datname = $1", engine.ScratchPrefix+token).Scan(&there)
		if err == nil && there && !done {
			done = true
			do()
		}
		return err
	}
	t.Cleanup(func() { require.True(t, done, "the scratch database was not seen") })
}

// mayConnect asks the server whether a role gets into a database.
func mayConnect(t *testing.T, pg *testkit.PG, role, database string) (may bool) {
	t.Helper()
	require.NoError(t, pg.Conn(t, "postgres").QueryRow(t.Context(), "SELECT has_database_privilege($1, $2, 'CONNECT')", role, database).Scan(&may))
	return may
}

func TestGrantsAndOwnerThatChangeWhileTheDatabaseIsRestoredAreKept(t *testing.T) {
	pg := testkit.Postgres(t)
	db, other, heir := pg.NewDatabase(t), newRole(t, pg, ""), newRole(t, pg, "")
	pg.Exec(t, db, "CREATE TABLE a AS SELECT 1 AS x")
	_, dump := dumpOf(t, connTo(pg, db), engine.DumpOptions{})
	o := engine.RestoreOptions{DropExisting: true, TempDir: t.TempDir(), Token: engine.NewScratchSuffix()}
	atScratch(t, pg, dump, o.Token, func() {
		pg.Exec(t, "postgres", "REVOKE CONNECT ON DATABASE "+db+" FROM PUBLIC")
		pg.Exec(t, "postgres", "ALTER DATABASE "+db+" OWNER TO "+heir)
	})
	t.Cleanup(func() { pg.Exec(t, "postgres", "ALTER DATABASE "+db+" OWNER TO postgres") })
	require.NoError(t, New(Config{}).Restore(t.Context(), connTo(pg, db), o, dump))
	require.False(t, mayConnect(t, pg, other, db), "what was revoked is granted again")
	var owner string
	require.NoError(t, pg.Conn(t, "postgres").QueryRow(t.Context(), "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = $1", db).Scan(&owner))
	require.Equal(t, heir, owner)
}

func TestTheScratchDatabaseLetsInTheUserThatLoggedInAlone(t *testing.T) {
	pg := testkit.Postgres(t)
	owner, other := newRole(t, pg, "CREATEDB"), newRole(t, pg, "")
	user := newRole(t, pg, "NOINHERIT IN ROLE "+owner)
	pg.Exec(t, "postgres", "ALTER ROLE "+user+" SET role = '"+owner+"'")
	for name, grantee := range map[string]string{"it has a grant of its own": user, "everybody has one": "PUBLIC"} {
		t.Run(name, func(t *testing.T) {
			db := newDatabaseOf(t, pg, owner)
			pg.Exec(t, db, "CREATE TABLE a AS SELECT 1 AS x; ALTER TABLE a OWNER TO "+owner)
			pg.Exec(t, "postgres", "REVOKE CONNECT ON DATABASE "+db+" FROM PUBLIC; GRANT CONNECT ON DATABASE "+db+" TO "+grantee)
			grants := func() (got []string) {
				rows, err := pg.Conn(t, "postgres").Query(t.Context(), "SELECT unnest(datacl)::text FROM pg_database WHERE datname = $1 ORDER BY 1", db)
				require.NoError(t, err)
				got, err = pgx.CollectRows(rows, pgx.RowTo[string])
				require.NoError(t, err)
				return got
			}
			before := grants()
			t.Cleanup(func() {
				pg.Exec(t, "postgres", "GRANT CONNECT ON DATABASE "+db+" TO PUBLIC; REVOKE ALL ON DATABASE "+db+" FROM "+user)
			})
			_, dump := dumpOf(t, connTo(pg, db), engine.DumpOptions{})
			o := engine.RestoreOptions{DropExisting: true, TempDir: t.TempDir(), Token: engine.NewScratchSuffix()}
			var enters bool
			atScratch(t, pg, dump, o.Token, func() { enters = mayConnect(t, pg, other, engine.ScratchPrefix+o.Token) })
			require.NoError(t, New(Config{}).Restore(t.Context(), connAs(pg, db, user), o, dump))
			require.False(t, enters, "others were let in")
			require.Equal(t, before, grants())
		})
	}
}

func TestARoleThatAUserTakesOnEndsTheUsersSessionsOnTheOldDatabase(t *testing.T) {
	pg := testkit.Postgres(t)
	owner := newRole(t, pg, "CREATEDB")
	user := newRole(t, pg, "IN ROLE "+owner)
	pg.Exec(t, "postgres", "ALTER ROLE "+user+" SET role = '"+owner+"'")
	db := newDatabaseOf(t, pg, owner)
	pg.Exec(t, db, "CREATE TABLE a AS SELECT 1 AS x; ALTER TABLE a OWNER TO "+owner)
	_, dump := dumpOf(t, connTo(pg, db), engine.DumpOptions{})
	session, err := sessionAs(t.Context(), pg, db, user, "shop")
	require.NoError(t, err)
	found, err := New(Config{}).Preflight(t.Context(), connAs(pg, db, user), engine.RestoreOptions{DropExisting: true})
	require.NoError(t, err)
	require.Empty(t, found.Warnings)
	var log lines
	require.NoError(t, replaces(t, connAs(pg, db, user), dump, &log))
	require.Contains(t, log.String(), `user "`+user+`" (application "shop"`)
	require.Error(t, session.Ping(t.Context()))
	_ = session.Close(t.Context()) // the server has ended it
}

// A pool connects anew as soon as it may, which from afar is before the next statement comes.
func TestAPoolThatConnectsAnewIsNotFasterThanTheExchange(t *testing.T) {
	pg := testkit.Postgres(t)
	db := pg.NewDatabase(t)
	pg.Exec(t, db, "CREATE TABLE a AS SELECT 1 AS x")
	_, dump := dumpOf(t, connTo(pg, db), engine.DumpOptions{})
	pool, err := sessionAs(t.Context(), pg, db, "", "pool")
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	again := sync.OnceFunc(func() { // it is ended, and is back
		_, ended := pool.Exec(t.Context(), "SELECT pg_sleep(600)")
		_ = pool.Close(t.Context()) // the server has ended it
		if pool, err = sessionAs(t.Context(), pg, db, "", "pool"); ended == nil {
			err = errors.New("the pool's session was not ended")
		}
	})
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", net.JoinHostPort(pg.Host, strconv.Itoa(pg.Port)))
			if err != nil {
				_ = client.Close() // which the restore tells
				continue
			}
			go func() { _, _ = io.Copy(client, server); _ = client.Close() }() // either may hang up
			go func() {
				defer server.Close() //nolint:errcheck // either may hang up
				b := make([]byte, 64<<10)
				for {
					n, err := client.Read(b)
					if _, failed := server.Write(b[:n]); err != nil || failed != nil {
						return
					}
					if ends := bytes.Contains(b[:n], []byte("FROM unnest($1::int[]) AS pid")); ends && !bytes.Contains(b[:n], []byte(" RENAME TO ")) {
						again()
					}
				}
			}()
		}
	}()
	c := connTo(pg, db)
	c.Host, c.Port = "127.0.0.1", l.Addr().(*net.TCPAddr).Port //nolint:errcheck,forcetypeassert // it listens to TCP
	var log lines
	require.NoError(t, replaces(t, c, dump, &log))
	require.NoError(t, err)
	require.Contains(t, log.String(), "1 sessions of database "+db)
	_ = pool.Close(t.Context()) // the server has ended it
}
