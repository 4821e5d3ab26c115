package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dataguardian/dataguardian/internal/auth"
	"github.com/dataguardian/dataguardian/internal/datasource"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/health"
	"github.com/dataguardian/dataguardian/internal/location"
	"github.com/dataguardian/dataguardian/internal/notification"
	"github.com/dataguardian/dataguardian/internal/paging"
	"github.com/dataguardian/dataguardian/internal/store/db"
)

type healthStore struct{ *Store }

var _ health.Store = healthStore{}

// Health keeps what workers report and what checks found.
func (s *Store) Health() health.Store { return healthStore{s} }

func (s healthStore) Report(ctx context.Context, ttl time.Duration, instances ...health.Instance) error {
	if len(instances) == 0 {
		return nil
	}
	rows := each(instances, func(i health.Instance) db.ReportInstanceParams {
		return db.ReportInstanceParams{
			ID: i.ID, Role: string(i.Role), Host: i.Host, Pid: int64(i.PID), Spool: i.Spool, State: string(i.State), LastStartedAt: i.LastStartedAt,
			LastFinishedAt: i.LastFinishedAt, LastError: storable(i.LastError), Ttl: ttl,
		}
	})
	var failures []error
	s.q.ReportInstance(ctx, rows).Exec(func(_ int, err error) { failures = append(failures, err) })
	if err := errors.Join(failures...); err != nil {
		return failure(err)
	}
	return failure(s.q.RemoveGoneInstances(ctx))
}

func (s healthStore) Withdraw(ctx context.Context, ids ...string) error {
	return failure(s.q.WithdrawInstances(ctx, ids))
}

func (s healthStore) Instances(ctx context.Context) ([]health.Instance, error) {
	rows, err := s.q.ListInstances(ctx)
	if err != nil {
		return nil, failure(err)
	}
	scoped := auth.ScopeOf(ctx) != nil
	return each(rows, func(row db.WorkerInstance) health.Instance {
		if scoped {
			row.LastError = ""
		}
		return health.Instance{
			ID: row.ID, Role: health.Role(row.Role), Host: row.Host, PID: int(row.Pid), Spool: row.Spool, State: health.WorkerState(row.State),
			LastStartedAt: row.LastStartedAt, LastFinishedAt: row.LastFinishedAt, LastError: row.LastError,
		}
	}), nil
}

func (s healthStore) Stats(ctx context.Context) (health.Stats, error) {
	row, err := s.stats(ctx)
	if err != nil {
		return health.Stats{}, failure(err)
	}
	return health.Stats{
		DatasourcesTotal: int(row.DatasourcesTotal), DatasourcesHealthy: int(row.DatasourcesHealthy), DatasourcesCritical: int(row.DatasourcesCritical),
		JobsTotal: int(row.JobsTotal), JobsEnabled: int(row.JobsEnabled),
		ExecutionsToday: int(row.ExecutionsToday), ExecutionsFailedToday: int(row.ExecutionsFailedToday),
		NotificationsPending: int(row.NotificationsPending), NotificationsStuck: int(row.NotificationsStuck),
	}, nil
}

func (s healthStore) stats(ctx context.Context) (db.StatsRow, error) {
	if scope := auth.ScopeOf(ctx); scope != nil {
		row, err := s.q.StatsInScope(ctx, scope)
		return db.StatsRow(row), err //nolint:wrapcheck // the caller does
	}
	return s.q.Stats(ctx) //nolint:wrapcheck // the caller does
}

func (s healthStore) TakeDatasources(ctx context.Context, limit int, hold time.Duration) ([]string, error) {
	ids, err := s.q.TakeDatasourceChecks(ctx, db.TakeDatasourceChecksParams{Hold: hold, PageLimit: int64(limit)})
	return ids, failure(err)
}

func (s healthStore) TakeStorages(ctx context.Context, limit int, hold time.Duration) ([]string, error) {
	ids, err := s.q.TakeLocationChecks(ctx, db.TakeLocationChecksParams{Hold: hold, PageLimit: int64(limit)})
	return ids, failure(err)
}

// RecordDatasource dates the check by the database's clock and makes its id when
// it has none.
func (s healthStore) RecordDatasource(ctx context.Context, c health.Check, r health.Rules) error {
	metadata, err := optional(c.Metadata)
	if err != nil {
		return err
	}
	return s.telling(ctx, func(q *db.Queries) error {
		before, err := q.LockDatasource(ctx, c.EntityID)
		if err != nil {
			return missing(err, "datasource", c.EntityID)
		}
		status, streak := r.Datasource(datasource.Status(before.Status), streakOf(before.CheckGrade, before.CheckStreak), c)
		err = q.SetDatasourceCheck(ctx, db.SetDatasourceCheckParams{
			ID: before.ID, Status: string(status), CheckGrade: string(streak.Grade), CheckStreak: int64(streak.Length), Pause: r.Pause(streak),
		})
		if err != nil {
			return err
		}
		err = q.CreateDatasourceCheck(ctx, db.CreateDatasourceCheckParams{
			ID: filter(c.ID), DatasourceID: before.ID, Status: string(c.Outcome), LatencyMS: toInt64(c.LatencyMS),
			ErrorMessage: storable(c.ErrorMessage), Metadata: metadata,
		})
		if err != nil {
			return err
		}
		return notify(ctx, q, datasourceNotes(before.ID, before.Name, datasource.Status(before.Status), status, reason(c))...)
	})
}

func streakOf(grade string, length int64) health.Streak {
	return health.Streak{Grade: health.Grade(grade), Length: int(length)}
}

