package backup

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/dataguardian/dataguardian/internal/artifact"
	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/logs"
	"github.com/dataguardian/dataguardian/worker"
	"github.com/dataguardian/dataguardian/worker/attempt"
)

// defaultSpoolKeep is how long a failed upload can be retried.
const defaultSpoolKeep = 24 * time.Hour

// abort removes what this attempt has written. A dump that is only sent on stays.
func (r *run) abort(ctx context.Context) {
	if r.writer != nil {
		r.removed(r.writer.Abort(ctx))
	}
}

func (r *run) removed(err error) {
	if err != nil && !errors.Is(err, execution.ErrLeaseLost) {
		r.Logger.Warn("what an ended attempt has written could not all be removed now, the cleanup worker does it", "execution_id", r.Execution.ID, "error", err)
	}
}

// finish books a success, failure or cancellation, and then applies retention.
func (r *run) finish(ctx context.Context, out outcome, err error) {
	r.Phase(execution.Finalizing, "")
	if errors.Is(err, worker.ErrCancelled) {
		out.artifact.SpoolKept = false // nobody wants to go on with it
	}
	result := r.result(out, err)
	if err != nil && !out.artifact.SpoolKept {
		if r.resuming {
			r.removed(r.giveUp(ctx, out.artifact.Outcomes))
		} else {
			r.abort(ctx)
		}
	}
	r.lastLine(out, result)
	r.makeRoom(ctx, out.artifact.Outcomes)
	if r.Finish(ctx, result) && result.Status == execution.Completed {
		r.retention(ctx)
	}
}

// makeRoom removes what a full storage has taken of this backup: others may fit. A
// retry sends it again, from the spool.
func (r *run) makeRoom(ctx context.Context, outcomes []artifact.Outcome) {
	for _, o := range outcomes {
		if o.Status == artifact.Available || !o.Touched || errs.CodeOf(o.Err) != errs.CodeStorageFull || r.Owned() != nil {
			continue
		}
		for _, t := range r.targets {
			if t.ID != o.TargetID {
				continue
			}
			if err := artifact.Delete(ctx, t.Driver, o.Path); err != nil {
				r.Logger.Warn("what a full storage has taken of a failed backup was not removed", "storage", t.Name, "path", o.Path, "error", err)
			}
		}
	}
}

// result translates what happened into what is stored.
func (r *run) result(out outcome, err error) execution.Result {
	result := execution.Result{
		Status: execution.Completed, BackupPath: out.artifact.Path, Copies: r.copies(out.artifact.Outcomes, err),
		Record: execution.Record{
			ServerVersion: out.server.Version, Tools: out.dump.Tools, Format: out.dump.Format, Tables: len(out.dump.Tables),
			Encrypted: len(r.options.Recipients) > 0, Compression: string(r.options.Compression), WorkerHost: attempt.Host(),
		},
	}
	if out.artifact.RawBytes > 0 {
		result.SizeBytes, result.StoredBytes = &out.artifact.RawBytes, &out.artifact.StoredBytes
	}
	for _, p := range out.artifact.Parts {
		result.Parts = append(result.Parts, backup.Part{Number: p.Number, Key: p.Key, Size: p.Size, SHA256: p.SHA256})
	}
	if err != nil || r.options.Strategy == backup.Replicate && failed(result.Copies) > 0 {
		result.Record.UploadRetry = r.uploadRetry(out.artifact)
	}
	if err != nil {
		r.Failure(&result, err)
	}
	return result
}

// uploadRetry says whether the spool still has everything.
func (r *run) uploadRetry(a artifact.Result) *execution.UploadRetry {
	if !a.SpoolKept && r.resuming {
		return &execution.UploadRetry{Reason: "the upload was cancelled or its dump is lost, and what was left of it was removed; run the job again"}
	}
	if !a.SpoolKept {
		return &execution.UploadRetry{Reason: "the dump is not complete or not kept on the worker; run the job again"}
	}
	if before := r.Execution.Record.UploadRetry; r.resuming && before != nil && !artifact.SpoolResumable(r.SpoolDir, r.Execution.ID) {
		return before // the dump is not here; whoever has it keeps it as long as was said
	}
	keep := r.SpoolKeep
	if keep == 0 {
		keep = defaultSpoolKeep
	}
	expires := time.Now().UTC().Add(keep)
	return &execution.UploadRetry{Possible: true, Reason: "the dump is complete and waits on the worker", SpoolExpiresAt: &expires, Spool: r.SpoolID}
}

