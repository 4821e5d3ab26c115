package vault

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/dataguardian/dataguardian/internal/artifact"
	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/datasource"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/storage"
)

const (
	// manifestRoom bounds the bytes of manifests that an import works on at once; in
	// memory they take several times that.
	manifestRoom = artifact.MaxManifest
	// mostUnreadable is how many manifests in a row a storage may not give before it is
	// taken for unavailable.
	mostUnreadable = 8
	// longestText, in bytes, is longer than any name or version.
	longestText = 1024
	mostTools   = 32
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
// answer is in order of the paths and names those that were left out, each with the reason;
// its backups have no parts. NotFound when nothing lies at the path that is asked for.
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
	run := importRun{Importer: i, driver: d, locationID: locationID, request: r, room: semaphore.NewWeighted(manifestRoom)}
	found, err := run.from(ctx, prefix)
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

// importRun is one call.
type importRun struct {
	*Importer
	driver     storage.Driver
	locationID string
	request    backup.ImportRequest
	room       *semaphore.Weighted // bytes of manifests that are worked on at once
	unreadable atomic.Int32        // manifests in a row that the storage did not give
}

func (i *importRun) from(ctx context.Context, prefix string) ([]backup.Imported, error) {
	// The catalogue is read after the listing: a backup that begins meanwhile is known
	// before it can look unknown.
	shelf, err := takeStock(ctx, i.driver, prefix)
	if err != nil {
		return nil, storage.Explain(err)
	}
	if prefix != "" && len(shelf) == 0 {
		return nil, errs.New(errs.NotFound, errs.CodeNotFound, "no backup lies at or below %q in that storage", i.request.Path)
	}
	for known, err := range i.vault.known(ctx, i.locationID) {
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
	// Those that may be copies of one backup come one after the other: the first counts.
	alike := map[string][]*backup.Imported{}
	for n := range found {
		alike[executionPrefix(found[n].Path)] = append(alike[executionPrefix(found[n].Path)], &found[n])
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for _, copies := range alike {
		group.Go(func() error {
			first := map[string]backup.Backup{}
			for _, f := range copies {
				if err := i.one(ctx, shelf[f.Path], f, first); err != nil {
					return errs.Wrap(err, errs.KindOf(err), errs.CodeOf(err), "at %q: %s", f.Path, errs.Message(err))
				}
			}
			return context.Cause(ctx)
		})
	}
	err = group.Wait()
	for n := range found {
		found[n].Backup.Parts = nil
	}
	return found, err
}

// executionPrefix is what the id of a backup's execution begins with, by its path.
func executionPrefix(path string) string { return path[strings.LastIndexByte(path, '_')+1:] }

// one looks into a backup and takes it, or notes why not. It fails with what says nothing
// of this backup and would be so for all others. first holds those before that have the
// same id.
func (i *importRun) one(ctx context.Context, p *pile, f *backup.Imported, first map[string]backup.Backup) error {
	size := p.sizes[artifact.ManifestKey(f.Path)]
	if size > artifact.MaxManifest {
		f.Err = errs.New(errs.Conflict, errs.CodeArtifactCorrupt, "its manifest has %d bytes, which none has", size)
		return nil
	}
	if err := i.room.Acquire(ctx, max(size, 1)); err != nil {
		return err
	}
	defer i.room.Release(max(size, 1))
	m, err := artifact.OpenManifest(ctx, i.driver, f.Path)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err == nil:
		i.unreadable.Store(0)
	case errs.KindOf(err) != errs.Unavailable:
		f.Err = err
		return nil
	case i.unreadable.Add(1) >= mostUnreadable:
		return err
	default:
		f.Err = err // this object may be kept from us: one in cold storage, or with rights of its own
		return nil
	}
	f.ExecutionID, f.DatasourceName, f.Database = m.ExecutionID, m.DatasourceName, m.Database
	f.Backup = backup.Backup{
		ExecutionID: m.ExecutionID, CreatedAt: m.CreatedAt, StartedAt: new(m.StartedAt), FinishedAt: new(m.FinishedAt),
		SizeBytes: m.Totals.RawSize, StoredBytes: m.Totals.StoredSize, Path: f.Path, Encrypted: m.Encrypted(),
	}
	if f.Err = credible(m, f.Path); f.Err != nil {
		f.ExecutionID = ""
		return nil
	}
	for _, part := range m.AllParts(f.Path) {
		f.Backup.Parts = append(f.Backup.Parts, backup.Part{Number: part.Number, Key: part.Key, Size: part.Size, SHA256: part.SHA256})
	}
	if why := lost(f.Backup, p); why != "" {
		f.Err = errs.New(errs.Conflict, errs.CodeArtifactCorrupt, "it is not whole: %s", why)
		return nil
	}
	if before, twice := first[m.ExecutionID]; twice {
		if why := before.Differs(m.ExecutionID, f.Backup.Parts); why != "" {
			f.Err = errs.New(errs.Conflict, errs.CodeConflict, "the backup at %q has the same id and other parts: %s", before.Path, why)
			return nil
		}
	}
	owner, err := i.owner(ctx, m)
	if err == nil {
		f.DatasourceID, f.Backup.DatasourceID = owner, owner
		err = i.take(ctx, m, f.Backup)
	}
	if err == nil {
		first[m.ExecutionID] = f.Backup
		return nil
	}
	f.Err, f.DatasourceID = err, ""
	if kind := errs.KindOf(err); kind == errs.Unavailable || kind == errs.Internal {
		return err // the catalogue's
	}
	return nil
}

func (i *importRun) take(ctx context.Context, m artifact.Manifest, b backup.Backup) error {
	take := i.catalogue.Import
	if i.request.DryRun {
		take = i.catalogue.CanImport
	}
	return take(ctx, backup.Found{
		Backup: b, StorageLocationID: i.locationID, ServerVersion: m.ServerVersion, Tools: m.Tools, Format: m.DumpFormat,
		Compression: string(m.Members[0].Compression), Tables: m.Totals.Tables,
	})
}

// credible refuses what no DataGuardian writes: whoever can write to a storage must not
// be able to fill the records with more than a backup needs.
func credible(m artifact.Manifest, path string) error {
	refuse := func(format string, args ...any) error {
		return errs.New(errs.Conflict, errs.CodeArtifactCorrupt, "its manifest is not credible: "+format, args...)
	}
	if id, err := uuid.Parse(m.ExecutionID); err != nil || id.String() != m.ExecutionID {
		return refuse("the id of its execution is none")
	}
	if executionPrefix(path) != m.ExecutionID[:8] {
		return refuse("its path does not end in the first eight characters of the id of its execution")
	}
	latest := time.Now().Add(24 * time.Hour) // clocks differ
	for _, t := range []time.Time{m.CreatedAt, m.StartedAt, m.FinishedAt} {
		if t.Before(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)) || t.After(latest) {
			return refuse("it says that it was made at %s", t.UTC().Format(time.RFC3339))
		}
	}
	texts := []string{m.DatasourceID, m.DatasourceName, m.Database, m.ServerVersion, m.DumpFormat}
	for name, version := range m.Tools {
		texts = append(texts, name, version)
	}
	for _, text := range texts {
		if len(text) > longestText {
			return refuse("it has a text of %d bytes where %d are the most", len(text), longestText)
		}
	}
	if len(m.Tools) > mostTools {
		return refuse("it names %d tools", len(m.Tools))
	}
	return nil
}

// owner is the datasource that a backup is to belong to: that of the execution which is
// known by its id, else its own, else the one of the request.
func (i *importRun) owner(ctx context.Context, m artifact.Manifest) (string, error) {
	known, err := i.catalogue.OwnerOf(ctx, m.ExecutionID)
	if err != nil || known != "" {
		return known, err
	}
	own, err := i.datasources.Get(ctx, m.DatasourceID)
	switch {
	case err == nil && own.Type.Family() == m.Engine.Family():
		return own.ID, nil
	case err != nil && errs.KindOf(err) != errs.NotFound:
		return "", err
	case i.request.DatasourceID == "":
		return "", errs.New(errs.NotFound, errs.CodeNotFound,
			"no datasource of its kind is the one that it was made of, %q (%s): create one, and import again with the name of the one that such backups are to belong to", m.DatasourceName, m.Engine)
	}
	other, err := i.datasources.Get(ctx, i.request.DatasourceID)
	if err != nil {
		return "", err
	}
	if other.Type.Family() != m.Engine.Family() {
		return "", errs.New(errs.Conflict, errs.CodeConflict, "it is a backup of %s, and %q is %s", m.Engine, other.Name, other.Type)
	}
	return other.ID, nil
}
