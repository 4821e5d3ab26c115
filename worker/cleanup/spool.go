package cleanup

import (
	"context"
	"log/slog"
	"time"

	"github.com/dataguardian/dataguardian/worker"
)

// SpoolSweeper is a worker.Service for a machine that makes backups and has no
// Cleaner: nobody else reaches its spools.
type SpoolSweeper struct {
	Spool    Spool
	Logger   *slog.Logger
	Interval time.Duration
}

// Name implements worker.Service.
func (s *SpoolSweeper) Name() string { return "spool sweeper" }

// Run implements worker.Service.
func (s *SpoolSweeper) Run(ctx context.Context) error {
	worker.Every(ctx, s.Interval, func(ctx context.Context) {
		if err := sweepSpools(ctx, s.Spool, s.Logger); err != nil && ctx.Err() == nil {
			s.Logger.WarnContext(ctx, "stale spools could not be removed and are tried again", "error", err)
		}
	})
	return nil
}
