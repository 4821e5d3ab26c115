package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/dataguardian/dataguardian/internal/auth"
	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/location"
	"github.com/dataguardian/dataguardian/internal/paging"
	"github.com/dataguardian/dataguardian/internal/store/db"
)

type jobs struct{ *Store }

var _ backup.JobStore = jobs{}

// Jobs keeps backup jobs. The time of a job's last execution is read from its
// executions: what Create and Update are given for it does not count.
func (s *Store) Jobs() backup.JobStore { return jobs{s} }

func (s jobs) Create(ctx context.Context, j backup.Job) (backup.Job, error) {
	retention, options, err := jobSettings(j)
	if err != nil {
		return backup.Job{}, err
	}
	err = s.tx(ctx, func(q *db.Queries) error {
		if err := holdJobParts(ctx, q, j); err != nil {
			return err
		}
		return q.CreateJob(ctx, db.CreateJobParams{
			ID: j.ID, Name: j.Name, DatasourceID: j.DatasourceID, StorageLocationID: j.StorageLocationID, ScheduleCron: j.ScheduleCron,
			ScheduleTimezone: j.ScheduleTimezone, Enabled: j.Enabled, RetentionPolicy: retention, BackupOptions: options,
			NextExecutionAt: j.NextExecutionAt,
		})
	})
	if err != nil {
		return backup.Job{}, err
	}
	return s.Get(ctx, j.ID)
}

func (s jobs) Get(ctx context.Context, id string) (backup.Job, error) {
	row, err := s.q.GetJob(ctx, id)
	if err != nil {
		return backup.Job{}, missing(err, "job", id)
	}
	found, err := s.withLast(ctx, []db.JobView{row})
	if err != nil {
		return backup.Job{}, err
	}
	return found[0], nil
}

func (s jobs) List(ctx context.Context, f backup.JobFilter, p paging.Page) ([]backup.Job, int, error) {
	where := db.CountJobsParams{Enabled: f.Enabled, DatasourceID: filter(f.DatasourceID), StorageLocationID: filter(f.StorageLocationID), Scope: auth.ScopeOf(ctx)}
	total, err := s.q.CountJobs(ctx, where)
	if err != nil {
		return nil, 0, failure(err)
	}
	limit, offset := window(p)
	rows, err := s.q.ListJobs(ctx, db.ListJobsParams{
		Enabled: where.Enabled, DatasourceID: where.DatasourceID, StorageLocationID: where.StorageLocationID, Scope: where.Scope, PageLimit: limit, PageOffset: offset,
	})
	if err != nil {
		return nil, 0, failure(err)
	}
	found, err := s.withLast(ctx, rows)
	return found, int(total), err
}

func (s jobs) Update(ctx context.Context, id string, change func(*backup.Job) error) (backup.Job, error) {
	err := s.tx(ctx, func(q *db.Queries) error {
		if _, err := q.LockJob(ctx, id); err != nil {
			return missing(err, "job", id)
		}
		row, err := q.GetJob(ctx, id)
		if err != nil {
			return missing(err, "job", id)
		}
		j, err := job(row)
		if err != nil {
			return err
		}
		if err := change(&j); err != nil {
			return err
		}
		j.ID = row.ID
		return saveJob(ctx, q, j)
	})
	if err != nil {
		return backup.Job{}, err
	}
	return s.Get(ctx, id)
}

func saveJob(ctx context.Context, q *db.Queries, j backup.Job) error {
	retention, options, err := jobSettings(j)
	if err != nil {
		return err
	}
	if err := holdJobParts(ctx, q, j); err != nil {
		return err
	}
	return q.UpdateJob(ctx, db.UpdateJobParams{
		ID: j.ID, Name: j.Name, DatasourceID: j.DatasourceID, StorageLocationID: j.StorageLocationID, ScheduleCron: j.ScheduleCron,
		ScheduleTimezone: j.ScheduleTimezone, Enabled: j.Enabled, RetentionPolicy: retention, BackupOptions: options,
		NextExecutionAt: j.NextExecutionAt,
	})
}

func (s jobs) Delete(ctx context.Context, id string) error {
	return s.tx(ctx, func(q *db.Queries) error {
		if _, err := q.LockJob(ctx, id); err != nil {
			return missing(err, "job", id)
		}
		active, err := q.ActiveExecutionOfJob(ctx, &id)
		switch {
		case err == nil:
			return errs.New(errs.Conflict, errs.CodeExecutionRunning,
				"the job has an execution that is queued or running; wait for its end or cancel it").With("execution_id", active)
		case !errors.Is(err, pgx.ErrNoRows):
			return err
		}
		return q.DeleteJob(ctx, id)
	})
}

