package artifact_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/dataguardian/dataguardian/internal/artifact"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/storage"
	"github.com/dataguardian/dataguardian/storage/local"
	"github.com/dataguardian/dataguardian/storage/storagetest"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// failedUpload leaves the spool of ten parts, n of which every target has.
func failedUpload(t *testing.T, c artifact.Config, n int) {
	t.Helper()
	broken := c
	broken.Targets = nil
	for _, target := range c.Targets {
		target.Driver = failFrom(target.Driver, n, errWeather)
		broken.Targets = append(broken.Targets, target)
	}
	w := newWriter(t, broken)
	dump(t, w, 999, tenParts())
	r, err := w.Commit(t.Context(), completion())
	requireCode(t, errs.CodeUploadFailed, err)
	require.True(t, r.SpoolKept)
}

func TestResumeSendsOnlyWhatIsMissing(t *testing.T) {
	for _, sent := range []int{0, 1, 5, 9, 10} {
		for _, bare := range []bool{false, true} {
			d := newMemory()
			d.bare = bare
			c := plain(t, d)
			failedUpload(t, c, sent)
			require.True(t, artifact.SpoolResumable(c.SpoolDir, execution))
			require.Equal(t, c.Path, artifact.SpooledPath(c.SpoolDir, execution))

			d.forget()
			r, err := artifact.Resume(t.Context(), c)
			require.NoError(t, err)
			require.Equal(t, []string{"t1 available"}, statuses(r))
			require.Equal(t, (10-sent)*1000, d.partBytesSent())
			require.Equal(t, int64(10_000), r.RawBytes)
			require.Len(t, r.Parts, 10)
			requireMembers(t, d, c.Path, []member{tenParts()})
			require.NoDirExists(t, filepath.Join(c.SpoolDir, execution))

			_, err = artifact.Resume(t.Context(), c)
			requireCode(t, errs.CodeSpoolLost, err)
		}
	}
}

func TestResumeMayFailAgainAndAgain(t *testing.T) {
	d := newMemory()
	c := plain(t, d)
	failedUpload(t, c, 2)
	for _, more := range []int{0, 3, 4} {
		broken := c
		broken.Targets = []artifact.Target{{ID: "t1", Driver: failFrom(d, more, errWeather)}}
		r, err := artifact.Resume(t.Context(), broken)
		requireCode(t, errs.CodeUploadFailed, err)
		require.True(t, r.SpoolKept)
	}
	d.forget()
	_, err := artifact.Resume(t.Context(), c)
	require.NoError(t, err)
	require.Equal(t, 1000, d.partBytesSent())
}

func TestResumeCompletesTheTargetsThatReplicationMissed(t *testing.T) {
	good, bad := newMemory(), newMemory()
	c := plain(t, good, failFrom(bad, 3, errWeather))
	c.Strategy = artifact.Replicate
	r := store(t, c, tenParts())
	require.True(t, r.SpoolKept)
	manifest := good.get(c.Path + "/manifest.json")

	c.Targets[1].Driver = bad
	c.KeepSpool = true
	bad.forget()
	good.forget()
	one := c
	one.Targets = c.Targets[1:]
	r, err := artifact.Resume(t.Context(), one)
	require.NoError(t, err)
	require.Equal(t, 7000, bad.partBytesSent())
	require.Equal(t, manifest, bad.get(c.Path+"/manifest.json"))
	require.True(t, r.SpoolKept)

	c.KeepSpool = false
	r, err = artifact.Resume(t.Context(), c) // both have it all: nothing is sent
	require.NoError(t, err)
	require.Equal(t, []string{"t1 available", "t2 available"}, statuses(r))
	require.Zero(t, good.partBytesSent())
	require.False(t, r.SpoolKept)
	require.NoDirExists(t, filepath.Join(c.SpoolDir, execution))
}

