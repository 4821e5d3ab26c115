package backup

import (
	"context"
	"fmt"
	"io"
	"path"
	"time"

	"github.com/dataguardian/dataguardian/internal/datasource"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/location"
)

// CopyStatus is the state of one copy of a backup by our own books.
type CopyStatus string

// States of a copy. Only an available one counts for anything.
const (
	CopyPending   CopyStatus = "pending"   // being written, or left over by a lost worker
	CopyAvailable CopyStatus = "available" // committed
	CopyFailed    CopyStatus = "failed"    // given up; its objects are gone or will be
	CopyDeleting  CopyStatus = "deleting"  // on its way out; its objects go first
	CopyDeleted   CopyStatus = "deleted"   // its objects are gone
	CopyMissing   CopyStatus = "missing"   // its objects are gone and nobody deleted them, or they have other bytes
)

// LiveStatus is what a storage answered about a copy just now.
type LiveStatus string

// Live statuses.
const (
	LiveAvailable   LiveStatus = "available"
	LiveMissing     LiveStatus = "missing"
	LiveUnreachable LiveStatus = "unreachable"
	LiveUnknown     LiveStatus = "unknown"
)

// Copy is a backup in one storage location.
type Copy struct {
	ExecutionID       string
	StorageLocationID string
	StorageName       string
	StorageType       location.Type
	StorageStatus     location.Status
	Path              string // prefix of its objects, without a trailing slash
	Status            CopyStatus
	Error             string
	UpdatedAt         time.Time
	GivenUp           bool // deleting, and was never available

	// Set by an Inspector only.
	Live        LiveStatus
	LiveMessage string
	FullPath    string // path with the storage's own root or bucket
}

// Uncommitted reports whether the copy was never available by our books.
func (c Copy) Uncommitted() bool {
	return c.Status == CopyPending || c.Status == CopyFailed || c.Status == CopyDeleting && c.GivenUp
}

// KeptWhole says, for people, what Catalogue.Release means.
func (c Copy) KeptWhole() string {
	return fmt.Sprintf("A whole backup of an earlier attempt was found at %s in %q: it is kept and belongs to no execution. "+
		"\"dataguardian storage import\" takes it into the catalogue", c.Path, c.StorageName)
}

// Backup is a completed backup with its copies.
type Backup struct {
	ExecutionID    string
	JobID          string
	JobName        string
	DatasourceID   string
	DatasourceName string
	DatasourceType engine.Type
	CreatedAt      time.Time
	StartedAt      *time.Time
	FinishedAt     *time.Time
	SizeBytes      int64 // raw bytes of the dump
	StoredBytes    int64
	Path           string
	Encrypted      bool
	VerifiedAt     *time.Time
	Copies         []Copy
	Parts          []Part // of one copy; all copies have the same
}

// Differs says how a manifest, by the id and the parts it names, differs from what
// the catalogue knows of the backup; empty when it does not.
func (b Backup) Differs(executionID string, parts []Part) string {
	if executionID != b.ExecutionID {
		return "it is of another backup"
	}
	if len(b.Parts) == 0 {
		return ""
	}
	if len(parts) != len(b.Parts) {
		return fmt.Sprintf("it names %d parts and there were %d", len(parts), len(b.Parts))
	}
	for i, p := range parts {
		if path.Base(p.Key) != path.Base(b.Parts[i].Key) || p.Size != b.Parts[i].Size || p.SHA256 != b.Parts[i].SHA256 {
			return fmt.Sprintf("part %d, %s, is described differently", i+1, path.Base(p.Key))
		}
	}
	return ""
}

// Download is one backup as a tar: its parts, then its manifest. Reading it fails
// before a clean end when any part differs from the manifest. The caller closes it.
type Download struct {
	io.ReadCloser
	Name string // for a file
}

// Findings is what a reconciliation of one storage found.
type Findings struct {
	Removed []string // paths of partial backups that nothing owned
	Foreign []string // paths of whole backups that the catalogue does not know: kept
	Missing []string // paths of copies that have lost objects
}

// Part is one stored object of a backup.
type Part struct {
	Number int    // from 1, over all members
	Key    string // within the storage location
	Size   int64
	SHA256 string
}

// In is the key of the part in a copy at a path: the catalogue knows the parts of a backup
// by one of its copies, and another may lie elsewhere.
func (p Part) In(copyPath string) string { return copyPath + "/" + path.Base(p.Key) }

// DatasourceBackups counts the backups of one datasource.
type DatasourceBackups struct {
	ID        string
	Name      string
	Type      engine.Type
	Status    datasource.Status
	Enabled   bool
	Backups   int
	Newest    *time.Time
	UpdatedAt time.Time
}

// Catalogue answers which backups there are.
type Catalogue interface {
	// Datasources lists datasources by name with their backups counted.
	Datasources(ctx context.Context) ([]DatasourceBackups, error)
	// OfDatasource lists completed backups with at least one available or missing
	// copy, newest first, with copies and parts. NotFound without the datasource.
	OfDatasource(ctx context.Context, datasourceID string) ([]Backup, error)
	// OfJob lists completed backups of a job that have an available copy, newest
	// first, without parts.
	OfJob(ctx context.Context, jobID string) ([]Backup, error)
	// Now is the clock that dates backups: the database's.
	Now(ctx context.Context) (time.Time, error)
	// Get returns one backup with copies and parts, or NotFound.
	Get(ctx context.Context, executionID string) (Backup, error)

	// MarkDeleting takes the available and missing copies of backups out of the catalogue,
	// before their objects go. A backup that is being restored or verified, or is not
	// there any more, is left out of the answer. Only ids in the answer may be deleted.
	MarkDeleting(ctx context.Context, executionIDs []string) ([]string, error)
	// Doomed lists copies whose objects must go: deleting ones, and failed and pending
	// ones of executions that have ended and whose upload cannot be retried any more.
	// locationIDs narrows it to storage this process can reach; nil means all.
	Doomed(ctx context.Context, locationIDs []string, limit int) ([]Copy, error)
	// MarkDeleted records that the objects of a copy are gone.
	MarkDeleted(ctx context.Context, c Copy) error
	// Release takes a copy that was never available out of the catalogue, because a whole
	// backup turned out to lie at its path: its objects stay and belong to nobody until
	// they are imported. The log of an execution that has ended says so.
	Release(ctx context.Context, c Copy) error
	// MarkMissing records that an available copy has lost objects, or that their
	// bytes are not those that were written, and tells people the first time.
	MarkMissing(ctx context.Context, c Copy, why string) error
	// MarkFound takes that back: the copy was proven whole.
	MarkFound(ctx context.Context, c Copy) error
	// At lists up to limit backups that have a copy in a location that is not deleted,
	// each with that copy and its parts, in order of their ids after afterID.
	At(ctx context.Context, locationID, afterID string, limit int) ([]Backup, error)
	// NoteDeleteFailure records why the objects of a copy are still there.
	NoteDeleteFailure(ctx context.Context, c Copy, why string) error
	// NoteCleanup makes the notification of a retention run that deleted something.
	NoteCleanup(ctx context.Context, j Job, deleted []Backup) error
}
