package store

import (
	"context"

	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/store/db"
)

// noID sorts before every id.
const noID = "00000000-0000-0000-0000-000000000000"

func (s catalogue) At(ctx context.Context, locationID, afterID string, limit int) ([]backup.Backup, error) {
	if afterID == "" {
		afterID = noID
	}
	rows, err := s.q.CopiesAt(ctx, db.CopiesAtParams{StorageLocationID: locationID, AfterID: afterID, PageLimit: int64(limit)})
	if err != nil {
		return nil, failure(err)
	}
	found := byExecution(rows)
	if len(rows) == limit && len(found) > 1 {
		found = found[:len(found)-1] // it may have more copies; it begins the next page
	}
	ids := make([]string, 0, len(found))
	at := make(map[string]int, len(found))
	for i, b := range found {
		ids = append(ids, b.ExecutionID)
		at[b.ExecutionID] = i
	}
	chunks, err := s.q.ListChunks(ctx, ids)
	if err != nil {
		return nil, failure(err)
	}
	for _, c := range chunks {
		b := &found[at[c.ExecutionID]]
		b.Parts = append(b.Parts, partOf(c))
	}
	return found, nil
}

// byExecution groups copies, which are in order of their executions.
func byExecution(rows []db.CopyView) []backup.Backup {
	var found []backup.Backup
	for _, row := range rows {
		if n := len(found); n == 0 || found[n-1].ExecutionID != row.ExecutionID {
			found = append(found, backup.Backup{ExecutionID: row.ExecutionID})
		}
		last := &found[len(found)-1]
		last.Copies = append(last.Copies, copyOf(row))
	}
	return found
}
