package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/dataguardian/dataguardian/docs"
	"github.com/dataguardian/dataguardian/internal/audit"
	"github.com/dataguardian/dataguardian/internal/auth"
	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/dashboard"
	"github.com/dataguardian/dataguardian/internal/datasource"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/explorer"
	"github.com/dataguardian/dataguardian/internal/health"
	"github.com/dataguardian/dataguardian/internal/location"
	"github.com/dataguardian/dataguardian/internal/machine"
	"github.com/dataguardian/dataguardian/internal/notification"
	"github.com/dataguardian/dataguardian/internal/paging"
	"github.com/dataguardian/dataguardian/server/rpc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	someID    = "5f0c2a54-1f0a-4b53-9f61-5a3b7c0d9e21"
	unknownID = "00000000-0000-4000-8000-000000000000"
)

// tokens are bearer tokens with the name of their role.
type tokens struct{}

func (tokens) Authenticate(_ context.Context, bearer string) (auth.Principal, error) {
	role, ok := auth.ParseRole(bearer)
	if !ok {
		return auth.Principal{}, auth.ErrUnauthenticated
	}
	return auth.Principal{TokenID: someID, Name: bearer, Role: role}, nil
}

func (t tokens) AuthenticateCertificate(ctx context.Context, name string) (auth.Principal, error) {
	return t.Authenticate(ctx, name)
}

func notFound() error {
	return errs.New(errs.NotFound, errs.CodeNotFound, "there is none with this id")
}

// known fails for every id but someID.
func known(id string) error {
	if id != someID {
		return notFound()
	}
	return nil
}

// visible fails as known does for what lies outside of the context's scope; someID is
// in the scope "mine".
func visible(ctx context.Context, id string) error {
	if scope := auth.ScopeOf(ctx); scope != nil && !slices.Contains(scope, "mine") {
		return notFound()
	}
	return known(id)
}

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

type fakeDatasources struct {
	mu     sync.Mutex
	patch  datasource.Patch
	filter datasource.Filter
	page   paging.Page
}

func (f *fakeDatasources) one() datasource.Datasource {
	return datasource.Datasource{ID: someID, Name: "shop", Type: engine.Postgres, Status: datasource.Unknown, Enabled: true,
		Conn: engine.Conn{Type: engine.Postgres, Host: "db", Port: 5432, Database: "shop", Username: "u", Password: "hush-hush"}, CreatedAt: noon, UpdatedAt: noon}
}

// Create is the real thing as far as checks go.
func (f *fakeDatasources) Create(_ context.Context, n datasource.New) (datasource.Datasource, error) {
	conn, err := datasource.ParseConfig(n.Type, n.Config)
	if err != nil {
		return datasource.Datasource{}, err
	}
	d := f.one()
	d.Name, d.Conn, d.Tags, d.Protected = n.Name, conn, n.Tags, n.Protected
	return d, nil
}
func (f *fakeDatasources) Get(_ context.Context, id string) (datasource.Datasource, error) {
	return f.one(), known(id)
}
func (f *fakeDatasources) List(_ context.Context, filter datasource.Filter, p paging.Page) ([]datasource.Datasource, int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.filter, f.page = filter, p
	d := f.one()
	d.Conn = engine.Conn{}
	return []datasource.Datasource{d}, 41, nil
}
func (f *fakeDatasources) Update(_ context.Context, id string, p datasource.Patch) (datasource.Datasource, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.patch = p
	return f.one(), known(id)
}
func (f *fakeDatasources) Delete(_ context.Context, id string) error { return known(id) }
func (f *fakeDatasources) Test(_ context.Context, id string) (datasource.TestResult, error) {
	return datasource.TestResult{Latency: 12 * time.Millisecond, Err: errs.New(errs.Unavailable, errs.CodeDatasourceUnreachable, "nothing answers at db:5432")}, known(id)
}

