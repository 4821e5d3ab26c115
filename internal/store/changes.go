package store

import (
	"context"
	"time"

	"github.com/dataguardian/dataguardian/internal/auth"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/store/db"
)

type changes struct{ *Store }

var _ execution.Changes = changes{}

// Changes tells those who watch what is new about executions.
func (s *Store) Changes() execution.Changes { return changes{s} }

func (s changes) Horizon(ctx context.Context) (time.Time, error) {
	at, err := s.q.ChangeHorizon(ctx)
	return at, failure(err)
}

func (s changes) Changed(ctx context.Context, after execution.Mark, limit int) ([]execution.Change, error) {
	rows, err := s.q.ListChanged(ctx, db.ListChangedParams{AfterTime: after.Time, AfterID: after.ID, Scope: auth.ScopeOf(ctx), PageLimit: int64(limit)})
	if err != nil {
		return nil, failure(err)
	}
	return eachOrError(rows, func(row db.ListChangedRow) (execution.Change, error) {
		return changeOf(row.ExecutionView, row.ChangedAt, row.Tags)
	})
}

func (s changes) Active(ctx context.Context, after execution.Mark, limit int) ([]execution.Change, error) {
	rows, err := s.q.ListActive(ctx, db.ListActiveParams{AfterTime: after.Time, AfterID: after.ID, Scope: auth.ScopeOf(ctx), PageLimit: int64(limit)})
	if err != nil {
		return nil, failure(err)
	}
	return eachOrError(rows, func(row db.ListActiveRow) (execution.Change, error) {
		return changeOf(row.ExecutionView, row.ChangedAt, row.Tags)
	})
}

func (s changes) Tagged(ctx context.Context, tags []string) (map[string][]string, error) {
	rows, err := s.q.ListTagged(ctx, tags)
	if err != nil {
		return nil, failure(err)
	}
	tagged := make(map[string][]string, len(rows))
	for _, row := range rows {
		tagged[row.ID] = row.Tags
	}
	return tagged, nil
}

func changeOf(row db.ExecutionView, at time.Time, tags []string) (execution.Change, error) {
	e, err := executionOf(row)
	return execution.Change{Execution: e, ChangedAt: at, Tags: tags}, err
}
