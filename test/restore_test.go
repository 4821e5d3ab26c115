package test

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/testkit"
	"github.com/dataguardian/dataguardian/storage/storagetest"
	"github.com/dataguardian/dataguardian/test/harness"
)

// administrator is a connection that may make databases.
func administrator(source harness.Source) config {
	c := source.Config()
	c["username"], c["password"] = source.PG.User, source.PG.Password
	return c
}

// noteCount counts the rows of the database's table.
func noteCount(t *testing.T, source harness.Source, database string) (n int) {
	t.Helper()
	require.NoError(t, source.PG.Conn(t, database).QueryRow(context.Background(), "SELECT count(*) FROM public.notes").Scan(&n))
	return n
}

func restorePath(execution string) string { return "/api/backups/" + execution + "/restore" }

func awaitRestore(t *testing.T, s *harness.Server, execution string, request config) harness.JSON {
	t.Helper()
	return s.Await(t, s.Post(t, restorePath(execution), request, http.StatusAccepted).Text("execution_id"))
}

// The worker is killed while one restore waits in pg_restore, another one, which is
// to be checked, in an assertion, and a third one for a part that it proves.
func TestARestoreWhoseWorkerIsKilledLeavesTheTargetAndNothingBeside(t *testing.T) {
	t.Parallel()
	objects := storagetest.StartS3(t)
	front := storagetest.StartFront(t, objects.Endpoint)
	tools := harness.NewTools(t)
	tools.PutRestore(t)
	p := harness.NewSharedRedisPlane(t)
	s := p.Serve(t, "server", "--roles", "api,scheduler,backup,cleanup")
	source := p.NewSource(t, 20)
	byAddress := administrator(source)
	byName := administrator(source)
	byName["host"] = "localhost"
	datasource, other := s.AddDatasource(t, byAddress), s.AddDatasource(t, byName)
	job := s.AddJob(t, datasource, s.AddStorage(t, s.StorageDir(t)), config{"backup_options": config{"verification": config{"assertions": []config{
		{"name": "takes its time", "sql": "SELECT 1 FROM pg_sleep(59)"},
	}}}})
	id := s.Backup(t, job).Text("id")
	source.PG.Exec(t, source.Database, "DELETE FROM public.notes WHERE id > 5")

	bucket := objects.NewBucket(t)
	far := p.NewSource(t, 20)
	farJob := s.AddJob(t, s.AddDatasource(t, administrator(far)), addStorage(t, s, "far", "s3", s3Config(objects, front.Endpoint, bucket)))
	farBackup := s.Backup(t, farJob).Text("id")
	far.PG.Exec(t, far.Database, "DELETE FROM public.notes WHERE id > 5")

	// Nobody takes restores yet.
	first := s.Post(t, restorePath(id), config{}, http.StatusAccepted).Text("execution_id")
	again := s.Do(t, http.MethodPost, restorePath(id), config{"target_datasource_id": other})
	require.Contains(t, again.Refused(t, http.StatusConflict, "EXECUTION_ALREADY_RUNNING"), "queued or running")
	require.Equal(t, first, again.Expect(t, http.StatusConflict).Text("details.execution_id"))
	require.Equal(t, "cancelled", s.Post(t, "/api/executions/"+first+"/cancel", nil, http.StatusOK).Text("status"))

	victim := p.StartWorker(t, "victim", "--roles", "restore", "--concurrency", "4", "--lease", shortLease, "--postgres-bin-dir", tools.Dir)
	part := holding(t, front, func(r *http.Request) bool {
		return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/backup.dump")
	})
	proving := s.Post(t, restorePath(farBackup), config{}, http.StatusAccepted).Text("execution_id")
	part.await(t)
	checked := s.Post(t, restorePath(id), config{"verification_mode": true}, http.StatusAccepted).Text("execution_id")
	scratch := source.Database + "_verify_" + checked[:8]
	db := source.PG.Conn(t, "postgres")
	exists := func(query string, args ...any) (found bool) {
		require.NoError(t, db.QueryRow(context.Background(), "SELECT EXISTS ("+query+")", args...).Scan(&found))
		return found
	}
	require.Eventually(t, func() bool {
		return exists("SELECT FROM pg_stat_activity WHERE datname = $1 AND query LIKE '%pg_sleep%' AND state = 'active'", scratch)
	}, time.Minute, 20*time.Millisecond, "the assertion does not run")
	tools.ShutRestore(t)
	restored := s.Post(t, restorePath(id), config{}, http.StatusAccepted).Text("execution_id")
	tools.AwaitRestore(t)
	beside := "dg_restore_" + strings.ReplaceAll(restored, "-", "")[:12]
	require.True(t, exists("SELECT FROM pg_database WHERE datname = $1", beside))
	victim.Kill(t)
	part.letGo()

	for execution, says := range map[string]string{checked: "in the middle", restored: "in the middle", proving: "before the restore touched its target"} {
		e := s.Await(t, execution)
		require.Equal(t, []string{"failed", "RESTORE_INTERRUPTED"}, []string{e.Text("status"), e.Text("error_code")}, "%s", e)
		require.Contains(t, e.Text("error_message"), says)
	}
	require.Equal(t, 5, noteCount(t, source, source.Database), "the target is as it was")
	require.Equal(t, 5, noteCount(t, far, far.Database), "the target is as it was")
	require.Eventually(t, func() bool {
		return !exists("SELECT FROM pg_database WHERE datname = ANY($1)", []string{scratch, beside, "dg_restore_" + strings.ReplaceAll(proving, "-", "")[:12]})
	},
		time.Minute, 50*time.Millisecond, "databases are left behind")
	metadata := p.Metadata(t)
	require.Eventually(t, func() bool {
		var n int
		require.NoError(t, metadata.QueryRow(context.Background(), "SELECT count(*) FROM restore_leftovers").Scan(&n))
		return n == 0
	}, time.Minute, 50*time.Millisecond, "they are gone, and still noted")

	tools.Close(t)
	p.Worker(t, "rescuer", "--roles", "restore", "--postgres-bin-dir", tools.Dir)
	e := awaitRestore(t, s, id, config{})
	require.Equal(t, "completed", e.Text("status"), "%s", e)
	require.Equal(t, 20, noteCount(t, source, source.Database))
	require.Equal(t, "used", e.Text("metadata.sources.0.outcome"))
}

