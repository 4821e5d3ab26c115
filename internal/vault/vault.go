// Package vault reaches into storages on behalf of the catalogue: it opens them,
// looks whether copies of backups are still there, and removes them.
package vault

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dataguardian/dataguardian/internal/artifact"
	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/location"
	"github.com/dataguardian/dataguardian/storage"
)

const (
	// inspectTimeout bounds one look into all storages.
	inspectTimeout = 15 * time.Second
	// parallel bounds the requests to storages at once.
	parallel = 8
)

// Locations is what a vault needs of storage locations.
type Locations interface {
	Get(ctx context.Context, id string) (location.Location, error)
}

// Vault reaches into storages. It may be used concurrently.
type Vault struct {
	catalogue backup.Catalogue
	locations Locations
	opener    location.Opener
	logger    *slog.Logger
}

// New returns a vault.
func New(catalogue backup.Catalogue, locations Locations, opener location.Opener, logger *slog.Logger) *Vault {
	return &Vault{catalogue: catalogue, locations: locations, opener: opener, logger: logger}
}

// Open opens the storage of a location by id. The caller closes the driver. A
// storage that cannot be opened is a typed, explained error.
func (v *Vault) Open(ctx context.Context, id string) (location.Location, storage.Driver, error) {
	l, err := v.locations.Get(ctx, id)
	if err != nil {
		return location.Location{}, nil, err
	}
	driver, err := v.opener.Open(ctx, l)
	if err != nil {
		return l, nil, storage.Explain(fmt.Errorf("storage location %q: %w", l.Name, err))
	}
	return l, driver, nil
}

// Remove deletes the objects of copies, manifest first, and records it. A copy
// that fails stays doomed, with the reason noted, and is tried again by the
// cleanup worker; the others go on. The error joins all failures.
//
// A copy that was never available and turns out to be whole is kept instead, see
// Catalogue.Release: the records may be older than it, and it may be the last one.
func (v *Vault) Remove(ctx context.Context, copies []backup.Copy) error {
	_, err := v.removeEach(ctx, copies, func(c backup.Copy) error {
		v.logger.WarnContext(ctx, c.KeptWhole(), "execution_id", c.ExecutionID, "path", c.Path)
		return v.catalogue.Release(ctx, c)
	})
	return err
}

// RemoveUnlessWhole is Remove for an execution that goes on: what is whole stays in the
// catalogue as it is, and is named. How the execution ends decides what becomes of it.
func (v *Vault) RemoveUnlessWhole(ctx context.Context, copies []backup.Copy) (kept []backup.Copy, err error) {
	return v.removeEach(ctx, copies, func(backup.Copy) error { return nil })
}

func (v *Vault) removeEach(ctx context.Context, copies []backup.Copy, keep func(backup.Copy) error) (kept []backup.Copy, err error) {
	var failures []error
	for _, c := range copies {
		whole, err := v.remove(ctx, c)
		if err == nil && whole {
			kept = append(kept, c)
			err = keep(c)
		}
		if err == nil {
			continue
		}
		failures = append(failures, err)
		if noteErr := v.catalogue.NoteDeleteFailure(ctx, c, errs.Message(err)); noteErr != nil {
			failures = append(failures, noteErr)
		}
	}
	switch len(failures) {
	case 0:
		return kept, nil
	case 1:
		return kept, failures[0]
	default:
		return kept, errs.Wrap(errors.Join(failures...), errs.KindOf(failures[0]), errs.CodeOf(failures[0]),
			"%d copies could not be deleted and will be tried again; the first: %s", len(failures), errs.Message(failures[0]))
	}
}

func (v *Vault) remove(ctx context.Context, c backup.Copy) (kept bool, err error) {
	_, driver, err := v.Open(ctx, c.StorageLocationID)
	if err != nil {
		return false, err
	}
	if c.Uncommitted() {
		kept, err = artifact.Whole(ctx, driver, c.Path)
	}
	if err == nil && !kept {
		err = artifact.Delete(ctx, driver, c.Path)
	}
	if closeErr := driver.Close(); err == nil {
		err = closeErr
	}
	switch {
	case err != nil:
		return false, storage.Explain(err)
	case kept:
		return true, nil
	}
	return false, v.catalogue.MarkDeleted(ctx, c)
}

// Inspect asks every storage about the copies of backups and sets their Live,
// LiveMessage and FullPath. A storage that does not answer in time leaves its
// copies unreachable.
func (v *Vault) Inspect(ctx context.Context, backups []backup.Backup) {
	ctx, cancel := context.WithTimeout(ctx, inspectTimeout)
	defer cancel()
	byLocation := map[string][]look{}
	for i := range backups {
		for j := range backups[i].Copies {
			c := &backups[i].Copies[j]
			c.Live = backup.LiveUnknown
			byLocation[c.StorageLocationID] = append(byLocation[c.StorageLocationID], look{&backups[i], c})
		}
	}
	var group errgroup.Group
	for id, looks := range byLocation {
		group.Go(func() error {
			v.inspectLocation(ctx, id, looks)
			return nil
		})
	}
	_ = group.Wait() // inspectLocation puts every failure on the copies it concerns
}

// look is one copy to look at.
type look struct {
	backup *backup.Backup
	copy   *backup.Copy
}

func (v *Vault) inspectLocation(ctx context.Context, id string, looks []look) {
	l, driver, err := v.Open(ctx, id)
	if err != nil {
		for _, k := range looks {
			k.copy.FullPath = k.copy.Path
			k.copy.Live, k.copy.LiveMessage = backup.LiveUnreachable, errs.Message(err)
		}
		return
	}
	var group errgroup.Group
	group.SetLimit(parallel)
	for _, k := range looks {
		k.copy.FullPath = location.Where(l, k.copy.Path)
		group.Go(func() error {
			k.copy.Live, k.copy.LiveMessage = inspect(ctx, driver, k)
			return nil
		})
	}
	_ = group.Wait() // inspect returns what it found, never an error
	if err := driver.Close(); err != nil {
		v.logger.WarnContext(ctx, "a storage was not closed cleanly", "storage_location_id", id, "error", err)
	}
}

// inspect compares the listing of a copy with what must be there.
func inspect(ctx context.Context, d storage.Driver, k look) (backup.LiveStatus, string) {
	if k.copy.Status == backup.CopyMissing {
		return backup.LiveMissing, k.copy.Error
	}
	there := pile{path: k.copy.Path, sizes: map[string]int64{}}
	for object, err := range d.List(ctx, k.copy.Path+"/") {
		if err != nil {
			return backup.LiveUnreachable, storage.Explain(err).Msg
		}
		there.sizes[object.Key] = object.Size
		there.whole = there.whole || object.Key == artifact.ManifestKey(k.copy.Path)
	}
	if why := lost(*k.backup, &there); why != "" {
		return backup.LiveMissing, why
	}
	return backup.LiveAvailable, ""
}
