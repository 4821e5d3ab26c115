package artifact_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dataguardian/dataguardian/internal/artifact"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/storage"
	"github.com/dataguardian/dataguardian/storage/storagetest"
	"github.com/stretchr/testify/require"
)

// plain is a config whose parts are as large as what is written.
func plain(t *testing.T, targets ...storage.Driver) artifact.Config {
	c := config(t.TempDir(), targets...)
	c.Compression, c.Concurrency = artifact.NoCompression, 1
	return c
}

func tenParts() member { return member{"backup.dump", noise(10_000)} }

func statuses(r artifact.Result) []string {
	all := []string{}
	for _, o := range r.Outcomes {
		all = append(all, o.TargetID+" "+string(o.Status))
	}
	return all
}

// failFrom lets n parts through, then fails every Put.
func failFrom(d storage.Driver, n int, err error) *storagetest.Faulty {
	return storagetest.NewFaulty(d, storagetest.Fault{Method: storagetest.Put, Skip: n, Err: err, AfterBytes: 1})
}

func TestATransientErrorIsRetriedPerPart(t *testing.T) {
	d := newMemory()
	f := storagetest.NewFaulty(d,
		storagetest.Fault{Method: storagetest.Put, Skip: 3, Times: 3, Err: errWeather, AfterBytes: 500},
		storagetest.Fault{Method: storagetest.Put, Key: func(k string) bool { return !isPart(k) }, Times: 3, Err: errWeather},
		storagetest.Fault{Method: storagetest.List, Times: 3, Err: errWeather})
	c := plain(t, f)
	var waits []time.Duration
	c.Retry.Base, c.Retry.Max = time.Second, 3*time.Second
	c.Retry.Sleep = func(_ context.Context, d time.Duration) error {
		waits = append(waits, d)
		return nil
	}
	var warnings atomic.Int32
	c.Log = func(level engine.Level, _ string) {
		if level == engine.LevelWarn {
			warnings.Add(1)
		}
	}
	var last atomic.Pointer[artifact.Progress]
	c.Progress = func(p artifact.Progress) { last.Store(&p) }
	r := store(t, c, tenParts())
	require.Equal(t, []string{"t1 available"}, statuses(r))
	requireMembers(t, d, c.Path, []member{tenParts()})
	require.Len(t, waits, 9)
	require.Equal(t, int32(9), warnings.Load())
	for i, most := range []time.Duration{time.Second, 2 * time.Second, 3 * time.Second} {
		require.LessOrEqual(t, waits[i], most)
		require.GreaterOrEqual(t, waits[i], most/2)
	}
	require.Equal(t, artifact.Progress{RawBytes: 10_000, StoredBytes: 10_000, UploadedBytes: 10_000}, *last.Load())
}

func TestAnAnswerThatWasLostIsNotAFailure(t *testing.T) {
	for _, bare := range []bool{false, true} {
		d := newMemory()
		d.bare = bare
		c := plain(t, &amnesiac{memory: d})
		store(t, c, tenParts())
		requireMembers(t, d, c.Path, []member{tenParts()})
		require.Equal(t, 2*10_000, d.partBytesSent(), "the second try is refused after its body was read")
	}
}

// amnesiac stores everything and says the first time that it did not.
type amnesiac struct {
	*memory
	told sync.Map
}

func (a *amnesiac) Put(ctx context.Context, key string, r io.Reader, o storage.PutOptions) (storage.Object, error) {
	object, err := a.memory.Put(ctx, key, r, o)
	if _, again := a.told.LoadOrStore(key, true); !again {
		return storage.Object{}, errors.Join(errWeather, err)
	}
	return object, err
}

func TestADifferentObjectInTheWayIsNeverReplaced(t *testing.T) {
	for _, name := range []string{"backup.dump.0003", "manifest.json"} {
		for _, bare := range []bool{false, true} {
			d := newMemory()
			d.bare = bare
			c := plain(t, d)
			foreign := make([]byte, 1000)
			d.set(c.Path+"/"+name, foreign)
			w := newWriter(t, c)
			dump(t, w, 999, tenParts())
			r, err := w.Commit(t.Context(), completion())
			requireCode(t, errs.CodeUploadFailed, err)
			require.Equal(t, []string{"t1 failed"}, statuses(r))
			require.Equal(t, foreign, d.get(c.Path+"/"+name))
		}
	}
}

