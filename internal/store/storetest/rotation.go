package storetest

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/datasource"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/location"
	"github.com/dataguardian/dataguardian/internal/secret"
	"github.com/dataguardian/dataguardian/internal/store"
)

// hashes are columns of bytes that hold no ciphertext.
var hashes = []string{"api_tokens.hash", "sessions.hash", "login_tries.key"}

func rotation(t *testing.T, newDatabase func(t testing.TB) string) {
	t.Run("every column of ciphertexts is sealed anew", func(t *testing.T) {
		w := newWorld(t, newDatabase(t))
		rows, err := w.conn.Query(t.Context(), `select c.table_name || '.' || c.column_name from information_schema.columns c
			join information_schema.tables t using (table_schema, table_name) where t.table_type = 'BASE TABLE' and c.table_schema = 'public' and c.data_type = 'bytea'`)
		require.NoError(t, err)
		columns, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		require.ElementsMatch(t, columns, append(store.SealedColumns(), hashes...), "a column of bytes is a hash, or a rotation seals it anew")
	})
	t.Run("others read and write meanwhile, and nothing old is left", func(t *testing.T) {
		dsn := newDatabase(t)
		w, d := sealedWorld(t, dsn)
		path := w.box.Path()
		others, err := secret.Load(path)
		require.NoError(t, err)
		other := open(t, dsn, others)
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		group.Go(func() {
			for ctx.Err() == nil {
				_, err := other.Datasources().Update(ctx, d.ID, func(d *datasource.Datasource) error { d.Conn.Port++; return nil })
				if ctx.Err() == nil {
					require.NoError(t, err)
				}
			}
		})
		for turn := range 3 {
			before := w.box.Primary()
			done, err := w.RotateKey(t.Context(), store.Rotation{})
			require.NoError(t, err)
			require.Positive(t, done.Resealed)
			// The other may have written with the key before after the last look: then
			// this rotation has completed the one before.
			if turn == 0 || !strings.Contains(done.Message, "interrupted") {
				require.NotEqual(t, before, w.box.Primary())
			}
		}
		cancel()
		group.Wait()
		done, err := w.RotateKey(t.Context(), store.Rotation{DropOld: true})
		require.NoError(t, err)
		require.Equal(t, 1, done.Keys)
		require.Equal(t, path, done.Path)
		w.requireReadable(t, other)
		w.requireReadable(t, open(t, dsn, load(t, path)))
		copies, err := filepath.Glob(path + ".before-*")
		require.NoError(t, err)
		require.Len(t, copies, 1)
	})
	t.Run("a rotation that is cut off at any step leaves everything readable and is completed", func(t *testing.T) {
		dsn := newDatabase(t)
		w, _ := sealedWorld(t, dsn)
		for _, cut := range []string{"prepared", "promoted", "resealed"} {
			ended := errors.New("cut off")
			step := func(name string) error {
				if name == cut {
					return ended
				}
				return nil
			}
			before := load(t, w.box.Path())
			_, err := w.RotateKey(t.Context(), store.Rotation{Step: step})
			require.ErrorIs(t, err, ended)
			w.requireReadable(t, open(t, dsn, before))
			restarted := open(t, dsn, load(t, w.box.Path()))
			w.requireReadable(t, restarted)
			require.NoError(t, restarted.CheckKey(t.Context()))
			_, err = restarted.RotateKey(t.Context(), store.Rotation{})
			require.NoError(t, err)
			w.requireReadable(t, open(t, dsn, load(t, w.box.Path())))
		}
		first, err := w.RotateKey(t.Context(), store.Rotation{PrepareOnly: true})
		require.NoError(t, err)
		again, err := w.RotateKey(t.Context(), store.Rotation{PrepareOnly: true})
		require.NoError(t, err)
		require.Equal(t, first.KeyID, again.KeyID)
		require.Zero(t, first.Resealed)
		done, err := w.RotateKey(t.Context(), store.Rotation{})
		require.NoError(t, err)
		require.Equal(t, first.KeyID, done.KeyID, "a key that was prepared is the one that is put in use")
		_, err = w.RotateKey(t.Context(), store.Rotation{Step: func(string) error {
			_, err := w.RotateKey(t.Context(), store.Rotation{})
			return err
		}})
		requireCode(t, err, errs.Conflict, errs.CodeConflict)
	})
	t.Run("what does not open is named and keeps the old keys", func(t *testing.T) {
		w, d := sealedWorld(t, newDatabase(t))
		w.exec(t, "update datasources set secrets = set_byte(secrets, 20, get_byte(secrets, 20) # 1) where id = $1", d.ID)
		_, err := w.RotateKey(t.Context(), store.Rotation{DropOld: true})
		require.Equal(t, errs.CodeDecryptionFailed, errs.CodeOf(err))
		require.Contains(t, err.Error(), d.ID)
		require.Equal(t, 2, w.box.Keys())
	})
}

// sealed is a world with some credentials.
type sealed struct {
	*world
	box *secret.Box
}

func sealedWorld(t *testing.T, dsn string) (*sealed, datasource.Datasource) {
	t.Helper()
	box := newBox(t)
	s := open(t, dsn, box)
	require.NoError(t, s.Migrate(t.Context()))
	require.NoError(t, s.CheckKey(t.Context()))
	w := &sealed{world: &world{Store: s, conn: connect(t, dsn)}, box: box}
	w.newLocation(t, func(l *location.Location) {
		l.Type, l.Config = location.S3, location.Config{"bucket": "b", "secret_access_key": "hush"}
	})
	for range 5 {
		w.newDatasource(t)
	}
	return w, w.newDatasource(t)
}

func load(t *testing.T, path string) *secret.Box {
	t.Helper()
	box, err := secret.Load(path)
	require.NoError(t, err)
	return box
}

// requireReadable reads every credential by way of s.
func (w *sealed) requireReadable(t *testing.T, s *store.Store) {
	t.Helper()
	rows, err := w.conn.Query(t.Context(), "select 'd' || id::text from datasources union all select 'l' || id::text from storage_locations")
	require.NoError(t, err)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Len(t, ids, 7)
	for _, one := range ids {
		if found, ok := strings.CutPrefix(one, "d"); ok {
			d, err := s.Datasources().Get(t.Context(), found)
			require.NoError(t, err)
			require.Equal(t, "pässword", d.Conn.Password)
			continue
		}
		l, err := s.Locations().Get(t.Context(), strings.TrimPrefix(one, "l"))
		require.NoError(t, err)
		require.Equal(t, "hush", l.Config["secret_access_key"])
	}
}
