package restore_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"filippo.io/age"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/dataguardian/dataguardian/internal/artifact"
	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/datasource"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/health"
	"github.com/dataguardian/dataguardian/internal/location"
	"github.com/dataguardian/dataguardian/internal/logs"
	"github.com/dataguardian/dataguardian/storage"
	"github.com/dataguardian/dataguardian/storage/local"
	"github.com/dataguardian/dataguardian/storage/storagetest"
	"github.com/dataguardian/dataguardian/worker"
	"github.com/dataguardian/dataguardian/worker/attempt"
	"github.com/dataguardian/dataguardian/worker/restore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	backupID  = "0198a7c2-1111-7000-8000-00000000abcd"
	restoreID = "0198a7c2-2222-7000-8000-00000000abcd"
	partSize  = 1000
)

// schema is the fingerprint of what was dumped.
var schema = engine.NewSchemaDigest("test", []string{"CREATE TABLE orders"})

var taken = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// world is one backup on some storages, and a database to restore it into.
type world struct {
	execution.Store // nobody calls the methods that are missing below

	t        *testing.T
	path     string   // of the backup, in each storage
	dirs     []string // of the storages
	backup   backup.Backup
	dump     []byte
	database *database
	identity *age.X25519Identity // that the worker has

	mu     sync.Mutex
	faults map[string]func(key string) error // by storage, what reading an object comes to
	queued *execution.Execution
	result *execution.Result
	marked map[string]backup.CopyStatus
	left   []execution.Leftovers
	held   []string
	busy   bool // another restore holds the target
	lines  []logs.Line
}

// newWorld stores a backup of three parts on so many storages.
func newWorld(t *testing.T, storages int, recipients ...string) *world {
	t.Helper()
	return newWorldOf(t, artifact.Zstd, partSize, storages, recipients...)
}

func newWorldOf(t *testing.T, compression artifact.Compression, partSize, storages int, recipients ...string) *world {
	t.Helper()
	w := &world{
		t: t, path: artifact.Path("shop", taken, backupID), dump: storagetest.Bytes(7, 5*partSize/2),
		faults: map[string]func(string) error{}, marked: map[string]backup.CopyStatus{},
	}
	w.database = &database{world: w, rows: map[string]int64{"orders": 3}, schema: schema}
	c := artifact.Config{
		Header: artifact.Header{ExecutionID: backupID, JobID: "job", Database: "shop", Engine: engine.Postgres, CreatedAt: taken, StartedAt: taken},
		Path:   w.path, PartSize: int64(partSize), Compression: compression, SpoolDir: t.TempDir(), SpoolReserve: 1, Strategy: artifact.Replicate, Recipients: recipients,
	}
	for i := range storages {
		dir := t.TempDir()
		w.dirs = append(w.dirs, dir)
		d, err := local.New(local.Config{Path: dir})
		require.NoError(t, err)
		defer func() { require.NoError(t, d.Close()) }()
		c.Targets = append(c.Targets, artifact.Target{ID: name(i), Name: name(i), Driver: d})
	}
	out, err := artifact.NewWriter(t.Context(), c)
	require.NoError(t, err)
	m, err := out.Create(t.Context(), "backup.dump")
	require.NoError(t, err)
	_, err = m.Write(w.dump)
	require.NoError(t, err)
	require.NoError(t, m.Close())
	stored, err := out.Commit(t.Context(), artifact.Completion{
		Dump: engine.DumpResult{
			Server: engine.ServerInfo{Version: "15.18", VersionNum: 150018, Flavor: engine.Postgres}, Format: "test", SchemaDigest: schema,
			Tables: []engine.Table{{Schema: "public", Name: "orders", Rows: 3}, {Schema: "public", Name: "notes", Rows: -1}},
		},
		Proof: "it was written here", FinishedAt: taken,
	})
	require.NoError(t, err)
	require.Len(t, stored.Parts, 3)
	w.backup = backup.Backup{ExecutionID: backupID, DatasourceType: engine.Postgres, Encrypted: len(recipients) > 0, CreatedAt: taken, StoredBytes: stored.StoredBytes}
	for _, p := range stored.Parts {
		w.backup.Parts = append(w.backup.Parts, backup.Part{Number: p.Number, Key: p.Key, Size: p.Size, SHA256: p.SHA256})
	}
	for i := range storages {
		w.backup.Copies = append(w.backup.Copies, backup.Copy{
			ExecutionID: backupID, StorageLocationID: name(i), StorageName: name(i), Path: w.path, Status: backup.CopyAvailable,
		})
	}
	return w
}

func name(i int) string { return []string{"first", "second", "third"}[i] }

// file is an object of one storage.
func (w *world) file(storage int, base string) string {
	return filepath.Join(w.dirs[storage], w.path, base)
}

// part is the name of a part's file.
func (w *world) part(n int) string { return filepath.Base(w.backup.Parts[n].Key) }

