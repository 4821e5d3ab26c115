package cleanup

import (
	"context"
	"errors"
	"time"

	"github.com/dataguardian/dataguardian/internal/datasource"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/worker/restore"
)

const (
	// leftoversLimit bounds the restores of one cycle.
	leftoversLimit = 20
	// sweepTimeout bounds what is done on one server.
	sweepTimeout = time.Minute
)

// Restores is what restores that were killed have left behind.
type Restores interface {
	Abandoned(ctx context.Context, limit int) ([]execution.Leftovers, error)
	ForgetLeftovers(ctx context.Context, executionID string) error
	NoteSweepFailure(ctx context.Context, executionID, why string) error
}

// Datasources is what cleaning up needs of datasources.
type Datasources interface {
	Get(ctx context.Context, id string) (datasource.Datasource, error)
}

// restores drops databases that restores made for a while and could not drop.
func (c *Cleaner) restores(ctx context.Context) error {
	all, err := c.Restores.Abandoned(ctx, leftoversLimit)
	if err != nil {
		return err
	}
	var failures []error
	for _, x := range all {
		err := c.sweepRestore(ctx, x)
		if err == nil {
			err = c.Restores.ForgetLeftovers(ctx, x.ExecutionID)
			c.Logger.InfoContext(ctx, "nothing is left of a restore that was interrupted", "execution_id", x.ExecutionID)
		} else {
			err = errors.Join(err, c.Restores.NoteSweepFailure(ctx, x.ExecutionID, errs.Message(err)))
		}
		failures = append(failures, err)
	}
	return errors.Join(failures...)
}

func (c *Cleaner) sweepRestore(ctx context.Context, x execution.Leftovers) error {
	d, err := c.Datasources.Get(ctx, x.DatasourceID)
	if errs.KindOf(err) == errs.NotFound {
		c.Logger.WarnContext(ctx, "a restore was interrupted and its datasource is deleted: look for its databases on the server",
			"execution_id", x.ExecutionID, "database", x.Database, "token", execution.Token(x.ExecutionID))
		return nil
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, sweepTimeout)
	defer cancel()
	return restore.Sweep(ctx, c.Engines[d.Type], d.Conn, x, func(_ engine.Level, message string) {
		c.Logger.WarnContext(ctx, message, "execution_id", x.ExecutionID, "datasource", d.Name)
	})
}
