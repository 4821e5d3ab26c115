package test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/testkit"
	"github.com/dataguardian/dataguardian/storage/storagetest"
	"github.com/dataguardian/dataguardian/test/harness"
)

// gate is what a storage does with uploads.
type gate struct {
	closed  atomic.Bool   // after the first upload the others fail with 503
	uploads atomic.Int32  // since then
	hold    chan struct{} // without closed: uploads wait for its end
}

func (g *gate) answer(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
	if r.Method != http.MethodPut && r.Method != http.MethodPost {
		return false
	}
	if g.closed.Load() {
		if g.uploads.Add(1) == 1 {
			return false
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}
	select {
	case <-g.hold:
	case <-r.Context().Done():
	}
	return false
}

func retryPath(execution string) string { return "/api/executions/" + execution + "/retry-upload" }

// lines counts the lines of an execution's log that begin so.
func lines(e harness.JSON, beginning string) int {
	n := 0
	for _, message := range messages(e.List("metadata.execution_logs")) {
		if strings.HasPrefix(message, beginning) {
			n++
		}
	}
	return n
}

// statusesOf is what came of a backup on each storage, by its ID.
func statusesOf(e harness.JSON) map[string]string {
	found := map[string]string{}
	for _, r := range e.List("metadata.storage_results") {
		found[r.Text("storage_location_id")] = r.Text("status")
	}
	return found
}

func TestFailedUploadToSeveralStoragesGoesOnAfterARestartWithoutTheDatabase(t *testing.T) {
	t.Parallel()
	g, all := &gate{hold: make(chan struct{})}, clouds(t, 1)
	pg := testkit.NewPostgres(t)
	database := pg.NewDatabase(t)
	for _, table := range []string{"notes", "others"} { // few rows to a page: they are large enough for several connections
		pg.Exec(t, database, `CREATE TABLE `+table+` WITH (fillfactor = 10) AS
			SELECT n AS id, (SELECT string_agg(md5((n * 32 + k)::text), '') FROM generate_series(1, 32) k) AS body FROM generate_series(1, 3000) n`)
	}
	plane := harness.NewPlane(t)
	flags := []string{"--upload-attempts", "2", "--upload-backoff", "50ms"}
	s := plane.Serve(t, "one", flags...)
	datasource := s.AddDatasource(t, config{"host": pg.Host, "port": pg.Port, "database": database, "username": pg.User, "password": pg.Password})
	var places []place
	var targets []config
	for i, c := range all {
		p, front := c.fronted(t, s)
		front.Intercept(g.answer)
		places, targets = append(places, p), append(targets, config{"storage_location_id": p.id, "order": i + 1})
	}
	job := s.AddJob(t, datasource, places[0].id, config{"backup_options": config{
		"max_file_size_mb": 1, "parallel_jobs": 2, "storage_strategy": "replicate", "storage_targets": targets,
	}})

	g.closed.Store(true)
	failed := s.Fails(t, job, "UPLOAD_FAILED")
	id := failed.Text("id")
	require.True(t, failed.True("metadata.upload_retry.possible"), "%s", failed)
	require.False(t, failed.Null("metadata.upload_retry.spool_expires_at"))
	for _, r := range failed.List("metadata.storage_results") {
		require.Equal(t, "failed", r.Text("status"))
	}
	require.Empty(t, s.Get(t, "/api/backups/datasources/"+datasource).List("backups"), "a part of a backup is none")

	pg.Stop(t)
	s.Stop(t)
	g.closed.Store(false) // from here uploads wait
	s = plane.Serve(t, "one", flags...)
	for range 2 {
		accepted := s.Post(t, retryPath(id), config{}, http.StatusAccepted)
		require.Equal(t, id, accepted.Text("execution_id"))
		require.Contains(t, []string{"queued", "running"}, accepted.Text("status"))
	}
	s.AwaitStatus(t, id, "running")
	require.Equal(t, "running", s.Post(t, retryPath(id), config{}, http.StatusAccepted).Text("status"))
	close(g.hold)
	done := s.Await(t, id)
	require.Equal(t, []string{"completed", "retry"}, []string{done.Text("status"), done.Text("trigger")}, "%s", done)
	require.True(t, done.Null("error_code") && done.Null("error_message"), "%s", done)
	require.EqualValues(t, 1, s.Get(t, "/api/executions?job_id="+job).Int("pagination.total"))
	require.Equal(t, 1, lines(done, "Dumped "), "there was one dump")
	require.Equal(t, 1, lines(done, "The dump is complete and waits on this worker"), "three clicks are one retry")
	requireParallel(t, done)
	for _, p := range places {
		require.EqualValues(t, done.Int("files_count")+1, p.on(t, done.Text("backup_path")), "parts and the manifest on %s", p.name)
	}
	requireCopies(t, s, done, len(places))
	require.Contains(t, s.Do(t, http.MethodPost, retryPath(id), config{}).Refused(t, http.StatusConflict, "EXECUTION_NOT_RETRIABLE"), "nothing left")

	pg.Start(t)
	for _, p := range places {
		requireGood(t, s, id, config{"storage_location_id": p.id})
	}
}

func TestMissingCopyIsSentLater(t *testing.T) {
	t.Parallel()
	server := storagetest.StartS3(t)
	bucket, network := server.NewBucket(t), storagetest.StartNetwork(t, server.Endpoint)
	s := harness.NewPlane(t).Serve(t, "one", "--upload-attempts", "2", "--upload-backoff", "50ms")
	datasource := s.AddDatasource(t, s.Plane.NewSource(t, 1500).Shareable(t).Super())
	disk, cloud := s.AddStorage(t, s.StorageDir(t)), addStorage(t, s, "bucket", "s3", s3Config(server, network.Endpoint, bucket))
	job := s.AddJob(t, datasource, disk, config{"backup_options": config{"parallel_jobs": 2, "storage_strategy": "replicate", "storage_targets": []config{
		{"storage_location_id": disk, "order": 1}, {"storage_location_id": cloud, "order": 2},
	}}})
	stored := place{"s3", cloud, func(t *testing.T) []string { return s3Keys(t, server, bucket) }}

	network.Down()
	half := s.Backup(t, job)
	require.Equal(t, map[string]string{disk: "available", cloud: "failed"}, statusesOf(half))
	require.True(t, half.True("metadata.upload_retry.possible"), "%s", half)
	available, _ := copiesOf(t, s, half)
	require.Equal(t, 1, available)

	network.Up(t)
	dump, away := filepath.Join(s.DataDir, "spool", half.Text("id")), filepath.Join(s.DataDir, "away")
	require.NoError(t, os.Rename(dump, away)) // as on a machine with a copy of the data directory
	s.Post(t, retryPath(half.Text("id")), config{}, http.StatusAccepted)
	still := s.Await(t, half.Text("id"))
	require.Equal(t, "completed", still.Text("status"), "%s", still)
	require.True(t, still.True("metadata.upload_retry.possible"), "%s", still)
	for _, known := range []string{"backup_path", "metadata.upload_retry.spool_expires_at", "metadata.server_version"} {
		require.Equal(t, half.Text(known), still.Text(known))
	}
	require.NotZero(t, still.Int("files_count"))
	require.Equal(t, half.Int("files_count"), still.Int("files_count"))
	available, _ = copiesOf(t, s, still)
	require.Equal(t, 1, available)
	require.NoError(t, os.Rename(away, dump))
	require.Equal(t, half.Text("id"), s.Post(t, retryPath(half.Text("id")), config{}, http.StatusAccepted).Text("execution_id"))
	whole := s.Await(t, half.Text("id"))
	require.Equal(t, []string{"completed", "retry"}, []string{whole.Text("status"), whole.Text("trigger")}, "%s", whole)
	require.Equal(t, map[string]string{disk: "available", cloud: "available"}, statusesOf(whole))
	require.Equal(t, 1, lines(whole, "Dumped "), "there was one dump")
	require.EqualValues(t, whole.Int("files_count")+1, stored.on(t, whole.Text("backup_path")), "parts and the manifest")
	requireCopies(t, s, whole, 2)
	requireParallel(t, whole)
	for _, id := range []string{disk, cloud} {
		requireGood(t, s, whole.Text("id"), config{"storage_location_id": id})
	}
}

func TestUploadThatCannotBeRetriedIsRefusedWithTheReason(t *testing.T) {
	t.Parallel()
	s := harness.NewPlane(t).Serve(t, "one")
	source := s.Plane.NewSource(t, 10)
	refused := func(execution, reason string) {
		t.Helper()
		require.Contains(t, s.Do(t, http.MethodPost, retryPath(execution), config{}).Refused(t, http.StatusConflict, "EXECUTION_NOT_RETRIABLE"), reason)
	}
	job, _ := s.NewJob(t, source)
	release := source.Lock(t)
	id := s.Run(t, job)
	source.AwaitDump(t)
	refused(id, "still running")
	release()
	require.Equal(t, "completed", s.Await(t, id).Text("status"))
	refused(id, "nothing left to upload")

	verified := s.Post(t, "/api/backups/"+id+"/verify", config{}, http.StatusAccepted).Text("execution_id")
	require.Equal(t, "completed", s.Await(t, verified).Text("status"))
	refused(verified, "no backup")

	wrong := source.Config()
	wrong["database"] = "absent"
	failing := s.AddJob(t, s.AddDatasource(t, wrong), s.AddStorage(t, s.StorageDir(t)))
	failed := s.Await(t, s.Run(t, failing))
	require.Equal(t, "failed", failed.Text("status"))
	require.False(t, failed.True("metadata.upload_retry.possible"))
	refused(failed.Text("id"), "the dump is not complete")

	s.Do(t, http.MethodPost, retryPath(unknownID), config{}).Refused(t, http.StatusNotFound, "NOT_FOUND")
}
