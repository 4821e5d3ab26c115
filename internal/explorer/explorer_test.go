package explorer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/explorer"
	"github.com/dataguardian/dataguardian/internal/location"
	"github.com/dataguardian/dataguardian/storage"
	"github.com/dataguardian/dataguardian/storage/local"
	"github.com/dataguardian/dataguardian/storage/storagetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is an explorer over a directory, with faults at will.
type site struct {
	*explorer.Explorer
	dir    string
	faults []storagetest.Fault

	mu   sync.Mutex
	held map[string]explorer.Holding // by folder
	lost []string
	open int
}

func newSite(t *testing.T, files ...string) *site {
	t.Helper()
	s := &site{dir: t.TempDir(), held: map[string]explorer.Holding{}}
	s.Explorer = explorer.New(s, s)
	for _, file := range append(files, ".dataguardian-storage", ".dataguardian-tmp/left") {
		s.write(t, file)
	}
	t.Cleanup(func() { require.Zero(t, s.open, "a driver stayed open") })
	return s
}

func (s *site) write(t *testing.T, file string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Join(s.dir, filepath.Dir(file)), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, file), []byte(file), 0o600))
}

func (s *site) exists(file string) bool {
	_, err := os.Lstat(filepath.Join(s.dir, file))
	return err == nil
}

// Open implements explorer.Places.
func (s *site) Open(_ context.Context, id string) (location.Location, storage.Driver, error) {
	if id != "id" {
		return location.Location{}, nil, errs.New(errs.NotFound, errs.CodeNotFound, "there is none")
	}
	d, err := local.New(local.Config{Path: s.dir})
	if err != nil {
		return location.Location{}, nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open++
	return location.Location{Type: location.Local, Config: location.Config{"path": s.dir}}, &counted{storagetest.NewFaulty(d, s.faults...), s}, nil
}

type counted struct {
	*storagetest.Faulty
	site *site
}

func (c *counted) Close() error {
	c.site.mu.Lock()
	defer c.site.mu.Unlock()
	c.site.open--
	return c.Faulty.Close()
}

// At implements explorer.Holdings.
func (s *site) At(_ context.Context, _, path string, _ int) (held []explorer.Holding, total int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for folder, h := range s.held {
		if folder == path || strings.HasPrefix(folder, path+"/") || strings.HasPrefix(path, folder+"/") {
			held = append(held, h)
		}
	}
	return held, len(held), nil
}

// Lose implements explorer.Holdings.
func (s *site) Lose(_ context.Context, _, path, _ string) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost = append(s.lost, path)
	return 1, nil
}

func (s *site) hold(folder string, status backup.CopyStatus) {
	s.held[folder] = explorer.Holding{ExecutionID: "e", DatasourceName: "shop", JobName: "nightly", Path: folder, Status: status, CreatedAt: time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)}
}

func (s *site) paths(t *testing.T, folder string) (paths []string) {
	t.Helper()
	got, err := s.List(t.Context(), "id", folder)
	require.NoError(t, err)
	for _, e := range got.Entries {
		if e.Folder {
			paths = append(paths, e.Path+"/")
		} else {
			paths = append(paths, e.Path)
		}
	}
	return paths
}

func TestAFolderShowsFoldersFirstAndHidesWhatIsOurs(t *testing.T) {
	s := newSite(t, "b", "a/x/y", "c/z", "A/q", "zz", ".dataguardian-check-1", ".DataGuardian-Storage2", "c/.dataguardian-storage", ".hidden")
	require.Equal(t, []string{"A/", "a/", "c/", ".hidden", "b", "zz"}, s.paths(t, ""))
	require.Equal(t, []string{"c/.dataguardian-storage", "c/z"}, s.paths(t, "c"))
	require.Equal(t, []string{"c/.dataguardian-storage", "c/z"}, s.paths(t, "c/"))

	root, err := s.List(t.Context(), "id", "")
	require.NoError(t, err)
	require.Nil(t, root.Parent)
	require.Equal(t, s.dir, root.RootLabel)
	require.False(t, root.Truncated)
	deep, err := s.List(t.Context(), "id", "a/x")
	require.NoError(t, err)
	require.Equal(t, "a", *deep.Parent)
	require.Equal(t, "a/x", deep.Path)
	require.Equal(t, "y", deep.Entries[0].Name)
	require.EqualValues(t, 5, deep.Entries[0].Size)
	require.False(t, deep.Entries[0].Modified.IsZero())
	top, err := s.List(t.Context(), "id", "a")
	require.NoError(t, err)
	require.Empty(t, *top.Parent)

	empty := newSite(t)
	require.Empty(t, empty.paths(t, ""))
	_, err = s.List(t.Context(), "id", "nothing")
	require.Equal(t, errs.CodeNotFound, errs.CodeOf(err))
	_, err = s.List(t.Context(), "id", "b")
	require.Equal(t, errs.CodeValidation, errs.CodeOf(err), "it is a file")
	_, err = s.List(t.Context(), "other", "")
	require.Equal(t, errs.CodeNotFound, errs.CodeOf(err))
}

