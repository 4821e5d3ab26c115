package store

import (
	"context"
	"time"

	"github.com/dataguardian/dataguardian/internal/auth"
	"github.com/dataguardian/dataguardian/internal/store/db"
)

type tries struct{ *Store }

var _ auth.TryStore = tries{}

// Tries counts attempts to log in for all processes.
func (s *Store) Tries() auth.TryStore { return tries{s} }

func (s tries) Take(ctx context.Context, key []byte, size int, every time.Duration) (time.Duration, error) {
	taken, err := s.q.TakeTry(ctx, db.TakeTryParams{Key: key, Size: float64(size), Every: every.Seconds()})
	if err != nil || taken > 0 {
		return 0, failure(err)
	}
	left, err := s.q.RefillTries(ctx, db.RefillTriesParams{Key: key, Size: float64(size), Every: every.Seconds()})
	if err != nil {
		return 0, failure(err)
	}
	return max(time.Millisecond, time.Duration((1-left)*float64(every))), nil // somebody may have given one back meanwhile
}

func (s tries) GiveBack(ctx context.Context, key []byte, size int) error {
	return failure(s.q.GiveTryBack(ctx, db.GiveTryBackParams{Key: key, Size: float64(size)}))
}

func (s tries) Prune(ctx context.Context) error { return failure(s.q.PruneTries(ctx)) }
