package test

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/storage/storagetest"
	"github.com/dataguardian/dataguardian/test/harness"
)

// victim is a backup whose worker is killed in a certain phase.
type victim struct {
	phase   string
	place   place
	front   *storagetest.Front
	hold    *hold // nil: something else holds it
	job     string
	id      string
	resumes bool // the next attempt goes on with the dump of the killed one
}

// One worker is in every phase at once, with a backup on every kind of storage
// each; it is killed once, and goes on as it would after a reboot.
func TestAWorkerThatIsKilledInAnyPhaseLosesNothing(t *testing.T) {
	t.Parallel()
	all := clouds(t, 6)
	p := harness.NewSharedRedisPlane(t)
	s := p.Serve(t, "server", "--roles", "api,scheduler,restore,cleanup")
	tools := harness.NewTools(t)
	work := []string{"--roles", "backup", "--postgres-bin-dir", tools.Dir, "--concurrency", "16", "--upload-attempts", "2", "--upload-backoff", "50ms"}
	killed := p.StartWorker(t, "machine", work...)
	source, gated := p.NewSource(t, 1500).Shareable(t), p.NewSource(t, 1500).Shareable(t)
	stored, held := s.AddDatasource(t, source.Super()), s.AddDatasource(t, gated.Super())
	var victims []*victim
	begin := func(phase string, resumes bool, datasource string, start func(v *victim)) {
		for _, c := range all {
			v := &victim{phase: phase, resumes: resumes}
			v.place, v.front = c.fronted(t, s)
			v.job = s.AddJob(t, datasource, v.place.id, inParallel())
			start(v)
			victims = append(victims, v)
		}
	}
	heldAt := func(requests func(*http.Request) bool) func(v *victim) {
		return func(v *victim) {
			v.hold = holding(t, v.front, requests)
			v.id = s.Run(t, v.job)
		}
	}

	tools.PutGatedEnd(t, gated.Database)
	begin("retry-upload", true, stored, func(v *victim) {
		v.front.Answer(http.StatusForbidden, afterFirst(uploads))
		v.id = s.Run(t, v.job)
	})
	begin("dumping", false, held, func(v *victim) { v.id = s.Run(t, v.job) })
	begin("uploading", true, stored, heldAt(afterFirst(uploads)))
	begin("proving", true, stored, heldAt(proofs))
	for _, v := range victims {
		if v.phase != "retry-upload" {
			continue
		}
		require.Equal(t, "failed", s.Await(t, v.id).Text("status"))
		v.hold = holding(t, v.front, uploads)
		s.Post(t, retryPath(v.id), config{}, http.StatusAccepted)
	}
	for _, v := range victims {
		complete := filepath.Join(p.Dir, "machine", "spool", v.id, "state.json")
		if v.hold != nil {
			v.hold.await(t)
			harness.Eventually(t, func() bool { _, err := os.Stat(complete); return err == nil }, "the dump is not complete")
			continue
		}
		harness.Eventually(t, func() bool { return len(v.place.keys(t)) >= 3 }, "what several connections have dumped is not stored while others dump")
		require.NoFileExists(t, complete)
	}
	book := holdBooking(t, p)
	begin("finalizing", false, stored, func(v *victim) { v.id = s.Run(t, v.job) })
	book.await(t, len(all))

	killed.Kill(t)
	for _, v := range victims {
		if v.hold != nil {
			v.hold.letGo()
		}
	}
	tools.Close(t)
	book.letGo(t)
	_, err := p.Metadata(t).Exec(t.Context(), "UPDATE backup_executions SET lease_expires_at = now() - interval '1 second' WHERE status = 'running'")
	require.NoError(t, err)
	require.NoError(t, os.RemoveAll(killed.Temp), "what a killed process leaves in the system's temporary directory is the system's to remove")

	again := p.Worker(t, "machine", work...)
	for _, v := range victims {
		t.Run(v.phase+" on "+v.place.name, func(t *testing.T) {
			e := s.Await(t, v.id)
			requireStored(t, s, v.place, e)
			requireParallel(t, e)
			require.EqualValues(t, 2, e.Int("attempt"))
			// The last words of the killed worker may be lost with it.
			waited, dumped := lines(e, "The dump is complete and waits on this worker"), lines(e, "Dumped ")
			if v.resumes {
				require.True(t, waited > 0 && dumped <= 1, "%s", e)
			} else {
				require.True(t, waited == 0 && dumped > 0, "%s", e)
			}
			requireEnds(t, s, v.id, "verify", config{}, config{})
			if v.phase == "dumping" || v.phase == "uploading" {
				requireEnds(t, s, v.id, "restore", config{}, config{"verification_mode": true})
			}
		})
	}
	again.Stop(t)
	t.Run("a machine that never comes back ends a retried upload as failed", func(t *testing.T) {
		neverComesBack(t, s, all[0], stored)
	})
}

func neverComesBack(t *testing.T, s *harness.Server, c cloud, datasource string) {
	lost := s.Plane.StartWorker(t, "lost", "--roles", "backup", "--upload-attempts", "1")
	p, front := c.fronted(t, s)
	job := s.AddJob(t, datasource, p.id, smallParts())
	front.Answer(http.StatusForbidden, afterFirst(uploads))
	id := s.Fails(t, job, "STORAGE_AUTH_FAILED").Text("id")
	lost.Kill(t)
	s.Post(t, retryPath(id), config{}, http.StatusAccepted)
	db := s.Plane.Metadata(t)
	for _, sql := range []string{ // as it is after a while
		"DELETE FROM worker_instances WHERE role = 'backup'",
		"UPDATE backup_executions SET available_at = now() - interval '1 hour' WHERE status = 'queued'",
	} {
		_, err := db.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	e := s.Await(t, id)
	require.Equal(t, []string{"failed", "SPOOL_LOST"}, []string{e.Text("status"), e.Text("error_code")}, "%s", e)
	host, err := os.Hostname()
	require.NoError(t, err)
	require.Contains(t, e.Text("error_message"), host)
	require.Equal(t, 1, lines(e, "The machine that has the dump did not come back"))
	front.Intercept(nil)
	s.Plane.Worker(t, "other", "--roles", "backup")
	next := s.Backup(t, job) // what was stored of the other stays while its upload can be retried
	require.EqualValues(t, next.Int("files_count")+1, p.on(t, next.Text("backup_path")))
	requireCopies(t, s, next, 1)
}

// booking holds the transactions that book how executions ended.
type booking struct {
	conn *pgx.Conn
	tx   pgx.Tx
	look *pgx.Conn
}

func holdBooking(t *testing.T, p *harness.Plane) booking {
	t.Helper()
	b := booking{conn: p.Metadata(t), look: p.Metadata(t)}
	var err error
	b.tx, err = b.conn.Begin(context.Background())
	require.NoError(t, err)
	_, err = b.tx.Exec(context.Background(), "LOCK TABLE backup_chunks IN EXCLUSIVE MODE")
	require.NoError(t, err)
	return b
}

// await waits until so many of them are held.
func (b booking) await(t *testing.T, n int) {
	t.Helper()
	harness.Eventually(t, func() bool {
		var waiting int
		require.NoError(t, b.look.QueryRow(context.Background(),
			"SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'backup_chunks'::regclass AND database = (SELECT oid FROM pg_database WHERE datname = current_database())").Scan(&waiting))
		return waiting >= n
	}, "%d executions do not come to their end", n)
}

func (b booking) letGo(t *testing.T) {
	t.Helper()
	require.NoError(t, b.tx.Rollback(context.Background()))
}
