package backup

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/dataguardian/dataguardian/internal/artifact"
	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/datasource"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/worker/attempt"
)

// run is one attempt at one backup.
type run struct {
	*Runner
	*attempt.Attempt
	source   datasource.Datasource
	options  backup.Options
	targets  []artifact.Target
	unopened []backup.Copy    // targets that could not even be opened
	ranked   []string         // the targets' storages, in their order
	writer   *artifact.Writer // nil while a dump from the spool is sent
	resuming bool
	spooled  string // path of the dump that is sent from the spool, where that says so
}

// outcome is what an attempt has come to.
type outcome struct {
	server   engine.ServerInfo
	dump     engine.DumpResult
	artifact artifact.Result
}

// work makes the backup, or goes on with one whose dump is complete.
func (r *run) work(ctx context.Context) (outcome, error) {
	ctx, cancel := r.limited(ctx)
	defer cancel()
	if r.Execution.Request.RetryUpload {
		return r.resume(ctx)
	}
	if artifact.SpoolResumable(r.SpoolDir, r.Execution.ID) {
		out, err := r.resume(ctx)
		if errs.CodeOf(err) != errs.CodeSpoolLost {
			return out, err
		}
		r.Log.Logf(engine.LevelWarn, "The dump of the interrupted attempt cannot be used: %s", errs.Message(err))
		r.closeTargets()
		r.resuming, r.spooled = false, ""
	}
	return r.fromDatabase(ctx)
}

// fromDatabase walks from the database to the committed artifact.
func (r *run) fromDatabase(ctx context.Context) (outcome, error) {
	var out outcome
	r.Phase(execution.Connecting, "")
	e, err := r.connectable()
	if err != nil {
		return out, err
	}
	r.Log.Logf(engine.LevelInfo, "Backing up database %q of %q (attempt %d of %d)", r.source.Conn.Database, r.source.Name, r.Execution.Attempt, r.Execution.MaxAttempts)
	if err := r.discardLeftovers(ctx); err != nil {
		return out, err
	}
	if err := r.openTargets(ctx, targetIDs(r.Execution.StorageLocationID, r.options)); err != nil {
		return out, err
	}
	if out.server, err = e.Ping(ctx, r.source.Conn); err != nil {
		return out, err
	}
	r.Log.Logf(engine.LevelInfo, "Connected to %s %s in %s", out.server.Flavor, out.server.Version, out.server.Latency.Round(time.Millisecond))
	if r.writer, err = artifact.NewWriter(ctx, r.artifactConfig(out.server)); err != nil {
		return out, err
	}
	if out.dump, err = r.dump(ctx, e, out.server); err != nil {
		return out, attempt.Cause(ctx, err)
	}
	r.Phase(execution.Uploading, "")
	r.Log.Log(engine.LevelInfo, "The dump is complete; waiting for the last uploads")
	out.artifact, err = r.writer.Commit(ctx, artifact.Completion{Dump: out.dump, Proof: proof(out.dump), FinishedAt: time.Now().UTC()})
	return out, attempt.Cause(ctx, err)
}

// proof says how the dump was proven complete, for people.
func proof(d engine.DumpResult) string {
	return fmt.Sprintf("the dump tool ended with 0 and the %s dump was read to its end as it passed", d.Format)
}

// limited applies the job's time limit.
func (r *run) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	if r.options.TimeoutMinutes == nil {
		return context.WithCancel(ctx)
	}
	limit := time.Duration(*r.options.TimeoutMinutes) * time.Minute
	return context.WithTimeoutCause(ctx, limit, errs.New(errs.Conflict, errs.CodeTimeout,
		"the backup took longer than its limit of %d minutes and was stopped; raise timeout_minutes of the job or find out what is slow", *r.options.TimeoutMinutes))
}

// connectable checks that there still is something to back up.
func (r *run) connectable() (engine.Engine, error) {
	if r.source.ID == "" {
		return nil, errs.New(errs.NotFound, errs.CodeNotFound, "the datasource of the job was deleted; there is nothing to back up")
	}
	e, ok := r.Engines[r.source.Type]
	if !ok {
		return nil, errs.New(errs.Unimplemented, errs.CodeNotImplemented, "this worker cannot back up %s", r.source.Type)
	}
	return e, nil
}

// discardLeftovers removes what an earlier attempt has written. What cannot be
// removed now is left to the cleanup worker: this attempt writes elsewhere. What is whole
// stays: it was not booked, or is younger than the records.
func (r *run) discardLeftovers(ctx context.Context) error {
	leftovers := slices.DeleteFunc(slices.Clone(r.Execution.Copies), func(c backup.Copy) bool { return c.Status != backup.CopyPending })
	if len(leftovers) == 0 {
		return nil
	}
	r.Log.Log(engine.LevelInfo, "Removing what an interrupted attempt has left")
	if err := r.Held(); err != nil {
		return err
	}
	kept, err := r.Vault.RemoveUnlessWhole(ctx, leftovers)
	for _, c := range kept {
		r.Log.Logf(engine.LevelWarn, "A whole backup of an earlier attempt was found at %s in %q: it is kept until this attempt has made another", c.Path, c.StorageName)
	}
	if err != nil {
		r.Log.Logf(engine.LevelWarn, "It could not all be removed now and will be later: %s", errs.Message(err))
	}
	return artifact.DropSpool(r.SpoolDir, r.Execution.ID)
}