func TestResumeRefusesASpoolThatHasChanged(t *testing.T) {
	doubtful := map[string]bool{ // the dump may be whole, there or elsewhere
		"all is gone": true, "a part leads outside": true, "a part cannot be read": true, "a state of the future": true,
	}
	damage := map[string]func(t *testing.T, dir string){
		"a part is missing": func(t *testing.T, dir string) { require.NoError(t, os.Remove(dir+"/parts/000004")) },
		"a bit flipped":     func(t *testing.T, dir string) { flip(t, dir+"/parts/000004") },
		"a part is short":   func(t *testing.T, dir string) { require.NoError(t, os.Truncate(dir+"/parts/000010", 3)) },
		"a part cannot be read": func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(dir+"/parts/000004"))
			require.NoError(t, os.Mkdir(dir+"/parts/000004", 0o700))
		},
		"no state":              func(t *testing.T, dir string) { require.NoError(t, os.Remove(dir+"/state.json")) },
		"the state is cut":      func(t *testing.T, dir string) { require.NoError(t, os.Truncate(dir+"/state.json", 30)) },
		"the manifest is gone":  func(t *testing.T, dir string) { require.NoError(t, os.Remove(dir+"/manifest.json")) },
		"the manifest differs":  func(t *testing.T, dir string) { flip(t, dir+"/manifest.json") },
		"all is gone":           func(t *testing.T, dir string) { require.NoError(t, os.RemoveAll(dir)) },
		"a part leads outside":  func(t *testing.T, dir string) { outside(t, dir) },
		"of another execution":  func(t *testing.T, dir string) { rewrite(t, dir+"/manifest.json", execution, execution[:35]+"e") },
		"a state of the future": func(t *testing.T, dir string) { rewrite(t, dir+"/state.json", `"version":1`, `"version":2`) },
	}
	for name, change := range damage {
		t.Run(name, func(t *testing.T) {
			d := newMemory()
			c := plain(t, d)
			failedUpload(t, c, 2)
			change(t, filepath.Join(c.SpoolDir, execution))
			d.forget()
			_, err := artifact.Resume(t.Context(), c)
			requireCode(t, errs.CodeSpoolLost, err)
			require.Equal(t, doubtful[name], errs.KindOf(err) == errs.Unavailable, "%v", err)
			require.Zero(t, d.partBytesSent())
			require.NotContains(t, d.keys(), c.Path+"/manifest.json")
		})
	}
}

func flip(t *testing.T, file string) {
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	b[len(b)/2] ^= 1
	require.NoError(t, os.WriteFile(file, b, 0o600))
}

func rewrite(t *testing.T, file, old, replacement string) {
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Contains(t, string(b), old)
	require.NoError(t, os.WriteFile(file, []byte(strings.ReplaceAll(string(b), old, replacement)), 0o600))
}

// outside replaces a part by a link to the same bytes elsewhere.
func outside(t *testing.T, dir string) {
	elsewhere := filepath.Join(t.TempDir(), "part")
	require.NoError(t, os.Rename(dir+"/parts/000004", elsewhere))
	require.NoError(t, os.Symlink(elsewhere, dir+"/parts/000004"))
}

func TestTwoResumesAtOnceRunOnce(t *testing.T) {
	d := newMemory()
	c := plain(t, d)
	failedUpload(t, c, 2)
	held, reached, open := gate(d, 0)
	first := c
	first.Targets = []artifact.Target{{ID: "t1", Driver: held}}
	done := make(chan error, 1)
	go func() {
		_, err := artifact.Resume(context.Background(), first)
		done <- err
	}()
	<-reached
	_, err := artifact.Resume(t.Context(), c)
	requireCode(t, errs.CodeExecutionRunning, err)
	_, err = artifact.NewWriter(t.Context(), c)
	requireCode(t, errs.CodeExecutionRunning, err)
	freed, err := artifact.SweepSpool(c.SpoolDir, func(string) bool { return false })
	require.NoError(t, err)
	require.Zero(t, freed)
	requireCode(t, errs.CodeExecutionRunning, artifact.DropSpool(c.SpoolDir, execution))
	close(open)
	require.NoError(t, <-done)
	requireMembers(t, d, c.Path, []member{tenParts()})
}

