package mysql

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"

	driver "github.com/go-sql-driver/mysql"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/engine/tool"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/process"
)

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

// also adds a second error, unless there is none or it only repeats the first.
func also(err, second error) error {
	switch {
	case err == nil:
		return second
	case second == nil, errors.Is(second, err), errors.Is(err, second):
		return err
	}
	return errors.Join(err, second)
}

// connectError says why a connection could not be opened.
func connectError(ctx context.Context, err error, c engine.Conn) error {
	if ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return ended(ctx)
	}
	if my, ok := errors.AsType[*driver.MySQLError](err); ok {
		if typed := typedNumber(int(my.Number), my, c, tool.Redact(my.Message, c.Password)); typed != nil {
			return typed
		}
		return errs.Wrap(my, errs.Unavailable, errs.CodeDatasourceUnreachable,
			"%s refused (%s, error %d)", where(c), tool.Redact(my.Message, c.Password), my.Number)
	}
	switch {
	case errors.Is(err, driver.ErrNoTLS):
		return errs.Wrap(err, errs.Unavailable, errs.CodeDatasourceUnreachable,
			"%s does not offer TLS, which ssl_mode %s needs: turn it on there, or set ssl_mode to disable", where(c), c.SSLMode)
	case errors.Is(err, driver.ErrCleartextPassword), errors.Is(err, driver.ErrOldPassword), errors.Is(err, driver.ErrUnknownPlugin), errors.Is(err, driver.ErrNativePassword):
		return errs.Wrap(err, errs.Unavailable, errs.CodeDatasourceAuth,
			"%s asks user %q for an authentication that is not offered here: give the user a password login", where(c), c.Username)
	case isTLS(err):
		return errs.Wrap(err, errs.Unavailable, errs.CodeDatasourceUnreachable,
			"the certificate of %s is not trusted in ssl_mode %s: check ssl_root_cert and the host name", where(c), c.SSLMode)
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

// typedNumber types the errors that servers and clients number alike; nil for
// all others. said must hold no secret.
func typedNumber(number int, cause error, c engine.Conn, said string) error {
	has := func(numbers ...int) bool { return slices.Contains(numbers, number) }
	switch {
	case has(1045, 1698, 1130, 1251, 2059, 2061, 1862, 4151):
		return errs.Wrap(cause, errs.Unavailable, errs.CodeDatasourceAuth,
			"%s did not let user %q in (%s): check username, password and the hosts the user may come from", where(c), c.Username, said)
	case has(1049):
		return errs.Wrap(cause, errs.Unavailable, errs.CodeDatabaseMissing,
			"%s has no database %q: check its name, or create it", where(c), c.Database)
	case has(1044, 1142, 1143, 1227, 1370, 1419, 1410, 1558):
		return errs.Wrap(cause, errs.Unavailable, errs.CodeDatasourcePermission,
			"user %q lacks a privilege (%s): grant it and try again", c.Username, said)
	case has(2002, 2003, 2005, 1040, 1203, 2026):
		return errs.Wrap(cause, errs.Unavailable, errs.CodeDatasourceUnreachable, "%s could not be reached (%s)", where(c), said)
	case has(2006, 2013, 2055, 1053, 1927, 1152, 1159, 1160, 1161, 1184):
		return errs.Wrap(cause, errs.Unavailable, errs.CodeDatasourceLost,
			"the connection to %s broke (%s): check the server's log, then run it again", where(c), said)
	}
	return nil
}

// toolError says why a tool failed, from its last words. fallback is the code
// for what is not recognized.
func toolError(exit *process.ExitError, c engine.Conn, fallback errs.Code) error {
	said := tool.LastWords(exit.Tail, c.Password)
	if said == "" {
		said = "it said nothing"
	}
	full := func() error {
		return errs.Wrap(exit.Silent(), errs.Unavailable, fallback, "a disk of %s is full (%s): make room there and run it again", where(c), said)
	}
	if strings.Contains(said, "No space left on device") || regexp.MustCompile(`\(errno: (28|135) `).MatchString(said) { // ENOSPC, and what InnoDB makes of it
		return full()
	}
	// Of libraries mysqldump 9.7 names the statement before the one that was refused.
	if strings.Contains(said, "has insufficient privileges to S") {
		return errs.Wrap(exit.Silent(), errs.Unavailable, errs.CodeDatasourcePermission,
			"user %q may not read routines or libraries of others (%s): grant SHOW_ROUTINE ON *.* (MySQL) or SELECT ON mysql.proc (MariaDB)", c.Username, said)
	}
	numbers := regexp.MustCompile(`(?i)\b(?:errno|error)\b:?\s*(\d{4})\b|\((\d{4})\)`).FindAllStringSubmatch(strings.Join(exit.Tail, "\n"), -1)
	for _, m := range numbers {
		number, err := strconv.Atoi(m[1] + m[2])
		if err != nil {
			continue
		}
		if slices.Contains([]int{1021, 1114}, number) {
			return full()
		}
		if number == 1205 {
			return errs.Wrap(exit.Silent(), errs.Unavailable, fallback,
				"a table of %s is used by somebody who did not let go of it in time (%s): end the sessions or transactions that use it (SHOW PROCESSLIST), then run it again", where(c), said)
		}
		if number == 1290 && strings.Contains(said, "secure-timestamp") {
			return errs.Wrap(exit.Silent(), errs.Conflict, errs.CodeRestoreNotSupported,
				"%s does not let user %q write the history of system-versioned tables (%s): %s", where(c), c.Username, said, historyAdvice)
		}
		if number == 1045 && strings.Contains(said, " at line ") { // it was let in, and asks for a file or a grant
			number = 1227
		}
		if typed := typedNumber(number, exit.Silent(), c, said); typed != nil {
			return typed
		}
	}
	return errs.Wrap(exit.Silent(), errs.Unavailable, fallback, "%s failed with status %d: %s", exit.Name, exit.Result.ExitCode, said)
}
