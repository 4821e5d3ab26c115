package local_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dataguardian/dataguardian/storage"
	"github.com/dataguardian/dataguardian/storage/local"
	"github.com/dataguardian/dataguardian/storage/storagetest"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// childVariable makes this test binary act as one of children instead of
// running tests; the directory to work on is in dirVariable.
const (
	childVariable = "LOCAL_TEST_CHILD"
	dirVariable   = "LOCAL_TEST_DIR"
)

func TestMain(m *testing.M) {
	switch os.Getenv(childVariable) {
	case "put":
		os.Exit(report(putStandardInput(os.Getenv(dirVariable))))
	case "denied":
		os.Exit(report(openAsNobody(os.Getenv(dirVariable))))
	}
	os.Exit(m.Run())
}

func report(err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func putStandardInput(dir string) error {
	d, err := local.New(local.Config{Path: dir})
	if err != nil {
		return err
	}
	_, err = d.Put(context.Background(), "folder/killed", os.Stdin, storage.PutOptions{Size: -1, IfAbsent: true})
	return err
}

// openAsNobody gives up root's rights, which ignore file modes.
func openAsNobody(dir string) error {
	if os.Geteuid() == 0 {
		if err := syscall.Setuid(65534); err != nil {
			return err
		}
	}
	if _, err := local.New(local.Config{Path: dir}); !errors.Is(err, storage.ErrPermission) {
		return fmt.Errorf("opening an unwritable directory: %w", errors.Join(err, errors.New("not ErrPermission")))
	}
	if _, err := local.New(local.Config{Path: filepath.Join(dir, "new")}); !errors.Is(err, storage.ErrPermission) {
		return fmt.Errorf("making a directory in an unwritable one: %w", errors.Join(err, errors.New("not ErrPermission")))
	}
	return nil
}

func child(t *testing.T, name, dir string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), childVariable+"="+name, dirVariable+"="+dir)
	cmd.Stderr = os.Stderr
	return cmd
}

func TestAnUnwritableDirectoryFailsTyped(t *testing.T) {
	base := t.TempDir()
	require.NoError(t, os.Chmod(base, 0o755))
	require.NoError(t, os.Chmod(filepath.Dir(base), 0o755))
	dir := filepath.Join(base, "closed")
	require.NoError(t, os.Mkdir(dir, 0o555))
	require.NoError(t, child(t, "denied", dir).Run())
}

func TestAKilledWriterLeavesNothingVisibleAndASweepCleans(t *testing.T) {
	dir := t.TempDir()
	writer := child(t, "put", dir)
	stdin, err := writer.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, writer.Start())
	_, err = stdin.Write(storagetest.Bytes(1, 3<<20))
	require.NoError(t, err)
	var temporary string
	require.Eventually(t, func() bool {
		files, err := filepath.Glob(filepath.Join(dir, ".dataguardian-tmp", "*"))
		if err != nil || len(files) != 1 {
			return false
		}
		temporary = files[0]
		info, err := os.Stat(temporary)
		return err == nil && info.Size() > 1<<20
	}, time.Minute, 5*time.Millisecond)
	require.NoError(t, writer.Process.Kill())
	require.Error(t, writer.Wait())

	d := open(t, local.Config{Path: dir})
	require.Empty(t, keys(t, d, ""))
	_, err = d.Stat(t.Context(), "folder/killed")
	require.ErrorIs(t, err, storage.ErrNotExist)
	n, err := d.Sweep(t.Context(), "", time.Hour)
	require.NoError(t, err)
	require.Zero(t, n, "it is too young")
	require.FileExists(t, temporary)
	n, err = d.Sweep(t.Context(), "", 0)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.NoFileExists(t, temporary)

	_, err = d.Put(t.Context(), "folder/killed", strings.NewReader("again"), storage.PutOptions{Size: 5, IfAbsent: true})
	require.NoError(t, err)
}

// smallDisk returns a driver that takes about 4 MiB: a small file system when
// the test may mount one, else a cap.
func smallDisk(t *testing.T) (*local.Driver, string) {
	t.Helper()
	dir := t.TempDir()
	if os.Geteuid() != 0 || unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m,mode=0700") != nil {
		return open(t, local.Config{Path: dir, MaxBytes: 4 << 20}), dir
	}
	t.Cleanup(func() { require.NoError(t, unix.Unmount(dir, 0)) })
	return open(t, local.Config{Path: dir}), dir
}

