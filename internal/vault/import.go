package vault

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/dataguardian/dataguardian/internal/artifact"
	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/datasource"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/storage"
)

// Datasources is what imports need of datasources.
type Datasources interface {
	Get(ctx context.Context, id string) (datasource.Datasource, error)
}

// Importer finds whole backups in storages that the catalogue does not know, and takes
// them into it. It may be used concurrently.
type Importer struct {
	vault       *Vault
	datasources Datasources
	catalogue   backup.Importer
}

// NewImporter returns an importer.
func NewImporter(v *Vault, d Datasources, catalogue backup.Importer) *Importer {
	return &Importer{vault: v, datasources: d, catalogue: catalogue}
}

// Import takes the whole backups of a storage location that the catalogue does not know
// into it, or tells of them only. A backup is whole when its manifest is as it was
// written and all parts are there in their sizes; their bytes are not read. Each is taken
// by itself: what was done when a call failed midway is not done again by the next. The
// answer is in order of the paths and names those that were left out, each with the reason.
func (i *Importer) Import(ctx context.Context, locationID string, r backup.ImportRequest) ([]backup.Imported, error) {
	prefix, err := importPrefix(r.Path)
	if err != nil {
		return nil, err
	}
	if r.DatasourceID != "" {
		if _, err := i.datasources.Get(ctx, r.DatasourceID); err != nil {
			return nil, err
		}
	}
	_, d, err := i.vault.Open(ctx, locationID)
	if err != nil {
		return nil, err
	}
	found, err := i.from(ctx, d, locationID, prefix, r)
	return found, errors.Join(err, d.Close())
}

// importPrefix is what the keys of objects at or below a path begin with.
func importPrefix(path string) (string, error) {
	path = strings.TrimSuffix(path, "/")
	if path == "" {
		return "", nil
	}
	prefix, err := storage.FolderPrefix(path)
	if err != nil {
		e := errs.InvalidFields(errs.CodeValidation, errs.Field{Field: "path",
			Message: `is not a path from the root of the storage, such as "shop" or "shop/2026-11-24_030000_5f0c2a54"`})
		e.Err = err
		return "", e
	}
	return prefix, nil
}

func (i *Importer) from(ctx context.Context, d storage.Driver, locationID, prefix string, r backup.ImportRequest) ([]backup.Imported, error) {
	// The catalogue is read after the listing: a backup that begins meanwhile is known
	// before it can look unknown.
	shelf, err := takeStock(ctx, d, prefix)
	if err != nil {
		return nil, storage.Explain(err)
	}
	for known, err := range i.vault.known(ctx, locationID) {
		if err != nil {
			return nil, err
		}
		delete(shelf, known.copy.Path)
	}
	var found []backup.Imported
	for path, p := range shelf {
		if p.whole {
			found = append(found, backup.Imported{Path: path})
		}
	}
	slices.SortFunc(found, func(a, b backup.Imported) int { return cmp.Compare(a.Path, b.Path) })
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for n := range found {
		group.Go(func() error {
			f := &found[n]
			f.Err = i.one(ctx, d, locationID, shelf[f.Path], r, f)
			if errs.KindOf(f.Err) == errs.Unavailable {
				return f.Err // it says nothing of the backup, and would be so for all others
			}
			return context.Cause(ctx)
		})
	}
	return found, group.Wait()
}

// one looks into a backup and takes it.
func (i *Importer) one(ctx context.Context, d storage.Driver, locationID string, p *pile, r backup.ImportRequest, f *backup.Imported) error {
	m, err := artifact.OpenManifest(ctx, d, f.Path)
	if err != nil {
		return err
	}
	f.ExecutionID, f.DatasourceName, f.Database = m.ExecutionID, m.DatasourceName, m.Database
	f.Backup = backup.Backup{
		ExecutionID: m.ExecutionID, CreatedAt: m.CreatedAt, StartedAt: &m.StartedAt, FinishedAt: &m.FinishedAt,
		SizeBytes: m.Totals.RawSize, StoredBytes: m.Totals.StoredSize, Path: f.Path, Encrypted: m.Encrypted(),
	}
	for _, part := range m.AllParts(f.Path) {
		f.Backup.Parts = append(f.Backup.Parts, backup.Part{Number: part.Number, Key: part.Key, Size: part.Size, SHA256: part.SHA256})
	}
	if why := lost(f.Backup, p); why != "" {
		return errs.New(errs.Conflict, errs.CodeArtifactCorrupt, "it is not whole: %s", why)
	}
	if f.DatasourceID, err = i.owner(ctx, m, r.DatasourceID); err != nil {
		return err
	}
	f.Backup.DatasourceID = f.DatasourceID
	compression := ""
	if len(m.Members) > 0 {
		compression = string(m.Members[0].Compression)
	}
	take := i.catalogue.Import
	if r.DryRun {
		take = i.catalogue.CanImport
	}
	return take(ctx, backup.Found{
		Backup: f.Backup, StorageLocationID: locationID, ServerVersion: m.ServerVersion, Tools: m.Tools, Format: m.DumpFormat,
		Compression: compression, Tables: m.Totals.Tables,
	})
}

// owner is the datasource that a backup is to belong to: its own, else instead.
func (i *Importer) owner(ctx context.Context, m artifact.Manifest, instead string) (string, error) {
	own, err := i.datasources.Get(ctx, m.DatasourceID)
	switch {
	case err == nil && own.Type.Family() == m.Engine.Family():
		return own.ID, nil
	case err != nil && errs.KindOf(err) != errs.NotFound:
		return "", err
	case instead == "":
		return "", errs.New(errs.NotFound, errs.CodeNotFound,
			"its datasource %q (%s) is not there: create one for it, and say with datasource_id that such backups are to belong to that", m.DatasourceName, m.Engine)
	}
	other, err := i.datasources.Get(ctx, instead)
	if err != nil {
		return "", err
	}
	if other.Type.Family() != m.Engine.Family() {
		return "", errs.New(errs.Conflict, errs.CodeConflict, "it is a backup of %s, and %q is %s", m.Engine, other.Name, other.Type)
	}
	return other.ID, nil
}
