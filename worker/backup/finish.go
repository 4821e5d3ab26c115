package backup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/dataguardian/dataguardian/internal/artifact"
	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/worker"
)

const (
	// endTimeout bounds what is done after the work's own context has ended.
	endTimeout = 2 * time.Minute
	// bookPause is between two tries to book how an execution ended.
	bookPause = time.Second
	// defaultSpoolKeep is how long a failed upload can be retried.
	defaultSpoolKeep = 24 * time.Hour
)

// ending returns a context for putting things in order: it outlives the work's
// own, which may have been cancelled.
func ending() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), endTimeout)
}

// abandon leaves the execution to whoever holds it now: nothing that others can
// see is touched any more.
func (r *run) abandon() {
	ctx, cancel := ending()
	defer cancel()
	r.log.Log(engine.LevelError, "This worker has lost its lease and stops")
	if _, err := r.log.Close(ctx); err != nil {
		r.Logger.Info("the last lines of a lost execution were not stored", "execution_id", r.execution.ID, "error", err)
	}
	r.abort(ctx)
}

// release gives the execution back at shutdown; the attempt does not count.
func (r *run) release() {
	ctx, cancel := ending()
	defer cancel()
	r.log.Log(engine.LevelWarn, "The worker is shutting down; the backup starts again on another one")
	r.abort(ctx)
	lines, err := r.log.Close(ctx)
	if err != nil {
		r.Logger.Warn("lines were not stored in time", "execution_id", r.execution.ID, "error", err)
	}
	if err := r.Executions.Release(ctx, r.leased.Lease, time.Second, false, lines); err != nil {
		r.Logger.Error("the execution could not be given back; it is taken over when its lease runs out", "execution_id", r.execution.ID, "error", err)
	}
}

// abort removes what this attempt has written.
func (r *run) abort(ctx context.Context) {
	if r.writer == nil {
		return
	}
	if err := r.writer.Abort(ctx); err != nil && !errors.Is(err, execution.ErrLeaseLost) {
		r.Logger.Warn("what an ended attempt has written could not all be removed now, the cleanup worker does it", "execution_id", r.execution.ID, "error", err)
	}
}

// finish books a success, failure or cancellation, and then applies retention.
func (r *run) finish(out outcome, err error) {
	ctx, cancel := ending()
	defer cancel()
	r.phase(execution.Finalizing)
	result := r.result(out, err)
	r.lastLine(out, result)
	if err != nil && !out.artifact.SpoolKept {
		r.abort(ctx)
	}
	lines, saveErr := r.log.Close(ctx)
	if saveErr != nil {
		r.Logger.Warn("lines are stored with the result", "execution_id", r.execution.ID, "error", saveErr)
	}
	result.Logs = lines
	if bookErr := r.book(ctx, result); bookErr != nil {
		r.Logger.Error("how the execution ended could not be booked; it is taken over when its lease runs out", "execution_id", r.execution.ID, "error", bookErr)
		return
	}
	r.Meter.Ended(r.execution, result, time.Since(r.started))
	r.tell(ctx, result.Status)
	if result.Status == execution.Completed {
		r.retention(ctx)
	}
}

// book stores the result, again and again while the lease lasts: a database that
// is away for a moment must not cost a backup.
func (r *run) book(ctx context.Context, result execution.Result) error {
	for {
		err := r.Executions.Finish(ctx, r.leased.Lease, result)
		if err == nil || errs.KindOf(err) != errs.Unavailable {
			return err
		}
		r.Logger.Warn("the result could not be booked yet", "execution_id", r.execution.ID, "error", err)
		timer := time.NewTimer(bookPause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return errors.Join(err, context.Cause(ctx))
		case <-timer.C:
		}
	}
}

