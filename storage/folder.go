package storage

import (
	"context"
	"fmt"
	"iter"
	"strings"
)

// Entry is what lies directly in a folder: an object, or a folder, whose Key is
// its path with a trailing slash and whose other fields are zero.
type Entry struct {
	Object

	Folder bool
}

// Foldered is implemented by drivers that can list one folder without reading
// what lies below its folders.
type Foldered interface {
	// ListFolder is ListFolder of this package, cheaper. An object store may also
	// yield a folder that holds nothing but names that are no keys.
	ListFolder(ctx context.Context, folder string) iter.Seq2[Entry, error]
}

// ListFolder yields the objects that lie directly in folder and the folders that
// hold at least one object at any depth, each once, in no certain order. The
// folder has no trailing slash; the empty one is the root. A folder that is not
// there is empty. An error ends the sequence.
func ListFolder(ctx context.Context, d Driver, folder string) iter.Seq2[Entry, error] {
	if f, ok := d.(Foldered); ok {
		return f.ListFolder(ctx, folder)
	}
	return func(yield func(Entry, error) bool) {
		prefix, err := FolderPrefix(folder)
		if err != nil {
			yield(Entry{}, err)
			return
		}
		last := ""
		for o, err := range d.List(ctx, prefix) {
			if err != nil {
				yield(Entry{}, err)
				return
			}
			name, _, inside := strings.Cut(o.Key[len(prefix):], "/")
			entry := Entry{Object: o}
			if inside {
				entry = Entry{Object: Object{Key: prefix + name + "/"}, Folder: true}
			}
			if entry.Folder && entry.Key == last {
				continue
			}
			last = entry.Key
			if !yield(entry, nil) {
				return
			}
		}
	}
}

// FolderPrefix returns what the keys of all objects in a folder begin with. The
// error wraps ErrBadKey.
func FolderPrefix(folder string) (string, error) {
	if folder == "" {
		return "", nil
	}
	if err := CheckKey(folder); err != nil {
		return "", err
	}
	if len(folder) > MaxKeyBytes-2 {
		return "", fmt.Errorf("%w: %d bytes are too many for a folder", ErrBadKey, len(folder))
	}
	return folder + "/", nil
}
