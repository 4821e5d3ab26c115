package vault_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/vault"
)

func (s *shelf) Release(_ context.Context, c backup.Copy) error {
	s.released = append(s.released, c.StorageLocationID)
	return nil
}

func (s *shelf) MarkDeleted(_ context.Context, c backup.Copy) error {
	s.deleted = append(s.deleted, c.StorageLocationID)
	return nil
}

// The records may be older than a copy: what they know as begun or as failed may have
// been completed since, and be the only one.
func TestACopyThatWasNeverAvailableIsKeptWhenItIsWhole(t *testing.T) {
	for name, c := range map[string]backup.Copy{
		"pending": {Status: backup.CopyPending}, "failed": {Status: backup.CopyFailed}, "given up": {Status: backup.CopyDeleting, GivenUp: true},
	} {
		t.Run(name, func(t *testing.T) {
			s, v := newShelf(t)
			for i := range s.backup.Copies {
				s.backup.Copies[i].Status, s.backup.Copies[i].GivenUp = c.Status, c.GivenUp
			}
			require.NoError(t, os.Truncate(s.file("b", 2), 1))
			kept, err := v.RemoveUnlessWhole(t.Context(), s.backup.Copies)
			require.NoError(t, err)
			require.Equal(t, []backup.Copy{s.backup.Copies[0]}, kept)
			require.Empty(t, s.released, "its execution goes on")
			require.NoError(t, v.Remove(t.Context(), s.backup.Copies[:1]))
			require.Equal(t, []string{"a"}, s.released)
			require.Equal(t, []string{"b"}, s.deleted)
			for n := range s.backup.Parts {
				require.FileExists(t, s.file("a", n))
				require.NoFileExists(t, s.file("b", n))
			}
			require.NoError(t, os.Remove(s.file("a", 0)))
			require.NoError(t, v.Remove(t.Context(), s.backup.Copies[:1]))
			require.Equal(t, []string{"b", "a"}, s.deleted, "it has lost a part")
			require.NoFileExists(t, filepath.Join(s.dirs["a"], s.backup.Copies[0].Path, "manifest.json"))
		})
	}
}

func TestACopyThatSomebodyDeletesGoesThoughItIsWhole(t *testing.T) {
	s, v := newShelf(t)
	s.backup.Copies[1].Status = backup.CopyDeleting
	require.NoError(t, v.Remove(t.Context(), s.backup.Copies))
	require.Equal(t, []string{"a", "b"}, s.deleted)
	require.Empty(t, s.released)
	require.NoFileExists(t, s.file("a", 0))
	require.NoFileExists(t, s.file("b", 0))
}

// A folder that was copied and imported is one more copy of the backup.
func TestACopyAtAnotherPathIsLookedAtWhereItIs(t *testing.T) {
	s, v := newShelf(t)
	second := s.backup.Copies[1]
	first := second.Path
	second.Path = "moved/" + filepath.Base(first)
	require.NoError(t, os.Mkdir(filepath.Join(s.dirs["b"], "moved"), 0o700))
	require.NoError(t, os.Rename(filepath.Join(s.dirs["b"], first), filepath.Join(s.dirs["b"], second.Path)))
	s.backup.Copies = []backup.Copy{second}
	look := func() string {
		all := []backup.Backup{s.backup}
		v.Inspect(t.Context(), all)
		return string(all[0].Copies[0].Live) + all[0].Copies[0].LiveMessage
	}
	at := func() map[string]string {
		catalogue := &books{missing: map[string]string{}, rows: []backup.Backup{s.backup}}
		_, err := vault.New(catalogue, shelves{s}, shelves{s}, slog.New(slog.DiscardHandler)).Reconcile(t.Context(), "b", time.Hour)
		require.NoError(t, err)
		return catalogue.missing
	}
	require.Equal(t, "available", look())
	require.Empty(t, at())
	require.NoError(t, os.Remove(filepath.Join(s.dirs["b"], s.backup.Parts[1].In(second.Path))))
	require.Contains(t, look(), "moved/")
	require.Contains(t, at()[second.Path], "is gone")
}