func TestFallbackMovesOnWithEverythingFromTheFullSpool(t *testing.T) {
	for _, after := range []int{0, 1, 5, 10} { // 10: all parts, not the manifest
		first, second, third := newMemory(), newMemory(), newMemory()
		c := plain(t, failFrom(first, after, errWeather), second, third)
		r := store(t, c, tenParts())
		require.Equal(t, []string{"t1 failed", "t2 available"}, statuses(r))
		require.Equal(t, after, r.Outcomes[0].Confirmed)
		require.Equal(t, errs.CodeUploadFailed, errs.CodeOf(r.Outcomes[0].Err))
		requireMembers(t, second, c.Path, []member{tenParts()})
		require.Equal(t, 10_000, second.partBytesSent())
		require.NotContains(t, first.keys(), c.Path+"/manifest.json")
		require.Empty(t, third.keys())
		require.False(t, r.SpoolKept)
		require.NoDirExists(t, filepath.Join(c.SpoolDir, execution))
	}
}

func TestFallbackFromABoundedSpoolIsPossibleUntilAPartWasConfirmed(t *testing.T) {
	first, second := newMemory(), newMemory()
	c := plain(t, failFrom(first, 0, storage.ErrPermission), second)
	c.Spool = artifact.SpoolBounded
	r := store(t, c, tenParts())
	require.Equal(t, []string{"t1 failed", "t2 available"}, statuses(r))
	requireMembers(t, second, c.Path, []member{tenParts()})

	first, second = newMemory(), newMemory()
	c = plain(t, failFrom(first, 2, storage.ErrPermission), second)
	c.Spool = artifact.SpoolBounded
	w := newWriter(t, c)
	err := tryDump(w, 999, member{"backup.dump", noise(100_000)})
	requireCode(t, errs.CodeStorageAuth, err)
	r, err = w.Commit(t.Context(), completion())
	requireCode(t, errs.CodeStorageAuth, err)
	require.False(t, r.SpoolKept)
	require.Equal(t, []string{"t1 failed"}, statuses(r))
	require.NoDirExists(t, filepath.Join(c.SpoolDir, execution))
	require.NoError(t, w.Abort(t.Context()))
	require.Empty(t, first.keys())
	require.Empty(t, second.keys())
}

func TestReplicateSucceedsWithWhatSucceeded(t *testing.T) {
	for _, spool := range []artifact.Spool{artifact.SpoolFull, artifact.SpoolBounded} {
		good, bad := newMemory(), newMemory()
		c := plain(t, good, failFrom(bad, 3, storage.ErrFull), newMemory())
		c.Spool, c.Strategy = spool, artifact.Replicate
		r := store(t, c, tenParts())
		require.Equal(t, []string{"t1 available", "t2 failed", "t3 available"}, statuses(r))
		requireCode(t, errs.CodeStorageFull, r.Outcomes[1].Err)
		requireMembers(t, good, c.Path, []member{tenParts()})
		require.NotContains(t, bad.keys(), c.Path+"/manifest.json")
		require.Equal(t, spool == artifact.SpoolFull, r.SpoolKept)
		require.Equal(t, r.SpoolKept, artifact.SpoolResumable(c.SpoolDir, execution))
	}
}

