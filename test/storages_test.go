package test

import (
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/testkit"
	"github.com/dataguardian/dataguardian/storage/storagetest"
	"github.com/dataguardian/dataguardian/test/harness"
)

// place is a storage location, and what really lies in it.
type place struct {
	name, id string
	keys     func(t *testing.T) []string
}

func s3Keys(t *testing.T, server *storagetest.S3Server, bucket string) []string {
	t.Helper()
	out, err := server.Client().ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &bucket})
	require.NoError(t, err)
	require.Empty(t, server.OpenUploads(t, bucket))
	var keys []string
	for _, o := range out.Contents {
		keys = append(keys, strings.TrimPrefix(*o.Key, "dg/"))
	}
	return keys
}

func gcsKeys(t *testing.T, server *storagetest.GCSServer, bucket string) []string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.Endpoint+"/storage/v1/b/"+bucket+"/o", nil)
	require.NoError(t, err)
	res, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	var list struct{ Items []struct{ Name string } }
	require.NoError(t, json.NewDecoder(res.Body).Decode(&list))
	require.NoError(t, res.Body.Close())
	var keys []string
	for _, o := range list.Items {
		keys = append(keys, strings.TrimPrefix(o.Name, "dg/"))
	}
	return keys
}

// threePlaces makes a storage location of every type.
func threePlaces(t *testing.T, s *harness.Server, objects *storagetest.S3Server, google *storagetest.GCSServer) []place {
	t.Helper()
	dir, bucket, other := s.StorageDir(t), objects.NewBucket(t), google.NewBucket(t)
	return []place{
		{"local", s.AddStorage(t, dir), func(t *testing.T) []string {
			var keys []string
			for _, file := range harness.Files(t, dir) {
				keys = append(keys, strings.TrimPrefix(file, dir+"/"))
			}
			return keys
		}},
		{"s3", addStorage(t, s, "objects", "s3", s3Config(objects, objects.Endpoint, bucket)),
			func(t *testing.T) []string { return s3Keys(t, objects, bucket) }},
		{"gcs", addStorage(t, s, "google", "gcs", config{"endpoint": google.Endpoint, "bucket": other, "prefix": "dg"}),
			func(t *testing.T) []string { return gcsKeys(t, google, other) }},
	}
}

// on counts the objects of a backup on a storage.
func (p place) on(t *testing.T, path string) int {
	t.Helper()
	n := 0
	for _, key := range p.keys(t) {
		if strings.HasPrefix(key, path+"/") {
			n++
		}
	}
	return n
}

// requireCopies requires that the list of backups shows one with so many copies,
// all available.
func requireCopies(t *testing.T, s *harness.Server, e harness.JSON, want int) {
	t.Helper()
	available, listed := copiesOf(t, s, e)
	require.Equal(t, []int{want, want}, []int{available, listed}, "%s", e)
}

// copiesOf counts the copies of a backup as the list of backups shows them.
func copiesOf(t *testing.T, s *harness.Server, e harness.JSON) (available, listed int) {
	t.Helper()
	for _, b := range s.Get(t, "/api/backups/datasources/"+e.Text("datasource_id")).List("backups") {
		if b.Text("execution_id") != e.Text("id") {
			continue
		}
		for _, copied := range b.List("storage_locations") {
			listed++
			if copied.Text("status") == "available" {
				available++
			}
		}
	}
	return available, listed
}

// requireGood verifies a backup, and restores it into a database that is checked.
func requireGood(t *testing.T, s *harness.Server, execution string, options config) {
	t.Helper()
	requireEnds(t, s, execution, "verify", options, config{})
	requireEnds(t, s, execution, "restore", options, config{"verification_mode": true})
}

// requireEnds starts a verification or restore and requires that it completes.
func requireEnds(t *testing.T, s *harness.Server, execution, action string, options, more config) {
	t.Helper()
	body := config{}
	maps.Copy(body, options)
	maps.Copy(body, more)
	started := s.Post(t, "/api/backups/"+execution+"/"+action, body, http.StatusAccepted)
	ended := s.Await(t, started.Text("execution_id"))
	require.Equal(t, "completed", ended.Text("status"), "%s: %s", action, ended)
}

// requireShop verifies a backup of a database of MariaDB, and restores it beside
// the database, whose content it must have.
func requireShop(t *testing.T, s *harness.Server, m *testkit.Maria, database, execution string, options config) {
	t.Helper()
	requireEnds(t, s, execution, "verify", options, config{})
	target := m.NewDatabase(t)
	requireEnds(t, s, execution, "restore", options, config{"target_database": target})
	require.Equal(t, shopIn(t, m, database), shopIn(t, m, target))
}

