package backup

import "context"

// Found is a whole backup that lies in a storage, as its manifest tells it.
type Found struct {
	// Backup has no job and no copies. DatasourceID is the one it is to belong to.
	Backup            Backup
	StorageLocationID string
	ServerVersion     string
	Tools             map[string]string // name -> version
	Format            string
	Compression       string
	Tables            int
}

// Importer takes backups into the catalogue that it does not know.
type Importer interface {
	// Import makes a completed execution of a backup, or gives the one that there is
	// one more copy. It belongs to no job, so that no retention policy removes it; one
	// whose copies had all been deleted leaves its job. One that failed or was cancelled
	// is completed. Conflict (CodeConflict) when the execution of that id has not ended,
	// is no backup or describes other parts,
	// NotFound without the datasource or the storage location. An execution that there
	// is keeps its datasource, unless that was deleted. Importing what is there
	// already changes nothing.
	Import(ctx context.Context, f Found) error
	// OwnerOf returns the datasource of the execution with an id; empty when there is no
	// such execution, or its datasource was deleted.
	OwnerOf(ctx context.Context, executionID string) (string, error)
	// CanImport returns what Import would, and changes nothing.
	CanImport(ctx context.Context, f Found) error
}

// ImportRequest says which backups of a storage are to be known.
type ImportRequest struct {
	Path         string // of one backup, or a folder above several; empty means all
	DatasourceID string // gets those whose own datasource is not there; empty leaves them out
	DryRun       bool   // only tell
}

// Imported is a whole backup that the catalogue did not know.
type Imported struct {
	Path           string
	ExecutionID    string // empty when the manifest cannot be read, like all that follows
	DatasourceID   string // empty when there is none for it
	DatasourceName string // as it was called when the backup was made
	Backup         Backup
	Database       string
	Err            error // why it was left out; nil when it was taken, or would be
}
