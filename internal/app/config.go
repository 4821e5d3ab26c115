// Package app puts the parts together: it is the only place that knows which
// store, drivers and engines there are.
package app

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/dataguardian/dataguardian/worker"
)

// Roles of a process.
const (
	RoleAPI       = "api"
	RoleScheduler = "scheduler"
	RoleBackup    = "backup"
	RoleRestore   = "restore"
	RoleHealth    = "health"
	RoleCleanup   = "cleanup"
)

// WorkerRoles are all but the API.
var WorkerRoles = []string{RoleScheduler, RoleBackup, RoleRestore, RoleHealth, RoleCleanup}

// Config of one process.
type Config struct {
	DataDir                                 string
	HTTPAddr                                string
	GRPCAddr                                string
	TLSCert                                 string
	TLSKey                                  string
	InsecureListen                          bool
	TLSClientCA                             string   // authorities of client certificates; empty: clients need none
	TLSClientUsers                          bool     // the common name of a client's certificate is a user
	TrustedProxies                          []string // networks of reverse proxies that tell whom they speak for
	OIDC                                    OIDCConfig
	SessionLifetime, SessionIdle, AuditKeep time.Duration
	DatabaseURL                             string // empty: a private PostgreSQL under DataDir
	RedisURL                                string // empty: in-process
	Roles                                   []string
	KeyFile                                 string // empty: DataDir/keyset.json
	LogFormat                               string // text, json, or auto: text on a terminal
	LogLevel                                string
	MetricsToken                            string // path of a file; empty: /metrics needs none
	Reflection                              bool
	PostgresBin                             []string
	MySQLBin                                []string
	IdentityDir                             string // age identities for encrypted backups; empty: DataDir/identities
	Concurrency                             int    // backups at once, and restores at once
	MaxPerHost                              int    // executions at once on one datasource host, over all processes; 0: no limit
	MaxPerStorage                           int    // executions at once on one storage, over all processes; 0: no limit
	MetricsAddr                             string // where metrics are served beside the API; empty: nowhere
	UploadAttempts                          int    // tries of an upload before its storage counts as failed; 0: 10
	// UploadBackoff is the pause before the second try, which doubles up to 30 s; 0: 500 ms.
	UploadBackoff time.Duration
	Demo          bool

	Timing          worker.Timing
	SweepInterval   time.Duration
	CleanupInterval time.Duration
	HealthInterval  time.Duration
	HealthKeep      time.Duration
	// NotificationKeep is how long notifications are kept; 0: 90 days.
	NotificationKeep time.Duration
	LowSpace         int64 // bytes available below which the space of a storage is low; 0: 1 GiB
	StallTimeout     time.Duration
	SpoolKeep        time.Duration
	RetryWait        time.Duration // for the machine that has the dump of a retried upload; 0: 30 min
	OrphanGrace      time.Duration

	Version string
	Stdout  io.Writer // lines of executions
	Stderr  io.Writer // the log
}

// complete checks the configuration and makes its paths absolute. Each error is
// one line that names the flag.
func (c *Config) complete() error {
	dir, err := filepath.Abs(c.DataDir)
	if err != nil {
		return fmt.Errorf("--data-dir: %w", err)
	}
	c.DataDir = dir
	if c.KeyFile == "" {
		if c.DatabaseURL != "" {
			return fmt.Errorf("--key-file is required with --database-url: every process must encrypt credentials with the same key; \"dataguardian key create FILE\" makes one")
		}
		c.KeyFile = filepath.Join(dir, "keyset.json")
	}
	if c.IdentityDir == "" {
		c.IdentityDir = filepath.Join(dir, "identities")
	}
	if err := c.expandRoles(); err != nil {
		return err
	}
	if c.Concurrency < 1 {
		return fmt.Errorf("--concurrency: must be at least 1")
	}
	if c.MaxPerHost < 0 || c.MaxPerStorage < 0 {
		return fmt.Errorf("--max-per-host, --max-per-storage: must not be negative")
	}
	if c.UploadAttempts < 0 {
		return fmt.Errorf("--upload-attempts: must not be negative")
	}
	if c.Demo && c.DatabaseURL != "" {
		return fmt.Errorf("--demo needs the private PostgreSQL: leave --database-url out")
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return fmt.Errorf("--tls-cert and --tls-key go together")
	}
	if c.TLSClientCA != "" && c.TLSCert == "" {
		return fmt.Errorf("--tls-client-ca needs --tls-cert and --tls-key")
	}
	if c.TLSClientUsers && c.TLSClientCA == "" {
		return fmt.Errorf("--tls-client-users needs --tls-client-ca")
	}
	if _, err := c.trustedProxies(); err != nil {
		return err
	}
	if err := c.OIDC.check(); err != nil {
		return err
	}
	if timing := c.Timing.WithDefaults(); 2*timing.Heartbeat > timing.Lease {
		return fmt.Errorf("--heartbeat: must be at most half of --lease (%s), or workers lose their work", timing.Lease)
	}
	return c.checkListen()
}

