package local

import (
	"context"
	"errors"
	"io"
	"iter"
	"os"
	"strings"

	"github.com/dataguardian/dataguardian/storage"
)

// entriesPerLook is how many directory entries are read at once to find out
// whether there is anything in a folder.
const entriesPerLook = 64

// ListFolder reads one folder; of those in it only so much as shows that they
// hold an object. See storage.Foldered.
func (d *Driver) ListFolder(ctx context.Context, folder string) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		prefix, err := storage.FolderPrefix(folder)
		if err != nil {
			yield(storage.Entry{}, err)
			return
		}
		w := &walk{ctx: ctx, window: windowSize, yield: func(o storage.Object, err error) bool {
			return yield(storage.Entry{Object: o, Folder: strings.HasSuffix(o.Key, "/")}, err)
		}}
		w.descend = func(root *os.Root, name, prefix string) error {
			found, err := w.holdsObject(root, name, prefix)
			if err != nil || !found {
				return err
			}
			if !w.yield(storage.Object{Key: prefix}, nil) {
				return errStopped
			}
			return nil
		}
		if err := d.walkFrom(w, strings.TrimSuffix(prefix, "/"), ""); err != nil && !errors.Is(err, errStopped) {
			yield(storage.Entry{}, d.failed(err))
		}
	}
}

// holdsObject looks for the first object in the folder called name in root.
func (w *walk) holdsObject(root *os.Root, name, prefix string) (bool, error) {
	sub, err := root.OpenRoot(name)
	if err != nil {
		return false, ignoreAbsent(err)
	}
	defer forget(sub)
	dir, err := sub.Open(".")
	if err != nil {
		return false, ignoreAbsent(err)
	}
	defer forget(dir)
	for {
		batch, readErr := dir.ReadDir(entriesPerLook)
		for _, raw := range batch {
			e, ok := read(prefix, "", raw)
			if !ok {
				continue
			}
			inner, isFolder := strings.CutSuffix(e.order, "/")
			if !isFolder {
				return true, nil
			}
			if found, err := w.holdsObject(sub, inner, prefix+e.order); found || err != nil {
				return found, err
			}
		}
		if readErr == io.EOF {
			return false, nil
		}
		if readErr != nil {
			return false, readErr
		}
		if err := w.ctx.Err(); err != nil {
			return false, err
		}
	}
}
