package storetest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/auth"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/paging"
)

func tokens(t *testing.T, w *world) {
	s := w.Tokens()
	create := func(t *testing.T, name string, expires *time.Time) auth.Token {
		made, err := s.Create(t.Context(), auth.Token{ID: id(), Name: name, Role: auth.Operator, Hash: []byte{0, 1, 2}, ExpiresAt: expires})
		require.NoError(t, err)
		return made
	}
	t.Run("there has never been one", func(t *testing.T) {
		some, err := s.Any(t.Context())
		require.NoError(t, err)
		require.False(t, some)
	})
	t.Run("what is created is read back, a taken name is a conflict", func(t *testing.T) {
		made := create(t, "b", past(-time.Hour))
		got, err := s.Get(t.Context(), made.ID)
		require.NoError(t, err)
		require.Equal(t, made, got)
		require.Equal(t, auth.Operator, got.Role)
		_, err = s.Create(t.Context(), auth.Token{ID: id(), Name: "b", Role: auth.Admin, Hash: []byte{}})
		requireCode(t, err, errs.Exists, errs.CodeConflict)
		requireField(t, err, "name")
	})
	t.Run("a use is dated", func(t *testing.T) {
		made := create(t, "a", nil)
		require.NoError(t, s.Touch(t.Context(), made.ID))
		got, err := s.Get(t.Context(), made.ID)
		require.NoError(t, err)
		require.NotNil(t, got.LastUsedAt)
	})
	t.Run("an expired or revoked one is absent, but was", func(t *testing.T) {
		expired := create(t, "expired", past(time.Minute))
		_, err := s.Get(t.Context(), expired.ID)
		requireNotFound(t, err)
		revoked := create(t, "revoked", nil)
		require.NoError(t, s.Revoke(t.Context(), revoked.ID))
		_, err = s.Get(t.Context(), revoked.ID)
		requireNotFound(t, err)
		requireNotFound(t, s.Revoke(t.Context(), revoked.ID))
		requireNotFound(t, s.Touch(t.Context(), revoked.ID))
		create(t, "revoked", nil)
		for _, gone := range absent() {
			_, err := s.Get(t.Context(), gone)
			requireNotFound(t, err)
			requireNotFound(t, s.Revoke(t.Context(), gone))
			requireNotFound(t, s.Touch(t.Context(), gone))
		}
	})
	t.Run("lists go by name, in pages, without revoked ones", func(t *testing.T) {
		rows, total, err := s.List(t.Context(), paging.Page{Number: 1, Limit: 3})
		require.NoError(t, err)
		require.Equal(t, 4, total)
		require.Equal(t, []string{"a", "b", "expired"}, []string{rows[0].Name, rows[1].Name, rows[2].Name})
		for _, row := range rows {
			require.NoError(t, s.Revoke(t.Context(), row.ID))
		}
		some, err := s.Any(t.Context())
		require.NoError(t, err)
		require.True(t, some)
	})
}