func damagedCopiesAreShownUntilTheyAreWholeAgain(t *testing.T, s *harness.Server) {
	source := s.Plane.NewSource(t, 20)
	datasource, dir := s.AddDatasource(t, administrator(source)), s.StorageDir(t)
	job := s.AddJob(t, datasource, s.AddStorage(t, dir), config{"backup_options": config{"verification": config{"assertions": []config{
		{"name": "there are notes", "sql": "SELECT count(*) > 0 FROM public.notes"},
		{"name": "the last one", "sql": "SELECT max(id) FROM public.notes", "expect": "20"},
	}}}})
	backup := s.Backup(t, job)
	id := backup.Text("id")
	source.PG.Exec(t, source.Database, "DELETE FROM public.notes WHERE id > 5")
	state := func() harness.JSON { return s.Get(t, "/api/backups/datasources/"+datasource).At("backups.0") }

	part := filepath.Join(dir, backup.Text("chunks.0.file_path"))
	flip := func() {
		content, err := os.ReadFile(part)
		require.NoError(t, err)
		content[len(content)/2] ^= 4
		require.NoError(t, os.WriteFile(part, content, 0o600))
	}
	flip()
	broken := awaitRestore(t, s, id, config{})
	require.Equal(t, "ARTIFACT_CORRUPT", broken.Text("error_code"), "%s", broken)
	require.Equal(t, "damaged", broken.Text("metadata.sources.0.outcome"))
	require.Equal(t, 5, noteCount(t, source, source.Database))
	require.Equal(t, "missing", state().Text("storage_locations.0.status"))
	require.Contains(t, state().Text("storage_locations.0.message"), "other bytes")
	s.Do(t, http.MethodPost, restorePath(id), config{}).Refused(t, http.StatusServiceUnavailable, "BACKUP_STORAGE_UNAVAILABLE")

	flip()
	requireEnds(t, s, id, "verify", config{}, config{})
	require.Equal(t, "available", state().Text("storage_locations.0.status"))
	require.True(t, state().Null("storage_locations.0.message"))
	require.False(t, state().Null("verified_at"))

	checked := awaitRestore(t, s, id, config{"verification_mode": true})
	require.Equal(t, "completed", checked.Text("status"), "%s", checked)
	require.EqualValues(t, 20, checked.Int("metadata.checked.rows"))
	require.Equal(t, "equal", checked.Text("metadata.checked.schema.outcome"))
	require.True(t, checked.True("metadata.checked.dropped"))
	require.Len(t, checked.List("metadata.checked.assertions"), 2)
	require.True(t, checked.True("metadata.checked.assertions.1.passed"))

	options := config{"verification": config{"assertions": []config{{"name": "the last one", "sql": "SELECT max(id) FROM public.notes", "expect": "21"}}}}
	s.Do(t, http.MethodPut, "/api/backup-jobs/"+job, config{"backup_options": options}).Expect(t, http.StatusOK)
	checked = awaitRestore(t, s, id, config{"verification_mode": true})
	require.Equal(t, "VERIFICATION_FAILED", checked.Text("error_code"), "%s", checked)
	require.Contains(t, checked.Text("error_message"), `"the last one" expects "21" and got "20"`)
	require.Equal(t, 5, noteCount(t, source, source.Database), "a verification touches nothing")

	for _, refused := range []config{
		{"identity": "AGE-SECRET-KEY-1QQQQ"}, {"identity": "../key"}, {"keep_verification_database": true},
	} {
		s.Do(t, http.MethodPost, restorePath(id), refused).Refused(t, http.StatusUnprocessableEntity, "VALIDATION_ERROR")
	}
	s.Do(t, http.MethodPut, "/api/datasources/"+datasource, config{"protected": true}).Expect(t, http.StatusOK)
	s.Do(t, http.MethodPost, restorePath(id), config{}).Refused(t, http.StatusConflict, "CONFIRMATION_REQUIRED")
	e := awaitRestore(t, s, id, config{"confirm": source.Database, "storage_location_id": unknownID})
	require.Equal(t, "completed", e.Text("status"), "a storage that does not have it is not the only one: %s", e)
	require.Equal(t, 20, noteCount(t, source, source.Database))
}

