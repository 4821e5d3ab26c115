package test

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/test/harness"
)

func backupIsDescribedAsTheContractSays(t *testing.T, s *harness.Server) {
	source := s.Plane.NewSource(t, 500)
	datasource, storageDir := s.AddDatasource(t, source.Config()), s.StorageDir(t)
	storage := s.AddStorage(t, storageDir)
	job := s.AddJob(t, datasource, storage)

	accepted := s.Post(t, "/api/backup-jobs/"+job+"/run", nil, http.StatusAccepted)
	require.ElementsMatch(t, []string{"execution_id", "job_id", "status", "message", "created_at"}, accepted.Keys())
	require.Equal(t, "queued", accepted.Text("status"))
	require.Equal(t, job, accepted.Text("job_id"))
	id := accepted.Text("execution_id")

	e := s.Await(t, id)
	require.ElementsMatch(t, []string{"id", "job_id", "datasource_id", "storage_location_id", "operation", "status", "backup_type", "trigger",
		"started_at", "finished_at", "duration_seconds", "size_bytes", "compressed_size_bytes", "backup_path", "files_count", "error_code",
		"error_message", "attempt", "metadata", "created_at", "job", "datasource", "storage_location", "chunks", "scheduled_for"}, e.Keys())
	require.Equal(t, []string{"completed", "backup", "full", "manual"},
		[]string{e.Text("status"), e.Text("operation"), e.Text("backup_type"), e.Text("trigger")})
	require.True(t, e.Null("error_code") && e.Null("error_message") && e.Null("scheduled_for"), "%s", e)
	require.EqualValues(t, 1, e.Int("attempt"))
	require.Greater(t, e.Number("size_bytes"), e.Number("compressed_size_bytes"))
	require.IsType(t, "", e.At("size_bytes").Value, "64-bit integers are strings")
	require.IsType(t, 0.0, e.At("files_count").Value)
	require.Positive(t, e.Number("duration_seconds"))
	require.Regexp(t, "^"+source.Database+`/\d{4}-\d\d-\d\d_\d{6}_`+id[:8]+"$", e.Text("backup_path"))
	require.Equal(t, "postgres", e.Text("datasource.type"))
	require.Equal(t, "local", e.Text("storage_location.type"))
	metadata := e.At("metadata")
	require.Equal(t, "backup", metadata.Text("operation"))
	require.Equal(t, "finalizing", metadata.Text("phase"))
	require.EqualValues(t, 100, metadata.Int("progress.percent"))
	require.Equal(t, "available", metadata.Text("storage_results.0.status"))
	require.True(t, metadata.Null("upload_retry"))
	require.Regexp(t, `^\d+\.\d+`, metadata.Text("tools.pg_dump"))
	require.Regexp(t, `^\d+\.\d+`, metadata.Text("server_version"))
	require.Len(t, e.List("chunks"), int(e.Int("files_count")))
	chunk := e.List("chunks")[0]
	require.ElementsMatch(t, []string{"chunk_number", "file_path", "size_bytes", "checksum"}, chunk.Keys())
	info, err := os.Stat(filepath.Join(storageDir, chunk.Text("file_path")))
	require.NoError(t, err)
	require.Equal(t, chunk.Int("size_bytes"), info.Size())

	listed := s.Get(t, "/api/executions?job_id="+job)
	require.JSONEq(t, `{"total":1,"page":1,"limit":20,"totalPages":1}`, listed.At("pagination").String())
	require.Empty(t, listed.List("data.0.chunks"), "chunks are a detail")

	backups := s.Get(t, "/api/backups/datasources/"+datasource)
	require.EqualValues(t, 1, backups.Int("total_backups"))
	b := backups.At("backups.0")
	require.ElementsMatch(t, []string{"execution_id", "status", "backup_type", "created_at", "started_at", "finished_at", "duration_seconds", "size_bytes",
		"compressed_size_bytes", "backup_path", "encrypted", "verified_at", "datasource", "job", "primary_storage", "storage_locations"}, b.Keys())
	require.Equal(t, storageDir+"/"+e.Text("backup_path"), b.Text("storage_locations.0.backup_path"))
	require.Equal(t, e.Text("backup_path"), b.Text("storage_locations.0.relative_path"))
	require.True(t, b.Null("storage_locations.0.message") && b.Null("verified_at"))

	detail := s.Get(t, "/api/backup-jobs/"+job)
	require.Equal(t, id, detail.Text("last_execution.id"))
	require.Equal(t, "completed", detail.Text("last_execution.status"))
	require.True(t, detail.Null("next_execution_at"), "a job on demand has no next time")
	require.True(t, detail.Null("retention_policy.keep_daily"))

	requireGRPCSaysTheSame(t, s, id, e)
}

