package postgres

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/engine/tool"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/process"
)

// SQLSTATEs that decide what an error means.
const (
	stateBadPassword   = "28P01"
	stateBadAuth       = "28000"
	stateNoDatabase    = "3D000"
	stateNoPrivilege   = "42501"
	stateTooMany       = "53300"
	stateStarting      = "57P03"
	stateAdminShutdown = "57P01"
	stateCrashShutdown = "57P02"
	stateExists        = "42P04"
	stateInUse         = "55006"
	stateInvalidValue  = "22023" // of txid_status: a transaction that the server has not begun
	stateProtocol      = "08P01" // of a server that lets nobody in: a connection pooler's
)

// where names a server in messages.
func where(c engine.Conn) string {
	if isSocket(c.Host) {
		return "the PostgreSQL server at " + c.Host
	}
	return "the PostgreSQL server at " + engine.Address(c)
}

// ended turns the end of a context into an error; it keeps a typed cause.
func ended(ctx context.Context) error {
	cause := context.Cause(ctx)
	if typed := errs.As(cause); typed != nil {
		return typed
	}
	if errors.Is(cause, context.DeadlineExceeded) {
		return errs.Wrap(cause, errs.Unavailable, errs.CodeTimeout, "the time limit was reached before the work was done")
	}
	return errs.Wrap(cause, errs.Cancelled, errs.CodeCancelled, "the work was cancelled")
}

// connectError says why a connection could not be opened.
func connectError(ctx context.Context, err error, c engine.Conn) error {
	if ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return ended(ctx)
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return serverError(pg, c)
	}
	if isTLS(err) {
		return errs.Wrap(err, errs.Unavailable, errs.CodeDatasourceUnreachable,
			"the certificate of %s is not trusted in ssl_mode %s: check ssl_root_cert and the host name", where(c), c.SSLMode)
	}
	if strings.Contains(err.Error(), "refused TLS connection") {
		return errs.Wrap(err, errs.Unavailable, errs.CodeDatasourceUnreachable,
			"%s does not offer TLS, which ssl_mode %s needs: turn ssl on there, or set ssl_mode to disable", where(c), c.SSLMode)
	}
	return errs.Wrap(err, errs.Unavailable, errs.CodeDatasourceUnreachable,
		"%s did not answer (%s): check host, port, and that the server runs and is reachable from here", where(c), engine.DialProblem(err))
}

func isTLS(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return true
	}
	_, ok := errors.AsType[x509.HostnameError](err)
	return ok
}

// serverError types what the server itself said.
func serverError(pg *pgconn.PgError, c engine.Conn) error {
	switch pg.Code {
	case stateBadPassword, stateBadAuth:
		return errs.Wrap(pg, errs.Unavailable, errs.CodeDatasourceAuth,
			"%s did not let user %q in: check username, password and pg_hba.conf", where(c), c.Username)
	case stateNoDatabase:
		return errs.Wrap(pg, errs.Unavailable, errs.CodeDatabaseMissing,
			"%s has no database %q: check its name, or create it", where(c), c.Database)
	case stateNoPrivilege:
		return errs.Wrap(pg, errs.Unavailable, errs.CodeDatasourcePermission,
			"user %q lacks a privilege in database %q (%s): grant it and try again", c.Username, c.Database, tool.Redact(pg.Message, c.Password))
	case stateTooMany, stateStarting:
		return errs.Wrap(pg, errs.Unavailable, errs.CodeDatasourceUnreachable,
			"%s takes no connections now (%s): try again later", where(c), tool.Redact(pg.Message, c.Password))
	case stateAdminShutdown, stateCrashShutdown:
		return errs.Wrap(pg, errs.Unavailable, errs.CodeDatasourceLost, "%s ended the connection: it is shutting down or was told to", where(c))
	}
	if pg.Code == stateProtocol {
		return errs.Wrap(pg, errs.Unavailable, errs.CodeDatasourceUnreachable,
			"%s refused (%s), which looks like a connection pooler's refusal: name the PostgreSQL server's own address, or %s",
			where(c), tool.Redact(pg.Message, c.Password), poolerAdvice(pg.Message, c))
	}
	return errs.Wrap(pg, errs.Unavailable, errs.CodeDatasourceUnreachable,
		"%s refused (%s, SQLSTATE %s)", where(c), tool.Redact(pg.Message, c.Password), pg.Code)
}

// poolerAdvice is what helps behind a pooler that refuses with these words.
func poolerAdvice(words string, c engine.Conn) string {
	words = strings.ToLower(words)
	switch {
	case strings.Contains(words, "database"):
		return fmt.Sprintf("let the pooler reach database %q", c.Database)
	case containsAny(words, []string{"timeout", "timed out", "no more connections"}):
		return "give the pooler more connections, or try again when it has a free one"
	case containsAny(words, []string{"login", "auth", "password", "user"}):
		return fmt.Sprintf("check username %q and its password there, at the pooler and at the server behind it", c.Username)
	}
	return "look for the reason in the pooler's log"
}