func TestTheDumpGoesOnIntoAFullSpoolWhenNoTargetWorks(t *testing.T) {
	for err, code := range map[error]errs.Code{
		errWeather: errs.CodeUploadFailed, storage.ErrFull: errs.CodeStorageFull, storage.ErrPermission: errs.CodeStorageAuth,
		storage.ErrNoBucket: errs.CodeStorageUnavailable, storage.ErrClockSkew: errs.CodeStorageUnavailable, storage.ErrConfig: errs.CodeStorageUnavailable,
		storage.ErrChecksum: errs.CodeUploadFailed, context.DeadlineExceeded: errs.CodeUploadFailed,
	} {
		for _, strategy := range []artifact.Strategy{artifact.Fallback, artifact.Replicate} {
			d := newMemory()
			c := plain(t, failFrom(d, 4, err), failFrom(newMemory(), 0, err))
			c.Strategy = strategy
			w := newWriter(t, c)
			dump(t, w, 999, tenParts())
			r, err := w.Commit(t.Context(), completion())
			requireCode(t, code, err)
			require.Equal(t, []string{"t1 failed", "t2 failed"}, statuses(r))
			require.True(t, r.SpoolKept)
			require.Equal(t, int64(10_000), r.RawBytes)
			require.NoError(t, w.Abort(t.Context()))
			require.Empty(t, d.keys())
			require.NoDirExists(t, filepath.Join(c.SpoolDir, execution))
		}
	}
}

func TestDifferentReasonsOfSeveralTargetsAreOneFailedUpload(t *testing.T) {
	c := plain(t, failFrom(newMemory(), 0, storage.ErrFull), failFrom(newMemory(), 0, storage.ErrPermission))
	w := newWriter(t, c)
	dump(t, w, 999, tenParts())
	_, err := w.Commit(t.Context(), completion())
	requireCode(t, errs.CodeUploadFailed, err)
	require.ErrorIs(t, err, storage.ErrFull)
	require.ErrorIs(t, err, storage.ErrPermission)
}

func TestAStorageThatKeepsLessThanItSaysIsNotAvailable(t *testing.T) {
	short := storagetest.NewFaulty(newMemory(), storagetest.Fault{Method: storagetest.Put, Skip: 2, Times: 1, Truncate: 1})
	w := newWriter(t, plain(t, short))
	dump(t, w, 999, tenParts())
	_, err := w.Commit(t.Context(), completion())
	requireCode(t, errs.CodeUploadFailed, err)

	d := newMemory()
	c := plain(t, d)
	c.BeforeFirstObject = nil
	gone := storagetest.NewFaulty(d, storagetest.Fault{Method: storagetest.List, Do: func(ctx context.Context, _ string) error {
		return d.Delete(ctx, c.Path+"/backup.dump.0002")
	}})
	c.Targets[0].Driver = gone
	w = newWriter(t, c)
	dump(t, w, 999, tenParts())
	_, err = w.Commit(t.Context(), completion())
	requireCode(t, errs.CodeUploadFailed, err)
	require.NotContains(t, d.keys(), c.Path+"/manifest.json")
}

func TestAFailingGuardMeansNothingMoreIsWrittenAndNothingTouched(t *testing.T) {
	lost := errs.New(errs.Conflict, errs.CodeLeaseLost, "the lease is gone")
	for steps := range 13 { // 10 parts, the listing, the manifest; then one too many
		for _, strategy := range []artifact.Strategy{artifact.Fallback, artifact.Replicate} {
			d, other := newMemory(), newMemory()
			c := plain(t, d, other)
			c.Strategy = strategy
			c.Targets = c.Targets[:1]
			var passed atomic.Int64
			c.Guard = func() error {
				if passed.Add(1) > int64(steps) {
					return lost
				}
				return nil
			}
			w := newWriter(t, c)
			err := tryDump(w, 999, tenParts())
			r, commitErr := w.Commit(t.Context(), completion())
			if steps == 12 {
				require.NoError(t, err)
				require.NoError(t, commitErr)
				continue
			}
			require.ErrorIs(t, commitErr, lost)
			require.NotContains(t, d.keys(), c.Path+"/manifest.json")
			require.Len(t, d.keys(), min(steps, 10))
			require.Empty(t, other.keys())

			before := d.keys()
			require.ErrorIs(t, w.Abort(t.Context()), lost)
			require.Equal(t, before, d.keys())
			if r.SpoolKept {
				require.True(t, artifact.SpoolResumable(c.SpoolDir, execution))
			}
		}
	}
}

