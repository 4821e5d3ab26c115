package datasource

import (
	"strings"
	"unicode"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/settings"
)

const configField = "connection_config"

// maxNameBytes bounds database and user names: PostgreSQL takes 63 bytes and cuts
// longer names to another one's, MySQL 64 characters of up to 4 bytes.
func maxNameBytes(t engine.Type) int {
	if t == engine.Postgres {
		return 63
	}
	return 256
}

var defaultPorts = map[engine.Type]int{engine.Postgres: 5432, engine.MySQL: 3306, engine.MariaDB: 3306}

// ParseConfig turns the connection_config of the API into a connection. The
// error is Invalid (CodeInvalidConnection) and lists every bad field.
func ParseConfig(t engine.Type, config map[string]any) (engine.Conn, error) {
	r := settings.NewReader(configField, config)
	c := engine.Conn{
		Type:     t,
		Host:     r.Required("host", 255),
		Port:     r.Int("port", 1, 65535),
		Database: r.Required("database", maxNameBytes(t)),
		Username: r.Required("username", maxNameBytes(t)),
		Password: r.Required("password", 4096),
	}
	if message := checkHost(c.Host); message != "" {
		r.Complain("host", message)
	}
	if c.Port == 0 {
		c.Port = defaultPorts[t]
	}
	c.SSLMode = engine.SSLMode(r.Choice("ssl_mode", string(engine.SSLDisable), string(engine.SSLRequire), string(engine.SSLVerifyCA), string(engine.SSLVerifyFull)))
	legacy := r.Bool("ssl_enabled", false)
	switch {
	case c.SSLMode != "":
	case legacy:
		c.SSLMode = engine.SSLRequire
	default:
		c.SSLMode = engine.SSLDisable
	}
	c.SSLRootCert = r.String("ssl_root_cert", 1<<20)
	if c.SSLRootCert != "" && !strings.Contains(c.SSLRootCert, "-----BEGIN CERTIFICATE-----") {
		r.Complain("ssl_root_cert", "must be a certificate in PEM form")
	}
	if fields := r.Fields(); len(fields) > 0 {
		return engine.Conn{}, errs.InvalidFields(errs.CodeInvalidConnection, fields...)
	}
	return c, nil
}

// checkHost accepts one host name, address or absolute socket directory: nothing
// that a client library could take for a list, an option or a URL.
func checkHost(host string) string {
	switch {
	case host == "":
		return ""
	case strings.HasPrefix(host, "-"):
		return "must not begin with a dash"
	case strings.ContainsFunc(host, unicode.IsControl):
		return "must not hold control characters"
	case strings.HasPrefix(host, "/"):
		if strings.Contains(host, ",") {
			return "must name one socket directory"
		}
		return ""
	case strings.ContainsFunc(host, func(c rune) bool { return unicode.IsSpace(c) || strings.ContainsRune(`,;=@/\'"?#%&`, c) }):
		return "must be one host name, address or absolute socket directory"
	}
	return ""
}

// ConfigView returns the connection_config a read shows: the password only as set.
func ConfigView(c engine.Conn) map[string]any {
	view := configOf(c)
	view["password"] = settings.Set()
	return view
}

// configOf is the inverse of ParseConfig.
func configOf(c engine.Conn) map[string]any {
	config := map[string]any{
		"host": c.Host, "port": float64(c.Port), "database": c.Database, "username": c.Username,
		"password": c.Password, "ssl_mode": string(c.SSLMode),
	}
	if c.SSLRootCert != "" {
		config["ssl_root_cert"] = c.SSLRootCert
	}
	return config
}

// mergeConfig applies the sent settings to a connection. A credential never
// travels to a new place by itself: whoever changes where the connection goes, or
// how it is protected, must know the password.
func mergeConfig(c engine.Conn, changes map[string]any) (engine.Conn, error) {
	if changes["ssl_enabled"] != nil && changes["ssl_mode"] == nil {
		changes = settings.Merge(changes, nil)
		changes["ssl_mode"] = string(engine.SSLDisable)
		if changes["ssl_enabled"] == true {
			changes["ssl_mode"] = string(engine.SSLRequire)
		}
	}
	merged, err := ParseConfig(c.Type, settings.Merge(configOf(c), changes))
	if err != nil {
		return engine.Conn{}, err
	}
	redirected := merged.Host != c.Host || merged.Port != c.Port || merged.SSLMode != c.SSLMode || merged.SSLRootCert != c.SSLRootCert
	sent := changes["password"] != nil && !settings.IsSet(changes["password"])
	if redirected && !sent {
		return engine.Conn{}, errs.InvalidFields(errs.CodeInvalidConnection, errs.Field{
			Field: configField + ".password", Message: "is required again when host, port or TLS settings change",
		})
	}
	return merged, nil
}
