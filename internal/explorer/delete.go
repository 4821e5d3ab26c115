package explorer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/storage"
)

const (
	// batch is how many objects of a folder are looked at before they go.
	batch = 1000
	// deletesAtOnce bounds the requests of one Delete.
	deletesAtOnce = 8
	// named is how many backups a refusal names.
	named = 20
)

// Delete removes a file, or a folder with all it holds; a trailing slash means the
// folder. What belongs to a known backup stays unless force is set, and what a
// running execution writes stays in any case. A folder that fails midway has lost
// what the error counts as "deleted"; deleting it again removes the rest.
func (x *Explorer) Delete(ctx context.Context, locationID, key string, force bool) (err error) {
	path, err := checkFolder("path", key)
	switch {
	case err != nil:
		return err
	case path == "":
		return refusedPath("path", "is the whole storage", nil)
	}
	_, driver, err := x.places.Open(ctx, locationID)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, driver.Close()) }()
	d := deletion{Explorer: x, driver: driver, location: locationID, path: path, force: force}
	if path != key {
		return d.folder(ctx)
	}
	_, err = driver.Stat(ctx, path)
	switch {
	case err == nil:
		return d.remove(ctx, []string{path})
	case errors.Is(err, storage.ErrNotExist):
		return d.folder(ctx)
	}
	return explained("path", err)
}

type deletion struct {
	*Explorer

	driver   storage.Driver
	location string
	path     string
	force    bool
	deleted  int
}

// folder removes what is there now, in batches. Each is listed before it is asked
// whose it is: a backup is known before its first object is written.
func (d *deletion) folder(ctx context.Context) error {
	prefix, err := storage.FolderPrefix(d.path)
	if err != nil {
		return absent(d.path)
	}
	keys := make([]string, 0, batch)
	for o, err := range d.driver.List(ctx, prefix) {
		if err != nil {
			return d.failed(err)
		}
		if keys = append(keys, o.Key); len(keys) < batch {
			continue
		}
		if err := d.remove(ctx, keys); err != nil {
			return err
		}
		keys = keys[:0]
	}
	if len(keys) == 0 && d.deleted == 0 {
		return absent(d.path)
	}
	return d.remove(ctx, keys)
}

func (d *deletion) remove(ctx context.Context, keys []string) error {
	if err := d.release(ctx); err != nil {
		return d.counted(err)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(deletesAtOnce)
	for _, key := range keys {
		group.Go(func() error { return d.driver.Delete(ctx, key) })
	}
	if err := group.Wait(); err != nil {
		return d.failed(err)
	}
	d.deleted += len(keys)
	return nil
}

func (d *deletion) failed(err error) error { return d.counted(explained("path", err)) }

// counted says how much is gone already.
func (d *deletion) counted(err error) error {
	if e := errs.As(err); e != nil && d.deleted > 0 {
		return e.With("deleted", d.deleted)
	}
	return err
}

// release makes sure that no backup is lost without being asked for.
func (d *deletion) release(ctx context.Context) error {
	held, total, err := d.holdings.At(ctx, d.location, d.path, named)
	switch {
	case err != nil || total == 0:
		return err
	case held[0].Status == backup.CopyPending:
		return inUse(held, total, "%q holds what the running execution %s writes; cancel it first, or wait for its end", d.path, held[0].ExecutionID)
	case !d.force:
		return inUse(held, total, "%q holds %s; delete backups with DELETE /api/executions/{id}, or repeat the call with force=true to lose what lies there", d.path, counted(held, total))
	}
	_, err = d.holdings.Lose(ctx, d.location, d.path, fmt.Sprintf("%q was deleted in the file explorer", d.path))
	return err
}

func counted(held []Holding, total int) string {
	newest := fmt.Sprintf("of %s, made %s", held[0].DatasourceName, held[0].CreatedAt.UTC().Format(time.RFC3339))
	if total == 1 {
		return "objects of a backup " + newest
	}
	return fmt.Sprintf("objects of %d backups, the newest %s", total, newest)
}

func inUse(held []Holding, total int, format string, args ...any) error {
	list := make([]any, 0, len(held))
	for _, h := range held {
		list = append(list, map[string]any{
			"execution_id": h.ExecutionID, "datasource_name": h.DatasourceName, "job_name": h.JobName, "backup_path": h.Path,
			"status": string(h.Status), "created_at": h.CreatedAt.UTC().Format(time.RFC3339Nano),
		})
	}
	return errs.New(errs.Conflict, errs.CodeResourceInUse, format, args...).With("backups", list).With("total", total)
}