// queryError is serverError for statements of ours on an open connection.
func queryError(ctx context.Context, err error, c engine.Conn, doing string) error {
	if ctx.Err() != nil {
		return ended(ctx)
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch pg.Code {
		case stateNoPrivilege, stateAdminShutdown, stateCrashShutdown, stateTooMany:
			return serverError(pg, c)
		case stateProtocol:
			if pg.Severity == "FATAL" { // else of the statement
				return serverError(pg, c)
			}
		}
		return errs.Wrap(err, errs.Unavailable, errs.CodeInternal, "%s failed in database %q: %s (SQLSTATE %s)",
			doing, c.Database, tool.Redact(pg.Message, c.Password), pg.Code)
	}
	return errs.Wrap(err, errs.Unavailable, errs.CodeDatasourceLost, "the connection to %s broke while %s", where(c), doing)
}

// Words of libpq, which speaks English to our children, and of servers.
var (
	lostWords = []string{
		"server closed the connection", "terminating connection", "could not receive data", "could not send data",
		"connection to server was lost", "connection not open", "no connection to the server", "SSL connection has been closed",
		"SSL SYSCALL error", "SSL error", "Connection reset by peer", "Broken pipe", "the database system is shutting down",
	}
	unreachableWords = []string{"Connection refused", "could not translate host name", "timeout expired", "No route to host", "the database system is starting up"}
	authWords        = []string{"password authentication failed", "no pg_hba.conf entry", "no password supplied"}
	deniedWords      = []string{"permission denied", "must be owner of", "query would be affected by row-level security"}
)

// toolError says why a tool failed, from its last words. fallback is the code
// for what is not recognized.
func toolError(exit *process.ExitError, c engine.Conn, fallback errs.Code) error {
	all := strings.Join(exit.Tail, "\n")
	said := tool.LastWords(exit.Tail, c.Password)
	if said == "" {
		said = "it said nothing"
	}
	switch {
	case containsAny(all, authWords):
		return errs.Wrap(exit.Silent(), errs.Unavailable, errs.CodeDatasourceAuth,
			"%s could not log in to %s as %q (%s): check username, password and pg_hba.conf", exit.Name, where(c), c.Username, said)
	case strings.Contains(all, "No space left on device"):
		return errs.Wrap(exit.Silent(), errs.Unavailable, fallback,
			"a disk of %s, or of this machine, is full (%s): make room there and run it again", where(c), said)
	case containsAny(all, lostWords):
		return errs.Wrap(exit.Silent(), errs.Unavailable, errs.CodeDatasourceLost,
			"the connection to %s broke while %s ran (%s): check the server's log, then run it again", where(c), exit.Name, said)
	case containsAny(all, unreachableWords):
		return errs.Wrap(exit.Silent(), errs.Unavailable, errs.CodeDatasourceUnreachable,
			"%s could not reach %s (%s)", exit.Name, where(c), said)
	case strings.Contains(all, "server version mismatch"):
		return errs.Wrap(exit.Silent(), errs.Unavailable, errs.CodeDumpToolTooOld,
			"%s is older than %s (%s): install the client of the server's version", exit.Name, where(c), said)
	case containsAny(all, deniedWords):
		return errs.Wrap(exit.Silent(), errs.Unavailable, errs.CodeDatasourcePermission,
			"user %q may not do what %s needs (%s): grant the privilege and try again", c.Username, exit.Name, said)
	case lockTimedOut(exit):
		return errs.Wrap(exit.Silent(), errs.Unavailable, fallback,
			"%s gave up on a table that stayed locked exclusively (%s): run it when no schema change or maintenance is going on", exit.Name, said)
	}
	return errs.Wrap(exit.Silent(), errs.Unavailable, fallback, "%s failed with status %d: %s", exit.Name, exit.Result.ExitCode, said)
}

// lockTimedOut reports a tool that did not get the lock on a table. Up to version 13 a
// tool's words on it begin with a small letter.
func lockTimedOut(err error) bool { return lockFailed(err, "timeout") }

// tableGone reports a tool that was to lock a table which its snapshot still shows.
func tableGone(err error) bool { return lockFailed(err, "does not exist") }

func lockFailed(err error, why string) bool {
	exit, ok := errors.AsType[*process.ExitError](err)
	if !ok {
		return false
	}
	all := strings.Join(exit.Tail, "\n")
	return containsAny(all, []string{"Query was: LOCK TABLE", "query was: LOCK TABLE"}) && strings.Contains(all, why)
}

func containsAny(s string, words []string) bool {
	for _, w := range words {
		if strings.Contains(s, w) {
			return true
		}
	}
	return false
}
