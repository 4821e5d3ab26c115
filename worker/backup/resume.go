package backup

import (
	"context"
	"errors"
	"slices"

	"github.com/dataguardian/dataguardian/internal/artifact"
	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/logs"
	"github.com/dataguardian/dataguardian/worker/attempt"
)

// resume sends what the storages lack of a complete dump in the spool. The
// database is not asked for anything.
func (r *run) resume(ctx context.Context) (outcome, error) {
	var out outcome
	r.resuming, r.spooled = true, artifact.SpooledPath(r.SpoolDir, r.Execution.ID)
	r.Phase(execution.Uploading, "uploaded")
	r.Log.Log(engine.LevelInfo, "The dump is complete and waits on this worker; sending what the storages lack")
	if err := r.openTargets(ctx, r.lacking()); err != nil {
		out.artifact.SpoolKept = true
		return out, err
	}
	var err error
	out.artifact, err = artifact.Resume(ctx, artifact.Config{
		Header:   artifact.Header{ExecutionID: r.Execution.ID},
		SpoolDir: r.SpoolDir, Strategy: r.resumeStrategy(), Targets: r.targets,
		BeforeFirstObject: func(ctx context.Context, targetID string) error {
			return r.Executions.BeginCopy(ctx, r.Lease(), targetID, r.resumedPath())
		},
		Guard: r.Held, Retry: r.retry(), Log: r.Log.Log,
		Progress: func(p artifact.Progress) {
			r.Progress(engine.Progress{BytesDone: p.UploadedBytes, BytesTotal: p.StoredBytes * int64(len(r.targets))})
		},
	})
	m := out.artifact.Manifest
	out.server = engine.ServerInfo{Version: m.ServerVersion, VersionNum: m.ServerVersionNum, Flavor: m.EngineFlavor}
	out.dump = engine.DumpResult{Tools: m.Tools, Format: m.DumpFormat, Tables: make([]engine.Table, len(m.Tables))}
	if out.artifact.Path == "" {
		out.artifact.Path = r.resumedPath()
	}
	if err != nil {
		err = attempt.Cause(ctx, err)
		// A dump that is not here or cannot be read now may be whole.
		damaged := errs.CodeOf(err) == errs.CodeSpoolLost && errs.KindOf(err) == errs.Conflict
		out.artifact.SpoolKept = !damaged
		return out, err
	}
	r.Log.Logf(engine.LevelInfo, "Sent from the spool: %s in %s", logs.HumanBytes(out.artifact.StoredBytes), engine.Count(len(out.artifact.Parts), "part"))
	return out, nil
}

// giveUp removes a backup that was only resumed: what the storages have of it that
// lacked it, and the dump. Where this attempt has written nothing, what lies there may be
// whole: then it stays, and the cleanup worker takes it out of the catalogue.
func (r *run) giveUp(ctx context.Context, outcomes []artifact.Outcome) error {
	if err := r.Owned(); err != nil {
		return err
	}
	r.Log.Log(engine.LevelWarn, "The upload was given up: what was sent and the dump on this worker are removed")
	var problems []error
	for _, t := range r.targets {
		written := slices.ContainsFunc(outcomes, func(o artifact.Outcome) bool { return o.TargetID == t.ID && o.Touched })
		whole, err := false, error(nil)
		if !written {
			whole, err = artifact.Whole(ctx, t.Driver, r.resumedPath())
		}
		if err == nil && !whole {
			err = artifact.Delete(ctx, t.Driver, r.resumedPath())
		}
		problems = append(problems, err)
	}
	return errors.Join(append(problems, artifact.DropSpool(r.SpoolDir, r.Execution.ID))...)
}

// lacking lists the storages of the backup that do not have it, in their order.
func (r *run) lacking() []string {
	has := map[string]bool{}
	for _, c := range r.Execution.Copies {
		has[c.StorageLocationID] = has[c.StorageLocationID] || c.Status == backup.CopyAvailable
	}
	var ids []string
	for _, id := range targetIDs(r.Execution.StorageLocationID, r.options) {
		if !has[id] {
			ids = append(ids, id)
		}
	}
	return ids
}

// resumeStrategy: with a copy somewhere already, every missing one counts.
func (r *run) resumeStrategy() artifact.Strategy {
	for _, c := range r.Execution.Copies {
		if c.Status == backup.CopyAvailable {
			return artifact.Replicate
		}
	}
	return artifact.Strategy(r.options.Strategy)
}

// resumedPath is where the interrupted attempt began to write: what the spool says,
// else where the last attempt ended, else the newest copy that is not on its way out.
func (r *run) resumedPath() string {
	if r.spooled != "" {
		return r.spooled
	}
	if path := r.Execution.BackupPath; path != nil && *path != "" {
		return *path
	}
	for _, c := range slices.Backward(r.Execution.Copies) { // the newest one is the last
		if c.Path != "" && c.Status != backup.CopyDeleting && c.Status != backup.CopyDeleted {
			return c.Path
		}
	}
	return r.path()
}
