package storetest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/datasource"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/paging"
)

func datasources(t *testing.T, w *world) {
	s := w.Datasources()
	t.Run("what is created is read back, connection and all", func(t *testing.T) {
		want := datasource.Datasource{
			ID: id(), Name: `we"ird; -- name`, Type: engine.MariaDB, Status: datasource.Healthy, Enabled: true, Protected: true,
			Tags: []string{"a", "b"},
			Conn: engine.Conn{
				Type: engine.MariaDB, Host: "/run/mysqld", Port: 3306, Database: "--shop", Username: "o'brien", Password: "p\"w\\ü\n",
				SSLMode: engine.SSLVerifyFull, SSLRootCert: "-----BEGIN CERTIFICATE-----",
			},
		}
		made, err := s.Create(t.Context(), want)
		require.NoError(t, err)
		got, err := s.Get(t.Context(), want.ID)
		require.NoError(t, err)
		require.Equal(t, made, got)
		require.False(t, got.CreatedAt.IsZero())
		want.CreatedAt, want.UpdatedAt = got.CreatedAt, got.UpdatedAt
		require.Equal(t, want, got)
	})
	t.Run("a taken name, and a taken id, are conflicts", func(t *testing.T) {
		d := w.newDatasource(t)
		again := d
		again.ID = id()
		_, err := s.Create(t.Context(), again)
		requireCode(t, err, errs.Exists, errs.CodeConflict)
		requireField(t, err, "name")
		again.ID, again.Name = d.ID, "other "+id()
		_, err = s.Create(t.Context(), again)
		requireCode(t, err, errs.Exists, errs.CodeConflict)
	})
	t.Run("absent ones are not found", func(t *testing.T) {
		for _, gone := range absent() {
			_, err := s.Get(t.Context(), gone)
			requireNotFound(t, err)
			_, err = s.Update(t.Context(), gone, func(*datasource.Datasource) error { return nil })
			requireNotFound(t, err)
			requireNotFound(t, s.Delete(t.Context(), gone))
		}
	})
	t.Run("an update changes what it changes", func(t *testing.T) {
		d := w.newDatasource(t)
		got, err := s.Update(t.Context(), d.ID, func(d *datasource.Datasource) error {
			d.ID, d.Name, d.Enabled, d.Tags, d.Status = "ignored", "renamed "+id(), false, nil, datasource.Warning
			d.Conn.Host = "elsewhere"
			return nil
		})
		require.NoError(t, err)
		require.Equal(t, d.ID, got.ID)
		require.False(t, got.Enabled)
		require.Empty(t, got.Tags)
		require.NotNil(t, got.Tags)
		require.Equal(t, "elsewhere", got.Conn.Host)
		require.Equal(t, d.Conn.Password, got.Conn.Password)
		require.True(t, got.UpdatedAt.After(d.UpdatedAt))
	})
	t.Run("an error of the caller comes back as it is and changes nothing", func(t *testing.T) {
		d := w.newDatasource(t)
		refusal := errs.New(errs.Invalid, errs.CodeValidation, "no")
		_, err := s.Update(t.Context(), d.ID, func(d *datasource.Datasource) error { d.Name = "x"; return refusal })
		require.ErrorIs(t, err, refusal)
		_, err = s.Update(t.Context(), d.ID, func(d *datasource.Datasource) error { d.Name = "x"; return errRefused })
		require.ErrorIs(t, err, errRefused)
		got, err := s.Get(t.Context(), d.ID)
		require.NoError(t, err)
		require.Equal(t, d, got)
	})
	t.Run("an update cannot take another's name", func(t *testing.T) {
		a, b := w.newDatasource(t), w.newDatasource(t)
		_, err := s.Update(t.Context(), a.ID, func(d *datasource.Datasource) error { d.Name = b.Name; return nil })
		requireCode(t, err, errs.Exists, errs.CodeConflict)
	})
	t.Run("lists are filtered, by name, in pages, without connections", func(t *testing.T) { listDatasources(t, w) })
	t.Run("one in use stays", func(t *testing.T) {
		j := w.newJob(t)
		w.complete(t, j)
		err := s.Delete(t.Context(), j.DatasourceID)
		requireCode(t, err, errs.Conflict, errs.CodeResourceInUse)
		require.EqualValues(t, 1, detail(err, "jobs"))
		require.EqualValues(t, 1, detail(err, "backups"))
		require.NoError(t, w.Jobs().Delete(t.Context(), j.ID))
		err = s.Delete(t.Context(), j.DatasourceID)
		requireCode(t, err, errs.Conflict, errs.CodeResourceInUse)
		require.EqualValues(t, 0, detail(err, "jobs"))
	})
	t.Run("a deleted one is gone, its name is free, its history keeps it", func(t *testing.T) {
		j := w.newJob(t)
		d, err := s.Get(t.Context(), j.DatasourceID)
		require.NoError(t, err)
		e := w.queue(t, j)
		_, err = w.Executions().RequestCancel(t.Context(), e.ID)
		require.NoError(t, err)
		require.NoError(t, w.Jobs().Delete(t.Context(), j.ID))
		require.NoError(t, s.Delete(t.Context(), d.ID))
		_, err = s.Get(t.Context(), d.ID)
		requireNotFound(t, err)
		requireNotFound(t, s.Delete(t.Context(), d.ID))
		w.newDatasource(t, func(n *datasource.Datasource) { n.Name = d.Name })
		e, err = w.Executions().Get(t.Context(), e.ID)
		require.NoError(t, err)
		require.Equal(t, d.Name, e.DatasourceName)
		require.Equal(t, j.Name, e.JobName)
		var wiped bool
		require.NoError(t, w.conn.QueryRow(t.Context(), "select secrets is null and connection_config = '{}' from datasources where id = $1", d.ID).Scan(&wiped))
		require.True(t, wiped, "credentials are wiped")
	})
	t.Run("a deleted one takes no new jobs", func(t *testing.T) {
		d := w.newDatasource(t)
		require.NoError(t, s.Delete(t.Context(), d.ID))
		_, err := w.Jobs().Create(t.Context(), backup.Job{ID: id(), Name: id(), DatasourceID: d.ID, StorageLocationID: w.newLocation(t).ID})
		requireCode(t, err, errs.Invalid, errs.CodeValidation)
		requireField(t, err, "datasource_id")
	})
}