func failed(copies []backup.Copy) int {
	n := 0
	for _, c := range copies {
		if c.Status == backup.CopyFailed {
			n++
		}
	}
	return n
}

// copies lists the state of every target. What was written before a failure is
// no backup, whatever the target said.
func (r *run) copies(outcomes []artifact.Outcome, err error) []backup.Copy {
	copies := append([]backup.Copy{}, r.unopened...)
	for i := range copies {
		copies[i].Path = r.path()
		if resumed := r.resumedPath(); r.writer == nil && resumed != "" {
			copies[i].Path = resumed
		}
	}
	for _, o := range outcomes {
		c := backup.Copy{StorageLocationID: o.TargetID, StorageName: o.Name, Path: o.Path, Status: backup.CopyFailed}
		switch {
		case o.Status == artifact.Available && err == nil:
			c.Status = backup.CopyAvailable
		case o.Err != nil:
			c.Error = errs.Message(o.Err)
		case err != nil:
			c.Error = errs.Message(err)
		}
		copies = append(copies, c)
	}
	if artifact.Strategy(r.options.Strategy) == artifact.Fallback && (!r.resuming || r.resumeStrategy() == artifact.Fallback) {
		return untilTaken(copies, r.ranked)
	}
	return copies
}

// untilTaken leaves out the storages ranked behind the one that took the backup: it was
// never to be on them, whether they could be opened or not.
func untilTaken(copies []backup.Copy, ranked []string) []backup.Copy {
	i := slices.IndexFunc(copies, func(c backup.Copy) bool { return c.Status == backup.CopyAvailable })
	if i < 0 {
		return copies
	}
	took := slices.Index(ranked, copies[i].StorageLocationID)
	return slices.DeleteFunc(copies, func(c backup.Copy) bool { return slices.Index(ranked, c.StorageLocationID) > took })
}

// lastLine sums the run up.
func (r *run) lastLine(out outcome, result execution.Result) {
	took := time.Since(r.Started).Round(100 * time.Millisecond)
	switch result.Status {
	case execution.Completed:
		for _, c := range result.Copies {
			if c.Status == backup.CopyFailed {
				r.Log.Logf(engine.LevelWarn, "No copy on %q: %s", c.StorageName, c.Error)
			}
		}
		r.Log.Logf(engine.LevelSuccess, "Completed in %s: %s dumped, %s stored in %s at %s",
			took, logs.HumanBytes(out.artifact.RawBytes), logs.HumanBytes(out.artifact.StoredBytes), engine.Count(len(out.artifact.Parts), "part"), out.artifact.Path)
	case execution.Cancelled:
		r.Log.Logf(engine.LevelWarn, "Cancelled after %s", took)
	default:
		r.Log.Logf(engine.LevelError, "Failed after %s: %s (%s)", took, result.ErrorMessage, result.ErrorCode)
	}
}

// retention applies the job's policy in the same breath as the success. What
// fails here is tried again by the cleanup worker; the backup stays a success.
func (r *run) retention(ctx context.Context) {
	if r.Execution.JobID == "" {
		return
	}
	j, err := r.Jobs.Get(ctx, r.Execution.JobID)
	if errs.KindOf(err) == errs.NotFound {
		return // deleted meanwhile: its backups stay
	}
	if err == nil {
		var gone []backup.Backup
		gone, err = backup.ApplyRetention(ctx, r.Catalogue, r.Vault, j)
		for _, b := range gone {
			r.Print(engine.LevelInfo, "Retention removes the backup of "+b.TakenAt().UTC().Format(time.RFC3339))
		}
	}
	if err != nil {
		r.Logger.Warn("retention could not be applied in full, the cleanup worker goes on", "job", j.Name, "error", err)
	}
}
