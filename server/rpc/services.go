package rpc

import (
	"context"
	"iter"
	"time"

	"google.golang.org/grpc"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/internal/audit"
	"github.com/dataguardian/dataguardian/internal/auth"
	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/dashboard"
	"github.com/dataguardian/dataguardian/internal/datasource"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/health"
	"github.com/dataguardian/dataguardian/internal/location"
	"github.com/dataguardian/dataguardian/internal/notification"
	"github.com/dataguardian/dataguardian/internal/paging"
)

// Datasources is what the RPCs ask of datasources; *datasource.Service has it.
type Datasources interface {
	Create(ctx context.Context, n datasource.New) (datasource.Datasource, error)
	Get(ctx context.Context, id string) (datasource.Datasource, error)
	List(ctx context.Context, f datasource.Filter, p paging.Page) ([]datasource.Datasource, int, error)
	Update(ctx context.Context, id string, p datasource.Patch) (datasource.Datasource, error)
	Delete(ctx context.Context, id string) error
	Test(ctx context.Context, id string) (datasource.TestResult, error)
	Schema(ctx context.Context, id string) ([]datasource.Schema, error)
	Query(ctx context.Context, id, sql string) (datasource.Result, error)
}

// Locations is what the RPCs ask of storage locations; *location.Service has it.
type Locations interface {
	Create(ctx context.Context, n location.New) (location.Location, error)
	Get(ctx context.Context, id string) (location.Location, error)
	List(ctx context.Context, f location.Filter, p paging.Page) ([]location.Location, int, error)
	Update(ctx context.Context, id string, p location.Patch) (location.Location, error)
	Delete(ctx context.Context, id string) error
	Test(ctx context.Context, id string) (location.TestResult, error)
	TestConfig(ctx context.Context, t location.Type, config map[string]any) (location.TestResult, error)
}

// Backups is what the RPCs ask of jobs and backups; *backup.Service has it.
type Backups interface {
	CreateJob(ctx context.Context, n backup.NewJob) (backup.Job, error)
	GetJob(ctx context.Context, id string) (backup.Job, error)
	ListJobs(ctx context.Context, f backup.JobFilter, p paging.Page) ([]backup.Job, int, error)
	UpdateJob(ctx context.Context, id string, p backup.JobPatch) (backup.Job, error)
	DeleteJob(ctx context.Context, id string) error
	PreviewRetention(ctx context.Context, jobID string) (backup.Preview, error)
	Datasources(ctx context.Context) ([]backup.DatasourceBackups, error)
	Backups(ctx context.Context, datasourceID string) ([]backup.Backup, error)
}

// Executions is what the RPCs ask of executions; *execution.Service has it.
type Executions interface {
	RunJob(ctx context.Context, jobID string) (execution.Execution, error)
	Get(ctx context.Context, id string) (execution.Execution, error)
	List(ctx context.Context, f execution.Filter, p paging.Page) ([]execution.Execution, int, error)
	Delete(ctx context.Context, id string, force bool) error
	Logs(ctx context.Context, id string) (execution.Execution, error)
	Follow(ctx context.Context, id string, after int64) iter.Seq2[execution.Event, error]
	Cancel(ctx context.Context, id string) (execution.Status, error)
}

// Watches is what the RPCs ask about all executions at once; an *execution.Board
// has it.
type Watches interface {
	Watch(ctx context.Context, r execution.WatchRequest) iter.Seq2[execution.WatchEvent, error]
}

// Restores is what the RPCs ask of work on backups that exist; *execution.Service
// has it.
type Restores interface {
	Restore(ctx context.Context, backupID string, o execution.RestoreOrder) (execution.Execution, datasource.Datasource, error)
	VerifyBackup(ctx context.Context, backupID, locationID, identity string) (execution.Execution, error)
	RetryUpload(ctx context.Context, id string) (execution.Execution, error)
}

// Downloads opens stored backups; a vault has it.
type Downloads interface {
	Download(ctx context.Context, executionID, locationID string) (*backup.Download, error)
}

// Notifications is what the RPCs ask of notifications; a notification.Store has it.
type Notifications interface {
	List(ctx context.Context, f notification.Filter, p paging.Page) (rows []notification.Notification, total, unread int, err error)
	MarkRead(ctx context.Context, id string) (notification.Notification, error)
	MarkAllRead(ctx context.Context) (int, error)
	Delete(ctx context.Context, id string) error
}

// NotificationFeed is what the RPCs ask of new notifications; a *notification.Feed
// has it.
type NotificationFeed interface {
	Watch(ctx context.Context, r notification.WatchRequest) iter.Seq2[notification.WatchEvent, error]
}