func TestAFolderIsShownUpToALimit(t *testing.T) {
	s := newSite(t)
	require.NoError(t, os.Mkdir(filepath.Join(s.dir, "many"), 0o700))
	for i := range explorer.MaxEntries + 1 {
		require.NoError(t, os.WriteFile(filepath.Join(s.dir, "many", fmt.Sprint(i)), nil, 0o600))
	}
	got, err := s.List(t.Context(), "id", "many")
	require.NoError(t, err)
	require.Len(t, got.Entries, explorer.MaxEntries)
	require.True(t, got.Truncated)
	require.NoError(t, os.Remove(filepath.Join(s.dir, "many", "7")))
	got, err = s.List(t.Context(), "id", "many")
	require.NoError(t, err)
	require.Len(t, got.Entries, explorer.MaxEntries)
	require.False(t, got.Truncated)

	require.NoError(t, s.Delete(t.Context(), "id", "many", false))
	require.False(t, s.exists("many"), "in several batches")
}

// hostile paths, none of which may reach anything.
var hostile = []string{
	"..", "../x", "a/../../x", "a/..", "/etc/passwd", "/", "//", "a//b", "./a", "a/./b", `a\b`, `..\x`, "a\x00b", "\x00", "a\nb", "\x1b[2J", "\u0085", "\xff",
	strings.Repeat("a", 256), strings.Repeat("a/", 600) + "a",
	".dataguardian-storage", ".dataguardian-tmp", ".dataguardian-tmp/left", ".DATAGUARDIAN-TMP/left", ".dataguardian-check-1",
	"link", "link/secret", "a/link", "a/link/secret", "file",
}

func TestHostilePathsAreRefusedByEveryCall(t *testing.T) {
	outside := t.TempDir()
	secret := filepath.Join(outside, "secret")
	require.NoError(t, os.WriteFile(secret, []byte("secret"), 0o600))
	s := newSite(t, "a/b", "good")
	for link, target := range map[string]string{"link": outside, "a/link": outside, "file": secret} {
		require.NoError(t, os.Symlink(target, filepath.Join(s.dir, link)))
	}
	for _, path := range hostile {
		refused := func(call string, err error) {
			require.Equal(t, errs.CodeValidation, errs.CodeOf(err), "%s %q: %v", call, path, err)
			require.Equal(t, errs.Invalid, errs.KindOf(err))
			require.NotEmpty(t, errs.As(err).Fields)
		}
		_, err := s.List(t.Context(), "id", path)
		refused("list", err)
		for _, force := range []bool{false, true} {
			refused("delete", s.Delete(t.Context(), "id", path, force))
		}
		_, err = s.Explorer.Open(t.Context(), "id", path)
		refused("open", err)
		_, err = s.Copy(t.Context(), "id", path, "new")
		refused("copy from", err)
		require.Equal(t, "source_path", errs.As(err).Fields[0].Field)
		_, err = s.Copy(t.Context(), "id", "good", path)
		refused("copy to", err)
		require.Equal(t, "destination_path", errs.As(err).Fields[0].Field)
	}
	refusedRoot := s.Delete(t.Context(), "id", "", true)
	require.Equal(t, errs.CodeValidation, errs.CodeOf(refusedRoot))
	require.False(t, s.exists("new"))
	for _, kept := range []string{"a/b", "good", ".dataguardian-storage", ".dataguardian-tmp/left", "link", "file"} {
		require.True(t, s.exists(kept), kept)
	}
	entries, err := os.ReadDir(outside)
	require.NoError(t, err)
	require.Len(t, entries, 1)
}

