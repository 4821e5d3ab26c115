package app

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/dataguardian/dataguardian/internal/embedded"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/logs"
	"github.com/dataguardian/dataguardian/internal/queue"
	"github.com/dataguardian/dataguardian/internal/secret"
	"github.com/dataguardian/dataguardian/internal/store"
	"github.com/dataguardian/dataguardian/internal/tracing"
	"github.com/dataguardian/dataguardian/worker"
)

// metadataDatabase is the control plane's own database in the private cluster.
const metadataDatabase = "dataguardian"

// stopTimeout bounds the stop of the private PostgreSQL.
const stopTimeout = 30 * time.Second

// traceTimeout bounds the sending of the last traces.
const traceTimeout = 3 * time.Second

// foundation is what every process stands on.
type foundation struct {
	config  Config
	logger  *slog.Logger
	cluster *embedded.Cluster // nil with --database-url
	box     *secret.Box
	store   *store.Store
	client  rueidis.Client
	queue   *queue.Queue
	monitor *queue.Monitor
	hub     *logs.RedisHub
	noted   chan struct{}    // notifications may have been written
	traces  *tracing.Tracing // nil: nothing is traced
	spoolID string
	newKey  bool // this start has made the key file
	closers []func() error
}

// lay brings the foundation up by a complete configuration. On an error everything
// is closed again.
func lay(ctx context.Context, c Config) (_ *foundation, err error) {
	logger, err := c.logger()
	if err != nil {
		return nil, err
	}
	f := &foundation{config: c, logger: logger, noted: make(chan struct{}, 1)}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.close())
		}
	}()
	if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
		return nil, err
	}
	if f.spoolID, err = identify(f.spoolDir()); err != nil {
		return nil, fmt.Errorf("the spool in %s cannot be used: %w", f.spoolDir(), err)
	}
	if err := f.trace(ctx); err != nil {
		return nil, err
	}
	dsn, err := f.database(ctx)
	if err != nil {
		return nil, err
	}
	if f.box, err = f.keys(); err != nil {
		return nil, err
	}
	if f.store, err = store.Open(ctx, store.Config{DSN: dsn, Box: f.box, Logger: logger, Noted: f.note}); err != nil {
		return nil, err
	}
	f.onClose(func() error { f.store.Close(); return nil })
	if err := f.schema(ctx); err != nil {
		return nil, f.withdrawKey(err)
	}
	if f.newKey {
		logger.Info("made the key file that encrypts stored credentials: keep a copy in a safe place", "path", c.KeyFile)
	}
	return f, f.redis(ctx)
}

func (f *foundation) onClose(closer func() error) { f.closers = append(f.closers, closer) }

// close undoes lay in reverse order.
func (f *foundation) close() error {
	var failures []error
	for i := len(f.closers) - 1; i >= 0; i-- {
		failures = append(failures, f.closers[i]())
	}
	f.closers = nil
	return errors.Join(failures...)
}

// trace begins to send traces when the environment says where.
func (f *foundation) trace(ctx context.Context) (err error) {
	if f.traces, err = tracing.FromEnvironment(ctx, f.config.Version); err != nil || f.traces == nil {
		return err
	}
	f.onClose(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), traceTimeout)
		defer cancel()
		if err := f.traces.Close(ctx); err != nil { // a collector that is away must not spoil an orderly end
			f.logger.Warn("the last traces were not sent", "error", err)
		}
		return nil
	})
	return nil
}

// database returns how to reach the metadata, starting the private cluster when
// there is no other.
func (f *foundation) database(ctx context.Context) (string, error) {
	if f.config.DatabaseURL != "" {
		return f.config.DatabaseURL, nil
	}
	cluster, err := embedded.Start(ctx, embedded.Config{DataDir: f.config.DataDir, Logger: f.logger})
	if err != nil {
		return "", err
	}
	f.cluster = cluster
	f.onClose(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		return cluster.Stop(ctx)
	})
	return cluster.DSN(metadataDatabase), cluster.CreateDatabase(ctx, metadataDatabase)
}

// keys loads the key file; the single-node default makes one on the first start.
func (f *foundation) keys() (*secret.Box, error) {
	_, err := os.Lstat(f.config.KeyFile) // a link that leads nowhere is told as such
	if errors.Is(err, fs.ErrNotExist) && f.cluster != nil {
		f.newKey = true
		return secret.Create(f.config.KeyFile)
	}
	return secret.Load(f.config.KeyFile)
}

