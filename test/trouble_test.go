package test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/storage"
	"github.com/dataguardian/dataguardian/test/harness"
)

// trouble is something that goes wrong with a storage while a backup is made.
type trouble func(t *testing.T, s *harness.Server, c cloud, datasource string)

func TestAStorageInTrouble(t *testing.T) {
	t.Parallel()
	all, tools := clouds(t, 6), harness.NewTools(t)
	s := harness.NewPlane(t).Serve(t, "server", "--upload-backoff", "100ms", "--orphan-grace", "2s", "--concurrency", "16", "--postgres-bin-dir", tools.Dir)
	datasource, dying := s.AddDatasource(t, s.Plane.NewSource(t, 3000).Config()), s.Plane.NewSource(t, 3000)
	tools.PutDying(t, dying.Database)
	for name, run := range map[string]trouble{
		"away for a while in the middle":    awayForAWhile,
		"full, and with room again":         fullForAWhile,
		"that does not let us delete":       withoutDeletion,
		"from which somebody takes objects": robbed,
		"when a backup is cancelled":        cancelledUpload,
		"when a retry is cancelled":         cancelledRetry,
	} {
		for _, c := range all {
			t.Run(c.name+" "+name, func(t *testing.T) {
				t.Parallel()
				run(t, s, c, datasource)
			})
		}
	}
	t.Run("with a part of a dump whose server died", func(t *testing.T) {
		t.Parallel()
		serverDies(t, s, all, tools, dying)
	})
	t.Run("s3 whose clock differs by twenty minutes", func(t *testing.T) {
		t.Parallel()
		anotherTime(t, s, all[0], datasource)
	})
}

func awayForAWhile(t *testing.T, s *harness.Server, c cloud, datasource string) {
	p, front := c.fronted(t, s)
	job := s.AddJob(t, datasource, p.id, smallParts())
	var back atomic.Bool
	later := afterFirst(uploads)
	front.Intercept(func(_ http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if !back.Load() && later(r) {
			panic(http.ErrAbortHandler)
		}
		return false
	})
	id := s.Run(t, job)
	harness.Eventually(t, func() bool {
		for _, message := range messages(s.Get(t, "/api/executions/"+id+"/logs").List("logs")) {
			if strings.Contains(message, "(try 1 of 10)") {
				return true
			}
		}
		return false
	}, "no upload was tried again")
	back.Store(true)
	requireStored(t, s, p, s.Await(t, id))
}

func fullForAWhile(t *testing.T, s *harness.Server, c cloud, datasource string) {
	p, front := c.fronted(t, s)
	job := s.AddJob(t, datasource, p.id, smallParts())
	front.Answer(http.StatusInsufficientStorage, afterFirst(uploads))
	e := s.Fails(t, job, "STORAGE_FULL")
	require.True(t, e.True("metadata.upload_retry.possible"), "%s", e)
	require.Empty(t, p.keys(t), "what it had taken makes room for others")
	front.Intercept(nil)
	s.Post(t, retryPath(e.Text("id")), config{}, http.StatusAccepted)
	requireStored(t, s, p, s.Await(t, e.Text("id")))
}

func withoutDeletion(t *testing.T, s *harness.Server, c cloud, datasource string) {
	p, front := c.fronted(t, s)
	job := s.AddJob(t, datasource, p.id, smallParts(), config{"retention_policy": config{"max_backups": 1, "auto_delete": true}})
	front.Answer(http.StatusForbidden, deletions)
	first := s.Backup(t, job)
	second := s.Backup(t, job)
	copied := watchCopy(t, s, first)
	harness.Eventually(t, func() bool { status, why := copied(); return status == "deleting" && why != "" }, "the reason is not noted")
	_, why := copied()
	require.Contains(t, why, "permission")
	require.Positive(t, p.on(t, first.Text("backup_path")))
	tested := s.Post(t, "/api/storage-locations/"+p.id+"/test", config{}, http.StatusOK)
	require.Contains(t, tested.String(), "could be written but not deleted")

	front.Intercept(nil)
	harness.Eventually(t, func() bool { return p.on(t, first.Text("backup_path")) == 0 }, "the backup that retention removes stays")
	require.EqualValues(t, second.Int("files_count")+1, p.on(t, second.Text("backup_path")))
}

