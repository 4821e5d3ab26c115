package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dataguardian/dataguardian/internal/app"
)

func newServe(version string) *cobra.Command {
	c := &cobra.Command{
		Use: "serve", Short: "Run the control plane: API and workers", Args: cobra.NoArgs,
		Long: "Run the control plane. Without --database-url it keeps its own private PostgreSQL under the data directory, without --redis-url it runs an in-process Redis: nothing else has to be installed or configured.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := serverConfig(cmd, version)
			if err != nil {
				return err
			}
			return app.Serve(cmd.Context(), config)
		},
	}
	addServerFlags(c.Flags())
	addListenFlags(c.Flags())
	c.Flags().StringSlice("roles", []string{"all"}, "roles of this process: all, or some of api, "+strings.Join(app.WorkerRoles, ", "))
	c.Flags().Bool("demo", false, "fill an empty control plane with a sample database, job and backup")
	return c
}

func newWorker(version string) *cobra.Command {
	c := &cobra.Command{
		Use: "worker", Short: "Run worker roles without the API", Args: cobra.NoArgs,
		Long: "Run worker roles against the PostgreSQL and Redis of a control plane, on as many machines as needed.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := serverConfig(cmd, version)
			if err != nil {
				return err
			}
			return app.Worker(cmd.Context(), config)
		},
	}
	addServerFlags(c.Flags())
	c.Flags().StringSlice("roles", app.WorkerRoles, "roles of this process")
	return c
}

func newMigrate() *cobra.Command {
	c := &cobra.Command{
		Use: "migrate", Short: "Bring the schema of an external database up to date", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := serverConfig(cmd, version)
			if err != nil {
				return err
			}
			return app.Migrate(cmd.Context(), config)
		},
	}
	addServerFlags(c.Flags())
	return c
}

func newKey() *cobra.Command {
	c := &cobra.Command{Use: "key", Short: "The key that encrypts stored credentials"}
	c.AddCommand(&cobra.Command{
		Use: "create FILE", Short: "Make a new key file; an existing file is never replaced", Args: cobra.ExactArgs(1),
		Long: "Make a new key file, for --key-file with an external database. Every process of a control plane needs the same one. Keep a copy in a safe place: without it the stored credentials are lost.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := app.CreateKey(args[0]); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "Made the key file %s. Keep a copy in a safe place.\n", args[0])
			return err
		},
	})
	c.AddCommand(keyRotate())
	return c
}

func addListenFlags(flags *pflag.FlagSet) {
	flags.String("http-addr", "127.0.0.1:8080", "address of REST; port 0 picks a free one")
	flags.String("grpc-addr", "127.0.0.1:9090", "address of gRPC; port 0 picks a free one")
	flags.StringSlice("trusted-proxies", nil, "addresses or networks of reverse proxies whose X-Forwarded-For and X-Forwarded-Proto are believed (default: none)")
	flags.String("oidc-issuer", "", "URL of the OpenID provider that logs people in (default: passwords only)")
	flags.String("oidc-client-id", "", "id of this server at the provider")
	flags.String("oidc-client-secret-file", "", "file with the secret of this server at the provider")
	flags.String("oidc-redirect-url", "", "URL of /api/auth/oidc/callback as browsers see it")
	flags.String("oidc-name-claim", "preferred_username", "claim with the name of the user")
	flags.String("oidc-role-claim", "groups", "claim that gives the role")
	flags.StringSlice("oidc-scope", nil, "scopes to ask for beside openid and profile, such as groups")
	flags.StringToString("oidc-role", nil, "role for a value of the claim, such as backup-admins=admin; give it again for more")
	flags.Duration("session-lifetime", 7*24*time.Hour, "how long a login lasts")
	flags.Duration("session-idle", 24*time.Hour, "how long a login lasts without use")
	flags.Duration("audit-keep", 365*24*time.Hour, "how long entries of the audit log are kept")
	flags.Bool("grpc-reflection", false, "let gRPC clients ask for the schema")
}

