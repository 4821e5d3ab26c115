package store

import (
	"context"

	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/explorer"
	"github.com/dataguardian/dataguardian/internal/store/db"
)

type holdings struct{ *Store }

var _ explorer.Holdings = holdings{}

// Holdings knows which objects of a storage location belong to backups.
func (s *Store) Holdings() explorer.Holdings { return holdings{s} }

func (s holdings) At(ctx context.Context, locationID, path string, limit int) ([]explorer.Holding, int, error) {
	if !isUUID(locationID) {
		return nil, 0, nil
	}
	rows, err := s.q.HoldingsAt(ctx, db.HoldingsAtParams{StorageLocationID: locationID, At: path, PageLimit: int64(limit)})
	if err != nil {
		return nil, 0, failure(err)
	}
	total := 0
	return each(rows, func(row db.HoldingsAtRow) explorer.Holding {
		total = int(row.Total)
		return explorer.Holding{
			ExecutionID: row.ExecutionID, DatasourceName: row.DatasourceName, JobName: row.JobName, Path: row.Path,
			Status: backup.CopyStatus(row.Status), CreatedAt: row.CreatedAt,
		}
	}), total, nil
}

func (s holdings) Lose(ctx context.Context, locationID, path, why string) (int, error) {
	if !isUUID(locationID) {
		return 0, nil
	}
	lost, err := s.q.LoseAt(ctx, db.LoseAtParams{StorageLocationID: locationID, At: path, Error: storable(why)})
	return int(lost), failure(err)
}
