package test

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/test/harness"
)

// withoutBackups serves everything but backups: they belong to worker processes.
const withoutBackups = "api,scheduler,health,cleanup"

// shortLease is for workers that will be killed.
const shortLease = "4s"

// The worker is killed when a part of the dump is already stored.
func TestABackupWhoseWorkerIsKilledIsTakenOverAndCompletesOnce(t *testing.T) {
	t.Parallel()
	tools := harness.NewTools(t)
	p := harness.NewSharedRedisPlane(t)
	s := p.Serve(t, "server", "--roles", withoutBackups, "--orphan-grace", "5s") // the part that was being written is nobody's
	source := p.NewSource(t, 3000).Shareable(t)
	job, storageDir := s.NewJob(t, source, inParallel())
	tools.PutGated(t, 7<<20) // all of what it leaves to itself

	victim := p.StartWorker(t, "victim", "--roles", "backup", "--lease", shortLease, "--postgres-bin-dir", tools.Dir)
	id := s.Run(t, job)
	require.Eventually(t, func() bool { return len(harness.Files(t, storageDir)) >= 2 }, time.Minute, 20*time.Millisecond, "no part is stored")
	require.NotEmpty(t, victim.Children(t))
	before := s.Get(t, "/api/executions/"+id+"/logs").List("logs")
	victim.Kill(t)

	tools.Close(t)
	p.Worker(t, "rescuer", "--roles", "backup", "--postgres-bin-dir", tools.Dir)
	e := s.Await(t, id)
	require.Equal(t, "completed", e.Text("status"), "%s", e)
	require.EqualValues(t, 2, e.Int("attempt"))
	requireOneArtifact(t, storageDir, e)
	requireParallel(t, e)
	lines := messages(e.List("metadata.execution_logs"))
	require.Equal(t, messages(before), lines[:len(before)], "the lines of the killed worker are not lost")
	require.True(t, slices.ContainsFunc(lines, func(l string) bool { return containsAll(l, "went silent") }), "%v", lines)
}

func containsAll(text string, words ...string) bool {
	for _, word := range words {
		if !strings.Contains(text, word) {
			return false
		}
	}
	return true
}

// requireOneArtifact requires that a storage holds the parts and manifest of one
// execution and nothing else.
func requireOneArtifact(t *testing.T, storageDir string, e harness.JSON) {
	t.Helper()
	want := []string{filepath.Join(storageDir, e.Text("backup_path"), "manifest.json")}
	for _, chunk := range e.List("chunks") {
		want = append(want, filepath.Join(storageDir, chunk.Text("file_path")))
	}
	require.Eventually(t, func() bool { return len(harness.Files(t, storageDir)) == len(want) }, time.Minute, 50*time.Millisecond,
		"%v is not %v", harness.Files(t, storageDir), want)
	require.ElementsMatch(t, want, harness.Files(t, storageDir))
}

func TestABackupFailsWhenEveryWorkerThatTakesItIsKilled(t *testing.T) {
	t.Parallel()
	p := harness.NewSharedRedisPlane(t)
	s := p.Serve(t, "server", "--roles", withoutBackups)
	source := p.NewSource(t, 10)
	job, storageDir := s.NewJob(t, source)
	release := source.Lock(t)
	defer release()
	id := s.Run(t, job)
	for attempt := 1; attempt <= 2; attempt++ {
		victim := p.StartWorker(t, fmt.Sprintf("victim%d", attempt), "--roles", "backup", "--lease", shortLease)
		require.Eventually(t, func() bool { return s.Get(t, "/api/executions/"+id).Number("attempt") == float64(attempt) }, time.Minute, 20*time.Millisecond)
		source.AwaitDumps(t, attempt) // the server does not notice that the one of the killed worker is gone
		victim.Kill(t)
	}
	e := s.Await(t, id)
	require.Equal(t, "failed", e.Text("status"))
	require.Equal(t, "WORKER_LOST", e.Text("error_code"))
	requireNoFiles(t, storageDir)
}

func TestAWorkerThatIsStoppedGivesItsBackupBackAndTheAttemptDoesNotCount(t *testing.T) {
	t.Parallel()
	p := harness.NewSharedRedisPlane(t)
	s := p.Serve(t, "server", "--roles", withoutBackups)
	source := p.NewSource(t, 10)
	job, storageDir := s.NewJob(t, source)
	release := source.Lock(t)
	first := p.Worker(t, "first", "--roles", "backup")
	id := s.Run(t, job)
	source.AwaitDump(t)
	first.Stop(t)
	source.AwaitNoDump(t)
	s.AwaitStatus(t, id, "queued")
	require.Zero(t, s.Get(t, "/api/executions/"+id).Number("attempt"))
	requireNoFiles(t, storageDir)

	release()
	p.Worker(t, "second", "--roles", "backup")
	e := s.Await(t, id)
	require.Equal(t, "completed", e.Text("status"), "%s", e)
	require.EqualValues(t, 1, e.Int("attempt"))
	requireOneArtifact(t, storageDir, e)
}

