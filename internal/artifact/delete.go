package artifact

import (
	"context"
	"errors"

	"github.com/dataguardian/dataguardian/storage"
	"golang.org/x/sync/errgroup"
)

// deletesAtOnce bounds the requests of one Delete.
const deletesAtOnce = 8

// Delete removes an artifact from one storage, whole or partial: the manifest
// first, so that it stops to exist at once, then every object below path. An
// absent one is fine. It goes on after an error and returns the first; calling
// it again removes the rest. path must have the form that Path gives it.
func Delete(ctx context.Context, d storage.Driver, path string) error {
	if err := checkPath(path); err != nil {
		return err
	}
	if err := d.Delete(ctx, path+"/"+manifestFile); err != nil {
		return deleteFailure(ctx, err)
	}
	var g errgroup.Group
	g.SetLimit(deletesAtOnce)
	var listing error
	for o, err := range d.List(ctx, path+"/") {
		if err != nil {
			listing = err
			break
		}
		g.Go(func() error { return d.Delete(ctx, o.Key) })
	}
	if err := errors.Join(g.Wait(), listing); err != nil {
		return deleteFailure(ctx, err)
	}
	return nil
}

func deleteFailure(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ended(context.Cause(ctx))
	}
	return readFailure(err, "deleting the backup")
}
