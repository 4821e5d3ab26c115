package queue

import (
	"context"
	"crypto/tls"
	"net"
	"net/url"
	"path"
	"strconv"
	"strings"

	"github.com/redis/rueidis"

	"github.com/dataguardian/dataguardian/internal/errs"
)

const (
	defaultPort  = "6379"
	lastDatabase = 65535
)

// ParseURL reads the address of a Redis:
//
//	redis://[[user]:password@]host[:port][/database]
//	rediss://... the same over TLS, checked against the system's roots
//	unix://[[user]:password@]/path/to/socket[?db=database]
//
// An error is one line that repeats nothing of the URL: any piece of a
// mistyped one may be the password.
func ParseURL(raw string) (rueidis.ClientOption, error) {
	var opt rueidis.ClientOption
	u, err := url.Parse(strings.TrimSpace(raw))
	if err != nil || u.Opaque != "" || u.Fragment != "" {
		return opt, badURL("it cannot be understood")
	}
	if u.User != nil {
		opt.Username = u.User.Username()
		opt.Password, _ = u.User.Password()
		if opt.Username != "" && opt.Password == "" {
			return opt, badURL("it has a user without a password")
		}
	}
	database := strings.TrimPrefix(u.Path, "/")
	switch u.Scheme {
	case "redis", "rediss":
		err = tcp(u, &opt)
	case "unix":
		database = ""
		err = socket(u, &opt)
	default:
		err = badURL("its scheme is none of redis, rediss and unix")
	}
	if err == nil {
		opt.SelectDB, err = databaseOf(u, database)
	}
	if err != nil {
		return rueidis.ClientOption{}, err
	}
	return opt, nil
}

func tcp(u *url.URL, opt *rueidis.ClientOption) error {
	host, port := u.Hostname(), u.Port()
	if host == "" {
		return badURL("it names no host")
	}
	if port == "" {
		port = defaultPort
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return badURL("its port is not between 1 and 65535")
	}
	opt.InitAddress = []string{net.JoinHostPort(host, port)}
	if u.Scheme == "rediss" {
		opt.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	}
	return nil
}

func socket(u *url.URL, opt *rueidis.ClientOption) error {
	if u.Host != "" || !path.IsAbs(u.Path) || u.Path == "/" {
		return badURL("the path of a unix socket must be absolute, as in unix:///run/redis.sock")
	}
	opt.InitAddress = []string{u.Path}
	opt.DialCtxFn = func(ctx context.Context, address string, dialer *net.Dialer, _ *tls.Config) (net.Conn, error) {
		return dialer.DialContext(ctx, "unix", address)
	}
	return nil
}

func databaseOf(u *url.URL, text string) (int, error) {
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return 0, badURL("its query cannot be understood")
	}
	for name, values := range query {
		if name != "db" || len(values) != 1 || text != "" {
			return 0, badURL("the only query it may have is one db=number")
		}
		text = values[0]
	}
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n > lastDatabase {
		return 0, badURL("its database is not a number between 0 and 65535")
	}
	return int(n), nil
}

func badURL(what string) error {
	return errs.New(errs.Invalid, errs.CodeValidation, "the Redis URL is not acceptable: %s; write "+
		"redis://[user:password@]host[:port][/database], rediss://... for TLS, or unix:///path/to/socket, "+
		"with special characters in the password percent-encoded", what)
}
