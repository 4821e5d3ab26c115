package gcs

import (
	"context"
	"errors"
	"iter"
	"strings"

	gcloud "cloud.google.com/go/storage"
	"google.golang.org/api/iterator"

	"github.com/dataguardian/dataguardian/storage"
)

// ListFolder lets the store collapse the folders; see storage.Foldered.
func (d *Driver) ListFolder(ctx context.Context, folder string) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		prefix, err := storage.FolderPrefix(folder)
		if err != nil {
			yield(storage.Entry{}, err)
			return
		}
		query := d.query(prefix)
		query.Delimiter = "/"
		if err := query.SetAttrSelection(listed); err != nil {
			yield(storage.Entry{}, err)
			return
		}
		found := d.bucket.Objects(ctx, query)
		for {
			attrs, err := found.Next()
			if errors.Is(err, iterator.Done) {
				return
			}
			if err != nil {
				yield(storage.Entry{}, failed(ctx, err))
				return
			}
			if e, ok := d.entry(attrs); ok && !yield(e, nil) {
				return
			}
		}
	}
}

// entry reads one of a folder; false when it is no key's.
func (d *Driver) entry(attrs *gcloud.ObjectAttrs) (storage.Entry, bool) {
	folder := attrs.Prefix != ""
	key, ok := strings.CutPrefix(attrs.Name+attrs.Prefix, d.prefix) // one of them is set
	switch {
	case !ok:
		return storage.Entry{}, false
	case folder:
		return storage.Entry{Object: storage.Object{Key: key}, Folder: true}, storage.CheckKey(strings.TrimSuffix(key, "/")) == nil
	}
	return storage.Entry{Object: d.described(key, attrs)}, storage.CheckKey(key) == nil
}
