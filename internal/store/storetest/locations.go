package storetest

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/location"
	"github.com/dataguardian/dataguardian/internal/notification"
	"github.com/dataguardian/dataguardian/internal/paging"
)

func locations(t *testing.T, w *world) {
	s := w.Locations()
	t.Run("without any there is no default", func(t *testing.T) {
		_, err := s.Default(t.Context())
		requireNotFound(t, err)
	})
	t.Run("the first becomes the default, a later one takes it over", func(t *testing.T) {
		first := w.newLocation(t)
		require.True(t, first.IsDefault)
		second := w.newLocation(t)
		require.False(t, second.IsDefault)
		third := w.newLocation(t, func(l *location.Location) { l.IsDefault = true })
		requireDefault(t, s, third.ID)
		_, err := s.Update(t.Context(), second.ID, func(l *location.Location) error { l.IsDefault = true; return nil })
		require.NoError(t, err)
		requireDefault(t, s, second.ID)
	})
	t.Run("many that want to be the default at once end as one", func(t *testing.T) {
		var group sync.WaitGroup
		failed := make([]error, 8)
		for i := range failed {
			group.Go(func() {
				_, failed[i] = s.Create(t.Context(), location.Location{ID: id(), Name: id(), Type: location.Local, IsDefault: true})
			})
		}
		group.Wait()
		for _, err := range failed {
			require.NoError(t, err)
		}
		var defaults int
		require.NoError(t, w.conn.QueryRow(t.Context(), "select count(*) from storage_locations where is_default and deleted_at is null").Scan(&defaults))
		require.Equal(t, 1, defaults)
	})
	t.Run("what is created is read back, secrets and all", func(t *testing.T) {
		for kind, config := range map[location.Type]location.Config{
			location.S3:    {"bucket": "b", "region": "eu", "access_key_id": "AK", "secret_access_key": "s3cr3t", "force_path_style": true},
			location.MinIO: {"endpoint": "http://minio:9000", "bucket": "b", "access_key": "AK", "secret_key": "s3cr3t", "use_ssl": false},
			location.GCS:   {"bucket": "b", "credentials_json": `{"private_key":"x"}`},
			location.Local: {"path": "/srv", "max_size_gb": 1.5},
		} {
			want := location.Location{ID: id(), Name: id(), Type: kind, Config: config, AvailableBytes: ptr(int64(5)), Status: location.Healthy}
			made, err := s.Create(t.Context(), want)
			require.NoError(t, err)
			want.CreatedAt, want.UpdatedAt = made.CreatedAt, made.UpdatedAt
			require.Equal(t, want, made)
		}
	})
	t.Run("a taken name is a conflict", func(t *testing.T) {
		l := w.newLocation(t)
		l.ID = id()
		_, err := s.Create(t.Context(), l)
		requireCode(t, err, errs.Exists, errs.CodeConflict)
		requireField(t, err, "name")
	})
	t.Run("absent ones are not found", func(t *testing.T) {
		for _, gone := range absent() {
			_, err := s.Get(t.Context(), gone)
			requireNotFound(t, err)
			_, err = s.Update(t.Context(), gone, func(*location.Location) error { return nil })
			requireNotFound(t, err)
			requireNotFound(t, s.Delete(t.Context(), gone))
			_, err = s.InUse(t.Context(), gone)
			requireNotFound(t, err)
			requireNotFound(t, s.SetStatus(t.Context(), gone, location.Full, nil))
		}
	})
	t.Run("an update keeps secrets, and an error of the caller changes nothing", func(t *testing.T) {
		l := w.newLocation(t, func(l *location.Location) {
			l.Type, l.Config = location.S3, location.Config{"bucket": "b", "secret_access_key": "old"}
		})
		got, err := s.Update(t.Context(), l.ID, func(l *location.Location) error { l.Config["bucket"] = "c"; return nil })
		require.NoError(t, err)
		require.Equal(t, location.Config{"bucket": "c", "secret_access_key": "old"}, got.Config)
		_, err = s.Update(t.Context(), l.ID, func(l *location.Location) error { l.Config["bucket"] = "d"; return errRefused })
		require.ErrorIs(t, err, errRefused)
		got, err = s.Get(t.Context(), l.ID)
		require.NoError(t, err)
		require.Equal(t, "c", got.Config["bucket"])
	})
	t.Run("lists are filtered, by name, in pages, without configs", func(t *testing.T) { listLocations(t, w) })
	t.Run("a status is recorded, and told when it changes", func(t *testing.T) {
		l := w.newLocation(t)
		before := notes(t, w)
		require.NoError(t, s.SetStatus(t.Context(), l.ID, location.Healthy, ptr(int64(10))))
		require.Len(t, notes(t, w), len(before), "no change, no news")
		require.NoError(t, s.SetStatus(t.Context(), l.ID, location.Full, ptr(int64(0))))
		require.NoError(t, s.SetStatus(t.Context(), l.ID, location.Unreachable, nil))
		require.NoError(t, s.SetStatus(t.Context(), l.ID, location.Unreachable, nil))
		require.NoError(t, s.SetStatus(t.Context(), l.ID, location.Healthy, nil))
		require.Equal(t, []notification.Type{notification.StorageFull, notification.StorageUnreachable, notification.StorageRestored},
			types(notes(t, w)[len(before):]))
		got, err := s.Get(t.Context(), l.ID)
		require.NoError(t, err)
		require.Equal(t, location.Healthy, got.Status)
		require.Nil(t, got.AvailableBytes)
	})
	t.Run("one in use stays, by job, target, execution and copy", func(t *testing.T) { locationsInUse(t, w) })
	t.Run("a deleted one is gone, and what was left in it is off the books", func(t *testing.T) {
		j := w.newJob(t)
		e, l := w.run(t, j)
		require.NoError(t, w.Executions().BeginCopy(t.Context(), l, j.StorageLocationID, "p"))
		require.NoError(t, w.Executions().Finish(t.Context(), l, failedResult("UPLOAD_FAILED")))
		require.NoError(t, w.Jobs().Delete(t.Context(), j.ID))
		require.NoError(t, s.Delete(t.Context(), j.StorageLocationID))
		_, err := s.Get(t.Context(), j.StorageLocationID)
		requireNotFound(t, err)
		e, err = w.Executions().Get(t.Context(), e.ID)
		require.NoError(t, err)
		require.Equal(t, backup.CopyDeleted, e.Copies[0].Status)
		require.NotEmpty(t, e.Copies[0].Error)
		require.Equal(t, j.StorageName, e.StorageName)
		require.NoError(t, w.Executions().Delete(t.Context(), e.ID))
	})
}

