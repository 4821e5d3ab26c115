package storetest

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/datasource"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/location"
	"github.com/dataguardian/dataguardian/internal/notification"
)

func secrets(t *testing.T, newDatabase func(t testing.TB) string) {
	t.Run("a planted secret is nowhere in the database", func(t *testing.T) {
		w := newWorld(t, newDatabase(t))
		const canary = "c4n4ry-Zx81-tweet"
		d := w.newDatasource(t, func(d *datasource.Datasource) { d.Conn.Password = canary })
		for kind, key := range map[location.Type]string{location.S3: "secret_access_key", location.MinIO: "secret_key", location.GCS: "credentials_json"} {
			l := w.newLocation(t, func(l *location.Location) { l.Type, l.Config = kind, location.Config{"bucket": "b", key: canary} })
			require.Equal(t, canary, l.Config[key])
			_, err := w.Locations().Update(t.Context(), l.ID, func(l *location.Location) error { l.Name = "renamed " + id(); return nil })
			require.NoError(t, err)
		}
		_, err := w.Datasources().Update(t.Context(), d.ID, func(d *datasource.Datasource) error { d.Conn.Host = "h"; return nil })
		require.NoError(t, err)
		ch := w.newChannel(t, func(c *notification.Channel) { c.Secrets = map[string]any{"secret": canary} })
		_, err = w.Channels().Update(t.Context(), ch.ID, func(c *notification.Channel) error { c.Enabled = false; return nil })
		require.NoError(t, err)
		dump := w.dump(t)
		require.Contains(t, dump, d.Name, "the dump is one")
		for _, form := range []string{canary, hex.EncodeToString([]byte(canary)), base64.StdEncoding.EncodeToString([]byte(canary))} {
			require.NotContains(t, dump, form)
		}
		got, err := w.Datasources().Get(t.Context(), d.ID)
		require.NoError(t, err)
		require.Equal(t, canary, got.Conn.Password)
	})
	t.Run("a ciphertext opens in its own row only", func(t *testing.T) {
		w := newWorld(t, newDatabase(t))
		mine := w.newDatasource(t)
		theirs := w.newDatasource(t, func(d *datasource.Datasource) { d.Conn.Password = "theirs" })
		w.exec(t, "update datasources set secrets = (select secrets from datasources where id = $2) where id = $1", mine.ID, theirs.ID)
		_, err := w.Datasources().Get(t.Context(), mine.ID)
		requireCode(t, err, errs.Internal, errs.CodeDecryptionFailed)
		_, err = w.Datasources().Get(t.Context(), theirs.ID)
		require.NoError(t, err)
		l := w.newLocation(t)
		w.exec(t, "update storage_locations set secrets = (select secrets from datasources where id = $2) where id = $1", l.ID, theirs.ID)
		_, err = w.Locations().Get(t.Context(), l.ID)
		requireCode(t, err, errs.Internal, errs.CodeDecryptionFailed)
		ch := w.newChannel(t)
		w.exec(t, "update notification_channels set secrets = (select secrets from datasources where id = $2) where id = $1", ch.ID, theirs.ID)
		_, err = w.Channels().Get(t.Context(), ch.ID)
		requireCode(t, err, errs.Internal, errs.CodeDecryptionFailed)
	})
	t.Run("another key opens nothing", func(t *testing.T) {
		dsn := newDatabase(t)
		d := newWorld(t, dsn).newDatasource(t)
		_, err := open(t, dsn, newBox(t)).Datasources().Get(t.Context(), d.ID)
		requireCode(t, err, errs.Internal, errs.CodeWrongKey)
	})
}

// dump is every row of every table as text.
func (w *world) dump(t *testing.T) string {
	t.Helper()
	rows, err := w.conn.Query(t.Context(), "select format('%I.%I', schemaname, relname) from pg_stat_user_tables")
	require.NoError(t, err)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.NotEmpty(t, tables)
	var all strings.Builder
	for _, table := range tables {
		rows, err := w.conn.Query(t.Context(), fmt.Sprintf("select t::text from %s t", table))
		require.NoError(t, err)
		texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		all.WriteString(strings.Join(texts, "\n"))
	}
	return all.String()
}