func TestAFullDiskFailsTypedAndLeavesNothing(t *testing.T) {
	d, dir := smallDisk(t)
	body := storagetest.Bytes(1, 3<<20)
	_, err := d.Put(t.Context(), "first", bytes.NewReader(body), storage.PutOptions{Size: int64(len(body))})
	require.NoError(t, err)

	for _, size := range []int64{-1, int64(len(body))} {
		_, err = d.Put(t.Context(), "folder/second", bytes.NewReader(body), storage.PutOptions{Size: size})
		require.ErrorIs(t, err, storage.ErrFull)
		require.True(t, storage.Permanent(err))
		require.Equal(t, []string{"first"}, keys(t, d, ""))
		require.Empty(t, leftovers(t, dir))
	}
	left, err := d.Available(t.Context())
	require.NoError(t, err)
	require.InDelta(t, 1<<20, left, 64<<10)

	require.NoError(t, d.Delete(t.Context(), "first"))
	_, err = d.Put(t.Context(), "folder/second", bytes.NewReader(body), storage.PutOptions{Size: -1})
	require.NoError(t, err)
}

func TestADiskWithoutRoomForAnythingCanStillBeOpenedAndDeletedFrom(t *testing.T) {
	d, dir := smallDisk(t)
	fill := storagetest.Bytes(1, 4<<10)
	var err error
	stored := 0
	for ; err == nil; stored++ {
		_, err = d.Put(t.Context(), fmt.Sprintf("f/%04d", stored), bytes.NewReader(fill), storage.PutOptions{Size: -1})
	}
	require.ErrorIs(t, err, storage.ErrFull)
	require.Greater(t, stored, 500)

	again := open(t, local.Config{Path: dir})
	require.NoError(t, again.Delete(t.Context(), "f/0000"))
	_, err = again.Put(t.Context(), "f/0000", bytes.NewReader(fill), storage.PutOptions{Size: -1})
	require.NoError(t, err)
}

func TestAReadOnlyFileSystemFailsTyped(t *testing.T) {
	d, dir := smallDisk(t)
	if unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, "") != nil {
		require.NoError(t, child(t, "denied", "/proc/sys").Run(), "without the right to mount, take what is read-only anyway")
		return
	}
	_, err := local.New(local.Config{Path: dir})
	require.ErrorIs(t, err, storage.ErrPermission)
	_, err = d.Put(t.Context(), "key", strings.NewReader("x"), storage.PutOptions{Size: 1})
	require.ErrorIs(t, err, storage.ErrPermission)
}

func TestTheCapCountsWhatIsStored(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "before"), make([]byte, 1000), 0o600))
	d := open(t, local.Config{Path: dir, MaxBytes: 10_000})
	requireLeft := func(want int64) {
		t.Helper()
		left, err := d.Available(t.Context())
		require.NoError(t, err)
		require.Equal(t, want, left)
	}
	put := func(key string, n int) error {
		_, err := d.Put(t.Context(), key, bytes.NewReader(make([]byte, n)), storage.PutOptions{Size: -1})
		return err
	}
	requireLeft(9000)
	require.NoError(t, put("a", 4000))
	requireLeft(5000)
	require.NoError(t, put("a", 1000))
	requireLeft(8000)
	require.ErrorIs(t, put("b", 8001), storage.ErrFull)
	requireLeft(8000)
	require.NoError(t, put("b", 8000))
	requireLeft(0)
	require.NoError(t, d.Delete(t.Context(), "b"))
	require.NoError(t, d.Delete(t.Context(), "before"))
	requireLeft(9000)
}

func TestTheSpaceLeftIsTheFileSystemsWithoutACap(t *testing.T) {
	dir := t.TempDir()
	left, err := open(t, local.Config{Path: dir}).Available(t.Context())
	require.NoError(t, err)
	var st unix.Statfs_t
	require.NoError(t, unix.Statfs(dir, &st))
	require.InEpsilon(t, int64(st.Bavail)*st.Bsize, left, 0.2)

	capped, err := open(t, local.Config{Path: dir, MaxBytes: 1 << 62}).Available(t.Context())
	require.NoError(t, err)
	require.InEpsilon(t, left, capped, 0.2, "a cap beyond the disk promises nothing")
}