func requireDefault(t *testing.T, s location.Store, want string) {
	t.Helper()
	l, err := s.Default(t.Context())
	require.NoError(t, err)
	require.Equal(t, want, l.ID)
}

func listLocations(t *testing.T, w *world) {
	rows, before, err := w.Locations().List(t.Context(), location.Filter{Status: location.Full, Type: location.GCS}, firstPage)
	require.NoError(t, err)
	require.NotNil(t, rows)
	require.Zero(t, before)
	for _, name := range []string{"b", "a"} {
		w.newLocation(t, func(l *location.Location) { l.Name, l.Type, l.Status = "gcs "+name, location.GCS, location.Full })
	}
	rows, total, err := w.Locations().List(t.Context(), location.Filter{Status: location.Full, Type: location.GCS}, paging.Page{Number: 1, Limit: 1})
	require.NoError(t, err)
	require.Equal(t, 2, total)
	require.Len(t, rows, 1)
	require.Equal(t, "gcs a", rows[0].Name)
	require.Nil(t, rows[0].Config)
}

func locationsInUse(t *testing.T, w *world) {
	s := w.Locations()
	target := w.newLocation(t)
	j := w.newJob(t, func(j *backup.Job) {
		j.Options.Targets = []backup.Target{{StorageLocationID: target.ID, Order: 1}}
	})
	for _, used := range []string{j.StorageLocationID, target.ID} {
		err := s.Delete(t.Context(), used)
		requireCode(t, err, errs.Conflict, errs.CodeResourceInUse)
		require.EqualValues(t, 1, detail(err, "jobs"))
	}
	e, l := w.run(t, j)
	require.NoError(t, w.Executions().BeginCopy(t.Context(), l, j.StorageLocationID, "p"))
	copies, err := s.InUse(t.Context(), j.StorageLocationID)
	require.NoError(t, err)
	require.Equal(t, 1, copies)
	require.NoError(t, w.Executions().Finish(t.Context(), l, goodResult(j, "p")))
	require.NoError(t, w.Jobs().Delete(t.Context(), j.ID))
	require.NoError(t, s.Delete(t.Context(), target.ID))
	err = s.Delete(t.Context(), j.StorageLocationID)
	requireCode(t, err, errs.Conflict, errs.CodeResourceInUse)
	require.EqualValues(t, 1, detail(err, "backups"))
	_, err = w.Catalogue().MarkDeleting(t.Context(), []string{e.ID})
	require.NoError(t, err)
	require.NoError(t, s.Delete(t.Context(), j.StorageLocationID))
}
