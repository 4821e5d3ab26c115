package test

import (
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/test/harness"
)

func TestADumpToolThatIsMissingOrTooOldIsNamedAndALaterOneIsFound(t *testing.T) {
	t.Parallel()
	tools := harness.NewTools(t)
	s := harness.NewPlane(t).Serve(t, "server", "--postgres-bin-dir", tools.Dir)
	job, storageDir := s.NewJob(t, s.Plane.NewSource(t, 10))

	missing := s.Fails(t, job, "DUMP_TOOL_MISSING").Text("error_message")
	require.Contains(t, missing, tools.Dir)
	require.Contains(t, missing, "apt-get install postgresql-client-")
	tools.Put(t, "9.6.24", "exit 99")
	old := s.Fails(t, job, "DUMP_TOOL_TOO_OLD").Text("error_message")
	require.Contains(t, old, "9.6.24")
	requireNoFiles(t, storageDir)

	tools.Put(t, tools.Version(t), `exec "$REAL" "$@"`)
	require.Equal(t, tools.Version(t), s.Backup(t, job).Text("metadata.tools.pg_dump"))
}

func TestADumpToolThatMisbehavesLeavesNoBackup(t *testing.T) {
	t.Parallel()
	tools := harness.NewTools(t)
	s := harness.NewPlane(t).Serve(t, "server", "--postgres-bin-dir", tools.Dir, "--stall-timeout", "2s")
	source := s.Plane.NewSource(t, 300)
	job, storageDir := s.NewJob(t, source)
	for name, c := range map[string]struct{ script, code, says string }{
		"it ends with 0 in the middle of the dump":   {`"$REAL" "$@" | head -c 100000; exit 0`, "DUMP_INCOMPLETE", ""},
		"it ends with 0 one byte before the end":     {`"$REAL" "$@" > "$TMPDIR/d"; head -c -1 "$TMPDIR/d"; exit 0`, "DUMP_INCOMPLETE", ""},
		"it ends with 0 and wrote nothing":           {`exit 0`, "DUMP_INCOMPLETE", ""},
		"it writes something else":                   {`echo "-- a dump in plain text"; exit 0`, "DUMP_INCOMPLETE", ""},
		"it writes more than the dump":               {`"$REAL" "$@"; echo more`, "DUMP_INCOMPLETE", ""},
		"it ends with 1 after a part of the dump":    {`"$REAL" "$@" | head -c 100000; echo "pg_dump: error: out of luck" >&2; exit 1`, "DUMP_FAILED", "out of luck"},
		"it ends with 1 after the whole dump":        {`"$REAL" "$@"; exit 1`, "DUMP_FAILED", "status 1"},
		"it is killed":                               {`"$REAL" "$@" | head -c 1000; kill -9 $$`, "DUMP_FAILED", ""},
		"it loses the server":                        {`echo "pg_dump: error: server closed the connection unexpectedly" >&2; exit 1`, "DATASOURCE_LOST", "closed the connection"},
		"it hangs after a part of the dump":          {`"$REAL" "$@" | head -c 1000; exec sleep 1000`, "DUMP_STALLED", "2s"},
		"it hangs and does not listen to SIGTERM":    {`trap "" TERM; sleep 1000 & wait; wait`, "DUMP_STALLED", ""},
		"it says its password in many a way":         {`echo "pg_dump: error: password was $PGPASSWORD" >&2; exit 1`, "DUMP_FAILED", ""},
		"it says a line of a megabyte without a end": {`head -c 1000000 /dev/zero | tr '\0' x >&2; exit 1`, "DUMP_FAILED", ""},
	} {
		t.Run(name, func(t *testing.T) {
			tools.Put(t, tools.Version(t), c.script)
			e := s.Fails(t, job, c.code)
			require.Contains(t, e.Text("error_message"), c.says)
			require.False(t, e.True("metadata.upload_retry.possible"), "%s", e)
			requireNoFiles(t, storageDir)
			require.Zero(t, s.Get(t, "/api/backups/datasources/"+e.Text("datasource_id")).Number("total_backups"))
			require.Empty(t, s.Children(t), "a child of the failed dump")
		})
	}
}

