// Package errs holds the error every layer speaks: a kind (how a caller should
// react), a stable code (what a program matches on) and a sentence for a
// person. The edge turns it into gRPC and HTTP in one place each.
package errs

import (
	"errors"
	"fmt"
	"maps"
)

// Kind says how a caller should react. It maps one to one onto gRPC codes and
// HTTP statuses at the edge.
type Kind uint8

const (
	// Internal is a fault of ours: details go to the log, not to the caller.
	Internal Kind = iota
	// Malformed is input that cannot be understood (HTTP 400).
	Malformed
	// Invalid is well-formed input that is not acceptable (HTTP 422).
	Invalid
	// Unauthenticated is a missing or bad credential (HTTP 401).
	Unauthenticated
	// Denied is a credential whose role or scope is too low (HTTP 403).
	Denied
	// NotFound is an absent resource (HTTP 404).
	NotFound
	// Exists is a uniqueness conflict (HTTP 409).
	Exists
	// Conflict is a state that does not allow the request now (HTTP 409).
	Conflict
	// Exhausted is a rate, size or concurrency limit (HTTP 429).
	Exhausted
	// Unavailable is a dependency that is down; trying again later helps (HTTP 503).
	Unavailable
	// Unimplemented is a part of the contract this server does not offer (HTTP 501).
	Unimplemented
	// Cancelled is work ended on request.
	Cancelled
)

var kindNames = [...]string{
	"internal", "malformed", "invalid", "unauthenticated", "denied", "not_found",
	"exists", "conflict", "exhausted", "unavailable", "unimplemented", "cancelled",
}

// String returns the kind's snake_case name.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Code is a stable, upper-case identifier a program may match on. Codes are
// added, never renamed.
type Code string

// Codes of the public contract.
const (
	CodeInternal               Code = "INTERNAL_ERROR"
	CodeInvalidArgument        Code = "INVALID_ARGUMENT"
	CodeValidation             Code = "VALIDATION_ERROR"
	CodeInvalidConnection      Code = "INVALID_CONNECTION_CONFIG"
	CodeInvalidStorage         Code = "INVALID_STORAGE_CONFIG"
	CodeUnauthorized           Code = "UNAUTHORIZED"
	CodeForbidden              Code = "FORBIDDEN"
	CodeNotFound               Code = "NOT_FOUND"
	CodeMethodNotAllowed       Code = "METHOD_NOT_ALLOWED"
	CodePayloadTooLarge        Code = "PAYLOAD_TOO_LARGE"
	CodeUnsupportedMediaType   Code = "UNSUPPORTED_MEDIA_TYPE"
	CodeConflict               Code = "CONFLICT"
	CodeRateLimited            Code = "RATE_LIMITED"
	CodeNotImplemented         Code = "NOT_IMPLEMENTED"
	CodeShuttingDown           Code = "SHUTTING_DOWN"
	CodeCancelled              Code = "CANCELLED"
	CodeTimeout                Code = "TIMEOUT"
	CodeRedisUnavailable       Code = "REDIS_UNAVAILABLE"
	CodeDatabaseUnavailable    Code = "DATABASE_UNAVAILABLE"
	CodeStorageUnavailable     Code = "STORAGE_UNAVAILABLE"
	CodeResourceInUse          Code = "RESOURCE_IN_USE"
	CodeExecutionNotCancelable Code = "EXECUTION_NOT_CANCELLABLE"
	CodeExecutionNotRetriable  Code = "EXECUTION_NOT_RETRIABLE"
	CodeExecutionNotDeletable  Code = "EXECUTION_NOT_DELETABLE"
	CodeExecutionRunning       Code = "EXECUTION_ALREADY_RUNNING"
	CodeBackupNotRestorable    Code = "BACKUP_NOT_RESTORABLE"
	CodeBackupUnavailable      Code = "BACKUP_STORAGE_UNAVAILABLE"
	CodeRestoreNotSupported    Code = "RESTORE_NOT_SUPPORTED"
	CodeConfirmationRequired   Code = "CONFIRMATION_REQUIRED"
	CodeQueryFailed            Code = "QUERY_EXECUTION_FAILED"
	CodeFolderDownload         Code = "STORAGE_FOLDER_DOWNLOAD_NOT_SUPPORTED"
)