// The same with MariaDB, of which a table can have its file on another disk. It is full
// where the table is made: MariaDB itself may not survive a disk that fills up while
// rows come (10.11: "Out of disk space in rollback").
func aFullDiskOfMariaDBLeavesTheTargetAsItWas(t *testing.T, s *harness.Server) {
	m := testkit.MariaDB(t)
	database := m.NewDatabase(t)
	var data string
	require.NoError(t, m.DB(t, "").QueryRow("SELECT @@datadir").Scan(&data))
	disk := filepath.Join(filepath.Dir(filepath.Clean(data)), "small_"+database)
	harness.SmallDisk(t, disk, 2<<20)
	giveTo(t, disk, data)
	t.Cleanup(func() { m.Exec(t, "", "DROP DATABASE "+database) }) // before the disk goes
	m.Exec(t, database, "CREATE TABLE notes (id int PRIMARY KEY, body varchar(4000)) ENGINE=InnoDB DATA DIRECTORY='"+disk+"';"+
		"INSERT INTO notes SELECT seq, hex(seq) FROM seq_1_to_20; CREATE TRIGGER stays BEFORE INSERT ON notes FOR EACH ROW SET NEW.body = 'kept'")
	datasource := addDatasource(t, s, "small "+database, "mariadb", mariaConfig(m, database))
	id := s.Backup(t, s.AddJob(t, datasource, s.AddStorage(t, s.StorageDir(t)))).Text("id")
	m.Exec(t, database, "DELETE FROM notes WHERE id > 5")
	require.ErrorIs(t, os.WriteFile(filepath.Join(disk, "others"), make([]byte, 2<<20), 0o600), syscall.ENOSPC)
	e := awaitRestore(t, s, id, config{})
	require.Equal(t, []string{"failed", "RESTORE_FAILED"}, []string{e.Text("status"), e.Text("error_code")}, "%s", e)
	require.Contains(t, e.Text("error_message"), "is full")
	require.Contains(t, e.Text("error_message"), "No more room in record file", "the server's own words")
	var rows, triggers, left int
	require.NoError(t, m.DB(t, database).QueryRow("SELECT count(*), (SELECT count(*) FROM information_schema.triggers WHERE trigger_schema = DATABASE()) FROM notes").Scan(&rows, &triggers))
	require.Equal(t, []int{5, 1}, []int{rows, triggers})
	token := strings.ReplaceAll(e.Text("id"), "-", "")[:12]
	require.NoError(t, m.DB(t, "").QueryRow("SELECT count(*) FROM information_schema.schemata WHERE schema_name LIKE concat('dg%', ?)", token).Scan(&left))
	require.Zero(t, left)
}