// requireGRPCSaysTheSame compares the message with the JSON of REST.
func requireGRPCSaysTheSame(t *testing.T, s *harness.Server, id string, rest harness.JSON) {
	t.Helper()
	native, err := pb.NewExecutionServiceClient(s.Conn).GetExecution(s.Authorized(t.Context()), &pb.GetExecutionRequest{Id: id})
	require.NoError(t, err)
	require.Equal(t, pb.Execution_completed, native.GetStatus())
	require.Nil(t, native.ErrorCode)
	require.NotNil(t, native.SizeBytes)
	written, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(native)
	require.NoError(t, err)
	require.JSONEq(t, rest.String(), string(written))
}

// With a lock on one table, a dump comes as far as connecting and waits.
func logsAreCompleteAtEveryMoment(t *testing.T, s *harness.Server) {
	source := s.Plane.NewSource(t, 10)
	job, _ := s.NewJob(t, source)
	name := s.Get(t, "/api/backup-jobs/"+job).Text("name")
	release := source.Lock(t)
	id := s.Run(t, job)

	// What the terminal has shown is in the answer of a moment later.
	printed := func() []string {
		var lines []string
		for _, line := range s.Stdout.Lines() {
			if message, ours := strings.CutPrefix(line, "[BACKUP] "+name+": "); ours {
				lines = append(lines, message)
			}
		}
		return lines
	}
	look := func() harness.JSON {
		before := printed()
		logs := s.Get(t, "/api/executions/"+id+"/logs")
		lines := logs.List("logs")
		harness.Gapless(t, lines, "a log while it grows")
		require.GreaterOrEqual(t, len(lines), len(before))
		for i, message := range before {
			require.Equal(t, message, lines[i].Text("message"))
		}
		return logs
	}
	source.AwaitDump(t)
	running := look()
	require.Equal(t, "running", running.Text("status"))
	require.True(t, running.Null("finished_at"))
	require.GreaterOrEqual(t, len(running.List("logs")), 3, "%s", running)
	e := s.Get(t, "/api/executions/"+id)
	require.Equal(t, "dumping", e.Text("metadata.phase"))
	require.Subset(t, messages(e.List("metadata.execution_logs")), messages(running.List("logs")))
	require.True(t, e.Null("finished_at") && e.Null("size_bytes") && e.Null("backup_path"), "%s", e)

	release()
	require.Eventually(t, func() bool { return look().Text("status") == "completed" }, time.Minute, time.Millisecond)
	final := look().List("logs")
	require.Len(t, final, len(printed()))
	require.Equal(t, "success", final[len(final)-1].Text("level"))

	var stored []byte
	require.NoError(t, s.Plane.Metadata(t).QueryRow(t.Context(), "SELECT metadata->'execution_logs' FROM backup_executions WHERE id = $1", id).Scan(&stored))
	var rows []map[string]any
	require.NoError(t, json.Unmarshal(stored, &rows))
	require.Len(t, rows, len(final))
	for i, row := range rows {
		require.EqualValues(t, i+1, row["seq"])
		require.Equal(t, final[i].Text("message"), row["message"])
		require.Equal(t, final[i].Text("level"), row["level"])
	}
}