func (f *fakeDatasources) Schema(_ context.Context, id string) ([]datasource.Schema, error) {
	foreign, number := "public.people.id", "1"
	return []datasource.Schema{{Name: "public", Tables: []datasource.Table{{Name: "pets", Columns: []datasource.Column{
		{Name: "id", Type: "integer", PrimaryKey: true, Unique: true}, {Name: "owner", Type: "bigint", Nullable: true, ForeignKey: &foreign, Default: &number},
	}}, {Name: "none"}}}, {Name: "empty"}}, known(id)
}
func (f *fakeDatasources) Query(_ context.Context, id, sql string) (datasource.Result, error) {
	if sql != "SELECT 1" {
		return datasource.Result{}, errs.New(errs.Invalid, errs.CodeQueryFailed, "the database refused the statement").With("code", "42601").With("position", 3)
	}
	return datasource.Result{Columns: []string{"a", "b"}, Took: 12 * time.Millisecond, Message: "there are more rows",
		Rows: [][]any{{1.0, map[string]any{"x": []any{nil, true}}}, {"9223372036854775807", nil}}}, known(id)
}

// fakeFiles is a location of two files; reading one of them ends with err.
type fakeFiles struct {
	body string
	err  error
	name string
}

func (f *fakeFiles) List(_ context.Context, id, folder string) (explorer.Folder, error) {
	above := ""
	return explorer.Folder{LocationID: id, RootLabel: "/backups", Path: folder, Parent: &above, Truncated: true, Entries: []explorer.Entry{
		{Name: "deep", Path: folder + "/deep", Folder: true}, {Name: "file", Path: folder + "/file", Size: 1 << 40, Modified: noon},
	}}, known(id)
}
func (f *fakeFiles) Delete(_ context.Context, id, _ string, force bool) error {
	if !force {
		return errs.New(errs.Conflict, errs.CodeResourceInUse, "a backup needs it").With("backups", []any{map[string]any{"execution_id": someID}}).With("total", 1)
	}
	return known(id)
}
func (f *fakeFiles) Copy(_ context.Context, id, _, to string) (explorer.Entry, error) {
	return explorer.Entry{Name: to, Path: to, Size: 3, Modified: noon}, known(id)
}
func (f *fakeFiles) Open(_ context.Context, id, path string) (*explorer.Download, error) {
	if path == "folder" {
		return nil, errs.New(errs.Invalid, errs.CodeFolderDownload, "it is a folder")
	}
	body := io.Reader(strings.NewReader(f.body))
	if f.err != nil {
		body = io.MultiReader(body, failing{f.err})
	}
	return &explorer.Download{Name: f.name, Size: int64(len(f.body)), ReadCloser: io.NopCloser(body)}, known(id)
}

// failing is a reader that fails.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// fakeImports finds one backup, and one without a datasource.
type fakeImports struct{}

func (fakeImports) Import(_ context.Context, id string, _ backup.ImportRequest) ([]backup.Imported, error) {
	found := backup.Imported{Path: "shop/2026-11-24_030000_1a2b3c4d", ExecutionID: unknownID, DatasourceID: unknownID, DatasourceName: "shop"}
	other := found
	other.DatasourceID, other.Err = "", errs.New(errs.NotFound, errs.CodeNotFound, "its datasource is not there")
	return []backup.Imported{found, other, {Path: "x", Err: errs.New(errs.Conflict, errs.CodeArtifactCorrupt, "it is not whole")}}, known(id)
}

type fakeLocations struct{}

