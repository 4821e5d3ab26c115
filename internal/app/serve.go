package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dataguardian/dataguardian/docs"
	"github.com/dataguardian/dataguardian/internal/demo"
	"github.com/dataguardian/dataguardian/internal/metrics"
	"github.com/dataguardian/dataguardian/internal/store"
	"github.com/dataguardian/dataguardian/server"
	"github.com/dataguardian/dataguardian/server/rpc"
	"github.com/dataguardian/dataguardian/worker"
)

// Names of the files that tell clients on this machine where to go.
const (
	endpointsFile  = "endpoints.json"
	adminTokenFile = "admin-token"
)

// Serve runs the roles of one process until ctx ends.
func Serve(ctx context.Context, c Config) (err error) {
	started := time.Now()
	if err := c.complete(); err != nil {
		return err
	}
	if err := isolate(c); err != nil {
		return err
	}
	listen, err := bind(c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, listen.close()) }()
	f, err := lay(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	d := newDomain(f, started)
	m := metrics.New(f.config.Version)
	if f.config.has(RoleAPI) {
		m.Watch(d.health) // once per control plane is enough
	}
	services := append(f.services(), workers(f, d, m)...)
	if listen.metrics != nil {
		page, err := f.metricsPage(m, listen)
		if err != nil {
			return err
		}
		services = append(services, page)
	}
	if f.config.has(RoleAPI) {
		api, err := f.api(ctx, d, m, listen)
		if err != nil {
			return err
		}
		services = append(append(services, f.feed(d)...), worker.Loop("load sampler", d.sampler.Run), worker.Loop("board of executions", d.board.Run), api,
			worker.Loop("audit log", d.trail.Run), worker.Loop("sessions", f.sessions(d)))
		if f.config.Demo {
			services = append(services, worker.Loop("demo", f.demo(d, api)))
		}
	}
	if !f.config.has(RoleAPI) { // the API says so when it listens
		f.logger.Info("ready", "roles", f.config.Roles, "version", f.config.Version)
	}
	return worker.Run(ctx, services...)
}

// api is the server with the files that lead to it.
type api struct {
	*server.Server
	dataDir string
	ready   func()
}

func (f *foundation) api(ctx context.Context, d *domain, m *metrics.Metrics, listen listeners) (*api, error) {
	f.config.warnListen(f.logger)
	if err := f.adminToken(ctx, d); err != nil {
		return nil, err
	}
	f.sealChannels(ctx, d)
	metricsToken, err := readSecretFile(f.config.MetricsToken)
	if err != nil {
		return nil, fmt.Errorf("--metrics-token-file: %w", err)
	}
	proxies, err := f.config.trustedProxies()
	if err != nil {
		return nil, err
	}
	provider, err := f.oidc(d)
	if err != nil {
		return nil, err
	}
	config := server.Config{
		HTTPListener: listen.http, GRPCListener: listen.grpc, CertFile: f.config.TLSCert, KeyFile: f.config.TLSKey,
		ClientCAFile: f.config.TLSClientCA, CertificateUsers: f.config.TLSClientUsers, TrustedProxies: proxies,
		Services: rpc.Services{
			Datasources: d.datasources, Locations: d.locations, Files: d.files, Imports: d.imports, Backups: d.backups, Executions: d.executions,
			Watches: d.board, Restores: d.executions, Downloads: d.vault,
			Notifications: f.store.Notifications(), Feed: d.feed, Channels: d.channels, Tokens: d.access, Health: d.health, Dashboard: d.dashboard,
			Users: d.access, Keys: f.store, Audit: d.trail, OIDC: provider != nil,
		},
		Authenticator: d.access, Scopes: f.store.Reach(), Trail: d.trail, OIDC: provider, Logger: f.logger, Version: f.config.Version, OpenAPI: docs.OpenAPI(),
		Metrics: m.Handler(), MetricsToken: metricsToken, Reflection: f.config.Reflection,
	}
	if f.traces != nil {
		config.Trace = &server.Trace{HTTP: f.traces.HTTP, Client: f.traces.Client(), Server: f.traces.Server()}
	}
	s, err := server.New(config)
	if err != nil {
		return nil, err
	}
	a := &api{Server: s, dataDir: f.config.DataDir}
	a.ready = func() {
		http, grpc := s.Addrs()
		f.logger.Info("ready", "roles", f.config.Roles, "http", http.String(), "grpc", grpc.String(), "version", f.config.Version)
	}
	return a, nil
}