func addServerFlags(flags *pflag.FlagSet) {
	flags.String("database-url", "", "PostgreSQL for the metadata (default: a private one under the data directory)")
	flags.String("redis-url", "", "Redis for wake-ups and live lines (default: in-process)")
	flags.String("key-file", "", "keyset that encrypts stored credentials (default: <data-dir>/keyset.json)")
	flags.String("tls-cert", "", "PEM file with the certificate for everything that listens")
	flags.String("tls-key", "", "PEM file with its key")
	flags.String("tls-client-ca", "", "PEM file with the authorities of client certificates; others cannot connect")
	flags.Bool("tls-client-users", false, "take the common name of a client's certificate as the name of a user")
	flags.Bool("insecure-listen", false, "allow other machines to connect without TLS")
	flags.String("metrics-addr", "", "address of GET /metrics and /health, beside the API or without one (default: with the API only)")
	flags.String("metrics-token-file", "", "file with a token that /metrics asks for")
	flags.String("log-format", "auto", "text, json, or auto: text on a terminal")
	flags.String("log-level", "info", "debug, info, warn or error")
	flags.StringSlice("postgres-bin-dir", nil, "directories with pg_dump and pg_restore (default: the system's)")
	flags.StringSlice("mysql-bin-dir", nil, "directories with the clients of MySQL and MariaDB (default: the system's)")
	flags.String("identity-dir", "", "age identity files that open encrypted backups (default: <data-dir>/identities)")
	flags.Int("concurrency", 2, "backups at once, and restores at once, in this process")
	flags.Int("max-per-host", 0, "executions at once on one datasource host, over all processes; 0 is no limit")
	flags.Int("max-per-storage", 0, "executions at once on one storage, over all processes; 0 is no limit")
	flags.Duration("lease", time.Minute, "how long a worker may be silent before others take over")
	flags.Duration("heartbeat", time.Second, "how often a running execution reports")
	flags.Duration("poll-interval", 3*time.Second, "how often the queue is looked at without a wake-up")
	flags.Duration("shutdown-grace", 30*time.Second, "how long running work may go on at shutdown")
	flags.Duration("sweep-interval", 5*time.Second, "how often silent workers are looked for")
	flags.Duration("cleanup-interval", 5*time.Minute, "how often leftovers are removed")
	flags.Duration("health-interval", time.Minute, "how often datasources and storages are checked")
	flags.Duration("health-keep", 30*24*time.Hour, "how long the results of these checks are kept")
	flags.Duration("notification-keep", 90*24*time.Hour, "how long notifications are kept, read or not")
	flags.Float64("low-space-gb", 1, "available space of a storage below which it is called nearly full")
	flags.Duration("stall-timeout", 10*time.Minute, "how long a dump may produce nothing before it is ended")
	flags.Duration("orphan-grace", 24*time.Hour, "how old objects that nothing owns must be to be removed")
	flags.Int("upload-attempts", 10, "how often an upload is tried, at growing intervals, before its storage counts as failed")
	flags.Duration("upload-backoff", 500*time.Millisecond, "pause before an upload is tried a second time; it doubles with every further try, up to 30s")
	flags.Duration("retry-upload-wait", 30*time.Minute, "how long a retried upload waits for the machine that has its dump")
	flags.Duration("spool-keep", 24*time.Hour, "how long the dump of a failed upload is kept")
}