func TestACopyIsBookedOnceBeforeItsFirstObject(t *testing.T) {
	d := newMemory()
	c := plain(t, d)
	c.Concurrency = 4
	var booked []string
	tries := 0
	c.BeforeFirstObject = func(_ context.Context, id string) error {
		if tries++; tries < 3 {
			return errs.New(errs.Unavailable, errs.CodeDatabaseUnavailable, "the ledger is away")
		}
		require.Empty(t, d.keys())
		booked = append(booked, id)
		return nil
	}
	store(t, c, tenParts())
	require.Equal(t, []string{"t1"}, booked)
}

func TestWithoutABookingNothingIsWritten(t *testing.T) {
	for _, kind := range []errs.Kind{errs.Unavailable, errs.Conflict} {
		d := newMemory()
		c := plain(t, d, newMemory())
		refused := errs.New(kind, errs.CodeLeaseLost, "no")
		c.BeforeFirstObject = func(context.Context, string) error { return refused }
		w := newWriter(t, c)
		_ = tryDump(w, 999, tenParts())
		r, err := w.Commit(t.Context(), completion())
		require.ErrorIs(t, err, refused)
		require.NoError(t, w.Abort(t.Context()))
		require.Empty(t, d.keys())
		for _, o := range r.Outcomes {
			require.False(t, o.Touched)
		}
	}
}

func TestAFailedMemberFailsTheArtifact(t *testing.T) {
	broken := errs.New(errs.Unavailable, errs.CodeDatasourceLost, "the server went away")
	d := newMemory()
	c := plain(t, d)
	w := newWriter(t, c)
	dump(t, w, 999, tenParts())
	mw, err := w.Create(t.Context(), "second")
	require.NoError(t, err)
	_, err = mw.Write(noise(5000))
	require.NoError(t, err)
	require.NoError(t, mw.CloseWithError(broken))
	_, err = mw.Write([]byte("x"))
	require.Error(t, err)
	_, err = w.Create(t.Context(), "third")
	require.ErrorIs(t, err, broken)
	_, err = w.Commit(t.Context(), completion())
	require.ErrorIs(t, err, broken)
	require.NotContains(t, d.keys(), c.Path+"/manifest.json")
	require.NoError(t, w.Abort(t.Context()))
	require.NoError(t, w.Abort(t.Context()))
	require.Empty(t, d.keys())
	require.NoDirExists(t, filepath.Join(c.SpoolDir, execution))
}

func TestOnlyAWholeDumpIsCommitted(t *testing.T) {
	d := newMemory()
	w := newWriter(t, plain(t, d))
	_, err := w.Commit(t.Context(), completion())
	requireCode(t, errs.CodeDumpIncomplete, err)
	require.NoError(t, w.Abort(t.Context()))

	w = newWriter(t, plain(t, d))
	mw, err := w.Create(t.Context(), "open")
	require.NoError(t, err)
	_, err = mw.Write(noise(5000))
	require.NoError(t, err)
	_, err = w.Commit(t.Context(), completion())
	requireCode(t, errs.CodeDumpIncomplete, err)
	require.NoError(t, mw.CloseWithError(nil))
	require.NoError(t, w.Abort(t.Context()))

	w = newWriter(t, plain(t, d))
	dump(t, w, 10, member{"twice", nil})
	_, err = w.Create(t.Context(), "twice")
	require.Error(t, err)
	_, err = w.Commit(t.Context(), completion())
	require.Error(t, err)
	require.NoError(t, w.Abort(t.Context()))
	require.Empty(t, d.keys())
}

func TestACommittedArtifactIsNotAborted(t *testing.T) {
	d := newMemory()
	c := plain(t, d)
	w := newWriter(t, c)
	dump(t, w, 999, tenParts())
	_, err := w.Commit(t.Context(), completion())
	require.NoError(t, err)
	_, err = w.Commit(t.Context(), completion())
	require.Error(t, err)
	require.Error(t, w.Abort(t.Context()))
	_, err = w.Create(t.Context(), "late")
	require.Error(t, err)
	requireMembers(t, d, c.Path, []member{tenParts()})
}

