package vault_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/location"
	"github.com/dataguardian/dataguardian/internal/vault"
	"github.com/dataguardian/dataguardian/storage"
	"github.com/dataguardian/dataguardian/storage/local"
)

// books is a catalogue of fixed copies.
type books struct {
	backup.Catalogue
	rows    []backup.Backup
	missing map[string]string
	read    func() // before the rows are
	doomed  bool   // retention is removing everything
}

func (b *books) At(_ context.Context, _, after string, _ int) ([]backup.Backup, error) {
	if after != "" {
		return nil, nil
	}
	if b.read != nil {
		b.read()
	}
	return b.rows, nil
}

func (b *books) MarkMissing(_ context.Context, c backup.Copy, why string) error {
	if b.doomed {
		return errs.New(errs.Conflict, errs.CodeConflict, "it is being deleted")
	}
	b.missing[c.Path] = why
	return nil
}

type oneLocation struct{ path string }

func (o oneLocation) Get(context.Context, string) (location.Location, error) {
	return location.Location{ID: "l", Name: "disk", Type: location.Local, Config: location.Config{"path": o.path}}, nil
}

func (o oneLocation) Open(context.Context, location.Location) (storage.Driver, error) {
	return local.New(local.Config{Path: o.path})
}

func put(t *testing.T, d storage.Driver, key string) {
	t.Helper()
	_, err := d.Put(t.Context(), key, strings.NewReader("data"), storage.PutOptions{Size: 4})
	require.NoError(t, err)
}

// row is a backup of one part with one copy.
func row(id, path string, status backup.CopyStatus, size int64) backup.Backup {
	return backup.Backup{
		ExecutionID: id, Copies: []backup.Copy{{ExecutionID: id, StorageLocationID: "l", Path: path, Status: status}},
		Parts: []backup.Part{{Number: 1, Key: path + "/backup.dump.zst", Size: size}},
	}
}

// Listing a large storage takes long; whole backups are made meanwhile.
func TestABackupThatIsMadeWhileItsStorageIsListedIsNotMissing(t *testing.T) {
	place := oneLocation{path: t.TempDir()}
	d, err := local.New(local.Config{Path: place.path})
	require.NoError(t, err)
	const path = "db/2026-01-01_000000_aaaaaaaa"
	catalogue := &books{missing: map[string]string{}, rows: []backup.Backup{row("1", path, backup.CopyAvailable, 4)}}
	catalogue.read = func() {
		put(t, d, path+"/backup.dump.zst")
		put(t, d, path+"/manifest.json")
	}
	f, err := vault.New(catalogue, place, place, slog.New(slog.DiscardHandler)).Reconcile(t.Context(), "l", 0)
	require.NoError(t, err)
	require.Empty(t, f.Missing)
	require.Empty(t, f.Removed)

	catalogue.read, catalogue.doomed = func() { require.NoError(t, d.Delete(t.Context(), path+"/manifest.json")) }, true
	f, err = vault.New(catalogue, place, place, slog.New(slog.DiscardHandler)).Reconcile(t.Context(), "l", 0)
	require.NoError(t, err, "nor what retention removes meanwhile")
	require.Empty(t, f.Missing)
	require.NoError(t, d.Close())
}

func TestReconcileRemovesOrphansKeepsWholeBackupsAndReportsWhatIsGone(t *testing.T) {
	place := oneLocation{path: t.TempDir()}
	d, err := local.New(local.Config{Path: place.path})
	require.NoError(t, err)
	put := func(key string) { put(t, d, key) }
	const good, short, gone, headless = "db/2026-01-01_000000_aaaaaaaa", "db/2026-01-02_000000_bbbbbbbb", "db/2026-01-03_000000_cccccccc", "db/2026-01-04_000000_dddddddd"
	const running, orphan, foreign = "db/2026-01-05_000000_eeeeeeee", "db/2026-01-06_000000_ffffffff", "other/2026-01-07_000000_00000000"
	for _, path := range []string{good, short, foreign} {
		put(path + "/manifest.json")
	}
	for _, path := range []string{good, short, headless, running, orphan, foreign} {
		put(path + "/backup.dump.zst")
	}
	const check = storage.ValidatePrefix + "of-a-process-that-was-killed"
	const younger = storage.ValidatePrefix + "that-is-under-way"
	put(check)
	put(younger)
	long := time.Now().Add(-2 * time.Hour)
	require.NoError(t, os.Chtimes(filepath.Join(place.path, check), long, long))
	put("somebody's file")
	put("db/notes.txt")
	require.NoError(t, d.Close())

	catalogue := &books{missing: map[string]string{}, rows: []backup.Backup{
		row("1", good, backup.CopyAvailable, 4), row("2", short, backup.CopyAvailable, 5), row("3", gone, backup.CopyAvailable, 4),
		row("4", headless, backup.CopyAvailable, 4), row("5", running, backup.CopyPending, 4),
	}}
	v := vault.New(catalogue, place, place, slog.New(slog.DiscardHandler))

	f, err := v.Reconcile(t.Context(), "l", 3*time.Hour)
	require.NoError(t, err)
	require.Empty(t, f.Removed, "an orphan has its time of grace")
	require.Equal(t, []string{foreign}, f.Foreign)
	require.ElementsMatch(t, []string{short, gone, headless}, f.Missing)
	require.Equal(t, map[string]string{
		short: "part " + short + "/backup.dump.zst has 4 bytes instead of 5", gone: "all its objects are gone", headless: "its manifest is gone",
	}, catalogue.missing)

	f, err = v.Reconcile(t.Context(), "l", 0)
	require.NoError(t, err)
	require.Equal(t, []string{orphan, check}, f.Removed)
	left := map[string]bool{}
	d, err = local.New(local.Config{Path: place.path})
	require.NoError(t, err)
	for o, err := range d.List(t.Context(), "") {
		require.NoError(t, err)
		left[o.Key] = true
	}
	require.NoError(t, d.Close())
	require.NotContains(t, left, orphan+"/backup.dump.zst")
	require.NotContains(t, left, check)
	for _, key := range []string{good + "/manifest.json", running + "/backup.dump.zst", foreign + "/backup.dump.zst", younger, "somebody's file", "db/notes.txt"} {
		require.Contains(t, left, key)
	}
}
