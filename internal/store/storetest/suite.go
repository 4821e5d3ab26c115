// Package storetest proves that a database keeps what the store interfaces
// promise. Run runs the whole suite; New gives other packages' tests a store.
package storetest

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/datasource"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/location"
	"github.com/dataguardian/dataguardian/internal/logs"
	"github.com/dataguardian/dataguardian/internal/secret"
	"github.com/dataguardian/dataguardian/internal/store"
)

// Run runs the suite. newDatabase returns the DSN of an empty database of the
// test's own.
func Run(t *testing.T, newDatabase func(t testing.TB) string) {
	suites := map[string]func(t *testing.T, newDatabase func(t testing.TB) string){
		"migrations": migrations, "opening": opening, "secrets": secrets, "rotation": rotation, "failures": failures,
	}
	for name, suite := range suites {
		t.Run(name, func(t *testing.T) { suite(t, newDatabase) })
	}
	stores := map[string]func(t *testing.T, w *world){
		"datasources": datasources, "locations": locations, "jobs": jobs, "due": due, "executions": executions,
		"leases": leases, "limits": limits, "retries": retries, "claims": claims, "reaping": reaping, "model": model, "catalogue": catalogue,
		"notifications": notifications, "channels": channels, "outbox": outbox, "tokens": tokens, "users": users, "tries": tries, "scope": scope, "audit": auditLogs, "health": healthChecks, "overview": overview, "holdings": holdings, "restores": restores, "imports": imports, "changes": changes,
	}
	for name, suite := range stores {
		t.Run(name, func(t *testing.T) { suite(t, newWorld(t, newDatabase(t))) })
	}
}

// New opens a store on an empty database: migrated, with a key file of its own,
// closed when the test ends.
func New(t testing.TB, dsn string) *store.Store {
	t.Helper()
	s := open(t, dsn, newBox(t))
	require.NoError(t, s.Migrate(t.Context()))
	require.NoError(t, s.CheckKey(t.Context()))
	return s
}

func open(t testing.TB, dsn string, box *secret.Box) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{DSN: dsn, Box: box})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

func newBox(t testing.TB) *secret.Box {
	t.Helper()
	box, err := secret.Create(filepath.Join(t.TempDir(), "keyset.json"))
	require.NoError(t, err)
	return box
}

// world is a store with a connection behind its back.
type world struct {
	*store.Store
	conn *pgx.Conn
}

func newWorld(t testing.TB, dsn string) *world {
	t.Helper()
	return &world{Store: New(t, dsn), conn: connect(t, dsn)}
}

func connect(t testing.TB, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close(context.Background())) })
	return conn
}

func (w *world) exec(t require.TestingT, sql string, args ...any) {
	_, err := w.conn.Exec(context.Background(), sql, args...)
	require.NoError(t, err)
}

func id() string { return uuid.NewString() }

func ptr[T any](v T) *T { return &v }

// newDatasource stores a datasource; edit may change it first.
func (w *world) newDatasource(t testing.TB, edit ...func(*datasource.Datasource)) datasource.Datasource {
	t.Helper()
	d := datasource.Datasource{
		ID: id(), Name: "shop " + id(), Type: engine.Postgres, Status: datasource.Unknown, Enabled: true, Tags: []string{"prod"},
		Conn: engine.Conn{Type: engine.Postgres, Host: "db.example.com", Port: 5432, Database: "shop", Username: "backup", Password: "pässword", SSLMode: engine.SSLRequire},
	}
	for _, e := range edit {
		e(&d)
	}
	d, err := w.Datasources().Create(t.Context(), d)
	require.NoError(t, err)
	return d
}

func (w *world) newLocation(t testing.TB, edit ...func(*location.Location)) location.Location {
	t.Helper()
	l := location.Location{
		ID: id(), Name: "disk " + id(), Type: location.Local, Status: location.Healthy, Config: location.Config{"path": "/srv/backups"},
	}
	for _, e := range edit {
		e(&l)
	}
	l, err := w.Locations().Create(t.Context(), l)
	require.NoError(t, err)
	return l
}

func (w *world) newJob(t testing.TB, edit ...func(*backup.Job)) backup.Job {
	t.Helper()
	j := backup.Job{
		ID: id(), Name: "nightly " + id(), ScheduleCron: "0 3 * * *", ScheduleTimezone: "Europe/Berlin", Enabled: true,
		Retention: backup.RetentionPolicy{MaxBackups: ptr(3), AutoDelete: true}, Options: backup.Options{}.WithDefaults(),
	}
	for _, e := range edit {
		e(&j)
	}
	if j.DatasourceID == "" {
		j.DatasourceID = w.newDatasource(t).ID
	}
	if j.StorageLocationID == "" {
		j.StorageLocationID = w.newLocation(t).ID
	}
	j, err := w.Jobs().Create(t.Context(), j)
	require.NoError(t, err)
	return j
}

