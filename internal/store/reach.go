package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/dataguardian/dataguardian/internal/auth"
	"github.com/dataguardian/dataguardian/internal/store/db"
)

type reach struct{ *Store }

var _ auth.ScopeStore = reach{}

// Reach knows what lies in a scope.
func (s *Store) Reach() auth.ScopeStore { return reach{s} }

func (s reach) InScope(ctx context.Context, thing auth.Thing, id string, tags []string) (bool, error) {
	if !isUUID(id) {
		return false, nil
	}
	var in bool
	var err error
	switch thing {
	case auth.Datasources:
		in, err = s.q.DatasourceInScope(ctx, db.DatasourceInScopeParams{ID: id, Scope: tags})
	case auth.Jobs:
		in, err = s.q.JobInScope(ctx, db.JobInScopeParams{ID: id, Scope: tags})
	case auth.Executions:
		in, err = s.q.ExecutionInScope(ctx, db.ExecutionInScopeParams{ID: id, Scope: tags})
	case auth.Notifications:
		in, err = s.q.NotificationInScope(ctx, db.NotificationInScopeParams{ID: id, Scope: tags})
	default:
		return false, fmt.Errorf("nobody knows what scope a %q lies in", thing)
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	return in, failure(err)
}
