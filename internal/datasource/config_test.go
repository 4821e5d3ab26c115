package datasource_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/datasource"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/paging"
	"github.com/dataguardian/dataguardian/internal/settings"
)

func config(changes map[string]any) map[string]any {
	return settings.Merge(map[string]any{"host": "db.example.com", "database": "shop", "username": "backup", "password": "s3cret"}, changes)
}

func TestAConfigBecomesALiteralConnection(t *testing.T) {
	c, err := datasource.ParseConfig(engine.Postgres, config(map[string]any{"database": `a"b'c=d --file=/x`, "username": "-rf\n", "port": 6000.0, "ssl_mode": "verify-full"}))
	require.NoError(t, err)
	require.Equal(t, engine.Conn{
		Type: engine.Postgres, Host: "db.example.com", Port: 6000, Database: `a"b'c=d --file=/x`, Username: "-rf\n", Password: "s3cret", SSLMode: engine.SSLVerifyFull,
	}, c)
}

func TestDefaultsFollowTheTypeAndTheLegacySwitch(t *testing.T) {
	c, err := datasource.ParseConfig(engine.MariaDB, config(map[string]any{"ssl_enabled": true}))
	require.NoError(t, err)
	require.Equal(t, 3306, c.Port)
	require.Equal(t, engine.SSLRequire, c.SSLMode)
	c, err = datasource.ParseConfig(engine.Postgres, config(nil))
	require.NoError(t, err)
	require.Equal(t, 5432, c.Port)
	require.Equal(t, engine.SSLDisable, c.SSLMode)
}

func TestHostsThatCouldMeanMoreThanOnePlaceAreRefused(t *testing.T) {
	for _, host := range []string{
		"a,b", "good dbname=evil", "-h", "postgresql://evil", "evil/x", "a\nb", "a\x00b", "evil?host=x", "user@evil", "a;b", "%2fetc", "/run/a,/run/b", strings.Repeat("x", 300),
	} {
		_, err := datasource.ParseConfig(engine.Postgres, config(map[string]any{"host": host}))
		require.Equal(t, errs.CodeInvalidConnection, errs.CodeOf(err), "%q", host)
		require.Equal(t, "connection_config.host", errs.As(err).Fields[0].Field)
	}
	for _, host := range []string{"db", "10.0.0.1", "::1", "fe80::1", "/var/run/postgresql", "Ümlaut.example"} {
		_, err := datasource.ParseConfig(engine.Postgres, config(map[string]any{"host": host}))
		require.NoError(t, err, "%q", host)
	}
}

func TestEveryBadFieldIsListed(t *testing.T) {
	_, err := datasource.ParseConfig(engine.Postgres, map[string]any{"port": 0.0, "ssl_mode": "prefer", "ssl_root_cert": "x", "hots": "y", "database": "a\x00"})
	var fields []string
	for _, f := range errs.As(err).Fields {
		fields = append(fields, f.Field)
	}
	require.Equal(t, []string{
		"connection_config.database", "connection_config.host", "connection_config.hots", "connection_config.password", "connection_config.port",
		"connection_config.ssl_mode", "connection_config.ssl_root_cert", "connection_config.username",
	}, fields)
}

func TestAViewShowsNoPassword(t *testing.T) {
	c, err := datasource.ParseConfig(engine.Postgres, config(nil))
	require.NoError(t, err)
	require.Equal(t, map[string]any{
		"host": "db.example.com", "port": 5432.0, "database": "shop", "username": "backup", "ssl_mode": "disable", "password": map[string]any{"set": true},
	}, datasource.ConfigView(c))
}

// single is a store of one datasource.
type single struct {
	datasource.Store
	row datasource.Datasource
}

func (s *single) Create(_ context.Context, d datasource.Datasource) (datasource.Datasource, error) {
	s.row = d
	return d, nil
}

func (s *single) Get(context.Context, string) (datasource.Datasource, error) { return s.row, nil }

func (s *single) List(context.Context, datasource.Filter, paging.Page) ([]datasource.Datasource, int, error) {
	return []datasource.Datasource{s.row}, 1, nil
}

func (s *single) Update(_ context.Context, _ string, change func(*datasource.Datasource) error) (datasource.Datasource, error) {
	changed := s.row
	if err := change(&changed); err != nil {
		return datasource.Datasource{}, err
	}
	s.row = changed
	return changed, nil
}