func (fakeLocations) one() location.Location {
	return location.Location{ID: someID, Name: "disk", Type: location.Local, Config: location.Config{"path": "/backups"}, Status: location.Healthy, CreatedAt: noon, UpdatedAt: noon}
}
func (f fakeLocations) Create(_ context.Context, n location.New) (location.Location, error) {
	_, err := location.CheckConfig(n.Type, n.Config)
	return f.one(), err
}
func (f fakeLocations) Get(_ context.Context, id string) (location.Location, error) {
	return f.one(), known(id)
}
func (f fakeLocations) List(context.Context, location.Filter, paging.Page) ([]location.Location, int, error) {
	return []location.Location{f.one()}, 1, nil
}
func (f fakeLocations) Update(_ context.Context, id string, _ location.Patch) (location.Location, error) {
	return f.one(), known(id)
}
func (f fakeLocations) Delete(_ context.Context, id string) error { return known(id) }
func (f fakeLocations) Test(_ context.Context, id string) (location.TestResult, error) {
	free := int64(5 << 30)
	return location.TestResult{Latency: time.Millisecond, AvailableBytes: &free}, known(id)
}
func (f fakeLocations) TestConfig(context.Context, location.Type, map[string]any) (location.TestResult, error) {
	return location.TestResult{}, nil
}

type fakeBackups struct {
	mu    sync.Mutex
	patch backup.JobPatch
}

func (*fakeBackups) one() backup.Job {
	n := 3
	return backup.Job{ID: someID, Name: "nightly", DatasourceID: someID, StorageLocationID: someID, ScheduleTimezone: "UTC",
		Retention: backup.RetentionPolicy{MaxBackups: &n}, DatasourceType: engine.Postgres, StorageType: location.Local, CreatedAt: noon, UpdatedAt: noon}
}
func (f *fakeBackups) CreateJob(context.Context, backup.NewJob) (backup.Job, error) {
	return f.one(), nil
}
func (f *fakeBackups) GetJob(_ context.Context, id string) (backup.Job, error) {
	return f.one(), known(id)
}
func (f *fakeBackups) ListJobs(context.Context, backup.JobFilter, paging.Page) ([]backup.Job, int, error) {
	return nil, 0, nil
}
func (f *fakeBackups) UpdateJob(_ context.Context, id string, p backup.JobPatch) (backup.Job, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.patch = p
	return f.one(), known(id)
}
func (f *fakeBackups) DeleteJob(_ context.Context, id string) error { return known(id) }
func (f *fakeBackups) PreviewRetention(_ context.Context, id string) (backup.Preview, error) {
	return backup.Preview{Job: f.one()}, known(id)
}
func (f *fakeBackups) Datasources(context.Context) ([]backup.DatasourceBackups, error) {
	return nil, nil
}
func (f *fakeBackups) Backups(_ context.Context, id string) ([]backup.Backup, error) {
	return nil, known(id)
}

// fakeExecutions answers with err when it is set, and streams events.
type fakeExecutions struct {
	err    error
	panics bool
	follow func(ctx context.Context, after int64, yield func(execution.Event, error) bool)
}

func (f *fakeExecutions) one() execution.Execution {
	return execution.Execution{ID: someID, JobID: someID, DatasourceID: someID, StorageLocationID: someID, Operation: execution.Backup,
		Status: execution.Queued, Trigger: execution.Manual, DatasourceType: engine.Postgres, StorageType: location.Local, CreatedAt: noon}
}
func (f *fakeExecutions) RunJob(_ context.Context, id string) (execution.Execution, error) {
	return f.one(), known(id)
}
func (f *fakeExecutions) Get(ctx context.Context, id string) (execution.Execution, error) {
	if f.panics {
		panic("a secret: hunter2")
	}
	if f.err != nil {
		return execution.Execution{}, f.err
	}
	return f.one(), visible(ctx, id)
}
func (f *fakeExecutions) List(context.Context, execution.Filter, paging.Page) ([]execution.Execution, int, error) {
	return nil, 0, f.err
}
func (f *fakeExecutions) Delete(_ context.Context, id string, _ bool) error { return known(id) }
func (f *fakeExecutions) Logs(ctx context.Context, id string) (execution.Execution, error) {
	return f.one(), visible(ctx, id)
}
func (f *fakeExecutions) Follow(ctx context.Context, id string, after int64) iter.Seq2[execution.Event, error] {
	return func(yield func(execution.Event, error) bool) {
		if _, err := f.Get(ctx, id); err != nil {
			yield(execution.Event{}, err)
			return
		}
		if !yield(execution.Event{Open: true}, nil) {
			return
		}
		if f.follow != nil {
			f.follow(ctx, after, yield)
			return
		}
		e := f.one()
		e.Status = execution.Completed
		yield(execution.Event{End: &e}, nil)
	}
}
func (f *fakeExecutions) Cancel(_ context.Context, id string) (execution.Status, error) {
	return execution.Cancelled, known(id)
}

