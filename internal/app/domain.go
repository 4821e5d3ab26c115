package app

import (
	"context"
	"time"

	"github.com/dataguardian/dataguardian/internal/artifact"
	"github.com/dataguardian/dataguardian/internal/audit"
	"github.com/dataguardian/dataguardian/internal/auth"
	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/courier"
	"github.com/dataguardian/dataguardian/internal/dashboard"
	"github.com/dataguardian/dataguardian/internal/datasource"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/engine/mysql"
	"github.com/dataguardian/dataguardian/internal/engine/postgres"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/explorer"
	"github.com/dataguardian/dataguardian/internal/health"
	"github.com/dataguardian/dataguardian/internal/location"
	"github.com/dataguardian/dataguardian/internal/machine"
	"github.com/dataguardian/dataguardian/internal/netguard"
	"github.com/dataguardian/dataguardian/internal/notification"
	"github.com/dataguardian/dataguardian/internal/vault"
)

// domain is what the control plane can do, on one foundation.
type domain struct {
	engines     map[engine.Type]engine.Engine
	vault       *vault.Vault
	datasources *datasource.Service
	locations   *location.Service
	files       *explorer.Explorer
	imports     *vault.Importer
	backups     *backup.Service
	executions  *execution.Service
	courier     *courier.Courier
	channels    *notification.Channels
	feed        *notification.Feed
	board       *execution.Board
	access      *auth.Service
	trail       *audit.Trail
	health      *health.Service
	dashboard   *dashboard.Service
	sampler     *machine.Sampler
}

func newDomain(f *foundation, started time.Time) *domain {
	s := f.store
	sql := mysql.New(mysql.Config{BinDirs: f.config.MySQLBin})
	engines := map[engine.Type]engine.Engine{
		engine.Postgres: postgres.New(postgres.Config{BinDirs: f.config.PostgresBin}),
		engine.MySQL:    sql,
		engine.MariaDB:  sql,
	}
	open := opener{copies: s.Locations().InUse}
	messenger := courier.New(netguard.Policy{})
	sampler := machine.NewSampler(started)
	v := vault.New(s.Catalogue(), s.Locations(), open, f.logger)
	var parent func(ctx context.Context) string
	if f.traces != nil {
		parent = f.traces.Parent
	}
	return &domain{
		engines:     engines,
		vault:       v,
		datasources: datasource.NewService(s.Datasources(), engines),
		locations:   location.NewService(s.Locations(), open, storageTypes...),
		files:       explorer.New(v, s.Holdings()),
		imports:     vault.NewImporter(v, s.Datasources(), s.Imports()),
		backups: backup.NewService(backup.Config{
			Jobs: s.Jobs(), Catalogue: s.Catalogue(), Locations: s.Locations(), Inspector: v,
			CheckRecipient: func(recipient string) error { return artifact.CheckRecipients([]string{recipient}) },
		}),
		executions: execution.NewService(execution.Config{
			Store: s.Executions(), Jobs: s.Jobs(), Datasources: s.Datasources(), Catalogue: s.Catalogue(), Remover: v,
			Engines: engines, Queue: f.wakeups(), Hub: f.hub, Logger: f.logger, Trace: parent,
		}),
		board: execution.NewBoard(execution.BoardConfig{
			Changes: s.Changes(), Reader: s.Executions(), Hub: f.hub, Logger: f.logger,
		}),
		courier:  messenger,
		channels: notification.NewChannels(s.Channels(), messenger),
		feed:     notification.NewFeed(s.Notifications(), notification.FeedConfig{}),
		access: auth.NewService(auth.Config{
			Tokens: s.Tokens(), Users: s.Users(), Sessions: s.Sessions(), Tries: s.Tries(),
			SessionLifetime: f.config.SessionLifetime, SessionIdle: f.config.SessionIdle,
		}),
		trail:  audit.NewTrail(s.Audit(), f.config.AuditKeep, f.logger),
		health: health.NewService(s.Health(), f.monitor, f.config.Version, started),

		dashboard: dashboard.NewService(s.Dashboard(), f.monitor, sampler),
		sampler:   sampler,
	}
}
