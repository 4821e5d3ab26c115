package artifact

import (
	"context"
	"errors"
	"io/fs"
	"syscall"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/storage"
)

// errObjectLost is an object that was confirmed and is not there any more.
var errObjectLost = errors.New("an object that was confirmed is gone or has another size")

// uploadFailure is err of a target as an error with a code of an execution.
func uploadFailure(t Target, err error) *errs.Error {
	if e := errs.As(err); e != nil {
		return e
	}
	wrap := func(kind errs.Kind, code errs.Code, what string) *errs.Error {
		return errs.Wrap(err, kind, code, "%s %s", quoted(t), what)
	}
	switch {
	case errors.Is(err, storage.ErrFull):
		return wrap(errs.Exhausted, errs.CodeStorageFull, "is full, so the backup was not stored there: free space in it or choose another storage, then retry the upload")
	case errors.Is(err, storage.ErrClockSkew):
		return wrap(errs.Unavailable, errs.CodeStorageUnavailable, "refused the upload because its clock and this machine's differ too much: set the clocks, then retry the upload")
	case errors.Is(err, storage.ErrPermission):
		return wrap(errs.Denied, errs.CodeStorageAuth, "refused the credentials or the permission to write: correct them, then retry the upload")
	case errors.Is(err, storage.ErrNoBucket):
		return wrap(errs.Unavailable, errs.CodeStorageUnavailable, "has lost its bucket or directory: bring it back, then retry the upload")
	case errors.Is(err, storage.ErrConfig):
		return wrap(errs.Unavailable, errs.CodeStorageUnavailable, "has a configuration that is not acceptable: correct it, then retry the upload")
	case errors.Is(err, storage.ErrExist):
		return wrap(errs.Conflict, errs.CodeUploadFailed, "already holds a different object where this backup belongs: remove it, then retry the upload")
	case errors.Is(err, errObjectLost):
		return wrap(errs.Unavailable, errs.CodeUploadFailed, "lost a part of the backup after it had confirmed it: find out what deletes objects there, then retry the upload")
	}
	return wrap(errs.Unavailable, errs.CodeUploadFailed, "kept failing, so the backup was not stored there: check that it can be reached, then retry the upload")
}

// ended is the reason why a context ended, with a code.
func ended(cause error) error {
	switch {
	case errs.As(cause) != nil:
		return cause
	case errors.Is(cause, context.Canceled):
		return errs.Wrap(cause, errs.Cancelled, errs.CodeCancelled, "the work on the backup was stopped before its end")
	case errors.Is(cause, context.DeadlineExceeded):
		return errs.Wrap(cause, errs.Cancelled, errs.CodeTimeout, "the work on the backup took longer than it may and was stopped: allow it more time")
	}
	return errs.Wrap(cause, errs.Internal, errs.CodeInternal, "the work on the backup failed unexpectedly")
}

// readFailure is a storage's err while an artifact is read or deleted.
func readFailure(err error, doing string) *errs.Error {
	if e := errs.As(err); e != nil {
		return e
	}
	switch {
	case errors.Is(err, storage.ErrPermission):
		return errs.Wrap(err, errs.Unavailable, errs.CodeStorageAuth, "the storage refused the credentials or the permission while %s: correct them and try again", doing)
	case errors.Is(err, storage.ErrClockSkew):
		return errs.Wrap(err, errs.Unavailable, errs.CodeStorageUnavailable, "the storage's clock and this machine's differ too much for %s: set the clocks and try again", doing)
	}
	return errs.Wrap(err, errs.Unavailable, errs.CodeStorageUnavailable, "the storage failed while %s: check that it can be reached and try again", doing)
}

func quoted(t Target) string {
	if t.Name == "" {
		return "the storage"
	}
	return "the storage \"" + t.Name + "\""
}

// spoolFailure is an error of the spool's disk.
func spoolFailure(err error) *errs.Error {
	if e := errs.As(err); e != nil {
		return e
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return spoolFull(err)
	}
	return errs.Wrap(err, errs.Unavailable, errs.CodeSpoolLost, "the spool directory cannot be used, so the backup was ended: check its disk and permissions, then run the backup again")
}

func spoolFull(err error) *errs.Error {
	return errs.Wrap(err, errs.Exhausted, errs.CodeSpoolFull, "the spool's disk has no room left, so the backup was ended: free space there, or set the job's spool to bounded, then run the backup again")
}

// spoolUnread is what a spooled dump could not be read with: err of the disk, which
// says nothing of the dump, or that it is gone or not what was written, which does.
func spoolUnread(err error, what string) *errs.Error {
	_, disk := errors.AsType[*fs.PathError](err)
	if disk && !errors.Is(err, fs.ErrNotExist) || errs.CodeOf(err) == errs.CodeArtifactTooNew {
		return errs.Wrap(err, errs.Unavailable, errs.CodeSpoolLost,
			"%s; the dump may be whole and was kept: check the disk, the permissions and the limit of open files of this machine, then retry the upload", what)
	}
	return spoolLost(err, what)
}

// spoolAbsent is a spool that is not here, which does not say that it is nowhere.
func spoolAbsent(err error) *errs.Error {
	return errs.Wrap(err, errs.Unavailable, errs.CodeSpoolLost,
		"the spool of this backup is not on this machine, so the upload cannot go on: retry it where the dump was made, or run the backup again")
}

// spoolLost is a dump that cannot be used any more.
func spoolLost(err error, what string) *errs.Error {
	return errs.Wrap(err, errs.Conflict, errs.CodeSpoolLost, "%s, so the upload cannot go on: run the backup again", what)
}

func corrupt(err error, format string, args ...any) *errs.Error {
	return errs.Wrap(err, errs.Conflict, errs.CodeArtifactCorrupt, "the backup is damaged and was refused: "+format+"; use another copy or another backup", args...)
}

func tooNew(err error, format string, args ...any) *errs.Error {
	return errs.Wrap(err, errs.Conflict, errs.CodeArtifactTooNew,
		"the backup was made by a newer DataGuardian: "+format+"; nothing is wrong with it, upgrade DataGuardian to read it", args...)
}
