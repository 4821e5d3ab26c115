package store

import (
	"context"
	"time"

	"github.com/dataguardian/dataguardian/internal/audit"
	"github.com/dataguardian/dataguardian/internal/paging"
	"github.com/dataguardian/dataguardian/internal/store/db"
)

type auditLogs struct{ *Store }

var _ audit.Store = auditLogs{}

// Audit keeps the audit log.
func (s *Store) Audit() audit.Store { return auditLogs{s} }

func (s auditLogs) Create(ctx context.Context, e audit.Entry) error {
	metadata, err := optional(e.Metadata)
	if err != nil {
		return err
	}
	return failure(s.q.CreateAuditLog(ctx, db.CreateAuditLogParams{
		ID: e.ID, Actor: storable(e.Actor), Action: storable(e.Action), EntityType: storable(e.EntityType), EntityID: filter(storable(e.EntityID)),
		Address: storable(e.Address), Outcome: e.Outcome, RequestID: e.RequestID, Count: int64(e.Count), Metadata: metadata,
	}))
}

func (s auditLogs) Finish(ctx context.Context, id, outcome, entityID string) error {
	finished, err := s.q.FinishAuditLog(ctx, db.FinishAuditLogParams{ID: id, Outcome: outcome, EntityID: filter(entityID)})
	return none(finished, err, "entry of the audit log", id)
}

func (s auditLogs) Add(ctx context.Context, id string, more int) error {
	_, err := s.q.AddToAuditLog(ctx, db.AddToAuditLogParams{ID: id, More: int64(more)})
	return failure(err)
}

func (s auditLogs) List(ctx context.Context, f audit.Filter, p paging.Page) ([]audit.Entry, int, error) {
	where := db.CountAuditLogsParams{
		Actor: filter(f.Actor), Action: filter(f.Action), EntityType: filter(f.EntityType), EntityID: filter(f.EntityID),
		Outcome: filter(f.Outcome), FromTime: f.From, ToTime: f.To,
	}
	total, err := s.q.CountAuditLogs(ctx, where)
	if err != nil {
		return nil, 0, failure(err)
	}
	limit, offset := window(p)
	rows, err := s.q.ListAuditLogs(ctx, db.ListAuditLogsParams{
		Actor: where.Actor, Action: where.Action, EntityType: where.EntityType, EntityID: where.EntityID,
		Outcome: where.Outcome, FromTime: where.FromTime, ToTime: where.ToTime, PageLimit: limit, PageOffset: offset,
	})
	if err != nil {
		return nil, 0, failure(err)
	}
	found, err := eachOrError(rows, func(row db.AuditLog) (audit.Entry, error) {
		e := audit.Entry{
			ID: row.ID, Actor: row.Actor, Action: row.Action, EntityType: row.EntityType, EntityID: text(row.EntityID), Address: row.Address,
			Outcome: row.Outcome, RequestID: row.RequestID, Count: int(row.Count), CreatedAt: row.CreatedAt,
		}
		return e, decode(row.Metadata, &e.Metadata)
	})
	return found, int(total), err
}

func (s auditLogs) Prune(ctx context.Context, age time.Duration) (int, error) {
	removed, err := s.q.PruneAuditLogs(ctx, age)
	return int(removed), failure(err)
}