func listDatasources(t *testing.T, w *world) {
	tag := "tag-" + id()
	for i, name := range []string{"b", "c", "a"} {
		w.newDatasource(t, func(d *datasource.Datasource) {
			d.Name, d.Tags, d.Enabled, d.Status = tag+name, []string{tag, name}, i != 0, datasource.Healthy
			if name == "a" {
				d.Type = engine.MySQL
			}
		})
	}
	list := func(f datasource.Filter, p paging.Page) (names []string, total int) {
		rows, total, err := w.Datasources().List(t.Context(), f, p)
		require.NoError(t, err)
		for _, d := range rows {
			require.Zero(t, d.Conn)
			names = append(names, d.Name[len(tag):])
		}
		return names, total
	}
	names, total := list(datasource.Filter{Tag: tag}, firstPage)
	require.Equal(t, []string{"a", "b", "c"}, names)
	require.Equal(t, 3, total)
	names, total = list(datasource.Filter{Tag: tag}, paging.Page{Number: 2, Limit: 2})
	require.Equal(t, []string{"c"}, names)
	require.Equal(t, 3, total)
	names, _ = list(datasource.Filter{Tag: tag, Type: engine.MySQL}, firstPage)
	require.Equal(t, []string{"a"}, names)
	names, _ = list(datasource.Filter{Tag: tag, Enabled: ptr(false)}, firstPage)
	require.Equal(t, []string{"b"}, names)
	names, total = list(datasource.Filter{Tag: tag, Status: datasource.Critical}, firstPage)
	require.Empty(t, names)
	require.Zero(t, total)
}
