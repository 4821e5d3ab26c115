package local

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/dataguardian/dataguardian/storage"
)

const (
	// entriesPerRead is how many directory entries are read at once.
	entriesPerRead = 1024
	// windowSize bounds how many entries of one directory are held in memory.
	// A larger directory is read several times.
	windowSize = 32 * 1024
)

// List walks the folders in key order. It holds one window of entries per
// level in memory, never the whole tree. Files whose names no key can have, and
// symbolic links, are not objects.
func (d *Driver) List(ctx context.Context, prefix string) iter.Seq2[storage.Object, error] {
	return func(yield func(storage.Object, error) bool) {
		if err := storage.CheckPrefix(prefix); err != nil {
			yield(storage.Object{}, err)
			return
		}
		dir, stem := path.Split(prefix)
		w := &walk{ctx: ctx, yield: yield, window: windowSize}
		w.descend = w.all
		if err := d.walkFrom(w, strings.TrimSuffix(dir, "/"), stem); err != nil && !errors.Is(err, errStopped) {
			yield(storage.Object{}, d.failed(err))
		}
	}
}

// errStopped ends a walk whose consumer has enough.
var errStopped = errors.New("the listing was stopped")

type walk struct {
	ctx    context.Context
	yield  func(storage.Object, error) bool
	window int
	// descend deals with a folder called name in root, whose keys begin with prefix.
	descend func(root *os.Root, name, prefix string) error
}

// all goes into every folder.
func (w *walk) all(root *os.Root, name, prefix string) error { return w.enter(root, name, prefix, "") }

func (d *Driver) walkFrom(w *walk, dir, stem string) error {
	if dir == "" {
		return w.folder(d.root, "", stem)
	}
	info, err := d.lookup(dir)
	if err != nil || !info.IsDir() {
		return ignoreAbsent(err)
	}
	return w.enter(d.root, dir, dir+"/", stem)
}

// enter walks the folder called name in root.
func (w *walk) enter(root *os.Root, name, prefix, stem string) error {
	sub, err := root.OpenRoot(name)
	if err != nil {
		return ignoreAbsent(err)
	}
	defer forget(sub)
	return w.folder(sub, prefix, stem)
}

// folder yields the objects in root whose names begin with stem, under prefix.
func (w *walk) folder(root *os.Root, prefix, stem string) error {
	after := ""
	for {
		entries, more, err := w.next(root, prefix, stem, after)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := w.visit(root, prefix, e); err != nil {
				return err
			}
		}
		if !more {
			return nil
		}
		after = entries[len(entries)-1].order
	}
}

func (w *walk) visit(root *os.Root, prefix string, e entry) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	if name, ok := strings.CutSuffix(e.order, "/"); ok {
		return w.descend(root, name, prefix+e.order)
	}
	if !w.yield(storage.Object{Key: prefix + e.order, Size: e.size, Modified: e.modified}, nil) {
		return errStopped
	}
	return nil
}

// entry is a file or folder. A folder's order ends in "/", which sorts it where
// the keys below it belong.
type entry struct {
	order    string
	size     int64
	modified time.Time
}

func byOrder(a, b entry) int { return cmp.Compare(a.order, b.order) }

// next returns the window of entries that follow after, in order, and whether
// there are more.
func (w *walk) next(root *os.Root, prefix, stem, after string) (window []entry, more bool, err error) {
	dir, err := root.Open(".")
	if err != nil {
		return nil, false, ignoreAbsent(err)
	}
	defer forget(dir)
	for {
		batch, err := dir.ReadDir(entriesPerRead)
		for _, raw := range batch {
			if e, ok := read(prefix, stem, raw); ok && e.order > after {
				window = append(window, e)
			}
		}
		if len(window) >= 2*w.window || err != nil {
			slices.SortFunc(window, byOrder)
			if len(window) > w.window {
				window, more = window[:w.window], true
			}
		}
		if err == io.EOF {
			return window, more, nil
		}
		if err != nil {
			return nil, false, err
		}
		if err := w.ctx.Err(); err != nil {
			return nil, false, err
		}
	}
}

// read turns a directory entry into an entry; false when it is no object's.
func read(prefix, stem string, raw fs.DirEntry) (entry, bool) {
	name := raw.Name()
	if !strings.HasPrefix(name, stem) || checkKey(prefix+name) != nil {
		return entry{}, false
	}
	if raw.IsDir() {
		return entry{order: name + "/"}, true
	}
	info, err := raw.Info()
	if err != nil || !info.Mode().IsRegular() {
		return entry{}, false
	}
	return entry{order: name, size: info.Size(), modified: info.ModTime()}, true
}

// ignoreAbsent is for entries that vanish while a walk looks at them.
func ignoreAbsent(err error) error {
	if errors.Is(meaning(err), storage.ErrNotExist) {
		return nil
	}
	return err
}
