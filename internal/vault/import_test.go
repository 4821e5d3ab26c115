package vault_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/datasource"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/vault"
)

// people is a set of datasources.
type people map[string]engine.Type

func (p people) Get(_ context.Context, id string) (datasource.Datasource, error) {
	kind, ok := p[id]
	if !ok {
		return datasource.Datasource{}, errs.New(errs.NotFound, errs.CodeNotFound, "no datasource has the id %q", id)
	}
	return datasource.Datasource{ID: id, Name: id, Type: kind}, nil
}

// ledger is a catalogue that takes what it is given.
type ledger struct {
	taken []backup.Found
	err   error
}

func (l *ledger) Import(_ context.Context, f backup.Found) error {
	if l.err == nil {
		l.taken = append(l.taken, f)
	}
	return l.err
}

func (l *ledger) CanImport(context.Context, backup.Found) error { return l.err }

func TestImportTakesWhatIsWholeAndSaysWhyTheRestIsLeft(t *testing.T) {
	s, _ := newShelf(t) // one whole backup in a, of no datasource that is known
	path := s.backup.Copies[0].Path
	catalogue := &books{}
	v := vault.New(catalogue, shelves{s}, shelves{s}, slog.New(slog.DiscardHandler))
	books := &ledger{}
	i := vault.NewImporter(v, people{"pg": engine.Postgres, "maria": engine.MariaDB}, books)
	one := func(r backup.ImportRequest) backup.Imported {
		t.Helper()
		found, err := i.Import(t.Context(), "a", r)
		require.NoError(t, err)
		require.Len(t, found, 1)
		require.Equal(t, path, found[0].Path)
		return found[0]
	}

	require.Equal(t, errs.CodeNotFound, errs.CodeOf(one(backup.ImportRequest{}).Err), "nobody to belong to")
	require.Equal(t, errs.CodeConflict, errs.CodeOf(one(backup.ImportRequest{DatasourceID: "maria"}).Err))
	require.NoError(t, one(backup.ImportRequest{DatasourceID: "pg", DryRun: true}).Err)
	require.Empty(t, books.taken)
	for _, below := range []string{path, path + "/", "shop", "shop/", ""} {
		require.Equal(t, "pg", one(backup.ImportRequest{DatasourceID: "pg", Path: below}).DatasourceID)
	}
	f := books.taken[0]
	require.Equal(t, []string{storedID, "pg", path}, []string{f.Backup.ExecutionID, f.Backup.DatasourceID, f.Backup.Path})
	require.Equal(t, s.backup.Parts, f.Backup.Parts)
	require.Equal(t, "15.18", f.ServerVersion)

	elsewhere, err := i.Import(t.Context(), "a", backup.ImportRequest{Path: "sho", DatasourceID: "pg"})
	require.NoError(t, err)
	require.Empty(t, elsewhere, "a folder, not a prefix")
	catalogue.rows = []backup.Backup{row(storedID, path, backup.CopyPending, 1)}
	known, err := i.Import(t.Context(), "a", backup.ImportRequest{DatasourceID: "pg"})
	require.NoError(t, err)
	require.Empty(t, known)
	catalogue.rows = nil

	books.err = errs.New(errs.Unavailable, errs.CodeDatabaseUnavailable, "the metadata database does not answer")
	_, err = i.Import(t.Context(), "a", backup.ImportRequest{DatasourceID: "pg"})
	require.Equal(t, errs.CodeDatabaseUnavailable, errs.CodeOf(err), "it is no backup's fault")
	books.err = nil

	require.NoError(t, os.Truncate(s.file("a", 1), 10))
	short := one(backup.ImportRequest{DatasourceID: "pg"})
	require.Equal(t, errs.CodeArtifactCorrupt, errs.CodeOf(short.Err))
	require.Contains(t, errs.Message(short.Err), "10 bytes")
	manifest := filepath.Join(s.dirs["a"], path, "manifest.json")
	text, err := os.ReadFile(manifest)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(manifest, []byte(strings.Replace(string(text), "shop", "shOp", 1)), 0o600))
	edited := one(backup.ImportRequest{DatasourceID: "pg"})
	require.Equal(t, errs.CodeArtifactCorrupt, errs.CodeOf(edited.Err))
	require.Empty(t, edited.ExecutionID)
}

func TestAnImportRefusesBadInput(t *testing.T) {
	_, v := newShelf(t)
	i := vault.NewImporter(v, people{"pg": engine.Postgres}, &ledger{})
	for _, path := range []string{"../other", "/etc", "a//b", "a\\b", "a\x00b", strings.Repeat("x", 2000)} {
		_, err := i.Import(t.Context(), "a", backup.ImportRequest{Path: path})
		require.Equal(t, errs.CodeValidation, errs.CodeOf(err), "%q", path)
		require.Equal(t, "path", errs.As(err).Fields[0].Field)
	}
	_, err := i.Import(t.Context(), "a", backup.ImportRequest{DatasourceID: "absent"})
	require.Equal(t, errs.CodeNotFound, errs.CodeOf(err))
}
