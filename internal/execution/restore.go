package execution

import (
	"context"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/dataguardian/dataguardian/internal/auth"
	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/datasource"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// VerifyAttempts is how often workers may take one verification.
const VerifyAttempts = 2

// RestoreOrder is a restore as a caller asks for it.
type RestoreOrder struct {
	RestoreRequest
	TargetDatasourceID string // empty: where the backup came from
	Confirm            string // the name of the target database, for protected datasources
}

// Restore queues a restore of the backup that an execution made. It returns the
// new execution and the target.
func (s *Service) Restore(ctx context.Context, backupID string, o RestoreOrder) (Execution, datasource.Datasource, error) {
	none := datasource.Datasource{}
	if err := checkIdentity(o.Identity); err != nil {
		return Execution{}, none, err
	}
	b, err := s.readable(ctx, backupID, "", backup.CopyAvailable)
	if err != nil {
		return Execution{}, none, err
	}
	if o.TargetDatasourceID == "" {
		o.TargetDatasourceID = b.DatasourceID
	}
	target, err := s.Datasources.Get(ctx, o.TargetDatasourceID)
	if err != nil {
		return Execution{}, none, err
	}
	if err := checkTarget(ctx, b, target, o); err != nil {
		return Execution{}, none, err
	}
	if err := s.take(ctx, b, &o.RestoreRequest); err != nil {
		return Execution{}, none, err
	}
	id, request := uuid.NewString(), o.RestoreRequest
	e, err := s.queue(ctx, New{
		ID: id, JobID: b.JobID, DatasourceID: target.ID, StorageLocationID: sourceLocation(b, o.StorageLocationID),
		Operation: Restore, Trigger: Manual, MaxAttempts: 1, LockKey: s.restoreLock(ctx, id, target, o),
		Request: Request{SourceExecutionID: backupID, Restore: &request},
	})
	return e, target, err
}

// readable returns a completed backup that has a copy in one of the states, in
// one location or in any.
func (s *Service) readable(ctx context.Context, id, locationID string, states ...backup.CopyStatus) (backup.Backup, error) {
	e, err := s.Store.Get(ctx, id)
	if err != nil {
		return backup.Backup{}, err
	}
	if e.Operation != Backup || e.Status != Completed {
		return backup.Backup{}, errs.New(errs.Conflict, errs.CodeBackupNotRestorable, "the execution is a %s that is %s; only a completed backup can be restored or verified", e.Operation, e.Status)
	}
	b, err := s.Catalogue.Get(ctx, id)
	if errs.KindOf(err) == errs.NotFound || err == nil && copyOf(b, locationID, states...).StorageLocationID == "" {
		return backup.Backup{}, errs.New(errs.Unavailable, errs.CodeBackupUnavailable, "no such storage has this backup any more; GET /api/backups/datasources/%s shows what is where", e.DatasourceID)
	}
	return b, err
}

// copyOf returns the first copy in one of the states, in one location or in any.
func copyOf(b backup.Backup, locationID string, states ...backup.CopyStatus) backup.Copy {
	for _, c := range b.Copies {
		if slices.Contains(states, c.Status) && (locationID == "" || c.StorageLocationID == locationID) {
			return c
		}
	}
	return backup.Copy{}
}

// sourceLocation is where a restore begins to look: the wanted location if it has
// a copy, else the first that has one.
func sourceLocation(b backup.Backup, wanted string) string {
	if c := copyOf(b, wanted, backup.CopyAvailable); c.StorageLocationID != "" {
		return c.StorageLocationID
	}
	return copyOf(b, "", backup.CopyAvailable).StorageLocationID
}

// checkIdentity takes the name of a file on the worker. A key itself would stay in
// the row for good.
func checkIdentity(reference string) error {
	switch {
	case strings.Contains(strings.ToUpper(reference), "AGE-SECRET-KEY-"), strings.Contains(reference, "PRIVATE KEY"):
		return errs.InvalidFields(errs.CodeValidation, errs.Field{Field: "identity",
			Message: "is the name of a file in the worker's identity directory, never a key itself: treat this key as known to others"})
	case strings.ContainsAny(reference, "/\\\x00\n\r"), reference == "..", reference == ".":
		return errs.InvalidFields(errs.CodeValidation, errs.Field{Field: "identity", Message: "is the name of a file in the worker's identity directory, without a path"})
	}
	return nil
}

// take fills a request with what the backup's job says now: how many connections
// restore, and what has to hold in a verification's database. A job that is gone
// says nothing.
func (s *Service) take(ctx context.Context, b backup.Backup, r *RestoreRequest) error {
	if b.JobID == "" {
		return nil
	}
	j, err := s.Jobs.Get(ctx, b.JobID)
	if errs.KindOf(err) == errs.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	if r.ParallelJobs == 0 {
		r.ParallelJobs = j.Options.ParallelJobs
	}
	if r.VerificationMode && len(r.IncludeTables) == 0 {
		r.Assertions = j.Options.Assertions
	}
	return nil
}

func checkTarget(ctx context.Context, b backup.Backup, target datasource.Datasource, o RestoreOrder) error {
	if len(auth.ScopeOf(ctx)) > 0 && !o.VerificationMode && targetDatabase(target, o) != target.Conn.Database {
		return errs.New(errs.Denied, errs.CodeForbidden, "target_database may belong to a datasource beyond your scope: restore into the database of %q itself, or in verification_mode", target.Name)
	}
	if b.DatasourceType.Family() != target.Type.Family() {
		return errs.New(errs.Invalid, errs.CodeRestoreNotSupported, "a backup of %s cannot be restored into %s", b.DatasourceType, target.Type)
	}
	if o.KeepVerificationDatabase && !o.VerificationMode {
		return errs.InvalidFields(errs.CodeValidation, errs.Field{Field: "keep_verification_database", Message: "has a meaning only with verification_mode"})
	}
	if database := targetDatabase(target, o); target.Protected && !o.VerificationMode && o.Confirm != database {
		return errs.New(errs.Conflict, errs.CodeConfirmationRequired, "the datasource %q is protected: confirm the restore with the name of the database that it goes into, %q", target.Name, database)
	}
	return nil
}

func targetDatabase(target datasource.Datasource, o RestoreOrder) string {
	if o.TargetDatabase != "" {
		return o.TargetDatabase
	}
	return target.Conn.Database
}

// VerifyBackup queues a verification of the copies of a backup; locationID narrows
// it to one, identity refers to the key of an encrypted one.
func (s *Service) VerifyBackup(ctx context.Context, backupID, locationID, identity string) (Execution, error) {
	if err := checkIdentity(identity); err != nil {
		return Execution{}, err
	}
	b, err := s.readable(ctx, backupID, locationID, backup.CopyAvailable, backup.CopyMissing)
	if err != nil {
		return Execution{}, err
	}
	return s.queue(ctx, New{
		ID: uuid.NewString(), JobID: b.JobID, DatasourceID: b.DatasourceID, StorageLocationID: copyOf(b, locationID, backup.CopyAvailable, backup.CopyMissing).StorageLocationID,
		Operation: Verify, Trigger: Manual, MaxAttempts: VerifyAttempts, LockKey: "verify:" + backupID,
		Request: Request{SourceExecutionID: backupID, Restore: &RestoreRequest{StorageLocationID: locationID, Identity: identity}},
	})
}