// giveTo makes a directory that of who owns another one.
func giveTo(t *testing.T, dir, like string) {
	t.Helper()
	owner, err := os.Stat(like)
	require.NoError(t, err)
	account, ok := owner.Sys().(*syscall.Stat_t)
	require.True(t, ok)
	require.NoError(t, os.Chown(dir, int(account.Uid), int(account.Gid)))
}

// The target's disk is full: what a restore makes goes into a small tablespace.
func aFullDiskOfTheTargetLeavesItAsItWas(t *testing.T, s *harness.Server) {
	source := s.Plane.NewSource(t, 4000)
	pg, role := source.PG, "small_"+source.Database
	var data string
	require.NoError(t, pg.Conn(t, "postgres").QueryRow(t.Context(), "SELECT current_setting('data_directory')").Scan(&data))
	disk := filepath.Join(filepath.Dir(data), role)
	harness.SmallDisk(t, disk, 2<<20)
	giveTo(t, disk, data)
	pg.Exec(t, "postgres", "CREATE TABLESPACE "+role+" LOCATION '"+disk+"'")
	t.Cleanup(func() { pg.Exec(t, "postgres", "DROP TABLESPACE "+role) })
	pg.Exec(t, "postgres", "CREATE ROLE "+role+" SUPERUSER LOGIN PASSWORD 'none of the secrets'; ALTER ROLE "+role+" SET default_tablespace = "+role)
	t.Cleanup(func() { pg.Exec(t, "postgres", "DROP ROLE "+role) })

	c := source.Config()
	c["username"], c["password"] = role, "none of the secrets"
	id := s.Backup(t, s.AddJob(t, s.AddDatasource(t, c), s.AddStorage(t, s.StorageDir(t)))).Text("id")
	source.PG.Exec(t, source.Database, "DELETE FROM public.notes WHERE id > 5")
	for _, parallel := range []int{1, 2} {
		e := awaitRestore(t, s, id, config{"parallel_jobs": parallel})
		require.Equal(t, []string{"failed", "RESTORE_FAILED"}, []string{e.Text("status"), e.Text("error_code")}, "%s", e)
		require.Contains(t, e.Text("error_message"), "is full")
		require.Contains(t, e.Text("error_message"), "No space left on device")
		require.Equal(t, 5, noteCount(t, source, source.Database))
		var left int
		token := strings.ReplaceAll(e.Text("id"), "-", "")[:12]
		require.NoError(t, pg.Conn(t, "postgres").QueryRow(t.Context(), "SELECT count(*) FROM pg_database WHERE datname LIKE 'dg%' || $1", token).Scan(&left))
		require.Zero(t, left)
	}
}
