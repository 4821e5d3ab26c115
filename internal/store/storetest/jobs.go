package storetest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/location"
	"github.com/dataguardian/dataguardian/internal/paging"
)

func jobs(t *testing.T, w *world) {
	s := w.Jobs()
	t.Run("what is created is read back, with the names around it", func(t *testing.T) {
		d, l := w.newDatasource(t), w.newLocation(t)
		want := backup.Job{
			ID: id(), Name: "täglich", DatasourceID: d.ID, StorageLocationID: l.ID, ScheduleCron: "@hourly", ScheduleTimezone: "UTC", Enabled: true,
			Retention: backup.RetentionPolicy{KeepDaily: ptr(7), KeepMonthly: ptr(12)},
			Options: backup.Options{
				Compression: backup.Gzip, CompressionLevel: ptr(9), ParallelJobs: 4, IncludeTables: []string{"a.b"}, PartSizeMB: 1,
				Recipients: []string{"age1x"}, Strategy: backup.Replicate, Targets: []backup.Target{{StorageLocationID: l.ID, Order: 1}},
				Spool: backup.SpoolBounded, TimeoutMinutes: ptr(5), MissedRun: backup.Skip,
			},
			NextExecutionAt: ptr(epoch),
			DatasourceName:  d.Name, DatasourceType: engine.Postgres, StorageName: l.Name, StorageType: location.Local,
		}
		made, err := s.Create(t.Context(), want)
		require.NoError(t, err)
		want.CreatedAt, want.UpdatedAt = made.CreatedAt, made.UpdatedAt
		require.Equal(t, want, made)
	})
	t.Run("a taken name is a conflict", func(t *testing.T) {
		j := w.newJob(t)
		j.ID = id()
		_, err := s.Create(t.Context(), j)
		requireCode(t, err, errs.Exists, errs.CodeConflict)
		requireField(t, err, "name")
	})
	t.Run("parts that are not there are named, all of them", func(t *testing.T) {
		bad := backup.Job{ID: id(), Name: id(), DatasourceID: id(), StorageLocationID: "x"}
		bad.Options.Targets = []backup.Target{{StorageLocationID: w.newLocation(t).ID}, {StorageLocationID: id()}}
		_, err := s.Create(t.Context(), bad)
		requireCode(t, err, errs.Invalid, errs.CodeValidation)
		var fields []string
		for _, f := range errs.As(err).Fields {
			fields = append(fields, f.Field)
		}
		require.Equal(t, []string{"datasource_id", "storage_location_id", "backup_options.storage_targets[1].storage_location_id"}, fields)
		_, err = s.Update(t.Context(), w.newJob(t).ID, func(j *backup.Job) error { j.DatasourceID = id(); return nil })
		requireCode(t, err, errs.Invalid, errs.CodeValidation)
		requireField(t, err, "datasource_id")
	})
	t.Run("absent ones are not found", func(t *testing.T) {
		for _, gone := range absent() {
			_, err := s.Get(t.Context(), gone)
			requireNotFound(t, err)
			_, err = s.Update(t.Context(), gone, func(*backup.Job) error { return nil })
			requireNotFound(t, err)
			requireNotFound(t, s.Delete(t.Context(), gone))
		}
	})
	t.Run("an update changes what it changes", func(t *testing.T) {
		j := w.newJob(t)
		got, err := s.Update(t.Context(), j.ID, func(j *backup.Job) error {
			j.Enabled, j.NextExecutionAt, j.Retention = false, nil, backup.RetentionPolicy{KeepWeekly: ptr(4)}
			return nil
		})
		require.NoError(t, err)
		require.False(t, got.Enabled)
		require.Equal(t, backup.RetentionPolicy{KeepWeekly: ptr(4)}, got.Retention)
		require.Equal(t, j.Name, got.Name)
		_, err = s.Update(t.Context(), j.ID, func(j *backup.Job) error { j.Enabled = true; return errRefused })
		require.ErrorIs(t, err, errRefused)
	})
	t.Run("lists are filtered, by name, in pages", func(t *testing.T) { listJobs(t, w) })
	t.Run("the newest backup run shows, a restore does not", func(t *testing.T) {
		j := w.newJob(t)
		require.Nil(t, j.Last)
		done := w.complete(t, j)
		j, err := s.Get(t.Context(), j.ID)
		require.NoError(t, err)
		require.Equal(t, &backup.LastExecution{
			ID: done.ID, Status: "completed", StartedAt: done.StartedAt, FinishedAt: done.FinishedAt, SizeBytes: done.SizeBytes,
		}, j.Last)
		require.Equal(t, done.StartedAt, j.LastExecutionAt)
		w.queueRestore(t, done)
		after, err := s.Get(t.Context(), j.ID)
		require.NoError(t, err)
		require.Equal(t, j.Last, after.Last)
		w.drain(t)
	})
	t.Run("one that runs stays, one that ran goes and its history keeps it", func(t *testing.T) {
		j := w.newJob(t)
		done := w.complete(t, j)
		e := w.queue(t, j)
		err := s.Delete(t.Context(), j.ID)
		requireCode(t, err, errs.Conflict, errs.CodeExecutionRunning)
		require.Equal(t, e.ID, detail(err, "execution_id"))
		_, err = w.Executions().RequestCancel(t.Context(), e.ID)
		require.NoError(t, err)
		require.NoError(t, s.Delete(t.Context(), j.ID))
		_, err = s.Get(t.Context(), j.ID)
		requireNotFound(t, err)
		requireNotFound(t, s.Delete(t.Context(), j.ID))
		b, err := w.Catalogue().Get(t.Context(), done.ID)
		require.NoError(t, err)
		require.Equal(t, j.Name, b.JobName)
		w.newJob(t, func(n *backup.Job) { n.Name = j.Name })
		_, err = w.Executions().Create(t.Context(), execution.NewBackup(j, execution.Manual, nil))
		requireCode(t, err, errs.Invalid, errs.CodeValidation)
		requireField(t, err, "job_id")
	})
}

