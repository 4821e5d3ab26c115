package vault_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/artifact"
	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/location"
	"github.com/dataguardian/dataguardian/internal/vault"
	"github.com/dataguardian/dataguardian/storage"
	"github.com/dataguardian/dataguardian/storage/local"
	"github.com/dataguardian/dataguardian/storage/storagetest"
)

const storedID = "0198a7c2-1111-7000-8000-00000000abcd"

// shelf is a catalogue of one backup on directories.
type shelf struct {
	backup.Catalogue
	dirs              map[string]string
	backup            backup.Backup
	marked            []string
	released, deleted []string // locations
}

func (s *shelf) Get(context.Context, string) (backup.Backup, error) { return s.backup, nil }

func (s *shelf) MarkMissing(_ context.Context, c backup.Copy, _ string) error {
	s.marked = append(s.marked, c.StorageLocationID)
	for i := range s.backup.Copies {
		if s.backup.Copies[i].StorageLocationID == c.StorageLocationID {
			s.backup.Copies[i].Status = backup.CopyMissing
		}
	}
	return nil
}

type shelves struct{ *shelf }

func (s shelves) Get(_ context.Context, id string) (location.Location, error) {
	return location.Location{ID: id, Name: id, Type: location.Local, Config: location.Config{"path": s.dirs[id]}}, nil
}

func (s shelves) Open(_ context.Context, l location.Location) (storage.Driver, error) {
	return local.New(local.Config{Path: s.dirs[l.ID]})
}

// newShelf stores a backup of three parts in the directories a and b.
func newShelf(t *testing.T) (*shelf, *vault.Vault) {
	t.Helper()
	s := &shelf{dirs: map[string]string{"a": t.TempDir(), "b": t.TempDir()}}
	taken := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	c := artifact.Config{
		Header: artifact.Header{ExecutionID: storedID, Database: "shop", Engine: engine.Postgres, CreatedAt: taken, StartedAt: taken},
		Path:   artifact.Path("shop", taken, storedID), PartSize: 1000, SpoolDir: t.TempDir(), SpoolReserve: 1, Strategy: artifact.Replicate,
	}
	for _, id := range []string{"a", "b"} {
		d, err := local.New(local.Config{Path: s.dirs[id]})
		require.NoError(t, err)
		defer func() { require.NoError(t, d.Close()) }()
		c.Targets = append(c.Targets, artifact.Target{ID: id, Name: id, Driver: d})
		s.backup.Copies = append(s.backup.Copies, backup.Copy{StorageLocationID: id, StorageName: id, Path: c.Path, Status: backup.CopyAvailable})
	}
	w, err := artifact.NewWriter(t.Context(), c)
	require.NoError(t, err)
	m, err := w.Create(t.Context(), "backup.dump")
	require.NoError(t, err)
	_, err = m.Write(storagetest.Bytes(7, 2500))
	require.NoError(t, err)
	require.NoError(t, m.Close())
	stored, err := w.Commit(t.Context(), artifact.Completion{
		Dump: engine.DumpResult{Server: engine.ServerInfo{Version: "15.18", VersionNum: 150018, Flavor: engine.Postgres}, Format: "test"}, Proof: "here", FinishedAt: taken,
	})
	require.NoError(t, err)
	s.backup.ExecutionID = storedID
	for _, p := range stored.Parts {
		s.backup.Parts = append(s.backup.Parts, backup.Part{Number: p.Number, Key: p.Key, Size: p.Size, SHA256: p.SHA256})
	}
	return s, vault.New(s, shelves{s}, shelves{s}, slog.New(slog.DiscardHandler))
}

// file is where part n of a copy is.
func (s *shelf) file(id string, n int) string {
	return filepath.Join(s.dirs[id], s.backup.Parts[n].Key)
}

// fetch reads a download to its end and returns the sizes of its files in order.
func fetch(t *testing.T, v *vault.Vault, from string) ([]int, error) {
	t.Helper()
	d, err := v.Download(t.Context(), storedID, from)
	if err != nil {
		return nil, err
	}
	defer func() { require.NoError(t, d.Close()) }()
	all, err := io.ReadAll(d)
	if err != nil {
		return nil, err
	}
	var sizes []int
	for in := tar.NewReader(bytes.NewReader(all)); ; {
		_, err := in.Next()
		if errors.Is(err, io.EOF) {
			return sizes, nil
		}
		require.NoError(t, err)
		content, err := io.ReadAll(in)
		require.NoError(t, err)
		sizes = append(sizes, len(content))
	}
}

func TestADownloadGoesOnFromAnotherCopy(t *testing.T) {
	s, v := newShelf(t)
	whole, err := fetch(t, v, "")
	require.NoError(t, err)
	require.Len(t, whole, 4, "three parts and the manifest")
	for name, damage := range map[string]func(s *shelf) error{
		"a part is gone":    func(s *shelf) error { return os.Remove(s.file("a", 1)) },
		"a part is cut off": func(s *shelf) error { return os.Truncate(s.file("a", 1), 400) },
		"the manifest is gone": func(s *shelf) error {
			return os.Remove(filepath.Join(s.dirs["a"], artifact.ManifestKey(s.backup.Copies[0].Path)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, v := newShelf(t)
			require.NoError(t, damage(s))
			got, err := fetch(t, v, "a")
			require.NoError(t, err)
			require.Equal(t, whole, got)
			require.Equal(t, []string{"a"}, s.marked)

			s.backup.Copies = s.backup.Copies[:1] // no other copy
			_, err = fetch(t, v, "")
			require.Equal(t, errs.CodeArtifactCorrupt, errs.CodeOf(err), "%v", err)
		})
	}
	require.Empty(t, s.marked)
}

func TestADownloadOfOtherBytesBreaksAndTheNextTakesAnotherCopy(t *testing.T) {
	s, v := newShelf(t)
	content, err := os.ReadFile(s.file("a", 2))
	require.NoError(t, err)
	content[0] ^= 1
	require.NoError(t, os.WriteFile(s.file("a", 2), content, 0o600))
	_, err = fetch(t, v, "")
	require.Equal(t, errs.CodeArtifactCorrupt, errs.CodeOf(err), "%v", err)
	require.Equal(t, []string{"a"}, s.marked)
	got, err := fetch(t, v, "")
	require.NoError(t, err)
	require.Len(t, got, 4)
}