// watchCopy returns a look at the only copy of a backup.
func watchCopy(t *testing.T, s *harness.Server, e harness.JSON) func() (status, why string) {
	t.Helper()
	db := s.Plane.Metadata(t)
	return func() (status, why string) {
		require.NoError(t, db.QueryRow(context.Background(), "SELECT status, error FROM backup_copies WHERE execution_id = $1", e.Text("id")).Scan(&status, &why))
		return status, why
	}
}

// What is stored of a dump goes when the dump fails, and was never a backup.
func serverDies(t *testing.T, s *harness.Server, all []cloud, tools *harness.Tools, source harness.Source) {
	datasource := s.AddDatasource(t, source.Config())
	places, runs := map[string]place{}, []string{}
	for _, c := range all {
		p, _ := c.rent(t, s, c.endpoint)
		id := s.Run(t, s.AddJob(t, datasource, p.id, smallParts()))
		places[id], runs = p, append(runs, id)
	}
	for id, p := range places {
		harness.Eventually(t, func() bool { return len(p.keys(t)) > 0 }, "nothing of %s is stored while it is dumped", id)
	}
	tools.Lose(t)
	for _, id := range runs {
		e := s.Await(t, id)
		require.Equal(t, []string{"failed", "DATASOURCE_LOST"}, []string{e.Text("status"), e.Text("error_code")}, "%s", e)
		require.False(t, e.True("metadata.upload_retry.possible"), "%s", e)
		harness.Eventually(t, func() bool { return len(places[id].keys(t)) == 0 }, "a part of a failed dump stays")
		require.NoDirExists(t, filepath.Join(s.DataDir, "spool", id))
	}
	require.Empty(t, s.Get(t, "/api/backups/datasources/"+datasource).List("backups"))
}

func robbed(t *testing.T, s *harness.Server, c cloud, datasource string) {
	p, d := c.rent(t, s, c.endpoint)
	job := s.AddJob(t, datasource, p.id, smallParts())
	nobodys, foreign := "gone/2026-01-02_030405_deadbeef/backup.dump.zst.0001", "notes.txt"
	for _, key := range []string{nobodys, foreign} {
		_, err := d.Put(t.Context(), key, bytes.NewReader([]byte("x")), storage.PutOptions{Size: 1})
		require.NoError(t, err)
	}
	e := s.Backup(t, job)
	require.NoError(t, d.Delete(t.Context(), e.Text("chunks.0.file_path")))
	copied := watchCopy(t, s, e)
	harness.Eventually(t, func() bool { status, _ := copied(); return status == "missing" }, "nobody notices that a part is gone")
	harness.Eventually(t, func() bool { _, err := d.Stat(t.Context(), nobodys); return err != nil }, "what nobody owns stays")
	_, err := d.Stat(t.Context(), foreign)
	require.NoError(t, err, "what is not of our form is not ours to remove")
	told := 0
	for _, n := range s.Get(t, "/api/notifications?type=backup_lost&limit=100").List("data") {
		if n.Text("entity_id") == p.id {
			require.Contains(t, n.Text("message"), e.Text("backup_path"))
			told++
		}
	}
	require.Equal(t, 1, told)
	requireCopies(t, s, s.Backup(t, job), 1)
	s.Do(t, http.MethodDelete, "/api/executions/"+e.Text("id"), nil).Expect(t, http.StatusNoContent)
}