// fakeWatches tells what watch yields, or that there is nothing.
type fakeWatches struct {
	watch func(ctx context.Context, r execution.WatchRequest, yield func(execution.WatchEvent, error) bool)
}

func (f *fakeWatches) Watch(ctx context.Context, r execution.WatchRequest) iter.Seq2[execution.WatchEvent, error] {
	return func(yield func(execution.WatchEvent, error) bool) {
		if f.watch != nil {
			f.watch(ctx, r, yield)
			return
		}
		yield(execution.WatchEvent{Idle: true, ID: "first"}, nil)
	}
}

type fakeRestores struct{}

func (fakeRestores) Restore(_ context.Context, id string, _ execution.RestoreOrder) (execution.Execution, datasource.Datasource, error) {
	return (&fakeExecutions{}).one(), (&fakeDatasources{}).one(), known(id)
}
func (fakeRestores) RetryUpload(_ context.Context, id string) (execution.Execution, error) {
	return execution.Execution{ID: id, Status: execution.Queued}, known(id)
}

func (fakeRestores) VerifyBackup(_ context.Context, id, _, _ string) (execution.Execution, error) {
	return (&fakeExecutions{}).one(), known(id)
}

type fakeDownloads struct{}

func (fakeDownloads) Download(_ context.Context, id, _ string) (*backup.Download, error) {
	return &backup.Download{Name: "backup.tar", ReadCloser: io.NopCloser(strings.NewReader("tar"))}, known(id)
}

type fakeNotifications struct{}

func (fakeNotifications) List(context.Context, notification.Filter, paging.Page) ([]notification.Notification, int, int, error) {
	return nil, 0, 7, nil
}
func (fakeNotifications) MarkRead(_ context.Context, id string) (notification.Notification, error) {
	return notification.Notification{ID: id, ReadAt: &noon}, known(id)
}
func (fakeNotifications) MarkAllRead(context.Context) (int, error)  { return 7, nil }
func (fakeNotifications) Delete(_ context.Context, id string) error { return known(id) }

// fakeFeed tells of one notification after a place; an endless one then of nothing
// until it is told to stop.
type fakeFeed struct{ endless bool }

func (f *fakeFeed) Watch(ctx context.Context, r notification.WatchRequest) iter.Seq2[notification.WatchEvent, error] {
	return func(yield func(notification.WatchEvent, error) bool) {
		seq := int64(6)
		if r.After != nil {
			seq = *r.After
		}
		n := notification.Notification{ID: someID, Seq: seq + 1, Type: notification.BackupFailed, Severity: notification.Critical, Title: "t", Message: "m", CreatedAt: noon}
		if yield(notification.WatchEvent{Seq: seq}, nil) && yield(notification.WatchEvent{Seq: seq + 1, Notification: &n}, nil) && f.endless {
			<-ctx.Done()
			yield(notification.WatchEvent{}, context.Cause(ctx))
		}
	}
}

type fakeChannels struct{}

