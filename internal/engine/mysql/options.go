package mysql

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// optionFile writes the only option file that a client will read, and returns
// its path. Nothing of a connection is in arguments, where others could see it.
func optionFile(c engine.Conn, p program, dir string) (string, error) {
	var b strings.Builder
	set := func(name, value string) { fmt.Fprintf(&b, "%s=%s\n", name, quoteOption(value)) }
	b.WriteString("[client]\n")
	if isSocket(c.Host) {
		set("protocol", "socket")
		set("socket", c.Host)
	} else {
		set("protocol", "tcp")
		set("host", c.Host)
		set("port", fmt.Sprint(c.Port))
	}
	set("user", c.Username)
	set("password", c.Password)
	set("default-character-set", "utf8mb4")
	if err := tlsOptions(c, p, dir, set, func(flag string) { b.WriteString(flag + "\n") }); err != nil {
		return "", err
	}
	file := filepath.Join(dir, "client.cnf")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		return "", errs.Wrap(err, errs.Internal, errs.CodeInternal, "the credentials could not be written to the temporary directory")
	}
	return file, nil
}

// quoteOption writes a value as option files understand it literally.
func quoteOption(value string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`, "\t", `\t`, "\b", `\b`, `"`, `\"`).Replace(value) + `"`
}

// tlsOptions: MariaDB's clients know no mode between "encrypted" and
// "encrypted, chain and host name verified", so verify-ca is the latter there.
func tlsOptions(c engine.Conn, p program, dir string, set func(name, value string), flag func(string)) error {
	if isSocket(c.Host) {
		return nil
	}
	verify := c.SSLMode == engine.SSLVerifyCA || c.SSLMode == engine.SSLVerifyFull || c.SSLMode == engine.SSLRequire && c.SSLRootCert != ""
	if verify {
		roots, err := rootCertFile(c, dir)
		if err != nil {
			return err
		}
		set("ssl-ca", roots)
	}
	if p.flavor == engine.MariaDB {
		switch {
		case c.SSLMode == engine.SSLDisable:
			flag("skip-ssl")
		case verify:
			flag("ssl")
			flag("ssl-verify-server-cert")
		case c.SSLMode == engine.SSLRequire:
			flag("ssl")
			flag("skip-ssl-verify-server-cert")
		default:
			flag("skip-ssl-verify-server-cert")
		}
		return nil
	}
	mode := "PREFERRED"
	switch {
	case c.SSLMode == engine.SSLDisable:
		mode = "DISABLED"
	case c.SSLMode == engine.SSLVerifyFull:
		mode = "VERIFY_IDENTITY"
	case verify:
		mode = "VERIFY_CA"
	case c.SSLMode == engine.SSLRequire:
		mode = "REQUIRED"
	}
	set("ssl-mode", mode)
	if (mode == "DISABLED" || mode == "PREFERRED") && p.num >= askForKeySince {
		flag(askForKey)
	}
	return nil
}

// askForKey lets a client log in without TLS where the server has not seen the user since
// it started, or since FLUSH PRIVILEGES: it then wants the password itself, and the client
// encrypts it with a key that the server names. The driver and MariaDB's clients do so
// unasked. Nothing proves whose key that is; the modes that may go without TLS prove
// nothing of a server anyway, and over TLS nobody asks.
const (
	askForKey      = "loose-get-server-public-key"
	askForKeySince = 50723 // older clients would say that they do not know it
)

func rootCertFile(c engine.Conn, dir string) (string, error) {
	if c.SSLRootCert != "" {
		file := filepath.Join(dir, "root.crt")
		if err := os.WriteFile(file, []byte(c.SSLRootCert), 0o600); err != nil {
			return "", errs.Wrap(err, errs.Internal, errs.CodeInternal, "the root certificate could not be written to the temporary directory")
		}
		return file, nil
	}
	for _, file := range engine.SystemRoots() {
		if _, err := os.Stat(file); err == nil {
			return file, nil
		}
	}
	return "", errs.New(errs.Invalid, errs.CodeInvalidConnection,
		"ssl_mode is %s, but this host has no file of trusted roots: set ssl_root_cert or install ca-certificates", c.SSLMode)
}

// workDir makes a directory for one run's files; remove is to be called when
// the run is over.
func workDir(parent string) (dir string, remove func() error, err error) {
	dir, err = os.MkdirTemp(parent, "mysql-")
	if err != nil {
		return "", nil, errs.Wrap(err, errs.Internal, errs.CodeInternal, "the temporary directory is not usable")
	}
	return dir, func() error { return os.RemoveAll(dir) }, nil
}
