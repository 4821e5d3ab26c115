package postgres

import (
	"crypto/x509"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// maxName is the longest name a server keeps whole. A longer one would be cut
// and could then mean another database or role.
const maxName = 63

const maxHost = 255

// ValidateConn checks that each value can only be taken literally: a host is
// one host and no list, option or connection string. It returns the bad fields
// by their names in a connection's configuration.
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
	check("database", nameProblem(c.Database))
	check("username", nameProblem(c.Username))
	if strings.ContainsRune(c.Password, 0) {
		check("password", "must not contain a zero byte")
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
		if path.Clean(host) != host || strings.ContainsFunc(host, unicode.IsControl) || strings.ContainsAny(host, ",=") {
			return "must be a clean absolute path when it is a socket directory"
		}
		return ""
	case strings.HasPrefix(host, "-"):
		return "must not start with a dash"
	case strings.ContainsFunc(host, func(r rune) bool { return !isHostRune(r) }):
		return "must be one host name, one address, or the absolute path of a socket directory"
	}
	return ""
}

// isHostRune accepts letters of any script, for internationalized names, and
// what addresses need; the percent sign is that of an IPv6 zone.
func isHostRune(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune(".-_:%", r)
}

func nameProblem(name string) string {
	switch {
	case name == "":
		return "must not be empty"
	case len(name) > maxName:
		return "must have at most 63 bytes, as the server cuts longer names"
	case strings.ContainsRune(name, 0):
		return "must not contain a zero byte"
	case !utf8.ValidString(name):
		return "must be valid UTF-8"
	}
	return ""
}

// checkTables refuses table names that cannot be passed on.
func checkTables(field string, names []string) []errs.Field {
	var bad []errs.Field
	for _, name := range names {
		if name == "" || strings.ContainsRune(name, 0) || !utf8.ValidString(name) {
			bad = append(bad, errs.Field{Field: field, Message: "must hold table names that are not empty, valid UTF-8 and without zero bytes"})
		}
	}
	return bad
}