// Channels is what the RPCs ask of notification channels; *notification.Channels
// has it.
type Channels interface {
	Types() []notification.ChannelType
	Create(ctx context.Context, n notification.NewChannel) (notification.Channel, error)
	Get(ctx context.Context, id string) (notification.Channel, error)
	List(ctx context.Context, p paging.Page) ([]notification.Channel, int, error)
	Update(ctx context.Context, id string, p notification.ChannelPatch) (notification.Channel, error)
	Delete(ctx context.Context, id string) error
	Test(ctx context.Context, id string) (sent, err error)
	Deliveries(ctx context.Context, id string, status notification.DeliveryStatus, p paging.Page) ([]notification.Delivery, int, error)
}

// Users is what the RPCs ask of users and sessions; *auth.Service has it.
type Users interface {
	HasUser(ctx context.Context) (bool, error)
	Setup(ctx context.Context, username, password, address string) (auth.User, string, error)
	Login(ctx context.Context, username, password, address string) (auth.User, string, error)
	// TurnsAway returns what Login would answer to everybody from an address; nil: it
	// depends on more.
	TurnsAway(address string) error
	Logout(ctx context.Context, p auth.Principal) error
	ChangePassword(ctx context.Context, p auth.Principal, current, password, address string) error
	CreateUser(ctx context.Context, username, password string, role auth.Role) (auth.User, error)
	ListUsers(ctx context.Context, p paging.Page) ([]auth.User, int, error)
	UpdateUser(ctx context.Context, id string, role *auth.Role, password *string) (auth.User, error)
	DeleteUser(ctx context.Context, id string) error
}

// AuditLogs is what the RPCs ask of the audit log; *audit.Trail has it.
type AuditLogs interface {
	List(ctx context.Context, f audit.Filter, p paging.Page) ([]audit.Entry, int, error)
}

// Keys changes the key that encrypts credentials.
type Keys interface {
	Rotate(ctx context.Context, prepareOnly, dropOld bool) (auth.KeyRotation, error)
}

// Tokens is what the RPCs ask of API tokens; *auth.Service has it.
type Tokens interface {
	Create(ctx context.Context, name string, role auth.Role, scope []string, expires *time.Time) (auth.Token, string, error)
	List(ctx context.Context, p paging.Page) ([]auth.Token, int, error)
	Revoke(ctx context.Context, id string) error
}

// Health is what the RPCs ask about the state of everything; *health.Service has it.
type Health interface {
	Get(ctx context.Context) health.Report
	Datasources(ctx context.Context, f health.CheckFilter, p paging.Page) ([]health.Check, int, error)
	Storages(ctx context.Context, f health.CheckFilter, p paging.Page) ([]health.Check, int, error)
}

// Dashboard is what the RPCs ask for one page of everything; *dashboard.Service
// has it.
type Dashboard interface {
	Overview(ctx context.Context) (dashboard.Overview, error)
}

// Services is the domain behind the RPCs. All are required.
type Services struct {
	Datasources   Datasources
	Locations     Locations
	Files         Files
	Imports       Imports
	Backups       Backups
	Executions    Executions
	Watches       Watches
	Restores      Restores
	Downloads     Downloads
	Notifications Notifications
	Feed          NotificationFeed
	Channels      Channels
	Tokens        Tokens
	Users         Users
	Keys          Keys
	Audit         AuditLogs
	Health        Health
	Dashboard     Dashboard
	// OIDC says that people can log in with an OpenID provider.
	OIDC bool
}

// Register adds every service of the contract to a gRPC server. What has no
// handler yet is in Pending.
func Register(s grpc.ServiceRegistrar, domain Services) {
	pb.RegisterDatasourceServiceServer(s, &datasourceServer{datasources: domain.Datasources})
	pb.RegisterStorageLocationServiceServer(s, &locationServer{locations: domain.Locations, files: domain.Files, imports: domain.Imports})
	pb.RegisterBackupServiceServer(s, &backupServer{backups: domain.Backups, executions: domain.Executions, restores: domain.Restores, downloads: domain.Downloads})
	pb.RegisterExecutionServiceServer(s, &executionServer{executions: domain.Executions, watches: domain.Watches, restores: domain.Restores})
	pb.RegisterNotificationServiceServer(s, &notificationServer{notifications: domain.Notifications, channels: domain.Channels, feed: domain.Feed})
	pb.RegisterAuthServiceServer(s, &authServer{tokens: domain.Tokens, users: domain.Users, keys: domain.Keys, oidc: domain.OIDC})
	pb.RegisterHealthServiceServer(s, &healthServer{health: domain.Health})
	pb.RegisterDashboardServiceServer(s, &dashboardServer{dashboard: domain.Dashboard})
	pb.RegisterAuditServiceServer(s, &auditServer{trail: domain.Audit})
}