// Codes of a failed execution or connection test.
const (
	CodeDatasourceUnreachable Code = "DATASOURCE_UNREACHABLE"
	CodeDatasourceAuth        Code = "DATASOURCE_AUTH_FAILED"
	CodeDatabaseMissing       Code = "DATABASE_NOT_FOUND"
	CodeDatasourceLost        Code = "DATASOURCE_LOST"
	CodeDatasourcePermission  Code = "DATASOURCE_PERMISSION_DENIED"
	CodeDumpToolMissing       Code = "DUMP_TOOL_MISSING"
	CodeDumpToolTooOld        Code = "DUMP_TOOL_TOO_OLD"
	CodeDumpFailed            Code = "DUMP_FAILED"
	CodeDumpIncomplete        Code = "DUMP_INCOMPLETE"
	CodeDumpStalled           Code = "DUMP_STALLED"
	CodeRestoreFailed         Code = "RESTORE_FAILED"
	CodeRestoreInterrupted    Code = "RESTORE_INTERRUPTED"
	CodeVerificationFailed    Code = "VERIFICATION_FAILED"
	CodeUploadFailed          Code = "UPLOAD_FAILED"
	CodeStorageFull           Code = "STORAGE_FULL"
	CodeStorageAuth           Code = "STORAGE_AUTH_FAILED"
	CodeSpoolFull             Code = "SPOOL_FULL"
	CodeSpoolLost             Code = "SPOOL_LOST"
	CodeArtifactCorrupt       Code = "ARTIFACT_CORRUPT"
	CodeArtifactTooNew        Code = "ARTIFACT_TOO_NEW"
	CodeDecryptionFailed      Code = "DECRYPTION_FAILED"
	CodeWorkerLost            Code = "WORKER_LOST"
	CodeLeaseLost             Code = "LEASE_LOST"
	CodeWrongKey              Code = "WRONG_KEY"
)

// Field names one bad field of a request, by its JSON path.
type Field struct {
	Field   string
	Message string
}

// Error is the error that crosses layers. Msg is one sentence for a person:
// what happened, what it means, what to do next. It must hold no secret.
// Err, the cause, is for the log only.
type Error struct {
	Kind    Kind
	Code    Code
	Msg     string
	Fields  []Field
	Details map[string]any
	Err     error
}

// New returns an error without a cause.
func New(kind Kind, code Code, format string, args ...any) *Error {
	return &Error{Kind: kind, Code: code, Msg: fmt.Sprintf(format, args...)}
}

// Wrap returns an error with a cause that errors.Is and errors.As can reach.
func Wrap(err error, kind Kind, code Code, format string, args ...any) *Error {
	return &Error{Kind: kind, Code: code, Msg: fmt.Sprintf(format, args...), Err: err}
}

// InvalidFields returns a validation error that lists every bad field.
func InvalidFields(code Code, fields ...Field) *Error {
	msg := "some fields are not acceptable"
	if len(fields) == 1 {
		msg = fields[0].Field + ": " + fields[0].Message
	}
	return &Error{Kind: Invalid, Code: code, Msg: msg, Fields: fields}
}

// With returns a copy of e that carries one more detail for programs.
func (e *Error) With(key string, value any) *Error {
	c := *e
	c.Details = maps.Clone(e.Details)
	if c.Details == nil {
		c.Details = map[string]any{}
	}
	c.Details[key] = value
	return &c
}

// Error joins the sentence and its cause; show Msg, not this, to callers.
func (e *Error) Error() string {
	if e.Err == nil {
		return e.Msg
	}
	return e.Msg + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// As returns the outermost *Error in err's chain, or nil.
func As(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return nil
}

// KindOf returns the kind of err, Internal when it has none.
func KindOf(err error) Kind {
	if e := As(err); e != nil {
		return e.Kind
	}
	return Internal
}

// CodeOf returns the code of err, CodeInternal when it has none.
func CodeOf(err error) Code {
	if e := As(err); e != nil {
		return e.Code
	}
	return CodeInternal
}

// Message returns the sentence of err that may be shown to a person. The text
// of an unknown error may hold anything, so it is not shown.
func Message(err error) string {
	if e := As(err); e != nil {
		return e.Msg
	}
	return "an unexpected error happened on the server; its log has the details"
}
