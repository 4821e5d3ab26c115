package mysql

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

func TestATargetIsLookedAtBeforeARestore(t *testing.T) {
	m := testkit.MariaDB(t)
	e := New(Config{})
	c := connTo(m, m.NewDatabase(t))
	here, err := e.Identify(t.Context(), c)
	require.NoError(t, err)
	absent := c
	absent.Database = "absent"
	same, err := e.Identify(t.Context(), absent)
	require.NoError(t, err)
	require.Equal(t, here, same)

	own, other := FormatMariaDB, FormatMySQL
	if m.IsMySQL {
		own, other = other, own
	}
	found, err := e.Preflight(t.Context(), c, engine.RestoreOptions{Format: own, DropExisting: true})
	require.NoError(t, err)
	require.True(t, found.Exists)
	found, err = e.Preflight(t.Context(), absent, engine.RestoreOptions{CreateDatabase: true})
	require.NoError(t, err)
	require.False(t, found.Exists)
	_, err = e.Preflight(t.Context(), absent, engine.RestoreOptions{})
	require.Equal(t, errs.CodeDatabaseMissing, errs.CodeOf(err))

	_, err = e.Preflight(t.Context(), c, engine.RestoreOptions{Format: other})
	require.Equal(t, errs.CodeRestoreNotSupported, errs.CodeOf(err))
	require.Contains(t, errs.Message(err), found.Server.Version)
	_, err = e.Preflight(t.Context(), c, engine.RestoreOptions{DumpVersion: 990101})
	require.Equal(t, errs.CodeRestoreNotSupported, errs.CodeOf(err))
	require.Contains(t, errs.Message(err), "99.1")
	_, err = e.Preflight(t.Context(), c, engine.RestoreOptions{Format: "pg_dump-custom"})
	require.Equal(t, errs.CodeRestoreNotSupported, errs.CodeOf(err))
}

func TestNothingIsRestoredIntoTheServersOwnDatabases(t *testing.T) {
	m := testkit.MariaDB(t)
	e := New(Config{})
	c := connTo(m, m.NewDatabase(t))
	for _, name := range []string{"mysql", "sys", "information_schema", "PERFORMANCE_SCHEMA"} {
		c.Database = name
		_, err := e.Preflight(t.Context(), c, engine.RestoreOptions{DropExisting: true, CreateDatabase: true})
		require.Equal(t, errs.CodeRestoreNotSupported, errs.CodeOf(err), name)
		require.Contains(t, errs.Message(err), "belongs to the", name)
	}
}
