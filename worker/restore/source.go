package restore

import (
	"context"

	"github.com/dataguardian/dataguardian/internal/artifact"
	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/logs"
	"github.com/dataguardian/dataguardian/storage"
)

// proven is a copy whose every stored byte was read and compared.
type proven struct {
	copy   backup.Copy
	driver storage.Driver
	report artifact.Report
}

// candidates lists the copies to take the backup from, in order.
func (r *run) candidates() []backup.Copy {
	var usable []backup.Copy
	for _, c := range r.backup.Copies {
		wanted := r.request.StorageLocationID == "" || c.StorageLocationID == r.request.StorageLocationID
		if c.Status == backup.CopyAvailable && wanted {
			usable = append(usable, c)
		}
	}
	return usable
}

// prove finds the first copy that is whole. It moves on when a storage fails or
// its bytes are wrong, but not when the key is.
func (r *run) prove(ctx context.Context) (proven, error) {
	var first error
	for _, c := range r.candidates() {
		p, err := r.proveCopy(ctx, c)
		if err == nil {
			return p, nil
		}
		if ctx.Err() != nil || errs.CodeOf(err) == errs.CodeDecryptionFailed {
			return proven{}, err
		}
		r.Log.Logf(engine.LevelWarn, "The copy on %q cannot be used: %s", c.StorageName, errs.Message(err))
		if first == nil {
			first = err
		}
	}
	if first == nil {
		first = errs.New(errs.Unavailable, errs.CodeBackupUnavailable, "no storage has this backup any more; choose another one")
	}
	return proven{}, first
}

// proveCopy reads one copy to its end.
func (r *run) proveCopy(ctx context.Context, c backup.Copy) (proven, error) {
	_, driver, err := r.Vault.Open(ctx, c.StorageLocationID)
	if err != nil {
		return proven{}, err
	}
	r.Log.Logf(engine.LevelInfo, "Proving the copy on %q: %s stored in %s", c.StorageName, c.Path, logs.HumanBytes(r.backup.StoredBytes))
	report, err := artifact.Verify(ctx, driver, c.Path, r.identities, func(done, total int64) {
		r.Progress(engine.Progress{BytesDone: done, BytesTotal: total})
	})
	if err != nil {
		r.closeDriver(driver)
		return proven{}, err
	}
	if report.Manifest.ExecutionID != r.backup.ExecutionID {
		r.closeDriver(driver)
		return proven{}, errs.New(errs.Conflict, errs.CodeArtifactCorrupt, "the manifest at %s belongs to another backup", c.Path)
	}
	what := "every part"
	if report.Decoded {
		what = "every part, and the dump inside,"
	}
	r.Log.Logf(engine.LevelInfo, "Proven: %s of %d members (%d parts, %s) is as it was written", what, report.Members, report.Parts, logs.HumanBytes(report.StoredBytes))
	return proven{copy: c, driver: driver, report: report}, nil
}

func (r *run) closeDriver(d storage.Driver) {
	if err := d.Close(); err != nil {
		r.Logger.Warn("a storage was not closed cleanly", "execution_id", r.Execution.ID, "error", err)
	}
}