func TestACancelledCommitCanBeResumed(t *testing.T) {
	d := newMemory()
	f, reached, _ := gate(d, 4)
	c := plain(t, f)
	ctx, cancel := context.WithCancel(t.Context())
	w := newWriter(t, c)
	dump(t, w, 999, tenParts())
	var r artifact.Result
	done := make(chan error, 1)
	go func() {
		var err error
		r, err = w.Commit(ctx, completion())
		done <- err
	}()
	<-reached // which may be before the commit: from its state on the spool can be resumed
	require.Eventually(t, func() bool {
		_, err := os.Stat(filepath.Join(c.SpoolDir, execution, "state.json"))
		return err == nil
	}, time.Minute, time.Millisecond)
	cancel()
	requireCode(t, errs.CodeCancelled, <-done)
	require.True(t, r.SpoolKept)
	c.Targets[0].Driver = d
	d.forget()
	_, err := artifact.Resume(t.Context(), c)
	require.NoError(t, err)
	require.Equal(t, 6000, d.partBytesSent())
}

func TestAGuardStopsAResumeToo(t *testing.T) {
	d := newMemory()
	c := plain(t, d)
	failedUpload(t, c, 2)
	lost := errs.New(errs.Conflict, errs.CodeLeaseLost, "the lease is gone")
	c.Guard = func() error { return lost }
	before := d.keys()
	r, err := artifact.Resume(t.Context(), c)
	require.ErrorIs(t, err, lost)
	require.True(t, r.SpoolKept)
	require.Equal(t, before, d.keys())
}

func TestAKilledProcessIsResumedWithoutAnotherDump(t *testing.T) {
	dir := t.TempDir()
	store := filepath.Join(dir, "store")
	spool := filepath.Join(dir, "spool")
	killVictim(t, store, spool)

	require.True(t, artifact.SpoolResumable(spool, execution))
	d, err := local.New(local.Config{Path: store})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	var sent atomic.Int32
	counted := storagetest.NewFaulty(d, storagetest.Fault{Method: storagetest.Put, Do: func(context.Context, string) error {
		sent.Add(1)
		return nil
	}})
	c := config(spool, counted)
	c.Compression = artifact.NoCompression
	_, err = artifact.OpenManifest(t.Context(), d, c.Path)
	requireCode(t, errs.CodeNotFound, err)
	_, err = artifact.Resume(t.Context(), c)
	require.NoError(t, err)
	require.Equal(t, int32(10-victimParts+1), sent.Load(), "the parts that are missing and the manifest")
	requireMembers(t, d, c.Path, []member{tenParts()})
}

func TestASpoolThatChangesUnderAnUploadIsNoticed(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, file string){
		"changed": flip,
		"removed": func(t *testing.T, file string) { require.NoError(t, os.Remove(file)) },
		"cut":     func(t *testing.T, file string) { require.NoError(t, os.Truncate(file, 10)) },
	} {
		t.Run(name, func(t *testing.T) {
			d := newMemory()
			f, reached, open := gate(d, 0)
			c := plain(t, f, newMemory())
			w := newWriter(t, c)
			dump(t, w, 999, tenParts())
			<-reached
			change(t, filepath.Join(c.SpoolDir, execution, "parts", "000007"))
			close(open)
			r, err := w.Commit(t.Context(), completion())
			requireCode(t, errs.CodeSpoolLost, err)
			require.Len(t, d.keys(), 6)
			require.Len(t, r.Outcomes, 1, "another target would get the same bytes")
			require.NoError(t, w.Abort(t.Context()))
		})
	}
}

func TestAFullSpoolDiskFailsThisArtifactOnly(t *testing.T) {
	dir, reserve := smallDisk(t)
	for _, compression := range []artifact.Compression{artifact.NoCompression, artifact.Zstd} {
		d := newMemory()
		c := config(dir, d)
		c.Compression, c.PartSize, c.SpoolReserve = compression, 1<<20, reserve
		w := newWriter(t, c)
		err := tryDump(w, 10_000, member{"backup.dump", noise(10 << 20)})
		requireCode(t, errs.CodeSpoolFull, err)
		_, err = w.Commit(t.Context(), completion())
		requireCode(t, errs.CodeSpoolFull, err)
		require.NoError(t, w.Abort(t.Context()))
		require.Empty(t, d.keys())

		c.Spool = artifact.SpoolBounded
		c.PartSize = 256 << 10
		members := []member{{"backup.dump", noise(10 << 20)}}
		store(t, c, members...)
		requireMembers(t, d, c.Path, members)
	}
}

