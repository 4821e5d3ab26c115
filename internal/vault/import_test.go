package vault_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/artifact"
	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/datasource"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/location"
	"github.com/dataguardian/dataguardian/internal/vault"
	"github.com/dataguardian/dataguardian/storage"
)

// catalogueless knows no backups.
type catalogueless struct{ books }

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
	owner string // of every execution
	err   error
}

func (l *ledger) Import(_ context.Context, f backup.Found) error {
	if l.err == nil {
		l.taken = append(l.taken, f)
	}
	return l.err
}

func (l *ledger) OwnerOf(context.Context, string) (string, error) { return l.owner, l.err }

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
	require.Empty(t, one(backup.ImportRequest{DatasourceID: "pg"}).Backup.Parts, "which may be many")
	require.Equal(t, "15.18", f.ServerVersion)

	books.owner = "maria"
	require.Equal(t, "maria", one(backup.ImportRequest{}).DatasourceID, "its execution is known")
	books.owner = ""
	_, err := i.Import(t.Context(), "a", backup.ImportRequest{Path: "sho", DatasourceID: "pg"})
	require.Equal(t, errs.CodeNotFound, errs.CodeOf(err), "a folder, not a prefix")
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

// reseal edits a manifest and gives it the digest that belongs to it.
func reseal(t *testing.T, file string, edit func(m *artifact.Manifest)) {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	var m artifact.Manifest
	require.NoError(t, json.Unmarshal(text, &m))
	edit(&m)
	m.Digest = strings.Repeat("0", 64)
	blank, err := json.MarshalIndent(m, "", "  ")
	require.NoError(t, err)
	blank = append(blank, '\n')
	sum := sha256.Sum256(blank)
	sealed := strings.Replace(string(blank), m.Digest+"\"\n}", hex.EncodeToString(sum[:])+"\"\n}", 1)
	require.NoError(t, os.WriteFile(file, []byte(sealed), 0o600))
}

func TestWhatNoDataGuardianWritesIsNotImported(t *testing.T) {
	at := func(year int, zone int) time.Time {
		return time.Date(year, 12, 31, 23, 59, 59, 0, time.FixedZone("", zone*3600))
	}
	for name, edit := range map[string]func(m *artifact.Manifest){
		"a year with five digits":  func(m *artifact.Manifest) { m.CreatedAt = at(9999, -23) },
		"a time without a year":    func(m *artifact.Manifest) { m.FinishedAt = time.Time{} },
		"a time to come":           func(m *artifact.Manifest) { m.StartedAt = at(2099, 0) },
		"a version like a book":    func(m *artifact.Manifest) { m.ServerVersion = strings.Repeat("x", 1<<20) },
		"a long tool":              func(m *artifact.Manifest) { m.Tools = map[string]string{"t": strings.Repeat("x", 2000)} },
		"an id in capital letters": func(m *artifact.Manifest) { m.ExecutionID = strings.ToUpper(storedID) },
		"another's id":             func(m *artifact.Manifest) { m.ExecutionID = "1" + storedID[1:] },
		"no id":                    func(m *artifact.Manifest) { m.ExecutionID = "\x1b[2J" },
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := newShelf(t)
			books := &ledger{}
			i := vault.NewImporter(vault.New(&catalogueless{}, shelves{s}, shelves{s}, slog.New(slog.DiscardHandler)), people{"pg": engine.Postgres}, books)
			file := filepath.Join(s.dirs["a"], s.backup.Copies[0].Path, "manifest.json")
			reseal(t, file, func(*artifact.Manifest) {})
			found, err := i.Import(t.Context(), "a", backup.ImportRequest{DatasourceID: "pg", DryRun: true})
			require.NoError(t, err)
			require.NoError(t, found[0].Err, "sealed anew it is good")
			reseal(t, file, edit)
			found, err = i.Import(t.Context(), "a", backup.ImportRequest{DatasourceID: "pg"})
			require.NoError(t, err)
			require.Equal(t, errs.CodeArtifactCorrupt, errs.CodeOf(found[0].Err), "%v", found[0].Err)
			require.Less(t, len(errs.Message(found[0].Err)), 500)
			require.Empty(t, books.taken)
		})
	}
}

func TestOfTwoThatClaimToBeOneBackupTheFirstIsImported(t *testing.T) {
	s, _ := newShelf(t)
	path := s.backup.Copies[0].Path
	same, other := "moved/"+filepath.Base(path), "planted/"+filepath.Base(path)
	for _, to := range []string{same, other} {
		require.NoError(t, os.CopyFS(filepath.Join(s.dirs["a"], to), os.DirFS(filepath.Join(s.dirs["a"], path))))
	}
	reseal(t, filepath.Join(s.dirs["a"], other, "manifest.json"), func(m *artifact.Manifest) { m.Members[0].Parts[0].SHA256 = strings.Repeat("ab", 32) })
	for _, dry := range []bool{true, false} {
		books := &ledger{}
		i := vault.NewImporter(vault.New(&catalogueless{}, shelves{s}, shelves{s}, slog.New(slog.DiscardHandler)), people{"pg": engine.Postgres}, books)
		found, err := i.Import(t.Context(), "a", backup.ImportRequest{DatasourceID: "pg", DryRun: dry})
		require.NoError(t, err)
		require.Len(t, found, 3)
		require.NoError(t, found[0].Err)
		require.Equal(t, []string{same, other, path}, []string{found[0].Path, found[1].Path, found[2].Path})
		require.Equal(t, errs.CodeConflict, errs.CodeOf(found[1].Err))
		require.NoError(t, found[2].Err)
	}
}

// silent gives no manifests.
type silent struct{ storage.Driver }

func (s silent) Open(_ context.Context, key string, _, _ int64) (io.ReadCloser, error) {
	return nil, fmt.Errorf("%w: %s is kept elsewhere", storage.ErrPermission, key)
}

type silentShelves struct{ shelves }

func (s silentShelves) Open(ctx context.Context, l location.Location) (storage.Driver, error) {
	d, err := s.shelves.Open(ctx, l)
	return silent{d}, err
}

func TestAManifestThatIsKeptFromUsStopsNoOther(t *testing.T) {
	s, _ := newShelf(t)
	i := vault.NewImporter(vault.New(&catalogueless{}, shelves{s}, silentShelves{shelves{s}}, slog.New(slog.DiscardHandler)), people{"pg": engine.Postgres}, &ledger{})
	found, err := i.Import(t.Context(), "a", backup.ImportRequest{DatasourceID: "pg"})
	require.NoError(t, err)
	require.Equal(t, errs.Unavailable, errs.KindOf(found[0].Err))
	path := s.backup.Copies[0].Path
	for n := range 8 {
		require.NoError(t, os.CopyFS(filepath.Join(s.dirs["a"], fmt.Sprintf("db%d", n), filepath.Base(path)), os.DirFS(filepath.Join(s.dirs["a"], path))))
	}
	_, err = i.Import(t.Context(), "a", backup.ImportRequest{DatasourceID: "pg"})
	require.Equal(t, errs.Unavailable, errs.KindOf(err), "none of them: the storage is away")
	require.Contains(t, errs.Message(err), filepath.Base(path))
}
