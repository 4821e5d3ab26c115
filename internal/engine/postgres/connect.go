package postgres

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// pinned sets every parameter that would otherwise come from this process's
// environment, its home directory or a service file. What stands here is only
// there to be parsed; the real values are set on the result.
const pinned = "host=localhost port=5432 user=x password=x database=x passfile='' sslmode=disable sslcert='' sslkey='' " +
	"sslrootcert='' sslpassword='' sslsni=1 sslnegotiation=postgres sslcertmode=disable connect_timeout=10 target_session_attrs=any " +
	"min_protocol_version=3.0 max_protocol_version=3.0 channel_binding=prefer require_auth=''"

// connect opens a connection with c's values as they are.
func (e *Engine) connect(ctx context.Context, c engine.Conn) (*pgx.Conn, error) {
	if bad := ValidateConn(c); len(bad) > 0 {
		return nil, errs.InvalidFields(errs.CodeInvalidConnection, bad...)
	}
	return e.open(ctx, c, map[string]string{"application_name": appName, "client_encoding": "UTF8"})
}

// connectLikeTool opens a connection that speaks the encoding in which a tool of the
// server would: the database's own, unless the user's settings name another.
func (e *Engine) connectLikeTool(ctx context.Context, c engine.Conn) (*pgx.Conn, error) {
	return e.open(ctx, c, map[string]string{"application_name": appName})
}

func (e *Engine) open(ctx context.Context, c engine.Conn, parameters map[string]string) (*pgx.Conn, error) {
	cfg, err := e.pgxConfig(c)
	if err != nil {
		return nil, err
	}
	cfg.RuntimeParams = parameters
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, connectError(ctx, err, c)
	}
	return conn, nil
}

func (e *Engine) pgxConfig(c engine.Conn) (*pgx.ConnConfig, error) {
	cfg, err := parsePinned()
	if err != nil {
		return nil, errs.Wrap(err, errs.Internal, errs.CodeInternal, "the connection could not be prepared")
	}
	cfg.Host, cfg.Port = c.Host, uint16(c.Port) //nolint:gosec // validated
	cfg.Database, cfg.User, cfg.Password = c.Database, c.Username, c.Password
	cfg.ConnectTimeout = e.connectTimeout
	cfg.KerberosSrvName, cfg.KerberosSpn, cfg.RequireAuth = "", "", ""
	cfg.ValidateConnect = nil
	cfg.Fallbacks = nil
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec // poolers between us and the server do not keep statements
	if isSocket(c.Host) {
		cfg.TLSConfig = nil
		return cfg, nil
	}
	cfg.TLSConfig, err = tlsConfig(c)
	if c.SSLMode == "" { // TLS when the server has it
		cfg.Fallbacks = []*pgconn.FallbackConfig{{Host: cfg.Host, Port: cfg.Port}}
	}
	return cfg, err
}

// parsePinned parses pinned. A PGSERVICE in the environment would be looked up
// in any case, so it gets an empty service of ours to find.
func parsePinned() (*pgx.ConnConfig, error) {
	if os.Getenv("PGSERVICE") == "" {
		return pgx.ParseConfig(pinned)
	}
	f, err := os.CreateTemp("", "dataguardian-service-*")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // an empty file in the temporary directory
	if _, err := f.WriteString("[empty]\n"); err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	return pgx.ParseConfig(fmt.Sprintf("%s service=empty servicefile='%s'", pinned, strings.ReplaceAll(f.Name(), "'", `\'`)))
}

func isSocket(host string) bool { return strings.HasPrefix(host, "/") }

// tlsConfig follows libpq: "require" verifies nothing, unless a root
// certificate is given; then it is "verify-ca".
func tlsConfig(c engine.Conn) (*tls.Config, error) {
	if c.SSLMode == engine.SSLDisable {
		return nil, nil
	}
	cfg := &tls.Config{ServerName: c.Host, MinVersion: tls.VersionTLS12}
	if c.SSLRootCert != "" {
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM([]byte(c.SSLRootCert)) {
			return nil, errs.InvalidFields(errs.CodeInvalidConnection,
				errs.Field{Field: "ssl_root_cert", Message: "must hold at least one certificate in PEM form"})
		}
	}
	switch {
	case c.SSLMode == engine.SSLVerifyFull:
	case c.SSLMode == engine.SSLVerifyCA, c.SSLMode == engine.SSLRequire && c.SSLRootCert != "":
		cfg.InsecureSkipVerify = true // the chain is verified below, the name is not asked for
		cfg.VerifyConnection = func(s tls.ConnectionState) error { return verifyChain(s, cfg.RootCAs) }
	default:
		cfg.InsecureSkipVerify = true // what this mode means
	}
	return cfg, nil
}

func verifyChain(s tls.ConnectionState, roots *x509.CertPool) error {
	opts := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
	for _, cert := range s.PeerCertificates[1:] {
		opts.Intermediates.AddCert(cert)
	}
	_, err := s.PeerCertificates[0].Verify(opts)
	return err
}

// environment returns what a tool needs to reach c, as libpq's variables: they
// are literal, and no other process can read them. Files go into dir. Names of
// files that are not there keep libpq from looking in a home directory.
func (e *Engine) environment(c engine.Conn, dir string) ([]string, error) {
	absent := filepath.Join(dir, "none")
	mode := string(c.SSLMode)
	if mode == "" {
		mode = "prefer"
	}
	roots, err := rootCertFile(c, dir, absent)
	if err != nil {
		return nil, err
	}
	env := []string{
		"PGHOST=" + c.Host,
		fmt.Sprintf("PGPORT=%d", c.Port),
		"PGUSER=" + c.Username,
		"PGDATABASE=" + c.Database,
		"PGSSLMODE=" + mode,
		"PGSSLROOTCERT=" + roots,
		"PGSSLCERT=" + absent,
		"PGSSLKEY=" + absent,
		"PGPASSFILE=" + absent,
		"PGSERVICEFILE=" + absent,
		"PGSYSCONFDIR=" + dir,
		"PGGSSENCMODE=disable",
		"PGAPPNAME=" + appName,
		fmt.Sprintf("PGCONNECT_TIMEOUT=%d", max(2, int(e.connectTimeout/time.Second))),
	}
	if c.Password != "" {
		env = append(env, "PGPASSWORD="+c.Password)
	}
	return env, nil
}

func rootCertFile(c engine.Conn, dir, absent string) (string, error) {
	switch {
	case c.SSLRootCert != "":
		file := filepath.Join(dir, "root.crt")
		if err := os.WriteFile(file, []byte(c.SSLRootCert), 0o600); err != nil {
			return "", errs.Wrap(err, errs.Internal, errs.CodeInternal, "the root certificate could not be written to the temporary directory")
		}
		return file, nil
	case c.SSLMode == engine.SSLVerifyCA || c.SSLMode == engine.SSLVerifyFull:
		for _, file := range engine.SystemRoots() {
			if _, err := os.Stat(file); err == nil {
				return file, nil
			}
		}
		return "", errs.New(errs.Invalid, errs.CodeInvalidConnection,
			"ssl_mode is %s, but this host has no file of trusted roots: set ssl_root_cert or install ca-certificates", c.SSLMode)
	}
	return absent, nil
}

// workDir makes a directory for one run's files; remove is to be called when
// the run is over.
func workDir(parent string) (dir string, remove func() error, err error) {
	dir, err = os.MkdirTemp(parent, "postgres-")
	if err != nil {
		return "", nil, errs.Wrap(err, errs.Internal, errs.CodeInternal, "the temporary directory is not usable")
	}
	return dir, func() error { return os.RemoveAll(dir) }, nil
}