// openTargets opens the storages of the job in their order. One that cannot be
// opened is a failed target; only when none can there is nothing to dump for.
func (r *run) openTargets(ctx context.Context, ids []string) error {
	var first error
	r.ranked = ids
	for _, id := range ids {
		l, driver, err := r.Vault.Open(ctx, id)
		if err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			r.Log.Logf(engine.LevelWarn, "A storage cannot be used: %s", errs.Message(err))
			r.unopened = append(r.unopened, backup.Copy{StorageLocationID: id, StorageName: l.Name, Status: backup.CopyFailed, Error: errs.Message(err)})
			if first == nil {
				first = err
			}
			continue
		}
		r.targets = append(r.targets, artifact.Target{ID: l.ID, Name: l.Name, Driver: driver})
	}
	if len(r.targets) == 0 {
		return first
	}
	return nil
}

// targetIDs lists the storages of a backup: the named targets by their rank; the
// job's own storage goes first unless it is ranked among them.
func targetIDs(own string, o backup.Options) []string {
	targets := slices.Clone(o.Targets)
	slices.SortStableFunc(targets, func(a, b backup.Target) int { return a.Order - b.Order })
	ids := make([]string, 0, len(targets)+1)
	for _, t := range targets {
		ids = append(ids, t.StorageLocationID)
	}
	if !slices.Contains(ids, own) {
		ids = append([]string{own}, ids...)
	}
	return ids
}

func (r *run) artifactConfig(server engine.ServerInfo) artifact.Config {
	return artifact.Config{
		Header: artifact.Header{
			ExecutionID: r.Execution.ID, JobID: r.Execution.JobID, JobName: r.Execution.JobName,
			DatasourceID: r.source.ID, DatasourceName: r.source.Name, Database: r.source.Conn.Database, Engine: r.source.Type,
			CreatedAt: r.Execution.CreatedAt, StartedAt: r.attemptStarted(),
		},
		Path:        artifact.Path(r.source.Conn.Database, r.attemptStarted(), r.Execution.ID),
		Compression: artifact.Compression(r.options.Compression), Level: r.options.CompressionLevel,
		Recipients: r.options.Recipients, PartSize: r.options.PartSize(server.DatabaseSize),
		SpoolDir: r.SpoolDir, Spool: artifact.Spool(r.options.Spool), Strategy: artifact.Strategy(r.options.Strategy), Targets: r.targets,
		BeforeFirstObject: func(ctx context.Context, targetID string) error {
			return r.Executions.BeginCopy(ctx, r.Lease(), targetID, r.path())
		},
		Guard: r.Held, Owned: r.Owned,
		Retry: r.retry(),
		Log:   r.Log.Log,
	}
}

func (r *run) retry() artifact.Retry {
	return artifact.Retry{Attempts: r.UploadAttempts, Base: r.UploadBackoff, Again: r.Meter.UploadRetried}
}

// attemptStarted dates the path of the artifact. Attempts are at least a second
// apart, so that each has a path of its own.
func (r *run) attemptStarted() time.Time { return r.Started.UTC() }

func (r *run) path() string {
	return artifact.Path(r.source.Conn.Database, r.attemptStarted(), r.Execution.ID)
}

// dump runs the engine into the artifact.
func (r *run) dump(ctx context.Context, e engine.Engine, server engine.ServerInfo) (engine.DumpResult, error) {
	r.Phase(execution.Dumping, "dumped")
	result, err := e.Dump(ctx, r.source.Conn, engine.DumpOptions{
		IncludeTables: r.options.IncludeTables, ExcludeTables: r.options.ExcludeTables, ExcludeTableData: r.options.ExcludeTableData,
		ParallelJobs: r.options.ParallelJobs, StallTimeout: r.StallTimeout, TempDir: r.Temp, Log: r.Log.Log,
		Progress: func(p engine.Progress) {
			if p.BytesTotal == 0 {
				p.BytesTotal = server.DatabaseSize
			}
			r.Progress(p)
		},
	}, r.writer)
	if err != nil {
		return result, err
	}
	for i, warning := range result.Warning { // they are in the log; the manifest keeps them, too
		result.Warning[i] = r.Log.Clean(warning)
	}
	r.Log.Logf(engine.LevelInfo, "Dumped %s", engine.Count(len(result.Tables), "table"))
	return result, nil
}

// closeTargets closes the storages of the attempt, however it ended.
func (r *run) closeTargets() {
	for _, t := range r.targets {
		if err := t.Driver.Close(); err != nil {
			r.Logger.Warn("a storage was not closed cleanly", "storage", t.Name, "error", err)
		}
	}
	r.targets, r.unopened = nil, nil
}