// withdrawKey removes a key file of this start that turned out to be needless: the
// stored credentials have another key, whose file is missed and must find its place. It
// returns what there is to tell.
func (f *foundation) withdrawKey(why error) error {
	if !f.newKey || errs.CodeOf(why) != errs.CodeWrongKey {
		return why
	}
	return errors.Join(errs.New(errs.NotFound, secret.CodeKeyFile,
		"the key file %s does not exist, and the stored credentials were encrypted with its keys; put it back from a copy, then start again", f.config.KeyFile),
		os.Remove(f.config.KeyFile))
}

// CreateKey makes a new key file; an existing one is never replaced.
func CreateKey(path string) error {
	_, err := secret.Create(path)
	return err
}

// schema brings the private database up to date; an external one must be, so that
// nobody's database changes by a mere start.
func (f *foundation) schema(ctx context.Context) error {
	if f.cluster != nil {
		if err := f.store.Migrate(ctx); err != nil {
			return err
		}
		return f.store.CheckKey(ctx)
	}
	pending, err := f.store.Pending(ctx)
	if err != nil {
		return err
	}
	if pending > 0 {
		return errs.New(errs.Conflict, errs.CodeConflict, "the database lacks %d migrations; run \"dataguardian migrate\" with the same --database-url first", pending)
	}
	return f.store.CheckKey(ctx)
}

// redis connects to Redis, or starts the one of this process.
func (f *foundation) redis(ctx context.Context) error {
	var options rueidis.ClientOption
	var err error
	if f.config.RedisURL == "" {
		own, err := embedded.StartRedis()
		if err != nil {
			return err
		}
		f.onClose(own.Close)
		options = own.ClientOption()
	} else if options, err = queue.ParseURL(f.config.RedisURL); err != nil {
		return err
	}
	if f.client, err = queue.Connect(options); err != nil {
		return err
	}
	f.onClose(func() error { f.client.Close(); return nil })
	f.queue = queue.New(f.client, queue.Config{})
	f.monitor = queue.NewMonitor(f.client, queue.MonitorConfig{Logger: f.logger})
	f.monitor.Ask(ctx)
	f.hub = logs.NewHub(f.client, logs.HubConfig{})
	return nil
}

// services are the parts of the foundation that live on their own.
func (f *foundation) services() []worker.Service {
	services := []worker.Service{
		worker.Loop("Redis monitor", f.monitor.Run),
		worker.Loop("log hub", f.hub.Run),
		worker.Loop("notification announcer", f.announce),
	}
	if f.cluster != nil {
		services = append([]worker.Service{worker.Loop("private PostgreSQL", f.watchCluster)}, services...)
	}
	return services
}

// watchCluster fails when the private PostgreSQL ends by itself.
func (f *foundation) watchCluster(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-f.cluster.Done():
		return f.cluster.Err()
	}
}

// wakeups is the queue as workers and callers see it.
type wakeups struct {
	*queue.Queue
	*queue.Monitor
}

func (f *foundation) wakeups() wakeups { return wakeups{f.queue, f.monitor} }

// spoolMark holds the id of a spool: a retried upload goes to the process that
// has its dump, whatever the machine is called by then.
const spoolMark = ".id"

// identify returns the id of the spool in dir, making both when they are absent.
func identify(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	path := filepath.Join(dir, spoolMark)
	raw, err := os.ReadFile(path) //nolint:gosec // below our own data directory
	if err == nil && len(raw) > 0 {
		return strings.TrimSpace(string(raw)), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return mark(path, err == nil)
}

// mark writes a new id to path whole or not at all. Of several processes that do so
// at the same time all return the id of the first. Only an empty mark is replaced.
func mark(path string, replace bool) (string, error) {
	f, err := os.CreateTemp(filepath.Dir(path), spoolMark+".*")
	if err != nil {
		return "", err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // it is gone when it was renamed
	id := rand.Text()
	_, err = f.WriteString(id + "\n")
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", err
	}
	if replace {
		return id, os.Rename(f.Name(), path)
	}
	switch err := os.Link(f.Name(), path); {
	case err == nil:
		return id, nil
	case !errors.Is(err, fs.ErrExist): // a file system without links
		return id, os.Rename(f.Name(), path)
	}
	raw, err := os.ReadFile(path) //nolint:gosec // below our own data directory
	return strings.TrimSpace(string(raw)), err
}

// spoolDir is where parts wait for their upload.
func (f *foundation) spoolDir() string { return filepath.Join(f.config.DataDir, "spool") }