// holdJobParts keeps what a job is made of from being deleted, until the end of
// the transaction. What is not there makes a validation error.
func holdJobParts(ctx context.Context, q *db.Queries, j backup.Job) error {
	h := holder{q: q}
	h.datasource(ctx, "datasource_id", j.DatasourceID)
	h.location(ctx, "storage_location_id", j.StorageLocationID)
	h.targets(ctx, "backup_options.storage_targets", j.Options.Targets)
	return h.result()
}

// holder locks rows that others refer to and gathers the ones that are not there.
type holder struct {
	q      *db.Queries
	fields []errs.Field
	err    error
}

func (h *holder) datasource(ctx context.Context, field, id string) {
	h.hold(ctx, h.q.HoldDatasource, field, id, "there is no such datasource")
}

func (h *holder) location(ctx context.Context, field, id string) {
	h.hold(ctx, h.q.HoldLocation, field, id, "there is no such storage location")
}

func (h *holder) targets(ctx context.Context, field string, targets []backup.Target) {
	for i, t := range targets {
		h.location(ctx, fmt.Sprintf("%s[%d].storage_location_id", field, i), t.StorageLocationID)
	}
}

func (h *holder) job(ctx context.Context, field, id string) {
	h.hold(ctx, h.q.HoldJob, field, id, "there is no such job")
}

func (h *holder) hold(ctx context.Context, lock func(context.Context, string) (string, error), field, id, message string) {
	if h.err != nil || !isUUID(id) {
		h.complain(field, message)
		return
	}
	_, err := lock(ctx, id)
	if errors.Is(err, pgx.ErrNoRows) {
		h.complain(field, message)
		return
	}
	h.err = err
}

func (h *holder) complain(field, message string) {
	h.fields = append(h.fields, errs.Field{Field: field, Message: message})
}

func (h *holder) result() error {
	if h.err == nil && len(h.fields) > 0 {
		return errs.InvalidFields(errs.CodeValidation, h.fields...)
	}
	return h.err
}

func jobSettings(j backup.Job) (retention, options []byte, err error) {
	if retention, err = encode(j.Retention); err != nil {
		return nil, nil, err
	}
	options, err = encode(j.Options)
	return retention, options, err
}

// withLast turns rows into jobs with their newest executions.
func (s jobs) withLast(ctx context.Context, rows []db.JobView) ([]backup.Job, error) {
	found, err := eachOrError(rows, job)
	if err != nil || len(rows) == 0 {
		return found, err
	}
	newest, err := s.q.LastExecutions(ctx, each(found, func(j backup.Job) string { return j.ID }))
	if err != nil {
		return nil, failure(err)
	}
	last := make(map[string]db.LastExecutionsRow, len(newest))
	for _, e := range newest {
		last[e.JobID] = e
	}
	for i := range found {
		e, ran := last[found[i].ID]
		if !ran {
			continue
		}
		at := e.CreatedAt
		if e.StartedAt != nil {
			at = *e.StartedAt
		}
		found[i].LastExecutionAt = &at
		found[i].Last = &backup.LastExecution{
			ID: e.ID, Status: e.Status, StartedAt: e.StartedAt, FinishedAt: e.FinishedAt, SizeBytes: e.SizeBytes, ErrorMessage: e.ErrorMessage,
		}
	}
	return found, nil
}

func job(row db.JobView) (backup.Job, error) {
	j := backup.Job{
		ID: row.ID, Name: row.Name, DatasourceID: row.DatasourceID, StorageLocationID: row.StorageLocationID,
		ScheduleCron: row.ScheduleCron, ScheduleTimezone: row.ScheduleTimezone, Enabled: row.Enabled,
		NextExecutionAt: row.NextExecutionAt, CreatedAt: row.CreatedAt, UpdatedAt: row.UpdatedAt,
		DatasourceName: row.DatasourceName, DatasourceType: engine.Type(row.DatasourceType),
		StorageName: row.StorageName, StorageType: location.Type(row.StorageType),
	}
	if err := decode(row.RetentionPolicy, &j.Retention); err != nil {
		return j, err
	}
	return j, decode(row.BackupOptions, &j.Options)
}
