package mysql

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// connect opens one connection with c's values as they are. database may be
// empty for none. edit may change how.
func (e *Engine) connect(ctx context.Context, c engine.Conn, database string, edit ...func(*driver.Config)) (*session, error) {
	if bad := ValidateConn(c); len(bad) > 0 {
		return nil, errs.InvalidFields(errs.CodeInvalidConnection, bad...)
	}
	cfg, err := e.driverConfig(c, database)
	if err != nil {
		return nil, err
	}
	for _, change := range edit {
		change(cfg)
	}
	connector, err := driver.NewConnector(cfg)
	if err != nil {
		return nil, errs.Wrap(err, errs.Internal, errs.CodeInternal, "the connection could not be prepared")
	}
	s := &session{db: sql.OpenDB(connector), target: c}
	if s.conn, err = s.db.Conn(ctx); err != nil {
		return nil, also(connectError(ctx, err, c), s.db.Close())
	}
	return s, nil
}

// session is one connection.
type session struct {
	db     *sql.DB
	conn   *sql.Conn
	target engine.Conn
}

func (s *session) close() {
	_ = s.conn.Close() // it only goes back to the pool of one
	_ = s.db.Close()   // nothing depends on how it ends
}

func (e *Engine) driverConfig(c engine.Conn, database string) (*driver.Config, error) {
	cfg := driver.NewConfig()
	cfg.User, cfg.Passwd, cfg.DBName = c.Username, c.Password, database
	cfg.Net, cfg.Addr = "tcp", engine.Address(c)
	cfg.Timeout = e.connectTimeout
	cfg.ReadTimeout = e.connectTimeout + 20*time.Second
	cfg.Collation = "utf8mb4_general_ci"
	cfg.Logger = silent{}
	if isSocket(c.Host) {
		cfg.Net, cfg.Addr = "unix", c.Host
		return cfg, nil
	}
	var err error
	cfg.TLS, err = tlsConfig(c)
	cfg.AllowFallbackToPlaintext = c.SSLMode == ""
	return cfg, err
}

// forTool is c as a tool is to take it. MariaDB's clients believe to be encrypted once they
// may be, and then send MySQL the password as it is, which it refuses: so they are told
// where there is no TLS. s was opened as c says, and a user may have no second connection.
func (s *session) forTool(ctx context.Context, c engine.Conn, p program, server engine.ServerInfo) (engine.Conn, error) {
	if c.SSLMode != "" || isSocket(c.Host) || p.flavor != engine.MariaDB || server.Flavor != engine.MySQL {
		return c, nil
	}
	cipher, err := s.pairs(ctx, "SHOW SESSION STATUS LIKE 'Ssl_cipher'")
	if err != nil {
		return c, err
	}
	if len(cipher) == 0 || cipher[0][1] == "" {
		c.SSLMode = engine.SSLDisable
	}
	return c, nil
}

// silent keeps the driver from writing to standard error; what fails is in the
// errors.
type silent struct{}

func (silent) Print(...any) {}

// tlsConfig follows libpq's terms: "require" verifies nothing, unless a root
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

// Ping connects to c's database and asks what is there.
func (e *Engine) Ping(ctx context.Context, c engine.Conn) (engine.ServerInfo, error) {
	began := time.Now()
	s, err := e.connect(ctx, c, c.Database)
	if err != nil {
		return engine.ServerInfo{}, err
	}
	defer s.close()
	info, err := s.serverInfo(ctx)
	if err != nil {
		return info, err
	}
	const size = `SELECT coalesce(sum(data_length + index_length), 0) FROM information_schema.tables WHERE table_schema = DATABASE()`
	if err := s.conn.QueryRowContext(ctx, size).Scan(&info.DatabaseSize); err != nil {
		return info, s.failed(ctx, err, "asking for the size")
	}
	info.Latency = time.Since(began)
	return info, nil
}

func (s *session) serverInfo(ctx context.Context) (engine.ServerInfo, error) {
	var version, comment string
	if err := s.conn.QueryRowContext(ctx, "SELECT VERSION(), @@version_comment").Scan(&version, &comment); err != nil {
		return engine.ServerInfo{}, s.failed(ctx, err, "asking for the version")
	}
	info := engine.ServerInfo{Flavor: engine.MySQL}
	if strings.Contains(version+comment, "MariaDB") || strings.Contains(comment, "mariadb") {
		info.Flavor = engine.MariaDB
	}
	info.Version, info.VersionNum = parseNumber(version)
	if info.VersionNum == 0 {
		return info, errs.New(errs.Unavailable, errs.CodeDatasourceUnreachable, "%s has the version %q, which is not understood", where(s.target), version)
	}
	return info, nil
}

// parseNumber reads "10.11.19-MariaDB-0+deb12u1" and "8.0.36" as 101119 and
// 80036. Old replication clients see MariaDB 10 as "5.5.5-10.11.19".
func parseNumber(text string) (version string, num int) {
	m := regexp.MustCompile(`^(?:5\.5\.5-)?((\d+)\.(\d+)\.(\d+))`).FindStringSubmatch(text)
	if m == nil {
		return "", 0
	}
	for _, digits := range m[2:] {
		n, err := strconv.Atoi(digits)
		if err != nil || n > 99 {
			return "", 0
		}
		num = num*100 + n
	}
	return m[1], num
}

// failed types an error of a statement of ours.
func (s *session) failed(ctx context.Context, err error, doing string) error {
	if ctx.Err() != nil {
		return ended(ctx)
	}
	if my, ok := errors.AsType[*driver.MySQLError](err); ok {
		if typed := typedNumber(int(my.Number), my, s.target, my.Message); typed != nil {
			return typed
		}
		return errs.Wrap(my, errs.Unavailable, errs.CodeInternal, "%s failed: %s (error %d)", doing, my.Message, my.Number)
	}
	return errs.Wrap(err, errs.Unavailable, errs.CodeDatasourceLost, "the connection to %s broke while %s", where(s.target), doing)
}

func where(c engine.Conn) string {
	if isSocket(c.Host) {
		return fmt.Sprintf("the %s server at %s", productOf(c.Type), c.Host)
	}
	return fmt.Sprintf("the %s server at %s", productOf(c.Type), engine.Address(c))
}

// productOf is a server's name as its makers write it.
func productOf(flavor engine.Type) string {
	if flavor == engine.MariaDB {
		return "MariaDB"
	}
	return "MySQL"
}