func TestAWorkerThatIsStoppedFinishesWhatEndsWithinTheGracePeriod(t *testing.T) {
	t.Parallel()
	p := harness.NewSharedRedisPlane(t)
	s := p.Serve(t, "server", "--roles", withoutBackups)
	source := p.NewSource(t, 10)
	job, _ := s.NewJob(t, source)
	release := source.Lock(t)
	w := p.Worker(t, "worker", "--roles", "backup", "--shutdown-grace", "60s")
	id := s.Run(t, job)
	source.AwaitDump(t)
	w.Signal(t, syscall.SIGTERM)
	release()
	require.Zero(t, w.Wait(t))
	require.Equal(t, "completed", s.Get(t, "/api/executions/"+id).Text("status"))
}

func TestAQueuedBackupIsCancelledAtOnceAndNeverRuns(t *testing.T) {
	t.Parallel()
	p := harness.NewSharedRedisPlane(t)
	s := p.Serve(t, "server", "--roles", withoutBackups)
	source := p.NewSource(t, 10)
	job, storageDir := s.NewJob(t, source)
	id := s.Run(t, job)
	stream := s.Stream(t, "/api/executions/"+id+"/logs/stream")
	require.Equal(t, "cancelled", s.Post(t, "/api/executions/"+id+"/cancel", nil, http.StatusOK).Text("status"))
	events := stream.Events()
	require.Equal(t, "cancelled", events[len(events)-1].Text("end.status"))

	p.Worker(t, "worker", "--roles", "backup")
	s.Backup(t, job) // the worker takes the oldest first: it has passed the cancelled one
	e := s.Get(t, "/api/executions/"+id)
	require.Equal(t, "cancelled", e.Text("status"))
	require.True(t, e.Null("started_at"), "%s", e)
	require.Len(t, harness.Files(t, storageDir), 2)
}

// Two schedulers and two workers see the same due rows.
func TestADueSlotRunsOnceWhateverTheNumberOfSchedulers(t *testing.T) {
	t.Parallel()
	const jobs = 12
	p := harness.NewSharedRedisPlane(t)
	s := p.Serve(t, "server", "--roles", "api,scheduler,backup")
	p.Worker(t, "second", "--roles", "scheduler,backup")
	p.Worker(t, "third", "--roles", "scheduler,backup")
	source := p.NewSource(t, 10)
	datasource, storage := s.AddDatasource(t, source.Config()), s.AddStorage(t, s.StorageDir(t))
	for range jobs {
		// Only the slot that is put in comes due: the clock comes to it on the 29th of February.
		s.AddJob(t, datasource, storage, config{"schedule_cron": "0 0 29 2 *"})
	}
	db := p.Metadata(t)
	var slot time.Time
	require.NoError(t, db.QueryRow(t.Context(), "SELECT date_trunc('second', now())").Scan(&slot))
	_, err := db.Exec(t.Context(), "UPDATE backup_jobs SET next_execution_at = $1", slot)
	require.NoError(t, err)

	require.Eventually(t, func() bool { return count(t, db, "status = 'completed'") == jobs }, time.Minute, 50*time.Millisecond)
	require.Equal(t, jobs, count(t, db, "scheduled_for = $1 AND trigger = 'schedule'", slot))
	require.Equal(t, jobs, count(t, db, "true"))
	var next time.Time
	require.NoError(t, db.QueryRow(t.Context(), "SELECT min(next_execution_at) FROM backup_jobs").Scan(&next))
	require.True(t, next.After(slot), "the next slot is later than the one that ran")
}

func count(t *testing.T, db *pgx.Conn, where string, args ...any) (n int) {
	t.Helper()
	require.NoError(t, db.QueryRow(context.Background(), "SELECT count(*) FROM backup_executions WHERE "+where, args...).Scan(&n))
	return n
}