func (fakeChannels) one() notification.Channel {
	return notification.Channel{ID: someID, Name: "ops", Type: "webhook", MinSeverity: notification.Info, Enabled: true, CreatedAt: noon, UpdatedAt: noon}
}
func (f fakeChannels) Types() []notification.ChannelType {
	return []notification.ChannelType{{Name: "webhook", Title: "Any program", Family: "Webhooks", Fields: []notification.Field{
		{Name: "url", Kind: notification.URLField, Required: true, Place: true, Help: "where to"},
	}}}
}
func (f fakeChannels) Create(_ context.Context, n notification.NewChannel) (notification.Channel, error) {
	c := f.one()
	c.Config, c.Secrets, c.Types = map[string]any{"url": n.Config["url"]}, map[string]any{"secret": n.Config["secret"]}, n.Types
	return c, nil
}
func (f fakeChannels) Get(_ context.Context, id string) (notification.Channel, error) {
	c := f.one()
	c.Config, c.Secrets = map[string]any{"url": "https://x"}, map[string]any{"secret": "hunter2"}
	c.Last = &notification.Delivery{ID: someID, NotificationID: someID, Type: notification.BackupFailed, Severity: notification.Critical, Title: "t",
		Status: notification.Waiting, Attempts: 2, NextAttemptAt: &noon, LastError: "no answer", CreatedAt: noon}
	return c, known(id)
}
func (f fakeChannels) List(context.Context, paging.Page) ([]notification.Channel, int, error) {
	return []notification.Channel{f.one()}, 1, nil
}
func (f fakeChannels) Update(_ context.Context, id string, p notification.ChannelPatch) (notification.Channel, error) {
	c := f.one()
	if p.Types != nil {
		c.Types = *p.Types
	}
	return c, known(id)
}
func (fakeChannels) Delete(_ context.Context, id string) error { return known(id) }
func (fakeChannels) Test(_ context.Context, id string) (sent, err error) {
	return errs.New(errs.Unavailable, notification.CodeChannelUnreachable, "no answer"), known(id)
}
func (fakeChannels) Deliveries(_ context.Context, id string, _ notification.DeliveryStatus, _ paging.Page) ([]notification.Delivery, int, error) {
	return nil, 0, known(id)
}

type fakeTokens struct{}

func (fakeTokens) Create(_ context.Context, name string, role auth.Role, scope []string, expires *time.Time) (auth.Token, string, error) {
	return auth.Token{ID: someID, Name: name, Role: role, Scope: scope, ExpiresAt: expires, CreatedAt: noon}, "dgt_once", nil
}
func (fakeTokens) List(context.Context, paging.Page) ([]auth.Token, int, error) { return nil, 0, nil }
func (fakeTokens) Revoke(_ context.Context, id string) error                    { return known(id) }

// turnedAway is an address that has tried to log in too often.
const turnedAway = "198.51.100.66"

// fakeUsers has one user, ada, whose password is "correct horse".
type fakeUsers struct{}

func (fakeUsers) HasUser(context.Context) (bool, error) { return true, nil }
func (fakeUsers) one() auth.User {
	return auth.User{ID: someID, Username: "ada", Role: auth.Admin, CreatedAt: noon, UpdatedAt: noon}
}
func (fakeUsers) Setup(context.Context, string, string, string) (auth.User, string, error) {
	return auth.User{}, "", auth.ErrSetupDone
}
func (f fakeUsers) Login(_ context.Context, username, password, _ string) (auth.User, string, error) {
	if username != "ada" || password != "correct horse" {
		return auth.User{}, "", errs.New(errs.Unauthenticated, errs.CodeUnauthorized, "wrong")
	}
	return f.one(), "admin", nil
}

// TurnsAway lets everybody in but one address.
func (fakeUsers) TurnsAway(address string) error {
	if address == turnedAway {
		return auth.ErrTooManyLogins
	}
	return nil
}
func (fakeUsers) Logout(context.Context, auth.Principal) error { return nil }
func (fakeUsers) ChangePassword(context.Context, auth.Principal, string, string, string) error {
	return nil
}
func (f fakeUsers) CreateUser(context.Context, string, string, auth.Role) (auth.User, error) {
	return f.one(), nil
}
func (f fakeUsers) ListUsers(context.Context, paging.Page) ([]auth.User, int, error) {
	return []auth.User{f.one()}, 1, nil
}
func (f fakeUsers) UpdateUser(_ context.Context, id string, _ *auth.Role, _ *string) (auth.User, error) {
	return f.one(), known(id)
}
func (fakeUsers) DeleteUser(_ context.Context, id string) error { return known(id) }

