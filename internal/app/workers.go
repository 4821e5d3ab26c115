package app

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"time"

	"github.com/dataguardian/dataguardian/internal/artifact"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/health"
	"github.com/dataguardian/dataguardian/internal/logs"
	"github.com/dataguardian/dataguardian/internal/metrics"
	"github.com/dataguardian/dataguardian/worker"
	"github.com/dataguardian/dataguardian/worker/attempt"
	backupworker "github.com/dataguardian/dataguardian/worker/backup"
	"github.com/dataguardian/dataguardian/worker/cleanup"
	healthworker "github.com/dataguardian/dataguardian/worker/health"
	restoreworker "github.com/dataguardian/dataguardian/worker/restore"
	"github.com/dataguardian/dataguardian/worker/scheduler"
)

// reportInterval is how often workers say how they do.
const reportInterval = 5 * time.Second

// workers returns the worker roles of this process, the registry that reports
// them first.
func workers(f *foundation, d *domain, m *metrics.Metrics) []worker.Service {
	registry := worker.NewRegistry(f.store.Health(), reportInterval, f.logger)
	services := []worker.Service{registry}
	desk := attempt.Desk{Executions: f.store.Executions(), Hub: f.hub, Terminal: logs.NewTerminal(f.config.Stdout), Meter: m, Logger: f.logger}
	if f.traces != nil {
		desk.Tracer = f.traces
	}
	if f.config.has(RoleHealth) {
		services = append(services, &healthworker.Checker{
			Datasources: f.store.Datasources(), Engines: d.engines, Vault: d.vault,
			Store: f.store.Health(), Entry: registry.Register(health.RoleHealth), Logger: f.logger, Rules: health.Rules{
				Interval: f.config.HealthInterval, LowBelow: f.config.LowSpace,
			},
		})
	}
	if f.config.has(RoleCleanup) {
		services = append(services, &cleanup.Cleaner{
			Jobs: f.store.Jobs(), Catalogue: f.store.Catalogue(), Locations: f.store.Locations(), Vault: d.vault,
			Restores: f.store.Restores(), Datasources: f.store.Datasources(), Engines: d.engines,
			Spool: spool{dir: f.spoolDir(), executions: f.store.Executions()}, Health: f.store.Health(),
			Entry: registry.Register(health.RoleCleanup), Logger: f.logger, Interval: f.config.CleanupInterval, Grace: f.config.OrphanGrace,
			KeepChecks: f.config.HealthKeep, Notes: f.store.Notifications(), KeepNotes: f.config.NotificationKeep,
		})
	}
	if f.config.has(RoleScheduler) {
		services = append(services, &scheduler.Scheduler{
			Jobs: f.store.Jobs(), Executions: f.store.Executions(), Queue: f.wakeups(), Hub: f.hub,
			Entry: registry.Register(health.RoleScheduler), Meter: m, Logger: f.logger, Sweep: f.config.SweepInterval,
			Stranded: f.config.RetryWait,
		})
	}
	if f.config.has(RoleScheduler) || f.config.has(RoleHealth) {
		services = append(services, carrier(f, d, m, registry.Register(health.RoleOutbox)))
	}
	if f.config.has(RoleRestore) {
		services = append(services, restoreClaimer(f, d, desk, registry, m))
	}
	if f.config.has(RoleBackup) {
		services = append(services, backupClaimer(f, d, desk, registry, m))
	}
	if f.config.has(RoleBackup) && !f.config.has(RoleCleanup) { // no other process reaches this machine's spools
		services = append(services, &cleanup.SpoolSweeper{Spool: spool{dir: f.spoolDir(), executions: f.store.Executions()}, Logger: f.logger, Interval: f.config.CleanupInterval})
	}
	return services
}

func backupClaimer(f *foundation, d *domain, desk attempt.Desk, registry *worker.Registry, m *metrics.Metrics) worker.Service {
	runner := &backupworker.Runner{
		Desk: desk, Jobs: f.store.Jobs(), Datasources: f.store.Datasources(), Catalogue: f.store.Catalogue(),
		Engines: d.engines, Vault: d.vault, SpoolDir: f.spoolDir(), SpoolID: f.spoolID, StallTimeout: f.config.StallTimeout, SpoolKeep: f.config.SpoolKeep,
		UploadAttempts: f.config.UploadAttempts, UploadBackoff: f.config.UploadBackoff,
	}
	var tracer worker.Tracer
	if f.traces != nil {
		tracer = f.traces
	}
	entry := registry.Register(health.RoleBackup)
	entry.SetSpool(f.spoolID)
	return &worker.Claimer{
		Label: "backup worker", WorkerID: workerID(), Spool: f.spoolID, Operations: []execution.Operation{execution.Backup}, Concurrency: f.config.Concurrency,
		Timing: f.config.Timing, Store: f.store.Executions(), Queue: f.wakeups(), Entry: entry,
		Limits: execution.Limits{PerHost: f.config.MaxPerHost, PerStorage: f.config.MaxPerStorage}, Meter: m, Tracer: tracer, Logger: f.logger, Work: runner.Work,
	}
}

func restoreClaimer(f *foundation, d *domain, desk attempt.Desk, registry *worker.Registry, m *metrics.Metrics) worker.Service {
	runner := &restoreworker.Runner{
		Desk: desk, Datasources: f.store.Datasources(), Catalogue: f.store.Catalogue(), Restores: f.store.Restores(), Engines: d.engines, Vault: d.vault,
		Identities: identities{dir: f.config.IdentityDir}, StallTimeout: f.config.StallTimeout,
	}
	var tracer worker.Tracer
	if f.traces != nil {
		tracer = f.traces
	}
	return &worker.Claimer{
		Label: "restore worker", WorkerID: workerID(), Operations: []execution.Operation{execution.Restore, execution.Verify}, Concurrency: f.config.Concurrency,
		Timing: f.config.Timing, Store: f.store.Executions(), Queue: f.wakeups(), Entry: registry.Register(health.RoleRestore),
		Limits: execution.Limits{PerHost: f.config.MaxPerHost, PerStorage: f.config.MaxPerStorage}, Meter: m, Tracer: tracer, Logger: f.logger, Work: runner.Work,
	}
}

// workerID tells processes apart, also on one machine and after a restart.
func workerID() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s/%d/%s", host, os.Getpid(), rand.Text()[:6])
}

// spool sweeps the spools of this machine.
type spool struct {
	dir        string
	executions execution.Reader
}

// Sweep implements cleanup.Spool. A spool stays while its execution may need it,
// and while nobody can say whether it does.
func (s spool) Sweep(ctx context.Context) (int, error) {
	before, err := artifact.SpoolUsage(s.dir)
	if err != nil {
		return 0, err
	}
	if _, err := artifact.SweepSpool(s.dir, func(id string) bool { return s.needed(ctx, id) }); err != nil {
		return 0, err
	}
	after, err := artifact.SpoolUsage(s.dir)
	return max(len(before)-len(after), 0), err
}

func (s spool) needed(ctx context.Context, id string) bool {
	e, err := s.executions.Get(ctx, id)
	if err != nil {
		return errs.KindOf(err) != errs.NotFound
	}
	retry := e.Record.UploadRetry
	return !e.Status.Terminal() || retry != nil && retry.Possible && (retry.SpoolExpiresAt == nil || time.Now().Before(*retry.SpoolExpiresAt))
}