func cancelledUpload(t *testing.T, s *harness.Server, c cloud, datasource string) {
	p, front := c.fronted(t, s)
	h := holding(t, front, afterFirst(uploads))
	id := s.Run(t, s.AddJob(t, datasource, p.id, smallParts()))
	h.await(t)
	s.Post(t, "/api/executions/"+id+"/cancel", nil, http.StatusOK)
	e := s.Await(t, id) // the storage holds on to the upload all the while
	require.Equal(t, "cancelled", e.Text("status"), "%s", e)
	h.letGo()
	harness.Eventually(t, func() bool { return len(p.keys(t)) == 0 }, "a part of a cancelled backup stays")
	require.NoDirExists(t, filepath.Join(s.DataDir, "spool", id))
	s.Do(t, http.MethodPost, retryPath(id), config{}).Refused(t, http.StatusConflict, "EXECUTION_NOT_RETRIABLE")
}

// What a cancelled retry has of its backup is gone by the time that it is cancelled:
// no cleaning up is waited for.
func cancelledRetry(t *testing.T, s *harness.Server, c cloud, datasource string) {
	front, ok := <-c.fronts
	require.True(t, ok, "the test needs more proxies")
	p, d := c.rent(t, s, front.Endpoint)
	job := s.AddJob(t, datasource, p.id, smallParts())
	front.Answer(http.StatusForbidden, afterFirst(uploads))
	failed := s.Fails(t, job, "STORAGE_AUTH_FAILED")
	id := failed.Text("id")
	_, err := d.Put(t.Context(), failed.Text("backup_path")+"/sent-before", bytes.NewReader([]byte("x")), storage.PutOptions{Size: 1})
	require.NoError(t, err)
	h := holding(t, front, uploads)
	s.Post(t, retryPath(id), config{}, http.StatusAccepted)
	h.await(t)
	s.Post(t, "/api/executions/"+id+"/cancel", nil, http.StatusOK)
	e := s.Await(t, id)
	require.Equal(t, "cancelled", e.Text("status"), "%s", e)
	require.Empty(t, p.keys(t), "a part of a cancelled backup stays")
	require.NoDirExists(t, filepath.Join(s.DataDir, "spool", id))
	require.Equal(t, 1, lines(e, "The upload was given up"))
	require.False(t, e.True("metadata.upload_retry.possible"))
	h.letGo()
	s.Do(t, http.MethodPost, retryPath(id), config{}).Refused(t, http.StatusConflict, "EXECUTION_NOT_RETRIABLE")
}

func anotherTime(t *testing.T, s *harness.Server, c cloud, datasource string) {
	p, front := c.fronted(t, s)
	job := s.AddJob(t, datasource, p.id, smallParts())
	front.Intercept(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if !uploads(r) {
			return false
		}
		w.Header().Set("Date", time.Now().Add(-20*time.Minute).UTC().Format(http.TimeFormat))
		w.WriteHeader(http.StatusForbidden)
		_, _ = fmt.Fprint(w, "<Error><Code>RequestTimeTooSkewed</Code><Message>The difference between the request time and the current time is too large.</Message></Error>")
		return true
	})
	require.Contains(t, s.Post(t, "/api/storage-locations/"+p.id+"/test", config{}, http.StatusOK).String(), "set this machine's clock")
	e := s.Fails(t, job, "STORAGE_UNAVAILABLE")
	require.Contains(t, e.Text("error_message"), "set the clocks, then retry the upload")
	front.Intercept(nil)
	s.Post(t, retryPath(e.Text("id")), config{}, http.StatusAccepted)
	requireStored(t, s, p, s.Await(t, e.Text("id")))
}

// A machine that only makes backups sweeps its own spools: no other process can.
func TestASpoolThatNobodyNeedsIsRemovedOnAMachineThatOnlyMakesBackups(t *testing.T) {
	t.Parallel()
	p := harness.NewSharedRedisPlane(t)
	p.Serve(t, "server", "--roles", withoutBackups)
	stale := filepath.Join(p.Dir, "machine", "spool", unknownID)
	require.NoError(t, os.MkdirAll(filepath.Join(stale, "parts"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(stale, "parts", "000001"), []byte("left over"), 0o600))
	p.Worker(t, "machine", "--roles", "backup")
	harness.Eventually(t, func() bool { _, err := os.Stat(stale); return os.IsNotExist(err) }, "a stale spool stays")
}
