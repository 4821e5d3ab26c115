package location_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/location"
	"github.com/dataguardian/dataguardian/internal/settings"
	"github.com/dataguardian/dataguardian/storage"
	"github.com/dataguardian/dataguardian/storage/local"
)

func TestConfigsThatAreGood(t *testing.T) {
	for name, c := range map[string]struct {
		kind   location.Type
		config map[string]any
	}{
		"local":          {location.Local, map[string]any{"path": "/srv/it's \"mine\"/-x", "max_size_gb": 1.5}},
		"amazon":         {location.S3, map[string]any{"bucket": "b", "region": "eu-central-1"}},
		"s3 with keys":   {location.S3, map[string]any{"bucket": "b", "endpoint": "https://s3.example.com:9000", "access_key_id": "a", "secret_access_key": "s", "prefix": "a/b", "force_path_style": true}},
		"minio":          {location.MinIO, map[string]any{"bucket": "b", "endpoint": "minio:9000", "access_key": "a", "secret_key": "s", "use_ssl": false}},
		"gcs":            {location.GCS, map[string]any{"bucket": "b", "credentials_json": "{}"}},
		"gcs everywhere": {location.GCS, map[string]any{"bucket": "b", "prefix": "x", "endpoint": "http://127.0.0.1:1"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := location.CheckConfig(c.kind, c.config)
			require.NoError(t, err)
		})
	}
}

func TestConfigsThatAreNot(t *testing.T) {
	for name, c := range map[string]struct {
		kind   location.Type
		config map[string]any
		fields []string
	}{
		"no path":              {location.Local, map[string]any{}, []string{"config.path"}},
		"relative":             {location.Local, map[string]any{"path": "backups"}, []string{"config.path"}},
		"climbs":               {location.Local, map[string]any{"path": "/srv/../etc"}, []string{"config.path"}},
		"root":                 {location.Local, map[string]any{"path": "//"}, []string{"config.path"}},
		"newline":              {location.Local, map[string]any{"path": "/srv/a\nb"}, []string{"config.path"}},
		"NUL":                  {location.Local, map[string]any{"path": "/srv/a\x00b"}, []string{"config.path"}},
		"no region":            {location.S3, map[string]any{"bucket": "b"}, []string{"config.region"}},
		"half a key":           {location.S3, map[string]any{"bucket": "b", "region": "r", "access_key_id": "a"}, []string{"config.secret_access_key"}},
		"credentials in URL":   {location.S3, map[string]any{"bucket": "b", "endpoint": "https://u:p@h"}, []string{"config.endpoint"}},
		"not HTTP":             {location.S3, map[string]any{"bucket": "b", "endpoint": "file:///etc"}, []string{"config.endpoint"}},
		"path in bucket":       {location.S3, map[string]any{"bucket": "b/c", "region": "r"}, []string{"config.bucket"}},
		"climbing prefix":      {location.GCS, map[string]any{"bucket": "b", "prefix": "../x"}, []string{"config.prefix"}},
		"minio without all":    {location.MinIO, map[string]any{}, []string{"config.access_key", "config.bucket", "config.endpoint", "config.secret_key"}},
		"a setting of another": {location.Local, map[string]any{"path": "/srv", "bucket": "b"}, []string{"config.bucket"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := location.CheckConfig(c.kind, c.config)
			require.Equal(t, errs.CodeInvalidStorage, errs.CodeOf(err))
			var fields []string
			for _, f := range errs.As(err).Fields {
				fields = append(fields, f.Field)
			}
			require.Equal(t, c.fields, fields)
		})
	}
}

func TestSecretsAreShownOnlyAsSet(t *testing.T) {
	view := location.ConfigView(location.S3, location.Config{"bucket": "b", "access_key_id": "a", "secret_access_key": "s"})
	require.Equal(t, map[string]any{"bucket": "b", "access_key_id": "a", "secret_access_key": map[string]any{"set": true}}, view)
}

// single is a store of one location.
type single struct {
	location.Store
	row    location.Location
	copies int
}

func (s *single) Create(_ context.Context, l location.Location) (location.Location, error) {
	s.row = l
	return l, nil
}
func (s *single) Get(context.Context, string) (location.Location, error) { return s.row, nil }
func (s *single) InUse(context.Context, string) (int, error)             { return s.copies, nil }
func (s *single) SetStatus(_ context.Context, _ string, status location.Status, available *int64) error {
	s.row.Status, s.row.AvailableBytes = status, available
	return nil
}

func (s *single) Update(_ context.Context, _ string, change func(*location.Location) error) (location.Location, error) {
	changed := s.row
	if err := change(&changed); err != nil {
		return location.Location{}, err
	}
	s.row = changed
	return changed, nil
}

type opener struct{}

func (opener) Open(_ context.Context, l location.Location) (storage.Driver, error) {
	path, _ := l.Config["path"].(string)
	return local.New(local.Config{Path: path})
}

func TestALocationIsTriedWhenItIsMade(t *testing.T) {
	store := &single{}
	s := location.NewService(store, opener{}, location.Local)
	_, err := s.Create(t.Context(), location.New{Name: "disk", Type: location.Local, Config: map[string]any{"path": t.TempDir()}})
	require.NoError(t, err)
	require.Equal(t, location.Healthy, store.row.Status)
	require.Positive(t, *store.row.AvailableBytes)

	_, err = s.Create(t.Context(), location.New{Name: "gone", Type: location.Local, Config: map[string]any{"path": "/proc/no/such"}})
	require.NoError(t, err, "a storage that is away now may be there later")
	require.Equal(t, location.Unreachable, store.row.Status)
	r, err := s.Test(t.Context(), "id")
	require.NoError(t, err)
	require.Error(t, r.Err)
	require.NotEqual(t, errs.CodeInternal, errs.CodeOf(r.Err))
}

func TestALocationWithBackupsStaysWhereItIs(t *testing.T) {
	store := &single{row: location.Location{Type: location.Local, Config: location.Config{"path": "/srv/a"}}, copies: 2}
	s := location.NewService(store, opener{}, location.Local)
	_, err := s.Update(t.Context(), "id", location.Patch{Config: map[string]any{"path": "/srv/b"}})
	require.Equal(t, errs.CodeResourceInUse, errs.CodeOf(err))
	_, err = s.Update(t.Context(), "id", location.Patch{Config: map[string]any{"max_size_gb": 5.0}})
	require.NoError(t, err)
	store.copies = 0
	_, err = s.Update(t.Context(), "id", location.Patch{Config: map[string]any{"path": "/srv/b"}})
	require.NoError(t, err)
}

func TestASecretDoesNotTravelToANewEndpointByItself(t *testing.T) {
	store := &single{row: location.Location{Type: location.S3, Config: location.Config{
		"bucket": "b", "endpoint": "https://good", "access_key_id": "a", "secret_access_key": "s",
	}}}
	s := location.NewService(store, opener{}, location.S3)
	for _, sent := range []map[string]any{{"endpoint": "https://evil"}, {"endpoint": "https://evil", "secret_access_key": settings.Set()}} {
		_, err := s.Update(t.Context(), "id", location.Patch{Config: sent})
		require.Equal(t, "config.secret_access_key", errs.As(err).Fields[0].Field)
		require.Equal(t, "https://good", store.row.Config["endpoint"])
	}
	_, err := s.Update(t.Context(), "id", location.Patch{Config: map[string]any{"endpoint": "https://new", "secret_access_key": "t"}})
	require.NoError(t, err)
}