// edit changes an object of one storage.
func (w *world) edit(storage int, base string, change func([]byte) []byte) {
	w.t.Helper()
	file := w.file(storage, base)
	content, err := os.ReadFile(file)
	require.NoError(w.t, err)
	require.NoError(w.t, os.WriteFile(file, change(content), 0o600))
}

// does runs an operation to its end and returns what was booked.
func (w *world) does(operation execution.Operation, request execution.RestoreRequest) execution.Result {
	w.t.Helper()
	synctest.Test(w.t, func(t *testing.T) {
		w.mu.Lock()
		w.result = nil
		w.queued = &execution.Execution{
			ID: restoreID, DatasourceID: "target", Operation: operation, Status: execution.Running, Fence: 1,
			Request: execution.Request{SourceExecutionID: backupID, Restore: &request},
		}
		w.mu.Unlock()
		ctx, stop := context.WithCancel(context.Background())
		defer stop()
		runner := &restore.Runner{
			Desk:        attempt.Desk{Executions: w, Hub: hub{}, Terminal: logs.NewTerminal(io.Discard), Meter: meter{}, Logger: slog.New(slog.DiscardHandler)},
			Datasources: targets{}, Catalogue: catalogue{w}, Restores: w, Vault: w, Identities: w,
			Engines: map[engine.Type]engine.Engine{engine.Postgres: w.database}, StallTimeout: time.Minute,
		}
		claimer := &worker.Claimer{
			Label: "restore worker", WorkerID: "worker", Operations: []execution.Operation{operation}, Concurrency: 1, Store: w, Queue: queue{},
			Entry:  worker.NewRegistry(nil, time.Minute, slog.New(slog.DiscardHandler)).Register(health.RoleRestore),
			Logger: slog.New(slog.DiscardHandler),
			Work: func(ctx context.Context, l *worker.Leased) error {
				defer stop()
				return runner.Work(ctx, l)
			},
		}
		require.NoError(t, claimer.Run(ctx))
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	require.NotNil(w.t, w.result, "nothing was booked")
	return *w.result
}

// The world is the store of executions.

func (w *world) Claim(context.Context, execution.Claimant, []execution.Operation, time.Duration) (execution.Execution, bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.queued == nil || w.result != nil {
		return execution.Execution{}, false, nil
	}
	return *w.queued, true, nil
}

func (w *world) Get(context.Context, string) (execution.Execution, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return *w.queued, nil
}

func (w *world) Heartbeat(context.Context, execution.Lease, time.Duration, execution.Progress) (bool, error) {
	cancelled := w.database.late || w.database.torn != nil
	return cancelled, nil
}

func (w *world) SaveLogs(_ context.Context, _ execution.Lease, lines []logs.Line) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines = append(w.lines, lines...)
	return nil
}

func (w *world) Finish(_ context.Context, _ execution.Lease, r execution.Result) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.result = &r
	return nil
}

func (w *world) HoldTarget(_ context.Context, _ execution.Lease, key string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.busy {
		return errs.New(errs.Conflict, errs.CodeExecutionRunning, "another restore runs")
	}
	w.held = append(w.held, key)
	return nil
}

func (w *world) NoteLeftovers(_ context.Context, _ execution.Lease, x execution.Leftovers) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.left = append(w.left, x)
	return nil
}

func (w *world) ForgetLeftovers(context.Context, string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.left = nil
	return nil
}

// Load implements restore.Identities.
func (w *world) Load(string) ([]age.Identity, error) { return []age.Identity{w.identity}, nil }

// Open implements restore.Vault.
func (w *world) Open(_ context.Context, id string) (location.Location, storage.Driver, error) {
	i := slices.IndexFunc(w.backup.Copies, func(c backup.Copy) bool { return c.StorageLocationID == id })
	d, err := local.New(local.Config{Path: w.dirs[i]})
	return location.Location{ID: id}, &faulty{Driver: d, world: w, id: id}, err
}

// faulty is a storage whose reads may fail.
type faulty struct {
	storage.Driver
	world *world
	id    string
}

func (f *faulty) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	f.world.mu.Lock()
	fault := f.world.faults[f.id]
	f.world.mu.Unlock()
	if fault != nil {
		if err := fault(filepath.Base(key)); err != nil {
			return nil, err
		}
	}
	return f.Driver.Open(ctx, key, offset, length)
}

var errNetwork = errors.New("the network is down")

// catalogue is the world's.
type catalogue struct{ w *world }

func (c catalogue) Get(context.Context, string) (backup.Backup, error) { return c.w.backup, nil }

func (c catalogue) MarkMissing(_ context.Context, copied backup.Copy, _ string) error {
	return c.mark(copied, backup.CopyMissing)
}

func (c catalogue) MarkFound(_ context.Context, copied backup.Copy) error {
	return c.mark(copied, backup.CopyAvailable)
}