// result translates what happened into what is stored.
func (r *run) result(out outcome, err error) execution.Result {
	host, hostErr := os.Hostname()
	if hostErr != nil {
		host = "unknown"
	}
	result := execution.Result{
		Status: execution.Completed, Progress: r.progress(execution.Finalizing), BackupPath: out.artifact.Path, Copies: r.copies(out.artifact.Outcomes, err),
		Record: execution.Record{
			ServerVersion: out.server.Version, Tools: out.dump.Tools, Format: out.dump.Format, Tables: len(out.dump.Tables),
			Encrypted: len(r.options.Recipients) > 0, Compression: string(r.options.Compression), WorkerHost: host,
		},
	}
	if out.artifact.RawBytes > 0 {
		result.SizeBytes, result.StoredBytes = &out.artifact.RawBytes, &out.artifact.StoredBytes
	}
	for _, p := range out.artifact.Parts {
		result.Parts = append(result.Parts, backup.Part{Number: p.Number, Key: p.Key, Size: p.Size, SHA256: p.SHA256})
	}
	if err != nil || failed(result.Copies) > 0 {
		result.Record.UploadRetry = r.uploadRetry(out.artifact)
	}
	if err == nil {
		return result
	}
	result.Status, result.ErrorCode, result.ErrorMessage = execution.Failed, errs.CodeOf(err), errs.Message(err)
	if errors.Is(err, worker.ErrCancelled) {
		result.Status = execution.Cancelled
	}
	if errs.As(err) == nil {
		r.Logger.Error("a backup failed in a way that has no code", "execution_id", r.execution.ID, "error", err)
	}
	return result
}

// uploadRetry says whether the spool still has everything.
func (r *run) uploadRetry(a artifact.Result) *execution.UploadRetry {
	if !a.SpoolKept {
		return &execution.UploadRetry{Reason: "the dump is not complete or not kept on the worker; run the job again"}
	}
	keep := r.SpoolKeep
	if keep == 0 {
		keep = defaultSpoolKeep
	}
	expires := time.Now().UTC().Add(keep)
	return &execution.UploadRetry{Possible: true, Reason: "the dump is complete and waits on the worker", SpoolExpiresAt: &expires}
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
	return copies
}

// lastLine sums the run up.
func (r *run) lastLine(out outcome, result execution.Result) {
	took := time.Since(r.started).Round(100 * time.Millisecond)
	switch result.Status { //nolint:exhaustive // a result is final
	case execution.Completed:
		for _, c := range result.Copies {
			if c.Status == backup.CopyFailed {
				r.log.Logf(engine.LevelWarn, "No copy on %q: %s", c.StorageName, c.Error)
			}
		}
		r.log.Logf(engine.LevelSuccess, "Completed in %s: %s dumped, %s stored in %d parts at %s",
			took, size(out.artifact.RawBytes), size(out.artifact.StoredBytes), len(out.artifact.Parts), out.artifact.Path)
	case execution.Cancelled:
		r.log.Logf(engine.LevelWarn, "Cancelled after %s", took)
	default:
		r.log.Logf(engine.LevelError, "Failed after %s: %s (%s)", took, result.ErrorMessage, result.ErrorCode)
	}
}

func size(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, exponent := float64(n)/unit, 0
	for value >= unit && exponent < 4 {
		value /= unit
		exponent++
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGTP"[exponent])
}

// tell ends the tails. Those that do not hear it look at the row by themselves.
func (r *run) tell(ctx context.Context, status execution.Status) {
	e := r.execution
	e.Status, e.Progress = status, r.leased.Progress()
	if err := errors.Join(r.Hub.Announce(ctx, e.ID, execution.StateOf(e)), r.Hub.Close(ctx, e.ID)); err != nil {
		r.Logger.Debug("tails were not told of the end", "execution_id", e.ID, "error", err)
	}
}

// retention applies the job's policy in the same breath as the success. What
// fails here is tried again by the cleanup worker; the backup stays a success.
func (r *run) retention(ctx context.Context) {
	if r.execution.JobID == "" {
		return
	}
	j, err := r.Jobs.Get(ctx, r.execution.JobID)
	if errs.KindOf(err) == errs.NotFound {
		return // deleted meanwhile: its backups stay
	}
	if err == nil {
		var gone []backup.Backup
		gone, err = backup.ApplyRetention(ctx, r.Catalogue, r.Vault, j)
		for _, b := range gone {
			r.print(engine.LevelInfo, "Retention removes the backup of "+b.TakenAt().UTC().Format(time.RFC3339))
		}
	}
	if err != nil {
		r.Logger.Warn("retention could not be applied in full, the cleanup worker goes on", "job", j.Name, "error", err)
	}
}

// print shows a line after the log was closed.
func (r *run) print(level engine.Level, message string) {
	if err := r.Terminal.Print("BACKUP", r.execution.JobName, level, message); err != nil {
		r.Logger.Debug("the terminal is gone", "error", err)
	}
}