// trustedProxies reads addresses and networks.
func (c *Config) trustedProxies() (networks []netip.Prefix, _ error) {
	for _, text := range c.TrustedProxies {
		if address, err := netip.ParseAddr(text); err == nil {
			address = address.Unmap()
			networks = append(networks, netip.PrefixFrom(address, address.BitLen()))
			continue
		}
		network, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("--trusted-proxies: %q is neither an address nor a network such as 10.1.0.0/16", text)
		}
		networks = append(networks, network.Masked())
	}
	return networks, nil
}

func (c *Config) expandRoles() error {
	var roles []string
	for _, role := range c.Roles {
		switch role = strings.TrimSpace(role); {
		case role == "all":
			roles = append(append(roles, RoleAPI), WorkerRoles...)
		case role == RoleAPI || slices.Contains(WorkerRoles, role):
			roles = append(roles, role)
		default:
			return fmt.Errorf("--roles: %q is none of all, api, %s", role, strings.Join(WorkerRoles, ", "))
		}
	}
	slices.Sort(roles)
	c.Roles = slices.Compact(roles)
	if len(c.Roles) == 0 {
		return fmt.Errorf("--roles: name at least one")
	}
	return nil
}

func (c *Config) has(role string) bool { return slices.Contains(c.Roles, role) }

// listenFlags are the flags of the addresses of this process.
func (c *Config) listenFlags() map[string]string {
	flags := map[string]string{}
	if c.has(RoleAPI) {
		flags["--http-addr"], flags["--grpc-addr"] = c.HTTPAddr, c.GRPCAddr
	}
	if c.MetricsAddr != "" {
		flags["--metrics-addr"] = c.MetricsAddr
	}
	return flags
}

// checkListen refuses to carry tokens over a network in the clear by accident.
func (c *Config) checkListen() error {
	for flag, address := range c.listenFlags() {
		if _, _, err := net.SplitHostPort(address); err != nil {
			return fmt.Errorf("%s: %q is not host:port", flag, address)
		}
		if c.exposed(address) && !c.InsecureListen {
			return fmt.Errorf("%s: %s can be reached from other machines and tokens would travel unprotected: give --tls-cert and --tls-key, or --insecure-listen behind a TLS proxy", flag, address)
		}
	}
	return nil
}

// exposed reports whether others can read what travels to an address.
func (c *Config) exposed(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && c.TLSCert == "" && host != "localhost" && (ip == nil || !ip.IsLoopback())
}

// warnListen says what the operator has allowed.
func (c *Config) warnListen(logger *slog.Logger) {
	for flag, address := range c.listenFlags() {
		if c.exposed(address) {
			logger.Warn("listening without TLS beyond this machine: tokens and backups travel unprotected", "flag", flag, "address", address)
		}
	}
}

// logger writes to Stderr as configured.
func (c *Config) logger() (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return nil, fmt.Errorf("--log-level: %q is none of debug, info, warn, error", c.LogLevel)
	}
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: legible}
	file, isFile := c.Stderr.(*os.File)
	switch c.LogFormat {
	case "text":
		return slog.New(slog.NewTextHandler(c.Stderr, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(c.Stderr, options)), nil
	case "auto":
		if isFile && term.IsTerminal(int(file.Fd())) {
			return slog.New(slog.NewTextHandler(c.Stderr, options)), nil
		}
		return slog.New(slog.NewJSONHandler(c.Stderr, options)), nil
	}
	return nil, fmt.Errorf("--log-format: %q is none of auto, text, json", c.LogFormat)
}

// legible writes durations as people and log stores read them (1.5s), in every format:
// JSON would count nanoseconds.
func legible(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().Round(time.Microsecond).String())
	}
	return a
}
