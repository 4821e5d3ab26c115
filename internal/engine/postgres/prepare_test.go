package postgres

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

func TestAServerIsTheSameByEveryName(t *testing.T) {
	pg := testkit.Postgres(t)
	e := New(Config{})
	c := connTo(pg, pg.NewDatabase(t))
	byAddress, err := e.Identify(t.Context(), c)
	require.NoError(t, err)
	c.Host, c.Database = "localhost", "absent"
	byName, err := e.Identify(t.Context(), c)
	require.NoError(t, err)
	require.Equal(t, byAddress, byName)
	require.Regexp(t, `^postgres:\d+$`, byName)
}

func TestATargetIsLookedAtBeforeARestore(t *testing.T) {
	pg := testkit.Postgres(t)
	e := New(Config{})
	c := connTo(pg, pg.NewDatabase(t))
	found, err := e.Preflight(t.Context(), c, engine.RestoreOptions{Format: Format, DropExisting: true})
	require.NoError(t, err)
	require.True(t, found.Exists)
	require.NotEmpty(t, found.Server.Version)

	absent := c
	absent.Database = "absent"
	found, err = e.Preflight(t.Context(), absent, engine.RestoreOptions{CreateDatabase: true})
	require.NoError(t, err)
	require.False(t, found.Exists)
	_, err = e.Preflight(t.Context(), absent, engine.RestoreOptions{})
	require.Equal(t, errs.CodeDatabaseMissing, errs.CodeOf(err))

	_, err = e.Preflight(t.Context(), c, engine.RestoreOptions{DumpVersion: 990001})
	require.Equal(t, errs.CodeRestoreNotSupported, errs.CodeOf(err))
	require.Contains(t, errs.Message(err), "PostgreSQL 99")
	require.Contains(t, errs.Message(err), found.Server.Version)
	_, err = e.Preflight(t.Context(), c, engine.RestoreOptions{Format: "mariadb-sql"})
	require.Equal(t, errs.CodeRestoreNotSupported, errs.CodeOf(err))

	pg.Exec(t, "postgres", `CREATE ROLE prepare_poor LOGIN PASSWORD 'x'`)
	t.Cleanup(func() { pg.Exec(t, "postgres", "DROP ROLE prepare_poor") })
	poor := c
	poor.Username, poor.Password = "prepare_poor", "x"
	_, err = e.Preflight(t.Context(), poor, engine.RestoreOptions{DropExisting: true})
	require.Equal(t, errs.CodeDatasourcePermission, errs.CodeOf(err))
	require.Contains(t, errs.Message(err), "CREATEDB and to own the database")
	_, err = e.Preflight(t.Context(), poor, engine.RestoreOptions{})
	require.NoError(t, err, "nothing is made beside it")
	poor.Database = "absent"
	_, err = e.Preflight(t.Context(), poor, engine.RestoreOptions{CreateDatabase: true})
	require.Equal(t, errs.CodeDatasourcePermission, errs.CodeOf(err))
}

func TestNothingIsRestoredIntoATemplate(t *testing.T) {
	pg := testkit.Postgres(t)
	e := New(Config{})
	c := connTo(pg, "template1")
	for _, o := range []engine.RestoreOptions{{DropExisting: true}, {CreateDatabase: true}, {IncludeTables: []string{"t"}}} {
		_, err := e.Preflight(t.Context(), c, o)
		require.Equal(t, errs.CodeRestoreNotSupported, errs.CodeOf(err))
		require.Contains(t, errs.Message(err), `"template1"`)
	}
	c.Database = "template0"
	_, err := e.Preflight(t.Context(), c, engine.RestoreOptions{DropExisting: true})
	require.Error(t, err, "it takes no connections")
}

func TestLeftoversOfOneRestoreAreDropped(t *testing.T) {
	pg := testkit.Postgres(t)
	e := New(Config{})
	c := connTo(pg, pg.NewDatabase(t))
	const token, other = "0123456789ab", "ba9876543210"
	for _, name := range []string{engine.ScratchPrefix + token, engine.ReplacedPrefix + token, engine.ScratchPrefix + other} {
		pg.Exec(t, "postgres", "CREATE DATABASE "+name)
	}
	names := func() (all []string) {
		rows, err := pg.Conn(t, "postgres").Query(t.Context(), "SELECT datname FROM pg_database WHERE datname LIKE '%"+token+"' OR datname LIKE '%"+other+"'")
		require.NoError(t, err)
		for rows.Next() {
			var name string
			require.NoError(t, rows.Scan(&name))
			all = append(all, name)
		}
		require.NoError(t, rows.Err())
		return all
	}
	holder := pg.Conn(t, "postgres")
	_, err := holder.Exec(t.Context(), "SELECT pg_advisory_lock($1, hashtext($2))", lockSpace, token)
	require.NoError(t, err)
	err = e.Sweep(t.Context(), c, token, nil)
	require.Equal(t, errs.Conflict, errs.KindOf(err), "it runs")
	require.Len(t, names(), 3)
	_, err = holder.Exec(t.Context(), "SELECT pg_advisory_unlock($1, hashtext($2))", lockSpace, token)
	require.NoError(t, err)
	require.NoError(t, e.Sweep(t.Context(), c, token, nil))
	require.Equal(t, []string{engine.ScratchPrefix + other}, names())
	require.NoError(t, e.Sweep(t.Context(), c, token, nil), "nothing is left")
	require.Error(t, e.Sweep(t.Context(), c, "x'; DROP", nil))
	require.NoError(t, e.Sweep(t.Context(), c, other, nil))
}