func TestABadMemberNameFailsTheArtifact(t *testing.T) {
	for _, name := range []string{"", ".", "..", "a/b", "../x", "manifest.json", "a.0001", "a\x00", strings.Repeat("x", 231), "ä"} {
		w := newWriter(t, plain(t, newMemory()))
		_, err := w.Create(t.Context(), name)
		require.Error(t, err, name)
		require.NoError(t, w.Abort(t.Context()))
	}
	w := newWriter(t, plain(t, newMemory()))
	dump(t, w, 9, member{storage.Segment("weird \"name\"\n/.."), nil})
	require.NoError(t, w.Abort(t.Context()))
}

func TestABadConfigurationNamesEveryBadField(t *testing.T) {
	c := config("", nil)
	c.Path, c.PartSize, c.Spool, c.Strategy = "x", -1, "?", "?"
	c.Compression, c.Recipients, c.Header.ExecutionID = "rar", []string{"nobody"}, "../x"
	_, err := artifact.NewWriter(t.Context(), c)
	requireCode(t, errs.CodeValidation, err)
	fields := map[string]bool{}
	for _, f := range errs.As(err).Fields {
		fields[f.Field] = true
	}
	for _, f := range []string{"path", "part_size", "spool", "storage_strategy", "storage_targets", "compression", "recipients", "execution_id", "spool_dir"} {
		require.True(t, fields[f], f)
	}
}

// gate holds every Put until it is opened or the upload is cancelled.
func gate(d storage.Driver, after int) (f *storagetest.Faulty, reached, open chan struct{}) {
	reached, open = make(chan struct{}), make(chan struct{})
	var once sync.Once
	return storagetest.NewFaulty(d, storagetest.Fault{Method: storagetest.Put, Skip: after, Do: func(ctx context.Context, _ string) error {
		once.Do(func() { close(reached) })
		select {
		case <-open:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}), reached, open
}

func TestABoundedSpoolHoldsFewPartsHoweverSlowTheStorageIs(t *testing.T) {
	slow, reached, open := gate(newMemory(), 0)
	c := plain(t, newMemory(), slow)
	c.Spool, c.Strategy = artifact.SpoolBounded, artifact.Replicate
	w := newWriter(t, c)
	written := make(chan error, 1)
	go func() { written <- tryDump(w, 100, member{"backup.dump", noise(50_000)}) }()
	<-reached
	parts := func() int {
		entries, err := os.ReadDir(filepath.Join(c.SpoolDir, execution, "parts"))
		require.NoError(t, err)
		return len(entries)
	}
	require.Eventually(t, func() bool { return parts() == 7 }, time.Minute, time.Millisecond)
	close(open)
	most := 0
	for done := false; !done; {
		most = max(most, parts())
		select {
		case err := <-written:
			require.NoError(t, err)
			done = true
		default:
		}
	}
	require.LessOrEqual(t, most, 8)
	r, err := w.Commit(t.Context(), completion())
	require.NoError(t, err)
	require.Len(t, r.Parts, 50)
}

func TestPartsOfATargetThatFailedLeaveTheBoundedSpool(t *testing.T) {
	reached, open := make(chan struct{}), make(chan struct{})
	slow := storagetest.NewFaulty(newMemory(), storagetest.Fault{Method: storagetest.Put, Do: func(context.Context, string) error {
		close(reached) // the only Put: the error is final
		<-open
		return storage.ErrFull
	}})
	good := newMemory()
	c := plain(t, good, slow)
	c.Spool, c.Strategy = artifact.SpoolBounded, artifact.Replicate
	w := newWriter(t, c)
	written := make(chan error, 1)
	go func() { written <- tryDump(w, 100, member{"backup.dump", noise(50_000)}) }()
	<-reached
	require.Eventually(t, func() bool { return len(good.keys()) == 6 }, time.Minute, time.Millisecond)
	select {
	case err := <-written:
		require.Fail(t, "the dump did not wait for the slow target", "%v", err)
	default:
	}
	close(open)
	require.NoError(t, <-written)
	r, err := w.Commit(t.Context(), completion())
	require.NoError(t, err)
	require.Equal(t, []string{"t1 available", "t2 failed"}, statuses(r))
	require.Len(t, r.Parts, 50)
}

func TestUploadsOverlapTheDump(t *testing.T) {
	d, reached, open := gate(newMemory(), 0)
	c := plain(t, d)
	c.PartSize = 256 << 10
	w := newWriter(t, c)
	mw, err := w.Create(t.Context(), "m")
	require.NoError(t, err)
	_, err = mw.Write(noise(1 << 20))
	require.NoError(t, err)
	<-reached // the first part is on its way while the member is open
	close(open)
	require.NoError(t, mw.Close())
	_, err = w.Commit(t.Context(), completion())
	require.NoError(t, err)
}

// An outage of half a minute is what a router that restarts makes.
func TestAnOutageOfHalfAMinuteFailsNoBackup(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		away := storagetest.Fault{Do: func(context.Context, string) error {
			if since := time.Since(began); time.Second < since && since < 31*time.Second {
				return errWeather
			}
			return nil
		}}
		d := newMemory()
		c := config(dir, storagetest.NewFaulty(d, away))
		c.Retry = artifact.Retry{} // as it is set by default
		w := newWriter(t, c)
		dump(t, w, 700, tenParts())
		<-time.After(2 * time.Second) // the uploads so far have ended
		dump(t, w, 700, member{"more", noise(5000)})
		r, err := w.Commit(t.Context(), completion())
		require.NoError(t, err)
		require.Equal(t, []string{"t1 available"}, statuses(r))
		require.GreaterOrEqual(t, time.Since(began), 31*time.Second)
		requireMembers(t, d, c.Path, []member{tenParts(), {"more", noise(5000)}})
	})
}

