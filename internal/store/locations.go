package store

import (
	"context"
	"maps"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/location"
	"github.com/dataguardian/dataguardian/internal/paging"
	"github.com/dataguardian/dataguardian/internal/store/db"
)

const locationsTable = "storage_locations"

type locations struct{ *Store }

var _ location.Store = locations{}

// Locations keeps storage locations.
func (s *Store) Locations() location.Store { return locations{s} }

func (s locations) Create(ctx context.Context, l location.Location) (location.Location, error) {
	if l.Status == "" {
		l.Status = location.Healthy
	}
	config, secrets, err := s.split(l)
	if err != nil {
		return location.Location{}, err
	}
	err = s.tx(ctx, func(q *db.Queries) error {
		if err := q.TakeDefaultTurn(ctx, defaultLock); err != nil {
			return err
		}
		some, err := q.AnyLocation(ctx)
		if err != nil {
			return err
		}
		l.IsDefault = l.IsDefault || !some
		if err := onlyDefault(ctx, q, l); err != nil {
			return err
		}
		return q.CreateLocation(ctx, db.CreateLocationParams{
			ID: l.ID, Name: l.Name, Type: string(l.Type), Config: config, Secrets: secrets,
			IsDefault: l.IsDefault, AvailableBytes: l.AvailableBytes, Status: string(l.Status),
		})
	})
	if err != nil {
		return location.Location{}, err
	}
	return s.Get(ctx, l.ID)
}

// defaultLock is the advisory lock of whoever may change which location is the
// default. It is taken before any row.
const defaultLock = 0x6461746167756101

// onlyDefault takes the default from the others when l is it.
func onlyDefault(ctx context.Context, q *db.Queries, l location.Location) error {
	if !l.IsDefault {
		return nil
	}
	return q.ClearDefaultLocation(ctx, l.ID)
}

func (s locations) Get(ctx context.Context, id string) (location.Location, error) {
	row, err := s.q.GetLocation(ctx, id)
	if err != nil {
		return location.Location{}, missing(err, "storage location", id)
	}
	return s.whole(row)
}

func (s locations) Default(ctx context.Context) (location.Location, error) {
	row, err := s.q.GetDefaultLocation(ctx)
	if errs.KindOf(failure(err)) == errs.NotFound {
		return location.Location{}, errs.New(errs.NotFound, errs.CodeNotFound, "there is no default storage location; make one the default or name one")
	}
	if err != nil {
		return location.Location{}, failure(err)
	}
	return s.whole(row)
}

func (s locations) List(ctx context.Context, f location.Filter, p paging.Page) ([]location.Location, int, error) {
	where := db.CountLocationsParams{Type: filter(f.Type), Status: filter(f.Status)}
	total, err := s.q.CountLocations(ctx, where)
	if err != nil {
		return nil, 0, failure(err)
	}
	limit, offset := window(p)
	rows, err := s.q.ListLocations(ctx, db.ListLocationsParams{Type: where.Type, Status: where.Status, PageLimit: limit, PageOffset: offset})
	if err != nil {
		return nil, 0, failure(err)
	}
	return each(rows, listedLocation), int(total), nil
}

func (s locations) Update(ctx context.Context, id string, change func(*location.Location) error) (location.Location, error) {
	err := s.tx(ctx, func(q *db.Queries) error {
		if err := q.TakeDefaultTurn(ctx, defaultLock); err != nil {
			return err
		}
		row, err := q.LockLocation(ctx, id)
		if err != nil {
			return missing(err, "storage location", id)
		}
		l, err := s.whole(row)
		if err != nil {
			return err
		}
		if err := change(&l); err != nil {
			return err
		}
		l.ID = row.ID
		return s.save(ctx, q, l)
	})
	if err != nil {
		return location.Location{}, err
	}
	return s.Get(ctx, id)
}

func (s locations) save(ctx context.Context, q *db.Queries, l location.Location) error {
	config, secrets, err := s.split(l)
	if err != nil {
		return err
	}
	if err := onlyDefault(ctx, q, l); err != nil {
		return err
	}
	return q.UpdateLocation(ctx, db.UpdateLocationParams{
		ID: l.ID, Name: l.Name, Type: string(l.Type), Config: config, Secrets: secrets,
		IsDefault: l.IsDefault, AvailableBytes: l.AvailableBytes, Status: string(l.Status),
	})
}

func (s locations) Delete(ctx context.Context, id string) error {
	return s.tx(ctx, func(q *db.Queries) error {
		row, err := q.LockLocation(ctx, id)
		if err != nil {
			return missing(err, "storage location", id)
		}
		use, err := q.LocationUse(ctx, id)
		if err != nil {
			return err
		}
		if err := inUse("storage location", row.Name, use.Jobs, use.Executions, use.Backups); err != nil {
			return err
		}
		why := "the storage location was removed before its left-over objects were"
		if err := q.CloseCopies(ctx, db.CloseCopiesParams{StorageLocationID: id, Error: why}); err != nil {
			return err
		}
		return q.DeleteLocation(ctx, id)
	})
}

func (s locations) InUse(ctx context.Context, id string) (int, error) {
	if _, err := s.q.GetLocation(ctx, id); err != nil {
		return 0, missing(err, "storage location", id)
	}
	copies, err := s.q.LocationCopies(ctx, id)
	return int(copies), failure(err)
}

// SetStatus also tells people when the status is another one than before.
func (s locations) SetStatus(ctx context.Context, id string, status location.Status, availableBytes *int64) error {
	return s.telling(ctx, func(q *db.Queries) error {
		before, err := q.LockLocation(ctx, id)
		if err != nil {
			return missing(err, "storage location", id)
		}
		return setLocationStatus(ctx, q, before, status, availableBytes, "")
	})
}

// split returns the open and the sealed part of a config.
func (s locations) split(l location.Location) (config, secrets []byte, err error) {
	open, hidden := maps.Clone(map[string]any(l.Config)), map[string]any{}
	if open == nil {
		open = map[string]any{}
	}
	for _, key := range location.SecretFields(l.Type) {
		if v, set := open[key]; set {
			hidden[key] = v
			delete(open, key)
		}
	}
	if config, err = encode(open); err != nil {
		return nil, nil, err
	}
	secrets, err = s.seal(locationsTable, l.ID, hidden)
	return config, secrets, err
}

// whole is a row with its config.
func (s locations) whole(row db.StorageLocation) (location.Location, error) {
	l := listedLocation(row)
	l.Config = location.Config{}
	if err := decode(row.Config, &l.Config); err != nil {
		return l, err
	}
	secrets, err := s.unseal(locationsTable, row.ID, row.Secrets)
	if err != nil {
		return l, err
	}
	maps.Copy(l.Config, secrets)
	return l, nil
}

// listedLocation is a row without its config.
func listedLocation(row db.StorageLocation) location.Location {
	return location.Location{
		ID: row.ID, Name: row.Name, Type: location.Type(row.Type), IsDefault: row.IsDefault, AvailableBytes: row.AvailableBytes,
		Status: location.Status(row.Status), CreatedAt: row.CreatedAt, UpdatedAt: row.UpdatedAt,
	}
}