func listJobs(t *testing.T, w *world) {
	d, l := w.newDatasource(t), w.newLocation(t)
	for i, name := range []string{"b", "c", "a"} {
		w.newJob(t, func(j *backup.Job) {
			j.Name, j.Enabled = "list "+name, i != 0
			if name != "c" {
				j.DatasourceID, j.StorageLocationID = d.ID, l.ID
			}
		})
	}
	list := func(f backup.JobFilter, p paging.Page) (names []string, total int) {
		rows, total, err := w.Jobs().List(t.Context(), f, p)
		require.NoError(t, err)
		for _, j := range rows {
			names = append(names, j.Name)
		}
		return names, total
	}
	names, total := list(backup.JobFilter{DatasourceID: d.ID}, firstPage)
	require.Equal(t, []string{"list a", "list b"}, names)
	require.Equal(t, 2, total)
	names, _ = list(backup.JobFilter{StorageLocationID: l.ID, Enabled: ptr(true)}, firstPage)
	require.Equal(t, []string{"list a"}, names)
	names, total = list(backup.JobFilter{DatasourceID: d.ID}, paging.Page{Number: 2, Limit: 1})
	require.Equal(t, []string{"list b"}, names)
	require.Equal(t, 2, total)
	names, total = list(backup.JobFilter{DatasourceID: id()}, firstPage)
	require.Empty(t, names)
	require.Zero(t, total)
	_, _, err := w.Jobs().List(t.Context(), backup.JobFilter{DatasourceID: "x"}, firstPage)
	requireCode(t, err, errs.Malformed, errs.CodeInvalidArgument)
}

// past is a time that has come, to the database's precision.
func past(ago time.Duration) *time.Time {
	t := time.Now().UTC().Add(-ago).Truncate(time.Microsecond)
	return &t
}
