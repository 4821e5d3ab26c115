package storetest

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/datasource"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/store"
)

func migrations(t *testing.T, newDatabase func(t testing.TB) string) {
	t.Run("many processes may migrate at once", func(t *testing.T) {
		dsn := newDatabase(t)
		var group sync.WaitGroup
		failed := make([]error, 6)
		for i := range failed {
			s := open(t, dsn, nil)
			group.Go(func() { failed[i] = s.Migrate(t.Context()) })
		}
		group.Wait()
		for _, err := range failed {
			require.NoError(t, err)
		}
		pending, err := open(t, dsn, nil).Pending(t.Context())
		require.NoError(t, err)
		require.Zero(t, pending)
	})
	t.Run("pending steps are counted before and gone after", func(t *testing.T) {
		s := open(t, newDatabase(t), nil)
		pending, err := s.Pending(t.Context())
		require.NoError(t, err)
		require.Positive(t, pending)
		require.NoError(t, s.Migrate(t.Context()))
		require.NoError(t, s.Migrate(t.Context()), "a second time changes nothing")
		pending, err = s.Pending(t.Context())
		require.NoError(t, err)
		require.Zero(t, pending)
	})
	t.Run("a database that is newer is refused and not touched", func(t *testing.T) {
		dsn := newDatabase(t)
		w := newWorld(t, dsn)
		w.exec(t, "insert into goose_db_version (version_id, is_applied) values (99999, true)")
		_, err := w.Pending(t.Context())
		requireCode(t, err, errs.Conflict, store.CodeDatabaseNewer)
		requireCode(t, w.Migrate(t.Context()), errs.Conflict, store.CodeDatabaseNewer)
		require.Contains(t, errs.Message(err), "99999")
	})
	t.Run("a database without tables says to migrate", func(t *testing.T) {
		s := open(t, newDatabase(t), nil)
		_, err := s.Tokens().Any(t.Context())
		require.Contains(t, errs.Message(err), "migrate")
	})
}

func opening(t *testing.T, newDatabase func(t testing.TB) string) {
	t.Run("a DSN that is none is refused without quoting it", func(t *testing.T) {
		_, err := store.Open(t.Context(), store.Config{DSN: "postgres://u:hunter2@host:port:x/%zz"})
		requireCode(t, err, errs.Invalid, errs.CodeValidation)
		require.NotContains(t, err.Error(), "hunter2")
	})
	t.Run("a server that is not there is unavailable", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		require.NoError(t, l.Close())
		_, err = store.Open(t.Context(), store.Config{DSN: "postgres://u:hunter2@" + l.Addr().String() + "/x?sslmode=disable"})
		requireCode(t, err, errs.Unavailable, errs.CodeDatabaseUnavailable)
		require.NotContains(t, err.Error(), "hunter2")
	})
	t.Run("a database that is not there is unavailable", func(t *testing.T) {
		dsn := newDatabase(t)
		config, err := pgx.ParseConfig(dsn)
		require.NoError(t, err)
		_, err = store.Open(t.Context(), store.Config{DSN: strings.ReplaceAll(dsn, config.Database, "nowhere")})
		requireCode(t, err, errs.Unavailable, errs.CodeDatabaseUnavailable)
	})
	t.Run("a key file of another database is refused by name", func(t *testing.T) {
		dsn := newDatabase(t)
		w := newWorld(t, dsn)
		require.NoError(t, w.CheckKey(t.Context()), "a second time changes nothing")
		other := newBox(t)
		err := open(t, dsn, other).CheckKey(t.Context())
		requireCode(t, err, errs.Internal, errs.CodeWrongKey)
		require.Contains(t, errs.Message(err), other.Path())
		require.NoError(t, w.CheckKey(t.Context()), "the right one still opens")
	})
	t.Run("without a key file no credentials are written", func(t *testing.T) {
		dsn := newDatabase(t)
		w := newWorld(t, dsn)
		d := w.newDatasource(t)
		s := open(t, dsn, nil)
		require.Error(t, s.CheckKey(t.Context()))
		_, err := s.Datasources().Get(t.Context(), d.ID)
		require.ErrorContains(t, err, "key file")
		d.ID, d.Name = id(), "another"
		_, err = s.Datasources().Create(t.Context(), d)
		require.ErrorContains(t, err, "key file")
	})
	t.Run("sessions wear the program's name and plan for the values at hand", func(t *testing.T) {
		w := newWorld(t, newDatabase(t))
		var named int
		require.NoError(t, w.conn.QueryRow(t.Context(), "select count(*) from pg_stat_activity where application_name = 'dataguardian' and datname = current_database()").Scan(&named))
		require.Positive(t, named)
	})
}

func failures(t *testing.T, newDatabase func(t testing.TB) string) {
	t.Run("a cancelled call says so", func(t *testing.T) {
		w := newWorld(t, newDatabase(t))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := w.Executions().Get(ctx, id())
		requireCode(t, err, errs.Cancelled, errs.CodeCancelled)
		require.ErrorIs(t, err, context.Canceled)
	})
	t.Run("a closed pool is unavailable", func(t *testing.T) {
		s := New(t, newDatabase(t))
		s.Close()
		requireCode(t, s.Ping(t.Context()), errs.Unavailable, errs.CodeDatabaseUnavailable)
	})
	t.Run("a session that the server ends is unavailable, the next one works", func(t *testing.T) {
		w := newWorld(t, newDatabase(t))
		_, err := w.Datasources().Update(t.Context(), w.newDatasource(t).ID, func(*datasource.Datasource) error {
			w.exec(t, "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()")
			return nil
		})
		requireCode(t, err, errs.Unavailable, errs.CodeDatabaseUnavailable)
		require.Eventually(t, func() bool { return w.Ping(t.Context()) == nil }, minute, tick)
	})
	t.Run("a text that cannot be stored is not acceptable", func(t *testing.T) {
		w := newWorld(t, newDatabase(t))
		_, err := w.Datasources().Create(t.Context(), datasource.Datasource{ID: id(), Name: "a\x00b", Type: "postgres"})
		require.Equal(t, errs.Invalid, errs.KindOf(err), "%v", err)
	})
}
