package restore

import (
	"context"
	"errors"
	"slices"

	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/execution"
)

// verify proves every copy, or the one that was asked for. One that is broken
// fails the verification, after the others were looked at, too.
func (r *run) verify(ctx context.Context, result execution.Result) (execution.Result, error) {
	copies := r.candidates()
	if only := r.request.StorageLocationID; only != "" {
		copies = slices.DeleteFunc(copies, func(c backup.Copy) bool { return c.StorageLocationID != only })
	}
	if len(copies) == 0 {
		return result, errs.New(errs.Unavailable, errs.CodeBackupUnavailable, "no storage has this backup any more; there is nothing to verify")
	}
	checked := []any{}
	var failures []error
	for _, c := range copies {
		r.Phase(execution.Verifying, "proven")
		s, err := r.verifyCopy(ctx, c)
		if ctx.Err() != nil || errs.CodeOf(err) == errs.CodeDecryptionFailed { // which says nothing of the copy
			result.Record.Checked, result.Record.Sources = map[string]any{"copies": checked}, r.sources
			return result, err
		}
		outcome := map[string]any{"storage_location_id": c.StorageLocationID, "storage_name": c.StorageName, "error": nil}
		if err != nil {
			r.Log.Logf(engine.LevelError, "The copy on %q is not good: %s", c.StorageName, errs.Message(err))
			r.judge(ctx, c, err)
			outcome["error"] = errs.Message(err)
			failures = append(failures, err)
		} else {
			r.note(c, execution.SourceProven, nil)
			outcome["parts"], outcome["stored_bytes"], outcome["decoded"] = s.report.Parts, s.report.StoredBytes, s.report.Decoded
			result.SizeBytes, result.StoredBytes = &s.report.RawBytes, &s.report.StoredBytes
			result.Record.Tables = len(s.manifest.Tables)
			result.Record.Format = s.manifest.DumpFormat
			r.Log.Logf(engine.LevelSuccess, "The copy on %q is good: %s", c.StorageName, engine.Count(s.report.Parts, "part"))
			if c.Status == backup.CopyMissing && !s.report.Decoded {
				r.Log.Logf(engine.LevelWarn, "The copy on %q was marked as missing and stays so until what is inside is proven, too: verify it with its key", c.StorageName)
			}
		}
		checked = append(checked, outcome)
	}
	result.Record.Checked, result.Record.Sources = map[string]any{"copies": checked}, r.sources
	if len(failures) == 0 {
		return result, nil
	}
	return result, errs.Wrap(errors.Join(failures...), errs.KindOf(failures[0]), errs.CodeOf(failures[0]),
		"%d of %d copies are not good; the first: %s", len(failures), len(copies), errs.Message(failures[0]))
}

// verifyCopy proves one copy. A key that nobody named and that does not fit, since the
// backup is older than it, is as good as none: the stored bytes are proven without it,
// and those of the copies that follow.
func (r *run) verifyCopy(ctx context.Context, c backup.Copy) (*source, error) {
	s, err := r.proveCopy(ctx, c)
	if errs.CodeOf(err) != errs.CodeDecryptionFailed || r.request.Identity != "" || len(r.identities) == 0 || ctx.Err() != nil {
		return s, err
	}
	r.onlyStored(err)
	identities := r.identities
	r.identities = nil
	if s, err = r.proveCopy(ctx, c); err != nil {
		r.identities = identities // it may be the copy that does not fit
	}
	return s, err
}

// onlyStored tells that keys are missing.
func (r *run) onlyStored(why error) {
	r.Log.Logf(engine.LevelWarn, "Only the stored bytes are proven, not what is inside of them: %s", errs.Message(why))
}

// proveCopy opens a copy and proves it.
func (r *run) proveCopy(ctx context.Context, c backup.Copy) (*source, error) {
	s, err := r.open(ctx, c)
	if err != nil {
		return nil, err
	}
	defer r.closeDriver(s.driver)
	return s, r.prove(ctx, s, true)
}
