package vault

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/dataguardian/dataguardian/internal/artifact"
	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/storage"
)

// inventoryPage is how many backups are read from the catalogue at once.
const inventoryPage = 500

// Reconcile compares a storage with the catalogue, both ways. Objects on the path
// of a backup that no copy and no manifest owns are removed once the newest of
// them is older than grace, and so is what a check of the storage left behind an hour
// ago or more. A whole backup that the catalogue does not know is kept: it may be
// somebody's only copy. A copy that should be there and has lost objects is recorded as
// missing.
func (v *Vault) Reconcile(ctx context.Context, locationID string, grace time.Duration) (backup.Findings, error) {
	_, d, err := v.Open(ctx, locationID)
	if err != nil {
		return backup.Findings{}, err
	}
	f, err := v.reconcile(ctx, d, locationID, grace)
	return f, errors.Join(err, d.Close())
}

func (v *Vault) reconcile(ctx context.Context, d storage.Driver, locationID string, grace time.Duration) (backup.Findings, error) {
	var f backup.Findings
	// The catalogue is read after the listing: a backup that begins meanwhile is
	// known before it can look like an orphan.
	shelf, err := takeStock(ctx, d, "")
	if err != nil {
		return f, storage.Explain(err)
	}
	owned := map[string]bool{}
	for known, err := range v.known(ctx, locationID) {
		if err != nil {
			return f, err
		}
		owned[known.copy.Path] = true
		if err := v.checkCopy(ctx, d, &f, known.backup, known.copy, shelf[known.copy.Path]); err != nil {
			return f, err
		}
	}
	err = removeOrphans(ctx, d, &f, shelf, owned, grace)
	checks, sweepErr := storage.SweepChecks(ctx, d, max(grace, time.Hour)) // one may be under way
	f.Removed = append(f.Removed, checks...)
	return f, errors.Join(err, sweepErr)
}

// known is a copy that the catalogue has of a backup in a location.
type known struct {
	backup backup.Backup
	copy   backup.Copy
}

// known yields every copy in a location that is not deleted, and an error as the last.
func (v *Vault) known(ctx context.Context, locationID string) iter.Seq2[known, error] {
	return func(yield func(known, error) bool) {
		for after := ""; ; {
			page, err := v.catalogue.At(ctx, locationID, after, inventoryPage)
			if err != nil {
				yield(known{}, err)
				return
			}
			if len(page) == 0 {
				return
			}
			for _, b := range page {
				for _, c := range b.Copies {
					if !yield(known{b, c}, nil) {
						return
					}
				}
			}
			after = page[len(page)-1].ExecutionID
		}
	}
}

// pile is what lies on one path.
type pile struct {
	path   string
	sizes  map[string]int64 // by key
	newest time.Time
	whole  bool // it has a manifest
}

// takeStock lists the objects on the paths of backups; all others are not ours.
func takeStock(ctx context.Context, d storage.Driver, prefix string) (map[string]*pile, error) {
	shelf := map[string]*pile{}
	for o, err := range d.List(ctx, prefix) {
		if err != nil {
			return nil, err
		}
		path, ok := artifact.PathOf(o.Key)
		if !ok {
			continue
		}
		p := shelf[path]
		if p == nil {
			p = &pile{path: path, sizes: map[string]int64{}}
			shelf[path] = p
		}
		p.sizes[o.Key] = o.Size
		p.whole = p.whole || o.Key == artifact.ManifestKey(path)
		if o.Modified.After(p.newest) {
			p.newest = o.Modified
		}
	}
	return shelf, nil
}

func (v *Vault) checkCopy(ctx context.Context, d storage.Driver, f *backup.Findings, b backup.Backup, c backup.Copy, p *pile) error {
	if c.Status != backup.CopyAvailable || lost(b, p) == "" {
		return nil
	}
	// It may have been made since the storage was listed: look at it alone.
	now, err := takeStock(ctx, d, c.Path+"/")
	if err != nil {
		return storage.Explain(err)
	}
	why := lost(b, now[c.Path])
	if why == "" {
		return nil
	}
	err = v.catalogue.MarkMissing(ctx, c, why)
	if errs.KindOf(err) == errs.Conflict { // retention has begun to remove it meanwhile
		return nil
	}
	f.Missing = append(f.Missing, c.Path)
	return err
}

// lost says which object of a copy is gone; empty when none is.
func lost(b backup.Backup, p *pile) string {
	if p == nil {
		return "all its objects are gone"
	}
	if !p.whole {
		return "its manifest is gone"
	}
	for _, part := range b.Parts {
		key := part.In(p.path)
		size, ok := p.sizes[key]
		if !ok {
			return "part " + key + " is gone"
		}
		if size != part.Size {
			return fmt.Sprintf("part %s has %d bytes instead of %d", key, size, part.Size)
		}
	}
	return ""
}

func removeOrphans(ctx context.Context, d storage.Driver, f *backup.Findings, shelf map[string]*pile, owned map[string]bool, grace time.Duration) error {
	var failures []error
	for path, p := range shelf {
		switch {
		case owned[path]:
		case p.whole:
			f.Foreign = append(f.Foreign, path)
		case time.Since(p.newest) < grace:
		default:
			if err := artifact.Delete(ctx, d, path); err != nil {
				failures = append(failures, err)
				continue
			}
			f.Removed = append(f.Removed, path)
		}
	}
	return errors.Join(failures...)
}
