package test

import (
	"net/http"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/storage/storagetest"
	"github.com/dataguardian/dataguardian/test/harness"
)

// unsteady is a storage that has some for a while.
type unsteady struct {
	endpoint, bucket string
	begins, ends     func()
}

func TestABackupGoesToTheNextStorageWhileTheFirstIsDownAndSaysSo(t *testing.T) {
	t.Parallel()
	server := storagetest.StartS3(t)
	bucket, network, front := server.NewBucket(t), storagetest.StartNetwork(t, server.Endpoint), storagetest.StartFront(t, server.Endpoint)
	other := server.NewBucket(t)
	s := harness.NewPlane(t).Serve(t, "one", "--upload-attempts", "2", "--upload-backoff", "50ms")
	source := s.Plane.NewSource(t, 4000)
	datasource := s.AddDatasource(t, source.Super())
	disk := addStorage(t, s, "the disk", "local", config{"path": s.StorageDir(t)})
	g := &gate{hold: make(chan struct{})}
	close(g.hold)
	front.Intercept(g.answer)
	for name, first := range map[string]unsteady{
		"cannot be reached":        {network.Endpoint, bucket, network.Down, func() { network.Up(t) }},
		"takes a part and no more": {front.Endpoint, other, func() { g.closed.Store(true) }, func() { g.closed.Store(false) }},
	} {
		storage := addStorage(t, s, name, "s3", s3Config(server, first.endpoint, first.bucket))
		t.Run(name, func(t *testing.T) {
			job := s.AddJob(t, datasource, storage, config{"backup_options": config{
				"max_file_size_mb": 1, "storage_strategy": "fallback",
				"storage_targets": []config{{"storage_location_id": storage, "order": 1}, {"storage_location_id": disk, "order": 2}},
			}})
			first.begins()
			moved := s.Backup(t, job)
			id := moved.Text("id")
			require.Greater(t, moved.Int("files_count"), int64(1))
			require.Equal(t, map[string]string{storage: "failed", disk: "available"}, statusesOf(moved))
			require.True(t, moved.Null("metadata.upload_retry"), "it is where it should be: %s", moved)
			require.Contains(t, s.Do(t, http.MethodPost, retryPath(id), config{}).Refused(t, http.StatusConflict, "EXECUTION_NOT_RETRIABLE"), "nothing left")
			require.Equal(t, 1, lines(moved, `No copy on "`+name+`": `))

			c := cli{t, s}
			shown := c.ok("execution", "get", id)
			require.Regexp(t, "On "+name+" +failed: .+", shown)
			require.Regexp(t, "On the disk +available", shown)
			listed := c.ok("backup", "list", datasource)
			require.Contains(t, listed, "the disk: available")
			require.NotContains(t, listed, name+": available")
			var told harness.JSON
			for _, n := range s.Get(t, "/api/notifications?limit=100").List("data") {
				if n.Text("entity_id") == job {
					told = n
				}
			}
			require.Equal(t, []string{"backup_success", "warning"}, []string{told.Text("type"), told.Text("severity")})
			require.Contains(t, told.Text("message"), "It is on the disk, as it could not be stored where it should have been first: "+name+": ")
			requireGood(t, s, id, config{})

			first.ends()
			back := s.Backup(t, job)
			require.Equal(t, map[string]string{storage: "available"}, statusesOf(back))
			path := back.Text("backup_path") + "/manifest.json"
			require.True(t, slices.Contains(s3Keys(t, server, first.bucket), path), "it is not on the first storage")
			require.Contains(t, c.ok("backup", "list", datasource), name+": available")
			requireGood(t, s, back.Text("id"), config{})
		})
	}
}
