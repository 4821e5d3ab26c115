package store

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/puddle/v2"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// SQLSTATEs that callers can do something about.
const (
	stateUnique        = "23505"
	stateForeignKey    = "23503"
	stateBadText       = "22P02"
	stateBadEncoding   = "22021"
	stateBadJSON       = "22P05"
	stateUndefined     = "42P01"
	stateQueryCanceled = "57014"
	stateLockTimeout   = "55P03"
	stateReadOnly      = "25006"
	stateDenied        = "42501"
	stateSerialization = "40001"
	stateDeadlock      = "40P01"
)

// taken says in people's words what each unique index is about.
var taken = map[string]errs.Field{
	"datasources_name_key":           {Field: "name", Message: "another datasource has this name already; choose another"},
	"storage_locations_name_key":     {Field: "name", Message: "another storage location has this name already; choose another"},
	"storage_locations_default_key":  {Field: "is_default", Message: "another storage location became the default at the same time; try again"},
	"backup_jobs_name_key":           {Field: "name", Message: "another job has this name already; choose another"},
	"notification_channels_name_key": {Field: "name", Message: "another channel has this name already; choose another"},
	"users_username_key":             {Field: "username", Message: "another user has this name already; choose another"},
	"api_tokens_name_key":            {Field: "name", Message: "another token has this name already; choose another"},
	"backup_executions_slot_key":     {Field: "scheduled_for", Message: "the job has an execution for this slot already"},
}

// absent says which field names something that is not there.
var absent = map[string]errs.Field{
	"backup_jobs_datasource_fk":             {Field: "datasource_id", Message: "there is no such datasource"},
	"backup_jobs_storage_location_fk":       {Field: "storage_location_id", Message: "there is no such storage location"},
	"backup_executions_job_fk":              {Field: "job_id", Message: "there is no such job"},
	"backup_executions_datasource_fk":       {Field: "datasource_id", Message: "there is no such datasource"},
	"backup_executions_storage_location_fk": {Field: "storage_location_id", Message: "there is no such storage location"},
	"backup_copies_storage_location_fk":     {Field: "storage_location_id", Message: "there is no such storage location"},
}

// failure turns every error of the database into an *errs.Error. An error that
// is one already is returned as it is.
func failure(err error) error {
	if err == nil || errs.As(err) != nil {
		return err
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return refused(err, pg)
	}
	switch {
	case errors.Is(err, context.Canceled):
		return errs.Wrap(err, errs.Cancelled, errs.CodeCancelled, "the request was cancelled")
	case errors.Is(err, context.DeadlineExceeded):
		return errs.Wrap(err, errs.Unavailable, errs.CodeTimeout, "the database did not answer in time; try again")
	case errors.Is(err, pgx.ErrNoRows):
		return errs.Wrap(err, errs.NotFound, errs.CodeNotFound, "there is no such record")
	case disconnected(err):
		return unavailable(err)
	}
	return errs.Wrap(err, errs.Internal, errs.CodeInternal, "the database answered in an unexpected way")
}

// refused is the server's own refusal.
func refused(err error, pg *pgconn.PgError) error {
	switch pg.Code {
	case stateUnique:
		return conflicting(err, pg)
	case stateForeignKey:
		if field, known := absent[pg.ConstraintName]; known {
			e := errs.InvalidFields(errs.CodeValidation, field)
			e.Err = err
			return e
		}
	case stateBadText:
		return errs.Wrap(err, errs.Malformed, errs.CodeInvalidArgument, "an id is not a UUID")
	case stateBadEncoding, stateBadJSON:
		return errs.Wrap(err, errs.Invalid, errs.CodeValidation, "a text holds characters that cannot be stored, such as NUL")
	case stateUndefined:
		return errs.Wrap(err, errs.Internal, errs.CodeInternal, "the database lacks a table of this program; run the migrate command")
	case stateQueryCanceled, stateLockTimeout:
		return errs.Wrap(err, errs.Unavailable, errs.CodeTimeout, "the database took too long; try again")
	case stateReadOnly, stateSerialization, stateDeadlock:
		return unavailable(err)
	}
	if strings.HasPrefix(pg.Code, "08") || strings.HasPrefix(pg.Code, "53") || strings.HasPrefix(pg.Code, "57P") {
		return unavailable(err) // no connection, out of resources, shutting down
	}
	if strings.HasPrefix(pg.Code, "28") || strings.HasPrefix(pg.Code, "3D") {
		return unavailable(err) // no entry, no such database
	}
	return errs.Wrap(err, errs.Internal, errs.CodeInternal, "the database refused a statement")
}

func conflicting(err error, pg *pgconn.PgError) error {
	field, known := taken[pg.ConstraintName]
	if !known {
		return errs.Wrap(err, errs.Exists, errs.CodeConflict, "the id is in use already")
	}
	e := errs.Wrap(err, errs.Exists, errs.CodeConflict, "%s", field.Message)
	e.Fields = []errs.Field{field}
	return e
}

func unavailable(err error) error {
	return errs.Wrap(err, errs.Unavailable, errs.CodeDatabaseUnavailable, "the metadata database does not answer; nothing was changed, try again when it is back")
}

func disconnected(err error) bool {
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return true
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, puddle.ErrClosedPool) || pgconn.SafeToRetry(err) || strings.Contains(err.Error(), "conn closed")
}

// missing is failure for a row that was asked for by its id.
func missing(err error, noun, id string) error {
	pg, refused := errors.AsType[*pgconn.PgError](err)
	if errors.Is(err, pgx.ErrNoRows) || refused && pg.Code == stateBadText {
		return errs.Wrap(err, errs.NotFound, errs.CodeNotFound, "no %s has the id %q", noun, id)
	}
	return failure(err)
}

// none is missing for a statement that changed rows of them.
func none(rows int64, err error, noun, id string) error {
	if err == nil && rows == 0 {
		err = pgx.ErrNoRows
	}
	return missing(err, noun, id)
}

// denied reports whether the user lacks a right.
func denied(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == stateDenied
}

// violates reports whether err breaks a constraint.
func violates(err error, constraint string) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.ConstraintName == constraint
}