func TestAServerOnTheSameDataDirectoryIsRefused(t *testing.T) {
	t.Parallel()
	p := harness.NewEmbeddedPlane(t)
	s := p.Serve(t, "server")
	second := harness.Start(t, p.Dir, "server", nil, "serve", "--http-addr", "127.0.0.1:0", "--grpc-addr", "127.0.0.1:0")
	require.Equal(t, 1, second.Code)
	require.Contains(t, second.Complaint(t), "in use")
	require.Equal(t, http.StatusOK, s.As(t, "", http.MethodGet, "/health", nil).Status)
	for _, list := range []string{"datasources", "storage-locations", "backup-jobs", "executions"} {
		require.Zero(t, s.Get(t, "/api/"+list).Number("pagination.total"), "without --demo it is empty")
	}
	require.FileExists(t, filepath.Join(s.DataDir, "endpoints.json"))
	require.FileExists(t, filepath.Join(s.DataDir, "admin-token"))
}

// The worker dies, and Redis has lost what was not stored by then.
func TestALogSaysWhatWasLostWithAKilledWorkerAndTheMemoryOfRedis(t *testing.T) {
	t.Parallel()
	p := harness.NewSharedRedisPlane(t)
	s := p.Serve(t, "server", "--roles", withoutBackups)
	source := p.NewSource(t, 10)
	job, _ := s.NewJob(t, source)
	release := source.Lock(t)
	victim := p.StartWorker(t, "victim", "--roles", "backup", "--lease", shortLease)
	id := s.Run(t, job)
	source.AwaitDump(t)
	metadata := p.Metadata(t)
	stored := func() (lines int) {
		require.NoError(t, metadata.QueryRow(t.Context(), "SELECT jsonb_array_length(metadata->'execution_logs') FROM backup_executions WHERE id = $1", id).Scan(&lines))
		return lines
	}
	require.Eventually(t, func() bool { return stored() >= 3 }, time.Minute, 20*time.Millisecond, "nothing is stored")
	kept := messages(s.Get(t, "/api/executions/"+id+"/logs").List("logs"))[:3]
	victim.Signal(t, syscall.SIGSTOP) // it says no more
	p.Redis.Stop(t)
	p.Redis.Start(t)
	victim.Kill(t)
	release()

	p.Worker(t, "rescuer", "--roles", "backup")
	e := s.Await(t, id)
	require.Equal(t, "completed", e.Text("status"), "%s", e)
	lines := e.List("metadata.execution_logs")
	harness.Gapless(t, lines, "the log of a killed worker")
	require.Equal(t, kept, messages(lines)[:3])
	at := slices.IndexFunc(messages(lines), func(l string) bool { return strings.HasPrefix(l, "lines may have been lost here (") })
	require.GreaterOrEqual(t, at, 3, "%v", messages(lines))
	require.Contains(t, messages(lines)[at+1], "went silent")
	require.Equal(t, "success", lines[len(lines)-1].Text("level"), "the next attempt goes on in the same log")
	var live []string
	for _, event := range s.Stream(t, "/api/executions/"+id+"/logs/stream").Events() {
		if event.Has("gap") || event.Has("line") && event.At("line.message").Value == messages(lines)[at] {
			live = append(live, event.String())
		}
	}
	require.Len(t, live, 2, "a tail is told of the gap, and why")
}

func TestAStorageTakesNoMoreAtOnceThanItMay(t *testing.T) {
	t.Parallel()
	p := harness.NewSharedRedisPlane(t)
	s := p.Serve(t, "api", "--roles", "api,cleanup")
	p.Worker(t, "worker", "--roles", "backup", "--max-per-storage", "1")
	source := p.NewSource(t, 1)
	datasource, busy := s.AddDatasource(t, source.Config()), s.AddStorage(t, s.StorageDir(t))
	run := func(storage string, options config) string {
		return s.Run(t, s.AddJob(t, datasource, storage, config{"backup_options": options}))
	}
	and := func(strategy string) config {
		return config{"storage_strategy": strategy, "storage_targets": []config{{"storage_location_id": busy, "order": 1}}}
	}
	release := source.Lock(t)
	first := run(busy, config{})
	source.AwaitDump(t)
	waits := []string{run(busy, config{}), run(s.AddStorage(t, s.StorageDir(t)), and("replicate"))}
	for _, id := range waits {
		harness.Eventually(t, func() bool {
			phase := s.Get(t, "/api/executions/"+id).At("metadata.phase").Value
			return phase == "waiting_for_storage"
		}, "nothing says what it waits for")
	}
	free := run(s.AddStorage(t, s.StorageDir(t)), and("fallback"))
	source.AwaitDumps(t, 2) // it has not fallen back, and passes those that wait
	for _, id := range waits {
		require.Equal(t, "queued", s.Get(t, "/api/executions/"+id).Text("status"))
	}
	release()
	for _, id := range append(waits, first, free) {
		require.Equal(t, "completed", s.Await(t, id).Text("status"))
	}
}