func TestFilesAndFoldersAreDeleted(t *testing.T) {
	s := newSite(t, "a/1", "a/2", "a/b/3", "ab", "c", "d/e")
	require.NoError(t, s.Delete(t.Context(), "id", "c", false))
	require.NoError(t, s.Delete(t.Context(), "id", "a", false))
	require.Equal(t, []string{"d/", "ab"}, s.paths(t, ""))
	require.Equal(t, errs.CodeNotFound, errs.CodeOf(s.Delete(t.Context(), "id", "a", false)))
	require.Equal(t, errs.CodeNotFound, errs.CodeOf(s.Delete(t.Context(), "id", "ab/", false)), "a folder was asked for")
	require.NoError(t, s.Delete(t.Context(), "id", "d/", false))
	require.Equal(t, []string{"ab"}, s.paths(t, ""))
	require.Empty(t, s.lost)
}

func TestWhatABackupNeedsStaysUnlessForced(t *testing.T) {
	for _, status := range []backup.CopyStatus{backup.CopyAvailable, backup.CopyMissing} {
		s := newSite(t, "shop/1/manifest.json", "shop/1/part", "shop/free", "other/x")
		s.hold("shop/1", status)
		for _, path := range []string{"shop", "shop/", "shop/1", "shop/1/", "shop/1/part", "shop/1/manifest.json"} {
			err := s.Delete(t.Context(), "id", path, false)
			require.Equal(t, errs.CodeResourceInUse, errs.CodeOf(err), path)
			require.Equal(t, errs.Conflict, errs.KindOf(err))
			require.Equal(t, []any{map[string]any{"execution_id": "e", "datasource_name": "shop", "job_name": "nightly", "backup_path": "shop/1", "status": string(status), "created_at": "2026-11-24T03:00:00Z"}}, errs.As(err).Details["backups"])
			require.Equal(t, 1, errs.As(err).Details["total"])
			require.Contains(t, errs.Message(err), "of shop, made 2026-11-24")
		}
		require.NoError(t, s.Delete(t.Context(), "id", "shop/free", false), "beside it")
		require.NoError(t, s.Delete(t.Context(), "id", "other", false))
		require.Empty(t, s.lost)
		require.NoError(t, s.Delete(t.Context(), "id", "shop/1/part", true))
		require.NoError(t, s.Delete(t.Context(), "id", "shop", true))
		require.Equal(t, []string{"shop/1/part", "shop"}, s.lost, "the catalogue is told")
		require.False(t, s.exists("shop"))
	}
}

func TestWhatARunningExecutionWritesStaysEvenWhenForced(t *testing.T) {
	s := newSite(t, "shop/1/part")
	s.hold("shop/1", backup.CopyPending)
	for _, force := range []bool{false, true} {
		err := s.Delete(t.Context(), "id", "shop", force)
		require.Equal(t, errs.CodeResourceInUse, errs.CodeOf(err))
		require.Contains(t, errs.Message(err), "cancel it first")
	}
	require.True(t, s.exists("shop/1/part"))
	require.Empty(t, s.lost)
}

func TestABackupThatBeginsDuringADeletionKeepsItsParts(t *testing.T) {
	s := newSite(t)
	for i := range 1500 {
		s.write(t, fmt.Sprintf("shop/old/%04d", i))
	}
	s.write(t, "shop/zz-new/part")
	deleted := 0
	s.faults = []storagetest.Fault{{Method: storagetest.Delete, Do: func(context.Context, string) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if deleted++; deleted == 1 {
			s.hold("shop/zz-new", backup.CopyPending)
		}
		return nil
	}}}
	err := s.Delete(t.Context(), "id", "shop", false)
	require.Equal(t, errs.CodeResourceInUse, errs.CodeOf(err))
	require.Equal(t, 1000, errs.As(err).Details["deleted"])
	require.True(t, s.exists("shop/zz-new/part"))
}

func TestADeletionThatFailsSaysSo(t *testing.T) {
	s := newSite(t, "a/1", "a/2")
	s.faults = []storagetest.Fault{{Method: storagetest.Delete, Err: storage.ErrPermission, Skip: 1}}
	err := s.Delete(t.Context(), "id", "a", false)
	require.Equal(t, errs.CodeStorageAuth, errs.CodeOf(err))
	s.faults = []storagetest.Fault{{Method: storagetest.List, Err: errors.New("the network")}}
	require.Equal(t, errs.CodeStorageUnavailable, errs.CodeOf(s.Delete(t.Context(), "id", "a", false)))
	_, err = s.List(t.Context(), "id", "a")
	require.Equal(t, errs.CodeStorageUnavailable, errs.CodeOf(err))
	s.faults = nil
	require.NoError(t, s.Delete(t.Context(), "id", "a", false))
	require.False(t, s.exists("a"))
}