func TestEveryEngineBacksUpToEveryStorage(t *testing.T) {
	t.Parallel()
	objects, google, m, pg := storagetest.StartS3(t), storagetest.StartGCS(t), testkit.MariaDB(t), testkit.Postgres(t)
	identities := testkit.Dir(t)
	recipient, putKey := keyPair(t)
	putKey(identities)
	require.NoError(t, os.Rename(filepath.Join(identities, "key.txt"), filepath.Join(identities, "default")))
	plane := harness.NewPlane(t)
	source := plane.NewSource(t, 200)
	s := plane.Serve(t, "one", "--identity-dir", identities)
	places := threePlaces(t, s, objects, google)

	connection := source.Config()
	connection["username"], connection["password"] = pg.User, pg.Password // a verification makes a database
	postgres := addDatasource(t, s, "postgres", "postgres", connection)
	database := shop(t, m)
	mariadb := addDatasource(t, s, "mariadb", "mariadb", mariaConfig(m, database))
	sealed := config{"encryption": config{"recipients": []string{recipient}}}
	for _, p := range places {
		t.Run("postgres to "+p.name, func(t *testing.T) {
			requireGood(t, s, storedIn(t, s, p, postgres, config{}), config{})
		})
		t.Run("mariadb to "+p.name, func(t *testing.T) {
			options := maps.Clone(sealed)
			options["verification"] = config{"assertions": []config{{"name": "it answers", "sql": "SELECT count(*) = 0 FROM information_schema.tables WHERE table_schema = 'none'"}, {"name": "a text", "sql": "SELECT 'Ulm'", "expect": "Ulm"}}}
			id := storedIn(t, s, p, mariadb, options)
			requireShop(t, s, m, database, id, config{"identity": "default"})
			if p.name == "local" {
				checked := awaitRestore(t, s, id, config{"identity": "default", "verification_mode": true})
				require.Equal(t, "completed", checked.Text("status"), "%s", checked)
				require.True(t, checked.True("metadata.checked.assertions.0.passed") && checked.True("metadata.checked.assertions.1.passed"), "%s", checked)
				require.Equal(t, "equal", checked.Text("metadata.checked.schema.outcome"))
				require.Empty(t, checked.List("metadata.checked.warnings"))
				require.True(t, checked.True("metadata.checked.dropped"))
			}
		})
	}
	t.Run("replicated, and removed everywhere", func(t *testing.T) {
		replicatedBackupsGoEverywhere(t, s, places, mariadb, sealed, func(execution, storage string) {
			requireShop(t, s, m, database, execution, config{"storage_location_id": storage, "identity": "default"})
		})
	})
}

// storedIn makes a backup on one storage and returns its id.
func storedIn(t *testing.T, s *harness.Server, p place, datasource string, options config) string {
	t.Helper()
	e := s.Backup(t, s.AddJob(t, datasource, p.id, config{"backup_options": options}))
	require.EqualValues(t, e.Int("files_count")+1, p.on(t, e.Text("backup_path")), "parts and the manifest")
	requireCopies(t, s, e, 1)
	return e.Text("id")
}

func replicatedBackupsGoEverywhere(t *testing.T, s *harness.Server, places []place, datasource string, sealed config, requireGood func(execution, storage string)) {
	options := config{"storage_strategy": "replicate", "encryption": sealed["encryption"]}
	var targets []config
	for i, p := range places {
		targets = append(targets, config{"storage_location_id": p.id, "order": i + 1})
	}
	options["storage_targets"] = targets
	job := s.AddJob(t, datasource, places[0].id, config{"backup_options": options, "retention_policy": config{"max_backups": 1, "auto_delete": true}})

	first := s.Backup(t, job)
	for _, p := range places {
		require.EqualValues(t, first.Int("files_count")+1, p.on(t, first.Text("backup_path")), p.name)
		requireGood(first.Text("id"), p.id)
	}
	requireCopies(t, s, first, len(places))

	second := s.Backup(t, job)
	requireCopies(t, s, second, len(places))
	requireGone := func(e harness.JSON) {
		t.Helper()
		for _, p := range places {
			require.Eventually(t, func() bool { return p.on(t, e.Text("backup_path")) == 0 }, time.Minute, 50*time.Millisecond, p.name)
		}
	}
	requireGone(first)
	for _, p := range places {
		require.EqualValues(t, second.Int("files_count")+1, p.on(t, second.Text("backup_path")), p.name)
	}

	message := s.Do(t, http.MethodDelete, "/api/executions/"+second.Text("id"), nil)
	require.Equal(t, http.StatusConflict, message.Status, "the last good backup of a job: %s", message.Text)
	require.Less(t, s.Do(t, http.MethodDelete, "/api/backup-jobs/"+job, nil).Status, 300)
	deleted := s.Do(t, http.MethodDelete, "/api/executions/"+second.Text("id")+"?force=true", nil)
	require.Less(t, deleted.Status, 300, deleted.Text)
	requireGone(second)
}