// queue makes an execution of a job.
func (w *world) queue(t testing.TB, j backup.Job) execution.Execution {
	t.Helper()
	e, err := w.Executions().Create(t.Context(), execution.NewBackup(j, execution.Manual, nil))
	require.NoError(t, err)
	return e
}

// claim takes the oldest queued execution.
func (w *world) claim(t testing.TB, worker string) (execution.Execution, execution.Lease) {
	t.Helper()
	e, ok, err := w.Executions().Claim(t.Context(), execution.Claimant{WorkerID: worker}, allOperations, minute)
	require.NoError(t, err)
	require.True(t, ok, "nothing to claim")
	return e, leaseOf(e)
}

func leaseOf(e execution.Execution) execution.Lease {
	return execution.Lease{ExecutionID: e.ID, WorkerID: e.WorkerID, Fence: e.Fence}
}

// run makes an execution of a job and gives it to a worker.
func (w *world) run(t testing.TB, j backup.Job) (execution.Execution, execution.Lease) {
	t.Helper()
	made := w.queue(t, j)
	e, l := w.claim(t, "worker-1")
	require.Equal(t, made.ID, e.ID)
	return e, l
}

// complete makes a good backup of a job.
func (w *world) complete(t testing.TB, j backup.Job) execution.Execution {
	t.Helper()
	e, l := w.run(t, j)
	path := "shop/" + e.ID
	require.NoError(t, w.Executions().BeginCopy(t.Context(), l, j.StorageLocationID, path))
	require.NoError(t, w.Executions().Finish(t.Context(), l, goodResult(j, path)))
	e, err := w.Executions().Get(t.Context(), e.ID)
	require.NoError(t, err)
	return e
}

func goodResult(j backup.Job, path string) execution.Result {
	return execution.Result{
		Status: execution.Completed, SizeBytes: ptr(int64(1_234_567)), StoredBytes: ptr(int64(234_567)), BackupPath: path,
		Parts: []backup.Part{
			{Number: 1, Key: path + "/backup.dump.zst.0001", Size: 200_000, SHA256: "aa"},
			{Number: 2, Key: path + "/backup.dump.zst.0002", Size: 34_567, SHA256: "bb"},
		},
		Copies:   []backup.Copy{{StorageLocationID: j.StorageLocationID, Path: path, Status: backup.CopyAvailable}},
		Record:   execution.Record{ServerVersion: "15.18", Tools: map[string]string{"pg_dump": "15.18"}, Format: "pg_dump-custom", Tables: 7},
		Progress: execution.Progress{Phase: execution.Finalizing, BytesDone: 1_234_567, Percent: ptr(100.0)},
		Logs:     lines(3),
	}
}

func lines(n int) []logs.Line {
	out := make([]logs.Line, 0, n)
	for i := range n {
		out = append(out, logs.Line{Seq: int64(i + 1), Time: epoch, Level: engine.LevelInfo, Message: "line"})
	}
	return out
}

// ready lets a queued execution be claimed now.
func (w *world) ready(t require.TestingT, id string) {
	w.exec(t, "update backup_executions set available_at = now() where id = $1 and status = 'queued'", id)
}

// expire lets the lease of a running execution run out.
func (w *world) expire(t require.TestingT, id string) {
	w.exec(t, "update backup_executions set lease_expires_at = now() - interval '1 second' where id = $1 and status = 'running'", id)
}

func requireCode(t require.TestingT, err error, kind errs.Kind, code errs.Code) {
	require.Error(t, err)
	require.Equal(t, code, errs.CodeOf(err), "%v", err)
	require.Equal(t, kind, errs.KindOf(err), "%v", err)
}

func requireNotFound(t require.TestingT, err error) {
	requireCode(t, err, errs.NotFound, errs.CodeNotFound)
}

func requireField(t require.TestingT, err error, field string) {
	e := errs.As(err)
	require.NotNil(t, e, "%v", err)
	require.NotEmpty(t, e.Fields, "%v", err)
	require.Equal(t, field, e.Fields[0].Field)
}

func detail(err error, key string) any {
	if e := errs.As(err); e != nil {
		return e.Details[key]
	}
	return nil
}

var errRefused = errors.New("refused by the caller")