func TestACopyIsWhatItsSourceIs(t *testing.T) {
	s := newSite(t, "a/1")
	body := storagetest.Bytes(1, 3<<20)
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, "large"), body, 0o600))
	made, err := s.Copy(t.Context(), "id", "large", "to/here")
	require.NoError(t, err)
	require.Equal(t, "to/here", made.Path)
	require.Equal(t, "here", made.Name)
	require.EqualValues(t, len(body), made.Size)
	copied, err := os.ReadFile(filepath.Join(s.dir, "to/here"))
	require.NoError(t, err)
	require.Equal(t, storagetest.Digest(body), storagetest.Digest(copied))
	_, err = s.Copy(t.Context(), "id", "a/1", "to/empty folder too/x")
	require.NoError(t, err)

	for what, c := range map[string]struct {
		from, to string
		code     errs.Code
	}{
		"a destination that is there": {"a/1", "to/here", errs.CodeConflict},
		"itself":                      {"a/1", "a/1", errs.CodeConflict},
		"a folder":                    {"a", "b", errs.CodeValidation},
		"nothing":                     {"nothing", "b", errs.CodeNotFound},
		"below a file":                {"a/1", "to/here/x", errs.CodeValidation},
		"over a folder":               {"a/1", "to", errs.CodeValidation},
		"a trailing slash":            {"a/1", "b/", errs.CodeValidation},
	} {
		_, err := s.Copy(t.Context(), "id", c.from, c.to)
		require.Equal(t, c.code, errs.CodeOf(err), "%s: %v", what, err)
	}
	require.False(t, s.exists("b"))
}

func TestACopyThatIsNotWholeIsNotThere(t *testing.T) {
	s := newSite(t, "a")
	for name, fault := range map[string]storagetest.Fault{
		"the source fails midway":      {Method: storagetest.Open, Err: errors.New("the network"), AfterBytes: 1, Times: 1},
		"the store loses a byte":       {Method: storagetest.Put, Truncate: 1},
		"the store flips a bit":        {Method: storagetest.Put, Corrupt: true},
		"it cannot be read back":       {Method: storagetest.Open, Err: errors.New("the network"), Skip: 1},
		"it cannot be looked up again": {Method: storagetest.Stat, Err: errors.New("the network"), Skip: 1},
	} {
		t.Run(name, func(t *testing.T) {
			s.faults = []storagetest.Fault{fault}
			_, err := s.Copy(t.Context(), "id", "a", "b")
			require.Equal(t, errs.CodeStorageUnavailable, errs.CodeOf(err), "%v", err)
			require.False(t, s.exists("b"))
			require.True(t, s.exists("a"))
		})
	}
}

func TestADownloadIsWholeOrFails(t *testing.T) {
	s := newSite(t, "a/file", "empty")
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, "empty"), nil, 0o600))
	for path, want := range map[string]string{"a/file": "a/file", "empty": ""} {
		d, err := s.Explorer.Open(t.Context(), "id", path)
		require.NoError(t, err)
		require.Equal(t, filepath.Base(path), d.Name)
		require.EqualValues(t, len(want), d.Size)
		body, err := io.ReadAll(d)
		require.NoError(t, err)
		require.Equal(t, want, string(body))
		require.NoError(t, d.Close())
	}
	for path, code := range map[string]errs.Code{
		"a": errs.CodeFolderDownload, "a/": errs.CodeFolderDownload, "nothing": errs.CodeNotFound, "a/file/": errs.CodeNotFound, "": errs.CodeValidation, "/": errs.CodeValidation,
	} {
		_, err := s.Explorer.Open(t.Context(), "id", path)
		require.Equal(t, code, errs.CodeOf(err), "%q: %v", path, err)
	}
	s.faults = []storagetest.Fault{{Method: storagetest.Open, Err: errors.New("the network"), AfterBytes: 2}}
	d, err := s.Explorer.Open(t.Context(), "id", "a/file")
	require.NoError(t, err)
	_, err = io.ReadAll(d)
	require.Error(t, err)
	require.NoError(t, d.Close())
}