func TestAFullStorageFailsTheBackupAndARetryCompletesItWhenThereIsRoom(t *testing.T) {
	t.Parallel()
	p := harness.NewPlane(t)
	storageDir := filepath.Join(p.Dir, "small disk")
	harness.SmallDisk(t, storageDir, 4<<20)
	s := p.Serve(t, "server")
	job := s.AddJob(t, s.AddDatasource(t, s.Plane.NewSource(t, 12000).Config()), s.AddStorage(t, storageDir), smallParts())
	e := s.Fails(t, job, "STORAGE_FULL")
	require.Equal(t, "failed", e.Text("metadata.storage_results.0.status"))
	require.Equal(t, true, e.At("metadata.upload_retry.possible").Value)
	require.Zero(t, s.Get(t, "/api/backups/datasources/"+e.Text("datasource_id")).Number("total_backups"))

	harness.GrowDisk(t, storageDir, 64<<20)
	accepted := s.Post(t, "/api/executions/"+e.Text("id")+"/retry-upload", nil, http.StatusAccepted)
	require.Equal(t, e.Text("id"), accepted.Text("execution_id"))
	require.Equal(t, "completed", s.Await(t, e.Text("id")).Text("status"))
	requireOneArtifact(t, storageDir, s.Get(t, "/api/executions/"+e.Text("id")))
}

func TestWhatAFullStorageKeptForARetryIsRemovedWhenTheTimeForItIsOver(t *testing.T) {
	t.Parallel()
	p := harness.NewPlane(t)
	storageDir := filepath.Join(p.Dir, "small disk")
	harness.SmallDisk(t, storageDir, 4<<20)
	s := p.Serve(t, "server", "--spool-keep", "2s")
	storage := s.AddStorage(t, storageDir)
	s.Fails(t, s.AddJob(t, s.AddDatasource(t, s.Plane.NewSource(t, 12000).Config()), storage, smallParts()), "STORAGE_FULL")
	requireNoFiles(t, storageDir)
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		spools, err := filepath.Glob(filepath.Join(s.DataDir, "spool", "[0-9a-f]*"))
		assert.NoError(c, err)
		assert.Empty(c, spools)
	}, time.Minute, 50*time.Millisecond)
	s.Backup(t, s.AddJob(t, s.AddDatasource(t, s.Plane.NewSource(t, 10).Config()), storage))
}

func TestAFullSpoolFailsThatBackupOnly(t *testing.T) {
	t.Parallel()
	const reserve = 64 << 20 // of the spool's disk, for others
	p := harness.NewPlane(t)
	harness.SmallDisk(t, filepath.Join(p.Dir, "server", "spool"), reserve+4<<20)
	s := p.Serve(t, "server")
	job, storageDir := s.NewJob(t, s.Plane.NewSource(t, 12000), smallParts())
	s.Fails(t, job, "SPOOL_FULL")
	requireNoFiles(t, storageDir)
	other, _ := s.NewJob(t, s.Plane.NewSource(t, 10))
	s.Backup(t, other)
}

// smallParts makes a dump of several objects.
func smallParts() config { return config{"backup_options": config{"max_file_size_mb": 1}} }

// inParallel is smallParts by several connections, see harness.Source.Shareable.
func inParallel() config {
	return config{"backup_options": config{"max_file_size_mb": 1, "parallel_jobs": 2}}
}

// requireParallel requires that several connections made a backup.
func requireParallel(t *testing.T, e harness.JSON) {
	t.Helper()
	var members []string
	for _, chunk := range e.List("chunks") {
		members = append(members, filepath.Base(chunk.Text("file_path")))
	}
	for _, want := range []string{"backup-00001.dump.zst", "backup-00002.dump.zst", "backup-00003.dump.zst"} {
		require.True(t, slices.ContainsFunc(members, func(m string) bool { return strings.HasPrefix(m, want) }), "%v", members)
	}
}