// Three thousand parts of 1 MiB are 3 GB; what costs there is their number.
func TestThousandsOfPartsAreOneArtifact(t *testing.T) {
	const parts = 3000
	d := newMemory()
	c := plain(t, d)
	c.PartSize = 100
	big := member{"backup.dump", noise(parts*100 - 50)}
	r := store(t, c, big)
	require.Len(t, r.Parts, parts)
	require.Equal(t, c.Path+"/backup.dump.3000", r.Parts[parts-1].Key)
	require.Len(t, d.keys(), parts+1)
	requireMembers(t, d, c.Path, []member{big})
}

func TestAnUploadThatStandsStillIsTriedAgain(t *testing.T) {
	d := newMemory()
	hang := storagetest.Fault{Method: storagetest.Put, Skip: 2, Times: 1, Do: func(ctx context.Context, _ string) error {
		<-ctx.Done()
		return ctx.Err()
	}}
	hangAtManifest := hang
	hangAtManifest.Skip, hangAtManifest.Key = 0, func(key string) bool { return !isPart(key) }
	c := plain(t, storagetest.NewFaulty(d, hang, hangAtManifest))
	c.StallTimeout = 20 * time.Millisecond
	store(t, c, tenParts())
	requireMembers(t, d, c.Path, []member{tenParts()})

	hang.Method, hang.Times = storagetest.Open, 0
	m, err := artifact.OpenManifest(t.Context(), d, c.Path)
	require.NoError(t, err)
	s := artifact.NewSource(storagetest.NewFaulty(d, hang), c.Path, m)
	s.Retry, s.StallTimeout = c.Retry, time.Millisecond
	r, err := s.Open(t.Context(), "backup.dump")
	require.NoError(t, err)
	_, err = io.ReadAll(r)
	requireCode(t, errs.CodeStorageUnavailable, err)
	require.ErrorContains(t, err, "stood still")
	require.NoError(t, r.Close())
}

