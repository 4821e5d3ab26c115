package gcs

import (
	"context"
	"iter"
	"slices"
	"strings"

	gcloud "cloud.google.com/go/storage"
	"google.golang.org/api/iterator"

	"github.com/dataguardian/dataguardian/storage"
)

// folderPage is how many entries of a folder one request asks for.
const folderPage = 1000

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
		pages := iterator.NewPager(d.bucket.Objects(ctx, query), folderPage, "")
		for more := true; more; {
			var page []*gcloud.ObjectAttrs
			next, err := pages.NextPage(&page)
			if err != nil {
				yield(storage.Entry{}, failed(ctx, err))
				return
			}
			for _, e := range d.entries(page) {
				if !yield(e, nil) {
					return
				}
			}
			more = next != ""
		}
	}
}

// entries of one page in key order: the store keeps objects and folders apart.
func (d *Driver) entries(page []*gcloud.ObjectAttrs) []storage.Entry {
	var entries []storage.Entry
	for _, attrs := range page {
		key, ok := strings.CutPrefix(attrs.Name+attrs.Prefix, d.prefix) // one of them is set
		if !ok || storage.CheckKey(strings.TrimSuffix(key, "/")) != nil {
			continue
		}
		switch {
		case attrs.Prefix != "":
			entries = append(entries, storage.Entry{Object: storage.Object{Key: key}, Folder: true})
		case !strings.HasSuffix(key, "/"):
			entries = append(entries, storage.Entry{Object: d.described(key, attrs)})
		}
	}
	slices.SortFunc(entries, func(a, b storage.Entry) int { return strings.Compare(a.Key, b.Key) })
	return entries
}
