package test

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/testkit"
	"github.com/dataguardian/dataguardian/test/harness"
)

// TestTheRecordsThemselvesComeBack backs up the metadata as one more database: it is not
// restored under the feet of who restores it, and by the page it opens with the key file.
// Backups that were made later are imported.
func TestTheRecordsThemselvesComeBack(t *testing.T) {
	p := harness.NewPlane(t)
	s := p.Serve(t, "one")
	pg := testkit.Postgres(t)
	own, err := url.Parse(p.DSN)
	require.NoError(t, err)
	password, _ := own.User.Password()
	port, err := strconv.Atoi(own.Port())
	require.NoError(t, err)
	storage := s.AddStorage(t, s.StorageDir(t))
	source := p.NewSource(t, 20)
	shop := s.AddDatasource(t, source.Config())
	backup := s.Backup(t, s.AddJob(t, shop, storage)).Text("id")
	records := s.AddDatasource(t, config{"host": own.Hostname(), "port": port, "database": strings.TrimPrefix(own.Path, "/"),
		"username": own.User.Username(), "password": password})
	job := s.AddJob(t, records, storage)
	e := s.Backup(t, job)

	id := s.Post(t, restorePath(e.Text("id")), config{"drop_existing": true}, http.StatusAccepted).Text("execution_id")
	refused := s.Await(t, id)
	require.Equal(t, "failed", refused.Text("status"), "%s", refused)
	require.Equal(t, "RESTORE_NOT_SUPPORTED", refused.Text("error_code"), "%s", refused)
	require.Contains(t, refused.Text("error_message"), "its records")

	blocks := pageCommands(t, "DataGuardian's own records")
	block := blocks[0]
	const name = "dataguardian_restored"
	commands, start, found := strings.Cut(block, "\ndataguardian serve ")
	require.True(t, found, block)
	require.Contains(t, start, "--key-file")
	require.Equal(t, "dataguardian storage import disk --dry-run\ndataguardian storage import disk", blocks[1], "which is done below")
	target := pg.NewDatabase(t)
	pg.Exec(t, "postgres", "DROP DATABASE "+target) // the page creates it
	follow(t, downloaded(t, s, e.Text("id")), strings.ReplaceAll(commands, name, target),
		"PGHOST="+pg.Host, fmt.Sprintf("PGPORT=%d", pg.Port), "PGUSER="+pg.User, "PGPASSWORD="+pg.Password)

	later := s.Backup(t, s.AddJob(t, shop, storage)) // which the records do not know
	again := p.LaunchAPI(t, "restored", nil, "serve", "--database-url", pg.DSN(target), "--key-file", p.KeyFile,
		"--http-addr", "127.0.0.1:0", "--grpc-addr", "127.0.0.1:0", "--roles", "api,restore", "--poll-interval", "300ms")
	locate := "/api/storage-locations/" + storage + "/import"
	before := again.Post(t, locate, config{"dry_run": true}, http.StatusOK)
	require.Equal(t, []int64{1, 1}, []int64{before.Int("imported"), before.Int("left_out")}, "%s", before)
	left := before.List("backups")[0]
	require.Equal(t, e.Text("id"), left.Text("execution_id"), "%s", left)
	require.Contains(t, left.Text("error"), "running", "the records are of the moment in which it ran")
	again.Do(t, http.MethodGet, "/api/executions/"+later.Text("id"), nil).Refused(t, http.StatusNotFound, "NOT_FOUND")
	r := again.CLI(t, "storage", "import", storage)
	require.Equal(t, 1, r.Code, r.Stderr)
	require.Contains(t, r.Stderr, "1 of 2 backups")
	require.Contains(t, r.Stdout, later.Text("id"))
	known := again.Get(t, "/api/executions/"+later.Text("id"))
	require.True(t, known.Null("job"), "%s", known)
	for _, field := range []string{"status", "size_bytes", "compressed_size_bytes", "backup_path", "files_count", "datasource_id", "metadata.server_version"} {
		require.Equal(t, later.At(field), known.At(field), "%s of %s", field, known)
	}
	require.Contains(t, again.CLI(t, "backup", "list", shop).Stdout, later.Text("id"))
	pg.Exec(t, "postgres", "ALTER ROLE "+source.User+" CREATEDB") // for the scratch database
	proof := again.Await(t, again.Post(t, restorePath(later.Text("id")), config{"verification_mode": true}, http.StatusAccepted).Text("execution_id"))
	require.Equal(t, "completed", proof.Text("status"), "%s", proof)
	require.Equal(t, "completed", again.Get(t, "/api/executions/"+backup).Text("status"))
	require.Equal(t, "ok", again.Post(t, "/api/datasources/"+shop+"/test", nil, http.StatusOK).Text("status"), "its password opens")
}

// TestABackupThatEndedAfterTheRecordsWereDumpedOutlivesItsSource sets the records back to
// a moment in which a backup ran, and takes its database away: what the next attempt finds
// is the last that there is of it.
func TestABackupThatEndedAfterTheRecordsWereDumpedOutlivesItsSource(t *testing.T) {
	p := harness.NewPlane(t)
	s := p.Serve(t, "one")
	source := p.NewSource(t, 20)
	storage := s.AddStorage(t, s.StorageDir(t))
	shop := s.AddDatasource(t, source.Config())
	done := s.Backup(t, s.AddJob(t, shop, storage))
	id := done.Text("id")
	s.Stop(t)

	pg := testkit.Postgres(t)
	pg.Exec(t, "postgres", "DROP DATABASE "+source.Database+" WITH (FORCE)")
	t.Cleanup(func() { pg.Exec(t, "postgres", "CREATE DATABASE "+source.Database) }) // for the clean-up of the source
	records := p.Metadata(t)
	for _, step := range []string{ // as a dump of that moment has them
		"ALTER TABLE backup_executions DISABLE TRIGGER witness",
		"UPDATE backup_copies SET status = 'pending' WHERE execution_id = $1",
		"DELETE FROM backup_chunks WHERE execution_id = $1",
		`UPDATE backup_executions SET status = 'running', finished_at = NULL, lease_expires_at = now() - interval '1 minute', size_bytes = NULL,
			stored_bytes = NULL, backup_path = NULL, parts_count = NULL, attempt = max_attempts - 1 WHERE id = $1`,
	} {
		var args []any
		if strings.Contains(step, "$1") {
			args = append(args, id)
		}
		_, err := records.Exec(t.Context(), step, args...)
		require.NoError(t, err, step)
	}
	again := p.Serve(t, "again")
	failed := again.Await(t, id)
	require.Equal(t, "failed", failed.Text("status"), "%s", failed)
	require.Equal(t, "DATABASE_NOT_FOUND", failed.Text("error_code"), "%s", failed)
	require.Contains(t, failed.String(), "whole backup of an earlier attempt was found at "+done.Text("backup_path"))

	harness.Eventually(t, func() bool {
		return strings.Contains(again.Get(t, "/api/executions/"+id).String(), "belongs to no execution")
	}, "the whole backup is not left to be imported")
	r := again.CLI(t, "storage", "import", storage)
	require.Zero(t, r.Code, r.Stderr)
	known := again.Get(t, "/api/executions/"+id)
	for _, field := range []string{"status", "size_bytes", "compressed_size_bytes", "backup_path", "files_count", "datasource_id", "metadata.server_version"} {
		require.Equal(t, done.At(field), known.At(field), "%s of %s", field, known)
	}
	require.Contains(t, again.CLI(t, "backup", "list", shop).Stdout, id)
	downloaded(t, again, id)
}