func TestACancelledArtifactEndsAtOnceAndCanBeAborted(t *testing.T) {
	for _, after := range []int{0, 5, 10} {
		d := newMemory()
		f, reached, _ := gate(d, after)
		c := plain(t, f)
		ctx, cancel := context.WithCancel(t.Context())
		w, err := artifact.NewWriter(ctx, c)
		require.NoError(t, err)
		dump(t, w, 999, tenParts())
		go func() {
			<-reached
			cancel()
		}()
		_, err = w.Commit(t.Context(), completion())
		require.ErrorIs(t, err, context.Canceled)
		requireCode(t, errs.CodeCancelled, err)
		require.NotContains(t, d.keys(), c.Path+"/manifest.json")
		require.NoError(t, w.Abort(t.Context()))
		require.Empty(t, d.keys())
	}
}

func TestAMembersContextEndsTheArtifact(t *testing.T) {
	w := newWriter(t, plain(t, newMemory()))
	ctx, cancel := context.WithCancel(t.Context())
	mw, err := w.Create(ctx, "m")
	require.NoError(t, err)
	cancel()
	_, err = mw.Write([]byte("x"))
	require.ErrorIs(t, err, context.Canceled)
	require.Error(t, mw.Close())
	require.NoError(t, w.Abort(t.Context()))
}

func TestDeleteTakesTheManifestFirstAndEverythingElseToo(t *testing.T) {
	d := newMemory()
	c := plain(t, d)
	store(t, c, tenParts())
	d.set(c.Path+"/left/over", nil)
	d.set(c.Path+"x/neighbour", nil)
	d.set("neighbour", nil)
	var order []string
	f := storagetest.NewFaulty(d, storagetest.Fault{Method: storagetest.Delete, Do: func(_ context.Context, key string) error {
		if len(order) == 0 {
			order = append(order, key)
		}
		return nil
	}, Times: 1})
	require.NoError(t, artifact.Delete(t.Context(), f, c.Path))
	require.Equal(t, []string{c.Path + "/manifest.json"}, order)
	require.Equal(t, []string{"neighbour", c.Path + "x/neighbour"}, d.keys())
	require.NoError(t, artifact.Delete(t.Context(), d, c.Path))

	for _, path := range []string{"", "/", "shop", "shop/", c.Path + "/", "../" + c.Path, c.Path + "/..", "shop/2026"} {
		require.Error(t, artifact.Delete(t.Context(), d, path), path)
	}
	require.Equal(t, []string{"neighbour", c.Path + "x/neighbour"}, d.keys())
}

func TestDeleteGoesOnAfterAnErrorAndCanBeRepeated(t *testing.T) {
	d := newMemory()
	c := plain(t, d)
	store(t, c, tenParts())
	f := storagetest.NewFaulty(d, storagetest.Fault{Method: storagetest.Delete, Skip: 3, Times: 1, Err: errWeather})
	requireCode(t, errs.CodeStorageUnavailable, artifact.Delete(t.Context(), f, c.Path))
	require.Len(t, d.keys(), 1)
	require.NoError(t, artifact.Delete(t.Context(), f, c.Path))
	require.Empty(t, d.keys())

	f.Inject(storagetest.Fault{Method: storagetest.Delete, Err: storage.ErrPermission})
	requireCode(t, errs.CodeStorageAuth, artifact.Delete(t.Context(), f, c.Path))
}

func TestThePathIsMadeOfDatabaseTimeAndExecution(t *testing.T) {
	zone := time.FixedZone("east", 3600)
	require.Equal(t, "shop/2026-03-04_050607_0198a7c2", artifact.Path("shop", started.In(zone), execution))
	for _, database := range []string{"../x", "a/b", "--file=x", "\n", "", "ünï", strings.Repeat("long", 100)} {
		path := artifact.Path(database, started, execution)
		require.NoError(t, storage.CheckKey(path))
		d := newMemory()
		c := plain(t, d)
		c.Path = path
		store(t, c, tenParts())
		require.True(t, slices.Contains(d.keys(), path+"/manifest.json"))
	}
}
