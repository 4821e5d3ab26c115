package execution

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/datasource"
	"github.com/dataguardian/dataguardian/internal/engine"
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
	b, err := s.restorable(ctx, backupID, o.StorageLocationID)
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
	if err := checkTarget(b, target, o); err != nil {
		return Execution{}, none, err
	}
	request := o.RestoreRequest
	e, err := s.queue(ctx, New{
		ID: uuid.NewString(), JobID: b.JobID, DatasourceID: target.ID, StorageLocationID: copyOf(b, o.StorageLocationID).StorageLocationID,
		Operation: Restore, Trigger: Manual, MaxAttempts: 1, LockKey: restoreLock(target, o),
		Request: Request{SourceExecutionID: backupID, Restore: &request},
	})
	return e, target, err
}

// restorable returns a completed backup that some storage has.
func (s *Service) restorable(ctx context.Context, id, locationID string) (backup.Backup, error) {
	e, err := s.Store.Get(ctx, id)
	if err != nil {
		return backup.Backup{}, err
	}
	if e.Operation != Backup || e.Status != Completed {
		return backup.Backup{}, errs.New(errs.Conflict, errs.CodeBackupNotRestorable, "the execution is a %s that is %s; only a completed backup can be restored or verified", e.Operation, e.Status)
	}
	b, err := s.Catalogue.Get(ctx, id)
	if errs.KindOf(err) == errs.NotFound || err == nil && copyOf(b, locationID).StorageLocationID == "" {
		return backup.Backup{}, errs.New(errs.Unavailable, errs.CodeBackupUnavailable, "no such storage has this backup any more; GET /api/backups/datasources/%s shows what is where", e.DatasourceID)
	}
	return b, err
}

// copyOf returns the first available copy, in one location or in any.
func copyOf(b backup.Backup, locationID string) backup.Copy {
	for _, c := range b.Copies {
		if c.Status == backup.CopyAvailable && (locationID == "" || c.StorageLocationID == locationID) {
			return c
		}
	}
	return backup.Copy{}
}

func checkTarget(b backup.Backup, target datasource.Datasource, o RestoreOrder) error {
	if family(b.DatasourceType) != family(target.Type) {
		return errs.New(errs.Invalid, errs.CodeRestoreNotSupported, "a backup of %s cannot be restored into %s", b.DatasourceType, target.Type)
	}
	if o.KeepVerificationDatabase && !o.VerificationMode {
		return errs.InvalidFields(errs.CodeValidation, errs.Field{Field: "keep_verification_database", Message: "has a meaning only with verification_mode"})
	}
	if database := targetDatabase(target, o); target.Protected && !o.VerificationMode && o.Confirm != database {
		return errs.New(errs.Conflict, errs.CodeConfirmationRequired, "the datasource %q is protected: send confirm with the name of the database that will be replaced", target.Name)
	}
	return nil
}

// family joins the servers that read each other's dumps.
func family(t engine.Type) engine.Type {
	if t == engine.MariaDB {
		return engine.MySQL
	}
	return t
}

func targetDatabase(target datasource.Datasource, o RestoreOrder) string {
	if o.TargetDatabase != "" {
		return o.TargetDatabase
	}
	return target.Conn.Database
}

// restoreLock names the database itself: two datasources may point to one. A
// verification has a database of its own.
func restoreLock(target datasource.Datasource, o RestoreOrder) string {
	if o.VerificationMode {
		return "verify:" + uuid.NewString()
	}
	return fmt.Sprintf("restore:%s:%d/%s", target.Conn.Host, target.Conn.Port, targetDatabase(target, o))
}

// VerifyBackup queues a verification of the copies of a backup; locationID narrows
// it to one, identity refers to the key of an encrypted one.
func (s *Service) VerifyBackup(ctx context.Context, backupID, locationID, identity string) (Execution, error) {
	b, err := s.restorable(ctx, backupID, locationID)
	if err != nil {
		return Execution{}, err
	}
	return s.queue(ctx, New{
		ID: uuid.NewString(), JobID: b.JobID, DatasourceID: b.DatasourceID, StorageLocationID: copyOf(b, locationID).StorageLocationID,
		Operation: Verify, Trigger: Manual, MaxAttempts: VerifyAttempts, LockKey: "verify:" + backupID,
		Request: Request{SourceExecutionID: backupID, Restore: &RestoreRequest{StorageLocationID: locationID, Identity: identity}},
	})
}
