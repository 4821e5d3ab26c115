package mysql

import (
	"crypto/x509"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// Limits of the servers, and of a line in an option file.
const (
	maxDatabase = 64 // characters
	maxUser     = 128
	maxPassword = 1024 // bytes
	maxHost     = 255
)

// ValidateConn checks that each value can only be taken literally. A host is
// one name, one address, or the absolute path of a socket. It returns the bad
// fields by their names in a connection's configuration.
func ValidateConn(c engine.Conn) []errs.Field {
	var bad []errs.Field
	check := func(field, problem string) {
		if problem != "" {
			bad = append(bad, errs.Field{Field: field, Message: problem})
		}
	}
	check("host", hostProblem(c.Host))
	if c.Port < 1 || c.Port > 65535 {
		check("port", "must be between 1 and 65535")
	}
	check("database", nameProblem(c.Database, maxDatabase))
	check("username", nameProblem(c.Username, maxUser))
	switch {
	case strings.ContainsRune(c.Password, 0):
		check("password", "must not contain a zero byte")
	case len(c.Password) > maxPassword:
		check("password", "must have at most 1024 bytes")
	}
	switch c.SSLMode {
	case "", engine.SSLDisable, engine.SSLRequire, engine.SSLVerifyCA, engine.SSLVerifyFull:
	default:
		check("ssl_mode", "must be disable, require, verify-ca or verify-full")
	}
	if c.SSLRootCert != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(c.SSLRootCert)) {
		check("ssl_root_cert", "must hold at least one certificate in PEM form")
	}
	return bad
}

func hostProblem(host string) string {
	switch {
	case host == "":
		return "must not be empty"
	case len(host) > maxHost:
		return "must have at most 255 bytes"
	case strings.HasPrefix(host, "/"):
		if path.Clean(host) != host || strings.ContainsFunc(host, unicode.IsControl) {
			return "must be a clean absolute path when it is a socket"
		}
		return ""
	case strings.HasPrefix(host, "-"):
		return "must not start with a dash"
	case strings.ContainsFunc(host, func(r rune) bool { return !isHostRune(r) }):
		return "must be one host name, one address, or the absolute path of a socket"
	}
	return ""
}

func isHostRune(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune(".-_:%", r)
}

func nameProblem(name string, most int) string {
	switch {
	case name == "":
		return "must not be empty"
	case strings.ContainsRune(name, 0):
		return "must not contain a zero byte"
	case !utf8.ValidString(name):
		return "must be valid UTF-8"
	case utf8.RuneCountInString(name) > most:
		return "is longer than the server allows"
	}
	return ""
}

func checkTables(field string, names []string) []errs.Field {
	var bad []errs.Field
	for _, name := range names {
		if name == "" || strings.ContainsRune(name, 0) || !utf8.ValidString(name) {
			bad = append(bad, errs.Field{Field: field, Message: "must hold table names that are not empty, valid UTF-8 and without zero bytes"})
		}
	}
	return bad
}

func isSocket(host string) bool { return strings.HasPrefix(host, "/") }