func streamsReplayAndFollow(t *testing.T, s *harness.Server) {
	source := s.Plane.NewSource(t, 10)
	job, _ := s.NewJob(t, source)
	release := source.Lock(t)
	id := s.Run(t, job)
	path := "/api/executions/" + id + "/logs/stream"
	source.AwaitDump(t)

	ndjson, sse := s.Stream(t, path), s.Stream(t, path, "Accept", "text/event-stream")
	late := s.Stream(t, path+"?after=2")
	require.Equal(t, "application/x-ndjson", ndjson.Header.Get("Content-Type"))
	require.Equal(t, "text/event-stream", sse.Header.Get("Content-Type"))
	first, ok := ndjson.Line() // it flows before the execution has ended
	require.True(t, ok)
	require.Contains(t, first, `"seq":"1"`)
	require.Equal(t, "running", s.Get(t, "/api/executions/"+id).Text("status"))
	release()

	want := messages(s.Await(t, id).List("metadata.execution_logs"))
	rest, ended := linesOf(t, ndjson.Events())
	require.Equal(t, want[1:], rest)
	require.Equal(t, "completed", ended.Text("status"))
	rest, _ = linesOf(t, late.Events())
	require.Equal(t, want[2:], rest)

	var ids, events []string
	for line, ok := sse.Line(); ok; line, ok = sse.Line() {
		if value, found := strings.CutPrefix(line, "id: "); found {
			ids = append(ids, value)
		}
		if value, found := strings.CutPrefix(line, "event: "); found {
			events = append(events, value)
		}
	}
	require.Len(t, ids, len(want), "every line has its number as its id")
	require.Equal(t, "end", events[len(events)-1])

	again := s.Stream(t, path, "Accept", "text/event-stream", "Last-Event-ID", ids[len(ids)-2])
	var resumed []string
	for line, ok := again.Line(); ok; line, ok = again.Line() {
		if strings.HasPrefix(line, "id: ") {
			resumed = append(resumed, line)
		}
	}
	require.Equal(t, []string{"id: " + ids[len(ids)-1]}, resumed)
}

func messages(lines []harness.JSON) []string {
	var all []string
	for _, line := range lines {
		all = append(all, line.Text("message"))
	}
	return all
}

// linesOf returns the messages of the line events and the end.
func linesOf(t *testing.T, events []harness.JSON) ([]string, harness.JSON) {
	t.Helper()
	var lines []string
	for _, e := range events {
		if e.Has("line") {
			lines = append(lines, e.Text("line.message"))
		}
		require.False(t, e.Has("gap"), "%s", e)
	}
	require.NotEmpty(t, events)
	return lines, events[len(events)-1].At("end")
}

func retentionRemovesTheOldest(t *testing.T, s *harness.Server) {
	source := s.Plane.NewSource(t, 10)
	job, storageDir := s.NewJob(t, source)
	var paths []string
	for range 3 {
		paths = append(paths, s.Backup(t, job).Text("backup_path"))
	}
	preview := s.Get(t, "/api/backup-jobs/"+job+"/retention")
	require.Len(t, preview.List("keep"), 3)
	require.Empty(t, preview.List("delete"))
	require.NotEmpty(t, preview.Text("keep.0.reason"))

	paths = append(paths, s.Backup(t, job).Text("backup_path"))
	requireGone(t, filepath.Join(storageDir, paths[0]))
	for _, path := range paths[1:] {
		require.FileExists(t, filepath.Join(storageDir, path, "manifest.json"))
	}
	datasource := s.Get(t, "/api/backup-jobs/"+job).Text("datasource_id")
	require.Eventually(t, func() bool {
		return s.Get(t, "/api/backups/datasources/"+datasource).Number("total_backups") == 3
	}, time.Minute, 20*time.Millisecond)
	require.Len(t, s.Get(t, "/api/backup-jobs/"+job+"/retention").List("keep"), 3)
	notes := 0
	for _, n := range s.Get(t, "/api/notifications?type=cleanup_completed&limit=100").List("data") {
		if n.Text("entity_id") == job {
			notes++
		}
	}
	require.Equal(t, 1, notes, "one deletion is one notification")
}

func requireGone(t *testing.T, path string) {
	t.Helper()
	require.Eventually(t, func() bool { _, err := os.Lstat(path); return os.IsNotExist(err) }, time.Minute, 20*time.Millisecond, path)
}