// smallDisk is a file system of 4 MiB, or for those who may not mount one, all
// but 4 MiB of a large one reserved.
func smallDisk(t *testing.T) (dir string, reserve int64) {
	dir = t.TempDir()
	if os.Geteuid() == 0 && unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m,mode=0700") == nil {
		t.Cleanup(func() { require.NoError(t, unix.Unmount(dir, 0)) })
		return dir, 1
	}
	var st unix.Statfs_t
	require.NoError(t, unix.Statfs(dir, &st))
	return dir, int64(st.Bavail)*st.Bsize - 4<<20
}

func TestTheReserveOfTheSpoolDiskStaysFree(t *testing.T) {
	c := plain(t, newMemory())
	c.SpoolReserve = 1 << 60
	w := newWriter(t, c)
	requireCode(t, errs.CodeSpoolFull, tryDump(w, 999, tenParts()))
	_, err := w.Commit(t.Context(), completion())
	requireCode(t, errs.CodeSpoolFull, err)
	require.NoError(t, w.Abort(t.Context()))
}

func TestANewAttemptEmptiesTheSpoolOfTheOneBefore(t *testing.T) {
	d := newMemory()
	c := plain(t, d)
	failedUpload(t, c, 0)
	w := newWriter(t, c)
	require.False(t, artifact.SpoolResumable(c.SpoolDir, execution))
	dump(t, w, 9, member{"backup.dump", nil})
	_, err := w.Commit(t.Context(), completion())
	require.NoError(t, err)
}

func TestSpoolsAreMeasuredAndSwept(t *testing.T) {
	d := newMemory()
	c := plain(t, d)
	all, err := artifact.SpoolUsage(filepath.Join(c.SpoolDir, "absent"))
	require.NoError(t, err)
	require.Empty(t, all)
	failedUpload(t, c, 0)
	c.Header.ExecutionID = "other"
	c.Path = artifact.Path("shop", started, "other")
	w := newWriter(t, c)
	dump(t, w, 999, member{"m", noise(1500)})
	require.NoError(t, os.MkdirAll(filepath.Join(c.SpoolDir, "precious", "data"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(c.SpoolDir, "file"), []byte("x"), 0o600))

	all, err = artifact.SpoolUsage(c.SpoolDir)
	require.NoError(t, err)
	require.Len(t, all, 2)
	require.Equal(t, execution, all[0].ExecutionID)
	require.True(t, all[0].Resumable)
	require.Greater(t, all[0].Bytes, int64(10_000))
	require.WithinDuration(t, time.Now(), all[0].Modified, time.Minute)
	require.Equal(t, "other", all[1].ExecutionID)
	require.False(t, all[1].Resumable)
	require.Equal(t, int64(1500), all[1].Bytes)

	freed, err := artifact.SweepSpool(c.SpoolDir, func(id string) bool { return id == execution })
	require.NoError(t, err)
	require.Zero(t, freed, "it is being written")
	require.NoError(t, w.Abort(t.Context()))
	freed, err = artifact.SweepSpool(c.SpoolDir, func(string) bool { return false })
	require.NoError(t, err)
	require.Equal(t, all[0].Bytes, freed)
	require.DirExists(t, filepath.Join(c.SpoolDir, "precious"))
	require.FileExists(t, filepath.Join(c.SpoolDir, "file"))
	require.NoError(t, artifact.DropSpool(c.SpoolDir, execution))
	require.Error(t, artifact.DropSpool(c.SpoolDir, ".."))
	require.False(t, artifact.SpoolResumable(c.SpoolDir, "../x"))
}

func TestSpoolFilesAreNobodyElses(t *testing.T) {
	c := plain(t, newMemory())
	c.SpoolDir = filepath.Join(c.SpoolDir, "made", "on demand")
	failedUpload(t, c, 0)
	require.NoError(t, filepath.WalkDir(filepath.Dir(c.SpoolDir), func(path string, e os.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := e.Info()
		require.NoError(t, err)
		require.Zero(t, info.Mode().Perm()&0o077, path)
		return nil
	}))
}

func TestASpoolThatCannotBeMadeFailsTyped(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	c := plain(t, newMemory())
	c.SpoolDir = file
	_, err := artifact.NewWriter(t.Context(), c)
	requireCode(t, errs.CodeSpoolLost, err)
	require.ErrorIs(t, err, syscall.ENOTDIR)
}

var _ storage.Driver = (*memory)(nil)