// pinger is an engine that only answers.
type pinger struct {
	engine.Engine
	err error
}

func (p *pinger) Ping(context.Context, engine.Conn) (engine.ServerInfo, error) {
	return engine.ServerInfo{Version: "15.18"}, p.err
}

func service(t *testing.T) (*datasource.Service, *single, *pinger) {
	t.Helper()
	store, answer := &single{}, &pinger{}
	s := datasource.NewService(store, map[engine.Type]engine.Engine{engine.Postgres: answer})
	_, err := s.Create(t.Context(), datasource.New{Name: " shop ", Type: engine.Postgres, Config: config(nil), Tags: []string{"b", " a", "b", ""}})
	require.NoError(t, err)
	return s, store, answer
}

func TestCreateNormalisesAndDoesNotConnect(t *testing.T) {
	_, store, _ := service(t)
	require.Equal(t, "shop", store.row.Name)
	require.Equal(t, []string{"a", "b"}, store.row.Tags)
	require.True(t, store.row.Enabled)
	require.Equal(t, datasource.Unknown, store.row.Status)
}

func TestCreateListsNameAndConfigTogether(t *testing.T) {
	s, _, _ := service(t)
	_, err := s.Create(t.Context(), datasource.New{Name: " ", Type: engine.Postgres})
	require.Equal(t, errs.CodeInvalidConnection, errs.CodeOf(err))
	require.Len(t, errs.As(err).Fields, 5)
}

func TestAnUnsupportedTypeIsNotImplemented(t *testing.T) {
	s, _, _ := service(t)
	_, err := s.Create(t.Context(), datasource.New{Name: "x", Type: engine.MySQL, Config: config(nil)})
	require.Equal(t, errs.Unimplemented, errs.KindOf(err))
}

func TestAnUpdateKeepsTheSecretThatIsNotSent(t *testing.T) {
	s, store, _ := service(t)
	for _, sent := range []map[string]any{{"database": "other"}, {"database": "other", "password": settings.Set()}} {
		_, err := s.Update(t.Context(), "id", datasource.Patch{Config: sent})
		require.NoError(t, err)
		require.Equal(t, "s3cret", store.row.Conn.Password)
		require.Equal(t, "other", store.row.Conn.Database)
	}
}

func TestAPasswordDoesNotTravelToANewPlaceByItself(t *testing.T) {
	for name, sent := range map[string]map[string]any{
		"host": {"host": "evil.example.com"}, "port": {"port": 1.0}, "weaker TLS": {"ssl_mode": "require"}, "legacy TLS": {"ssl_enabled": true}, "as read": {"host": "evil", "password": settings.Set()},
	} {
		t.Run(name, func(t *testing.T) {
			s, store, _ := service(t)
			before := store.row
			_, err := s.Update(t.Context(), "id", datasource.Patch{Config: sent})
			require.Equal(t, "connection_config.password", errs.As(err).Fields[0].Field)
			require.Equal(t, before, store.row)
			sent["password"] = "known"
			_, err = s.Update(t.Context(), "id", datasource.Patch{Config: sent})
			require.NoError(t, err)
			require.Equal(t, "known", store.row.Conn.Password)
		})
	}
}

func TestTheTypeCannotChange(t *testing.T) {
	s, _, _ := service(t)
	_, err := s.Update(t.Context(), "id", datasource.Patch{Type: engine.MySQL})
	require.Equal(t, "type", errs.As(err).Fields[0].Field)
	_, err = s.Update(t.Context(), "id", datasource.Patch{Type: engine.Postgres})
	require.NoError(t, err)
}

func TestAFailedConnectionIsAResultOfTheTest(t *testing.T) {
	s, _, answer := service(t)
	r, err := s.Test(t.Context(), "id")
	require.NoError(t, err)
	require.NoError(t, r.Err)
	require.Equal(t, "15.18", r.ServerVersion)
	require.Less(t, r.Latency, 5*time.Second)
	answer.err = errs.New(errs.Unavailable, errs.CodeDatasourceAuth, "wrong password")
	r, err = s.Test(t.Context(), "id")
	require.NoError(t, err)
	require.Equal(t, errs.CodeDatasourceAuth, errs.CodeOf(r.Err))
}
