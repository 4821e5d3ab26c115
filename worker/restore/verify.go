package restore

import (
	"context"
	"errors"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/execution"
)

// verify proves every copy. One that is broken fails the verification, after the
// others were looked at, too.
func (r *run) verify(ctx context.Context, result execution.Result) (execution.Result, error) {
	r.Phase(execution.Verifying, "proven")
	copies := r.candidates()
	if len(copies) == 0 {
		return result, errs.New(errs.Unavailable, errs.CodeBackupUnavailable, "no storage has this backup any more; there is nothing to verify")
	}
	checked := []any{}
	var failures []error
	for _, c := range copies {
		r.Phase(execution.Verifying, "proven")
		p, err := r.proveCopy(ctx, c)
		if ctx.Err() != nil {
			return result, err
		}
		outcome := map[string]any{"storage_location_id": c.StorageLocationID, "storage_name": c.StorageName, "error": nil}
		if err != nil {
			r.Log.Logf(engine.LevelError, "The copy on %q is not good: %s", c.StorageName, errs.Message(err))
			outcome["error"] = errs.Message(err)
			failures = append(failures, err)
		} else {
			r.closeDriver(p.driver)
			outcome["parts"], outcome["stored_bytes"], outcome["decoded"] = p.report.Parts, p.report.StoredBytes, p.report.Decoded
			size, stored, parts := p.report.RawBytes, p.report.StoredBytes, p.report.Parts
			result.SizeBytes, result.StoredBytes = &size, &stored
			result.Record.Tables = len(p.report.Manifest.Tables)
			result.Record.Format = p.report.Manifest.DumpFormat
			r.Log.Logf(engine.LevelSuccess, "The copy on %q is good: %d parts", c.StorageName, parts)
		}
		checked = append(checked, outcome)
	}
	result.Record.Checked = map[string]any{"copies": checked}
	if len(failures) == 0 {
		return result, nil
	}
	return result, errs.Wrap(errors.Join(failures...), errs.KindOf(failures[0]), errs.CodeOf(failures[0]),
		"%d of %d copies are not good; the first: %s", len(failures), len(copies), errs.Message(failures[0]))
}