// metricsPage serves the metrics of a process on an address of their own.
func (f *foundation) metricsPage(m *metrics.Metrics, listen listeners) (worker.Service, error) {
	f.config.warnListen(f.logger)
	token, err := readSecretFile(f.config.MetricsToken)
	if err != nil {
		return nil, fmt.Errorf("--metrics-token-file: %w", err)
	}
	page, err := server.NewMetrics(server.Config{
		HTTPListener: listen.metrics, CertFile: f.config.TLSCert, KeyFile: f.config.TLSKey, ClientCAFile: f.config.TLSClientCA, Logger: f.logger, Metrics: m.Handler(), MetricsToken: token,
	})
	if err != nil {
		return nil, err
	}
	f.logger.Info("metrics are served", "address", listen.metrics.Addr().String())
	return worker.Loop("metrics", page), nil
}

func readSecretFile(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	raw, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if err != nil {
		return "", err
	}
	text := strings.TrimSpace(string(raw))
	if text == "" {
		return "", fmt.Errorf("%s is empty", path)
	}
	return text, nil
}

// Name implements worker.Service.
func (a *api) Name() string { return "API" }

// Run implements worker.Service.
func (a *api) Run(ctx context.Context) error {
	path := filepath.Join(a.dataDir, endpointsFile)
	http, grpc := a.Addrs()
	content, err := json.Marshal(map[string]string{"http": reachable(http), "grpc": reachable(grpc)})
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, append(content, '\n'), 0o600); err != nil {
		a.Close()
		return err
	}
	a.ready()
	return errors.Join(a.Server.Run(ctx), os.Remove(path))
}

// reachable turns the wildcard address into one that clients on this machine can dial.
func reachable(address net.Addr) string {
	tcp, ok := address.(*net.TCPAddr)
	if !ok || !tcp.IP.IsUnspecified() {
		return address.String()
	}
	return net.JoinHostPort("localhost", fmt.Sprint(tcp.Port))
}

// adminToken makes the first token of an empty control plane.
func (f *foundation) adminToken(ctx context.Context, d *domain) error {
	secret, err := d.access.EnsureAdmin(ctx)
	if err != nil || secret == "" {
		return err
	}
	path := filepath.Join(f.config.DataDir, adminTokenFile)
	if err := os.WriteFile(path, []byte(secret+"\n"), 0o600); err != nil {
		return fmt.Errorf("the administrator's token was made but could not be kept: %w", err)
	}
	f.logger.Info("made the administrator's API token", "path", path)
	return nil
}

// demo fills an empty control plane, runs a first backup and says what to try.
func (f *foundation) demo(d *domain, a *api) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		sample := demo.Demo{
			Cluster: f.cluster, Datasources: d.datasources, Locations: d.locations, Jobs: d.backups, Executions: d.executions, DataDir: f.config.DataDir,
		}
		if err := f.monitor.WaitUp(ctx); err != nil {
			return err
		}
		result, err := sample.Prepare(ctx)
		if err != nil {
			return fmt.Errorf("prepare the demo: %w", err)
		}
		if err := sample.FirstBackup(ctx, result.Job); err != nil {
			return fmt.Errorf("run the first backup: %w", err)
		}
		http, grpc := a.Addrs()
		if err := demo.Welcome(f.config.Stdout, f.config.DataDir, reachable(http), reachable(grpc)); err != nil {
			return err
		}
		<-ctx.Done()
		return context.Cause(ctx)
	}
}

// Migrate brings the schema of the database up to date.
func Migrate(ctx context.Context, c Config) error {
	if c.DatabaseURL == "" {
		return fmt.Errorf("--database-url is required: the private PostgreSQL is migrated by \"dataguardian serve\" itself")
	}
	logger, err := c.logger()
	if err != nil {
		return err
	}
	if err := isolate(c); err != nil {
		return err
	}
	s, err := store.Open(ctx, store.Config{DSN: c.DatabaseURL, Logger: logger})
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.Migrate(ctx); err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.Stdout, "The database is up to date.")
	return err
}

// Worker runs worker roles until ctx ends.
func Worker(ctx context.Context, c Config) error {
	if c.DatabaseURL == "" || c.RedisURL == "" {
		return fmt.Errorf("--database-url and --redis-url are required: a worker joins a control plane that others can reach")
	}
	if slices.Contains(c.Roles, RoleAPI) {
		return fmt.Errorf("--roles: the API runs with \"dataguardian serve\"")
	}
	return Serve(ctx, c)
}