// reason is why a check makes a status worse, for people.
func reason(c health.Check) string {
	if c.ErrorMessage != "" || c.LatencyMS == nil {
		return c.ErrorMessage
	}
	return fmt.Sprintf("an answer takes %s", (time.Duration(*c.LatencyMS) * time.Millisecond).Round(100*time.Millisecond))
}

// RecordStorage dates the check as RecordDatasource does.
func (s healthStore) RecordStorage(ctx context.Context, c health.Check, r health.Rules) error {
	metadata, err := optional(c.Metadata)
	if err != nil {
		return err
	}
	return s.telling(ctx, func(q *db.Queries) error {
		before, err := q.LockLocation(ctx, c.EntityID)
		if err != nil {
			return missing(err, "storage location", c.EntityID)
		}
		status, streak, low := r.Storage(location.Status(before.Status), streakOf(before.CheckGrade, before.CheckStreak), before.LowSpace, c)
		err = q.SetLocationCheck(ctx, db.SetLocationCheckParams{
			ID: before.ID, CheckGrade: string(streak.Grade), CheckStreak: int64(streak.Length), LowSpace: low, Pause: r.Pause(streak),
		})
		if err != nil {
			return err
		}
		err = q.CreateStorageCheck(ctx, db.CreateStorageCheckParams{
			ID: filter(c.ID), StorageLocationID: c.EntityID, Status: string(c.Outcome), LatencyMS: toInt64(c.LatencyMS),
			AvailableBytes: c.AvailableBytes, ErrorMessage: storable(c.ErrorMessage), Metadata: metadata,
		})
		if err != nil {
			return err
		}
		available := c.AvailableBytes
		if available == nil && status != location.Unreachable {
			available = before.AvailableBytes // what was known last
		}
		return setLocationStatus(ctx, q, before, status, available, c.ErrorMessage, spaceNotes(before, status, low, c.AvailableBytes)...)
	})
}

// setLocationStatus records the status of a locked location and tells people when
// it is another one. It comes last in its transaction.
func setLocationStatus(ctx context.Context, q *db.Queries, before db.StorageLocation, status location.Status, availableBytes *int64, why string, more ...notification.Notification) error {
	if err := q.SetLocationStatus(ctx, db.SetLocationStatusParams{ID: before.ID, Status: string(status), AvailableBytes: availableBytes}); err != nil {
		return err
	}
	return notify(ctx, q, append(locationNotes(before.ID, before.Name, location.Status(before.Status), status, why), more...)...)
}

func (s healthStore) Datasources(ctx context.Context, f health.CheckFilter, p paging.Page) ([]health.Check, int, error) {
	total, err := s.q.CountDatasourceChecks(ctx, db.CountDatasourceChecksParams{EntityID: filter(f.EntityID), FromTime: f.From, ToTime: f.To, Scope: auth.ScopeOf(ctx)})
	if err != nil {
		return nil, 0, failure(err)
	}
	limit, offset := window(p)
	rows, err := s.q.ListDatasourceChecks(ctx, db.ListDatasourceChecksParams{
		EntityID: filter(f.EntityID), FromTime: f.From, ToTime: f.To, Scope: auth.ScopeOf(ctx), PageLimit: limit, PageOffset: offset,
	})
	if err != nil {
		return nil, 0, failure(err)
	}
	found, err := eachOrError(rows, func(row db.ListDatasourceChecksRow) (health.Check, error) {
		h := row.HealthCheck
		c := health.Check{
			ID: h.ID, EntityID: h.DatasourceID, EntityName: row.EntityName, DatasourceType: engine.Type(row.EntityType), CheckedAt: h.CheckedAt,
			Outcome: health.Outcome(h.Status), LatencyMS: toInt(h.LatencyMS), ErrorMessage: h.ErrorMessage,
		}
		return c, decode(h.Metadata, &c.Metadata)
	})
	return found, int(total), err
}

func (s healthStore) Storages(ctx context.Context, f health.CheckFilter, p paging.Page) ([]health.Check, int, error) {
	total, err := s.q.CountStorageChecks(ctx, db.CountStorageChecksParams{EntityID: filter(f.EntityID), FromTime: f.From, ToTime: f.To})
	if err != nil {
		return nil, 0, failure(err)
	}
	limit, offset := window(p)
	rows, err := s.q.ListStorageChecks(ctx, db.ListStorageChecksParams{
		EntityID: filter(f.EntityID), FromTime: f.From, ToTime: f.To, PageLimit: limit, PageOffset: offset,
	})
	if err != nil {
		return nil, 0, failure(err)
	}
	found, err := eachOrError(rows, func(row db.ListStorageChecksRow) (health.Check, error) {
		h := row.StorageHealthCheck
		c := health.Check{
			ID: h.ID, EntityID: h.StorageLocationID, EntityName: row.EntityName, StorageType: location.Type(row.EntityType), CheckedAt: h.CheckedAt,
			Outcome: health.Outcome(h.Status), LatencyMS: toInt(h.LatencyMS), AvailableBytes: h.AvailableBytes, ErrorMessage: h.ErrorMessage,
		}
		return c, decode(h.Metadata, &c.Metadata)
	})
	return found, int(total), err
}

func (s healthStore) FoldCounts(ctx context.Context) error {
	return failure(s.q.FoldExecutionCounts(ctx))
}

func (s healthStore) PruneChecks(ctx context.Context, age time.Duration) (int, error) {
	ofDatasources, err := s.q.PruneDatasourceChecks(ctx, age)
	if err != nil {
		return 0, failure(err)
	}
	ofStorages, err := s.q.PruneStorageChecks(ctx, age)
	return int(ofDatasources + ofStorages), failure(err)
}

// optional is metadata as JSON, null when there is none.
func optional(metadata map[string]any) ([]byte, error) {
	if len(metadata) == 0 {
		return nil, nil
	}
	return encodeStorable(metadata)
}