func retentionWaitsForTheObjects(t *testing.T, s *harness.Server) {
	source := s.Plane.NewSource(t, 10)
	job, storageDir := s.NewJob(t, source, config{"retention_policy": config{"max_backups": 1, "auto_delete": true}})
	first := s.Backup(t, job)
	part := filepath.Join(storageDir, first.Text("chunks.0.file_path"))
	unpin := harness.Pin(t, part)

	s.Backup(t, job)
	db := s.Plane.Metadata(t)
	state := func() (status string) {
		require.NoError(t, db.QueryRow(context.Background(), "SELECT status FROM backup_copies WHERE execution_id = $1", first.Text("id")).Scan(&status))
		return status
	}
	requireGone(t, filepath.Join(filepath.Dir(part), "manifest.json"))
	require.Equal(t, "deleting", state(), "it is not deleted while objects are there")
	unpin()
	require.Eventually(t, func() bool { return state() == "deleted" }, time.Minute, 50*time.Millisecond)
	require.NoFileExists(t, part)
}

func aJobRunsOnceAtATime(t *testing.T, s *harness.Server) {
	source := s.Plane.NewSource(t, 10)
	job, _ := s.NewJob(t, source)
	release := source.Lock(t)
	answers := make([]harness.Answer, 8)
	var clicks sync.WaitGroup
	for i := range answers {
		clicks.Go(func() { answers[i] = s.Do(t, http.MethodPost, "/api/backup-jobs/"+job+"/run", nil) })
	}
	clicks.Wait()
	accepted := ""
	for _, a := range answers {
		if a.Status == http.StatusAccepted {
			require.Empty(t, accepted, "two of them run")
			accepted = a.Expect(t, http.StatusAccepted).Text("execution_id")
			continue
		}
		a.Refused(t, http.StatusConflict, "EXECUTION_ALREADY_RUNNING")
	}
	require.NotEmpty(t, accepted)
	s.Do(t, http.MethodDelete, "/api/executions/"+accepted, nil).Refused(t, http.StatusConflict, "EXECUTION_NOT_DELETABLE")
	release()
	require.Equal(t, "completed", s.Await(t, accepted).Text("status"))
	s.Backup(t, job)
}

func aRunningBackupIsCancelled(t *testing.T, s *harness.Server) {
	source := s.Plane.NewSource(t, 10)
	job, storageDir := s.NewJob(t, source)
	release := source.Lock(t)
	defer release()
	id := s.Run(t, job)
	source.AwaitDump(t)
	answer := s.Post(t, "/api/executions/"+id+"/cancel", nil, http.StatusOK)
	require.ElementsMatch(t, []string{"id", "status", "message"}, answer.Keys())
	require.Equal(t, "cancelled", s.Await(t, id).Text("status"))
	source.AwaitNoDump(t)
	requireNoFiles(t, storageDir)
	s.Do(t, http.MethodPost, "/api/executions/"+id+"/cancel", nil).Refused(t, http.StatusConflict, "EXECUTION_NOT_CANCELLABLE")
}

// requireNoFiles requires that soon nothing is stored below a directory.
func requireNoFiles(t *testing.T, dir string) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) { assert.Empty(c, harness.Files(t, dir)) }, time.Minute, 50*time.Millisecond)
}

func anExecutionIsDeletedWithItsObjects(t *testing.T, s *harness.Server) {
	source := s.Plane.NewSource(t, 10)
	job, storageDir := s.NewJob(t, source)
	first, second := s.Backup(t, job), s.Backup(t, job)
	require.Equal(t, http.StatusNoContent, s.Do(t, http.MethodDelete, "/api/executions/"+first.Text("id"), nil).Status)
	require.NoDirExists(t, filepath.Join(storageDir, first.Text("backup_path")))
	s.Do(t, http.MethodGet, "/api/executions/"+first.Text("id"), nil).Refused(t, http.StatusNotFound, "NOT_FOUND")
	message := s.Do(t, http.MethodDelete, "/api/executions/"+second.Text("id"), nil).Refused(t, http.StatusConflict, "EXECUTION_NOT_DELETABLE")
	require.Contains(t, message, "last good backup")
	require.Equal(t, http.StatusNoContent, s.Do(t, http.MethodDelete, "/api/executions/"+second.Text("id")+"?force=true", nil).Status)
	requireNoFiles(t, storageDir)
}