func (c catalogue) mark(copied backup.Copy, status backup.CopyStatus) error {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	c.w.marked[copied.StorageLocationID] = status
	return nil
}

type targets struct{}

func (targets) Get(context.Context, string) (datasource.Datasource, error) {
	return datasource.Datasource{ID: "target", Name: "shop", Type: engine.Postgres, Conn: engine.Conn{Type: engine.Postgres, Database: "shop"}}, nil
}

type hub struct{ logs.Hub }

func (hub) Append(context.Context, string, ...logs.Line) error { return nil }
func (hub) Announce(context.Context, string, []byte) error     { return nil }
func (hub) Close(context.Context, string) error                { return nil }

type meter struct{}

func (meter) Ended(execution.Execution, execution.Result, time.Duration) {}

func (meter) LogLag(time.Duration) {}
func (meter) UploadRetried()       {}

type queue struct{}

func (queue) Up() bool                         { return true }
func (queue) WaitUp(ctx context.Context) error { return nil }
func (queue) Wait(ctx context.Context, _ string, poll time.Duration) error {
	select {
	case <-time.After(poll):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// database is an engine with one server.
type database struct {
	engine.Engine

	world    *world
	asked    bool  // a preflight was made
	refusal  error // what it comes to
	silence  error // why the server does not say which one it is
	touched  int   // how often a restore began
	content  []byte
	rows     map[string]int64
	answers  map[string][][]any
	schema   engine.SchemaDigest
	blind    error // why the schema cannot be told
	dropped  []string
	dropping error
	torn     error // what a restore comes to that is cancelled on its way
	late     bool  // it is cancelled when it is done
	inPlace  bool  // the database itself changes
	hasty    bool  // it has changed before the backup is read to its end
	needs    int64 // bytes of the backup, when it is not all of it
}

func (d *database) Identify(context.Context, engine.Conn) (string, error) { return "server", d.silence }

func (d *database) Preflight(_ context.Context, _ engine.Conn, o engine.RestoreOptions) (engine.Target, error) {
	d.asked = true
	require.Equal(d.world.t, 150018, o.DumpVersion)
	return engine.Target{Exists: true, InPlace: d.inPlace}, d.refusal
}

// Restore takes the dump, or leaves what was there.
func (d *database) Restore(ctx context.Context, c engine.Conn, o engine.RestoreOptions, src engine.Source) error {
	d.touched++
	require.Len(d.world.t, d.world.left, 1, "what may be left behind is noted before")
	require.Equal(d.world.t, execution.Token(restoreID), o.Token)
	require.Equal(d.world.t, strings.Contains(c.Database, "_verify_"), o.Inert, "what is only looked at does nothing by itself")
	if d.torn != nil {
		<-ctx.Done()
		return d.torn
	}
	in, err := src.Open(ctx, "backup.dump")
	if err != nil {
		return err
	}
	defer in.Close()
	if d.needs > 0 && o.Proven {
		content := make([]byte, d.needs)
		if _, err := io.ReadFull(in, content); err != nil {
			return err
		}
		prover, ok := in.(engine.Prover)
		require.True(d.world.t, ok)
		if err := prover.Prove(); err != nil {
			return err
		}
		d.content = content
		return nil
	}
	var content bytes.Buffer
	if _, err := io.Copy(&content, in); err != nil {
		if d.hasty {
			err = errs.Wrap(errors.Join(err, engine.ErrUnsettled), errs.KindOf(err), errs.CodeOf(err), "database %q has changed: %s", c.Database, errs.Message(err))
		}
		return err
	}
	d.content = content.Bytes()
	if d.late {
		<-ctx.Done()
	}
	return nil
}

func (d *database) CountRows(_ context.Context, _ engine.Conn, tables []engine.Table) ([]int64, error) {
	var counts []int64
	for _, t := range tables {
		n, ok := d.rows[t.Name]
		if !ok {
			n = -1
		}
		counts = append(counts, n)
	}
	return counts, nil
}

func (d *database) DigestSchema(context.Context, engine.Conn, engine.SchemaDigest, string) (engine.SchemaDigest, error) {
	return d.schema, d.blind
}

func (d *database) DropDatabase(_ context.Context, c engine.Conn) error {
	if d.dropping == nil {
		d.dropped = append(d.dropped, c.Database)
	}
	return d.dropping
}

func (d *database) Schema(context.Context, engine.Conn) ([]engine.Schema, error) { return nil, nil }

func (d *database) Query(_ context.Context, _ engine.Conn, sql string, _ engine.QueryLimits) (engine.QueryResult, error) {
	rows, ok := d.answers[sql]
	if !ok {
		return engine.QueryResult{}, errs.New(errs.Invalid, errs.CodeQueryFailed, "the database refused the statement: syntax error")
	}
	return engine.QueryResult{Columns: []string{"answer"}, Rows: rows}, nil
}