// fakeKeys rotates nothing.
type fakeKeys struct{}

func (fakeKeys) Rotate(context.Context, bool, bool) (auth.KeyRotation, error) {
	return auth.KeyRotation{KeyID: "1", Keys: 2}, nil
}

// fakeTrail keeps what is written down.
type fakeTrail struct {
	mu      sync.Mutex
	entries []audit.Entry
}

func (f *fakeTrail) add(e audit.Entry) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	e.ID = fmt.Sprint(len(f.entries))
	f.entries = append(f.entries, e)
	return e.ID
}
func (f *fakeTrail) Begin(_ context.Context, e audit.Entry) (string, error) {
	e.Outcome = audit.Started
	return f.add(e), nil
}
func (f *fakeTrail) End(_ context.Context, id, outcome, entityID string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.entries {
		if f.entries[i].ID == id {
			f.entries[i].Outcome = outcome
			f.entries[i].EntityID += entityID
		}
	}
}
func (f *fakeTrail) Done(_ context.Context, e audit.Entry)    { f.add(e) }
func (f *fakeTrail) Refused(_ context.Context, e audit.Entry) { f.add(e) }
func (f *fakeTrail) List(context.Context, audit.Filter, paging.Page) ([]audit.Entry, int, error) {
	return f.all(), 0, nil
}
func (f *fakeTrail) all() []audit.Entry {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.entries)
}

type fakeHealth struct{ degraded bool }

func (f *fakeHealth) Get(context.Context) health.Report {
	return health.Report{OK: !f.degraded, Version: "1", DatabaseOK: true, RedisOK: !f.degraded}
}
func (*fakeHealth) Datasources(context.Context, health.CheckFilter, paging.Page) ([]health.Check, int, error) {
	return nil, 0, nil
}
func (*fakeHealth) Storages(context.Context, health.CheckFilter, paging.Page) ([]health.Check, int, error) {
	return nil, 0, nil
}

// fakeDashboard shows one of everything; what may be absent is.
type fakeDashboard struct{}

func (fakeDashboard) Overview(context.Context) (dashboard.Overview, error) {
	return dashboard.Overview{
		GeneratedAt: noon, Stats: dashboard.Stats{DatasourcesTotal: 3, ExecutionsToday: 2},
		Recent:      []dashboard.Recent{{ID: someID, DatasourceType: engine.Postgres, Operation: execution.Backup, Status: execution.Queued, CreatedAt: noon}},
		Upcoming:    []dashboard.Upcoming{{ID: someID, Name: "nightly", NextExecutionAt: noon, Enabled: true, DatasourceType: engine.Postgres}},
		Datasources: []dashboard.DatasourceHealth{{ID: someID, Name: "shop", Status: datasource.Unknown}},
		Days:        []dashboard.Day{{Date: "2026-11-24", Total: 2, Queued: 2}},
		Services:    health.Report{DatabaseOK: true, RedisOK: true, Workers: health.Summarise(nil)},
		Performance: machine.Performance{Machine: machine.Machine{Hostname: "h", Cores: 2}, Current: machine.Sample{Time: noon, CPUPercent: 12.5}},
	}, nil
}

// api is a running server with fakes behind it.
type api struct {
	t           *testing.T
	url         string
	conn        *grpc.ClientConn
	client      *http.Client
	log         *safeBuffer
	datasources *fakeDatasources
	files       *fakeFiles
	backups     *fakeBackups
	executions  *fakeExecutions
	watches     *fakeWatches
	health      *fakeHealth
	feed        *fakeFeed
	trail       *fakeTrail
	stop        func() error // stops the server and returns what Run returned
}

