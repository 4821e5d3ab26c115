package artifact

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"golang.org/x/sync/errgroup"
)

// checksAtOnce is how many spool files are read again at the same time.
const checksAtOnce = 2

// Resume completes an artifact whose dump is in the spool, without the
// database: every part is read again and compared with its digest, then
// cfg.Targets get what they lack and the manifest. Parts that a target holds
// with the right size (and digest, where the storage knows it) are not sent
// again.
//
// Of cfg it uses Header.ExecutionID, SpoolDir, KeepSpool, Strategy, Targets,
// Concurrency, Retry and the callbacks; the rest is as the dump left it. It
// fails with SPOOL_LOST when there is no complete dump or it has changed, with
// EXECUTION_ALREADY_RUNNING when somebody works on it, else like Commit. After a
// failed upload the spool is kept. After a success it goes unless KeepSpool:
// name every target that still matters.
func Resume(ctx context.Context, cfg Config) (Result, error) {
	s, err := openSpool(cfg.SpoolDir, cfg.Header.ExecutionID, 0)
	if err != nil {
		return Result{}, err
	}
	all, err := s.load()
	if err != nil {
		return Result{}, errors.Join(err, s.close())
	}
	cfg, err = resumed(cfg, all)
	if err == nil {
		err = s.checkAll(ctx, all.parts, cfg.Log)
	}
	if err != nil {
		return Result{}, errors.Join(err, s.close())
	}

	ctx, stop := context.WithCancelCause(ctx)
	defer stop(errs.New(errs.Cancelled, errs.CodeCancelled, "the upload has ended"))
	c := &counters{report: cfg.Progress}
	c.raw.Store(all.manifest.Totals.RawSize)
	c.stored.Store(all.manifest.Totals.StoredSize)
	u := newUploads(ctx, stop, cfg, s, c)
	u.resumed, u.parts, u.manifest = true, all.parts, all.document
	u.start()
	<-u.done
	return u.conclude(all.manifest, true)
}

// resumed completes cfg with what the dump was made with.
func resumed(cfg Config, all saved) (Config, error) {
	if all.manifest.ExecutionID != cfg.Header.ExecutionID || cfg.Path != "" && cfg.Path != all.path {
		return cfg, spoolLost(nil, "the spool holds another backup")
	}
	cfg.Path, cfg.Spool, cfg.Recipients = all.path, SpoolFull, nil
	cfg.Compression, cfg.Level = NoCompression, nil // nothing is compressed any more
	cfg = cfg.withDefaults()
	return cfg, cfg.check()
}

// checkAll re-reads every part of the spool.
func (s *spool) checkAll(ctx context.Context, parts []*part, log func(engine.Level, string)) error {
	log(engine.LevelInfo, "Checking the spooled backup before it is uploaded")
	g, gctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range checksAtOnce {
		g.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(parts) {
					return nil
				}
				if gctx.Err() != nil {
					return ended(context.Cause(gctx))
				}
				if err := s.check(parts[i]); err != nil {
					return err
				}
			}
		})
	}
	return g.Wait()
}
