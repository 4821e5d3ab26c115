// Package explorer shows and changes the files of storage locations for people,
// and keeps them from taking a backup apart by accident. It knows storages by
// storage.Driver only.
package explorer

import (
	"context"
	"io"
	"time"

	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/location"
	"github.com/dataguardian/dataguardian/storage"
)

// MaxEntries is how many entries of a folder are shown.
const MaxEntries = 10_000

// Entry is a file or a folder.
type Entry struct {
	Name     string // the last segment of Path
	Path     string // from the root of the location, without a trailing slash
	Folder   bool
	Size     int64     // of a file
	Modified time.Time // of a file
}

// Folder is what lies directly in a folder: folders first, then files, by name.
type Folder struct {
	LocationID string
	RootLabel  string  // a person's name for the root, such as "s3://bucket/prefix"
	Path       string  // empty for the root
	Parent     *string // nil at the root
	Entries    []Entry
	Truncated  bool // there are more than MaxEntries
}

// Download is an open file. It fails before a clean end when the file is not whole.
// The caller closes it.
type Download struct {
	io.ReadCloser
	Name string
	Size int64
}

// Holding is a copy of a backup that a path has to do with.
type Holding struct {
	ExecutionID    string
	DatasourceName string
	JobName        string
	Path           string // of its folder
	Status         backup.CopyStatus
	CreatedAt      time.Time
}

// Holdings knows which objects belong to backups.
type Holdings interface {
	// At lists the copies of backups in a location that have objects at path or below
	// it, or in whose folder path lies: available and missing ones, and pending ones
	// that a running execution writes, these first, then the newest first. It returns
	// at most limit, and how many there are.
	At(ctx context.Context, locationID, path string, limit int) (held []Holding, total int, err error)
	// Lose records, before it happens, that the object at path and all below it go:
	// available copies that have objects there become missing. It returns how many.
	Lose(ctx context.Context, locationID, path, why string) (int, error)
}

// Places opens storage locations; a vault has it.
type Places interface {
	// Open opens the storage of a location by id. The caller closes the driver. What
	// fails is typed and explained.
	Open(ctx context.Context, id string) (location.Location, storage.Driver, error)
}

// Explorer is what callers may do with the files of storage locations. It may be
// used concurrently.
type Explorer struct {
	places   Places
	holdings Holdings
}

// New returns an explorer.
func New(places Places, holdings Holdings) *Explorer {
	return &Explorer{places: places, holdings: holdings}
}