// start runs a server on free ports until the test ends.
func start(t *testing.T, options ...func(*Config)) *api {
	t.Helper()
	a := &api{t: t, log: &safeBuffer{}, datasources: &fakeDatasources{}, files: &fakeFiles{}, backups: &fakeBackups{}, executions: &fakeExecutions{}, watches: &fakeWatches{}, health: &fakeHealth{}, feed: &fakeFeed{}, trail: &fakeTrail{}}
	c := Config{
		HTTPAddr: "127.0.0.1:0", GRPCAddr: "127.0.0.1:0", Authenticator: tokens{}, Trail: a.trail, OpenAPI: docs.OpenAPI(), Version: "test",
		Logger: slog.New(slog.NewTextHandler(a.log, &slog.HandlerOptions{Level: slog.LevelDebug})), Reflection: true,
		Services: rpc.Services{
			Datasources: a.datasources, Locations: fakeLocations{}, Files: a.files, Imports: fakeImports{}, Backups: a.backups, Executions: a.executions, Watches: a.watches, Restores: fakeRestores{}, Downloads: fakeDownloads{},
			Notifications: fakeNotifications{}, Feed: a.feed, Channels: fakeChannels{}, Tokens: fakeTokens{}, Health: a.health, Dashboard: fakeDashboard{},
			Users: fakeUsers{}, Keys: fakeKeys{}, Audit: a.trail,
		},
	}
	for _, option := range options {
		option(&c)
	}
	s, err := New(c)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	var once sync.Once
	a.stop = func() (err error) {
		once.Do(func() { cancel(); err = <-ended })
		return err
	}
	web, native := s.Addrs()
	a.url = "http://" + web.String()
	a.conn, err = grpc.NewClient(native.String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	transport := &http.Transport{}
	a.client = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	t.Cleanup(func() {
		require.NoError(t, a.conn.Close())
		transport.CloseIdleConnections()
		require.NoError(t, a.stop())
	})
	return a
}

// as returns a context that calls with a role's token.
func as(ctx context.Context, role string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+role)
}

type answer struct {
	status int
	header http.Header
	text   string
}

// json parses the body.
func (a answer) json(t *testing.T) map[string]any {
	t.Helper()
	var v map[string]any
	require.NoError(t, json.Unmarshal([]byte(a.text), &v), "body: %s", a.text)
	return v
}

// code is the error code of the body.
func (a answer) code(t *testing.T) string {
	t.Helper()
	body := a.json(t)
	require.Len(t, body, 3, "an error body has error, message and details: %s", a.text)
	require.Contains(t, body, "details")
	require.NotEmpty(t, body["message"])
	code, ok := body["error"].(string)
	require.True(t, ok, "body: %s", a.text)
	return code
}

// fields lists the bad fields of a validation error.
func (a answer) fields(t *testing.T) []string {
	t.Helper()
	details, ok := a.json(t)["details"].(map[string]any)
	require.True(t, ok, "body: %s", a.text)
	list, ok := details["fields"].([]any)
	require.True(t, ok, "body: %s", a.text)
	var names []string
	for _, f := range list {
		field, ok := f.(map[string]any)
		require.True(t, ok)
		require.NotEmpty(t, field["message"])
		name, ok := field["field"].(string)
		require.True(t, ok)
		names = append(names, name)
	}
	return names
}

func (a *api) request(role, method, path, body string, headers ...string) *http.Request {
	a.t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	r, err := http.NewRequestWithContext(a.t.Context(), method, a.url+path, reader)
	require.NoError(a.t, err)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if role != "" {
		r.Header.Set("Authorization", "Bearer "+role)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
		if headers[i+1] == "" {
			r.Header.Del(headers[i])
		}
	}
	return r
}

func (a *api) do(r *http.Request) answer {
	a.t.Helper()
	resp, err := a.client.Do(r)
	require.NoError(a.t, err)
	defer func() { require.NoError(a.t, resp.Body.Close()) }()
	text, err := io.ReadAll(resp.Body)
	require.NoError(a.t, err)
	return answer{status: resp.StatusCode, header: resp.Header, text: string(text)}
}

// call sends a request as the administrator.
func (a *api) call(method, path, body string, headers ...string) answer {
	a.t.Helper()
	return a.do(a.request("admin", method, path, body, headers...))
}

// safeBuffer is a log that is written and read at once.
type safeBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