// serverConfig reads the flags of a command; those it does not have stay empty.
func serverConfig(cmd *cobra.Command, version string) (app.Config, error) {
	r := flagReader{flags: cmd.Flags()}
	c := app.Config{
		DataDir: r.text("data-dir"), HTTPAddr: r.text("http-addr"), GRPCAddr: r.text("grpc-addr"),
		TLSCert: r.text("tls-cert"), TLSKey: r.text("tls-key"), InsecureListen: r.text("insecure-listen") == "true",
		TLSClientCA: r.text("tls-client-ca"), TLSClientUsers: r.text("tls-client-users") == "true",
		TrustedProxies: r.list("trusted-proxies"),
		OIDC: app.OIDCConfig{
			Issuer: r.text("oidc-issuer"), ClientID: r.text("oidc-client-id"), ClientSecretFile: r.text("oidc-client-secret-file"), RedirectURL: r.text("oidc-redirect-url"),
			NameClaim: r.text("oidc-name-claim"), RoleClaim: r.text("oidc-role-claim"), Roles: r.pairs("oidc-role"), Scopes: r.list("oidc-scope"),
		},
		DatabaseURL: r.text("database-url"), RedisURL: r.text("redis-url"), Roles: r.list("roles"), KeyFile: r.text("key-file"),
		LogFormat: r.text("log-format"), LogLevel: r.text("log-level"), MetricsToken: r.text("metrics-token-file"),
		Reflection: r.text("grpc-reflection") == "true", PostgresBin: r.list("postgres-bin-dir"), MySQLBin: r.list("mysql-bin-dir"), Concurrency: r.number("concurrency"), IdentityDir: r.text("identity-dir"),
		Demo:          r.text("demo") == "true",
		SweepInterval: r.interval("sweep-interval"), CleanupInterval: r.interval("cleanup-interval"), HealthInterval: r.interval("health-interval"),
		HealthKeep: r.interval("health-keep"), NotificationKeep: r.interval("notification-keep"), LowSpace: int64(r.quantity("low-space-gb") * (1 << 30)),
		UploadAttempts: r.number("upload-attempts"), MaxPerHost: r.number("max-per-host"), MaxPerStorage: r.number("max-per-storage"),
		UploadBackoff: r.interval("upload-backoff"), RetryWait: r.interval("retry-upload-wait"),
		MetricsAddr:  r.text("metrics-addr"),
		StallTimeout: r.interval("stall-timeout"), SpoolKeep: r.interval("spool-keep"), OrphanGrace: r.interval("orphan-grace"),
		Version: version, Stdout: cmd.OutOrStdout(), Stderr: cmd.ErrOrStderr(),
	}
	c.Timing.Lease, c.Timing.Heartbeat = r.interval("lease"), r.interval("heartbeat")
	c.Timing.Poll, c.Timing.Grace = r.interval("poll-interval"), r.interval("shutdown-grace")
	if cmd.Flags().Lookup("audit-keep") != nil {
		c.SessionLifetime, c.SessionIdle, c.AuditKeep = r.interval("session-lifetime"), r.interval("session-idle"), r.interval("audit-keep")
	}
	return c, r.err
}

// flagReader reads flags and keeps the first error.
type flagReader struct {
	flags *pflag.FlagSet
	err   error
}

func (r *flagReader) text(name string) string {
	if f := r.flags.Lookup(name); f != nil {
		return f.Value.String()
	}
	return ""
}

func (r *flagReader) list(name string) []string {
	if r.flags.Lookup(name) == nil {
		return nil
	}
	values, err := r.flags.GetStringSlice(name)
	r.keep(err)
	return values
}

func (r *flagReader) pairs(name string) map[string]string {
	if r.flags.Lookup(name) == nil {
		return nil
	}
	values, err := r.flags.GetStringToString(name)
	r.keep(err)
	return values
}

func (r *flagReader) number(name string) int {
	n, err := r.flags.GetInt(name)
	r.keep(err)
	return n
}

// quantity reads a number that must not be negative.
func (r *flagReader) quantity(name string) float64 {
	n, err := r.flags.GetFloat64(name)
	r.keep(err)
	if err == nil && n < 0 {
		r.keep(fmt.Errorf("--%s: must not be negative", name))
	}
	return n
}

func (r *flagReader) interval(name string) time.Duration {
	d, err := r.flags.GetDuration(name)
	r.keep(err)
	if err == nil && d <= 0 {
		r.keep(&badInterval{name})
	}
	return d
}

func (r *flagReader) keep(err error) {
	if r.err == nil {
		r.err = err
	}
}

type badInterval struct{ flag string }

func (b *badInterval) Error() string { return "--" + b.flag + ": must be positive, such as 30s" }
