package explorer

import (
	"cmp"
	"context"
	"errors"
	"io"
	"path"
	"slices"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/location"
	"github.com/dataguardian/dataguardian/storage"
)

// List shows what lies directly in a folder. A folder in which nothing lies is not
// there; the root always is.
func (x *Explorer) List(ctx context.Context, locationID, folder string) (_ Folder, err error) {
	folder, err = checkFolder("path", folder)
	if err != nil {
		return Folder{}, err
	}
	l, driver, err := x.places.Open(ctx, locationID)
	if err != nil {
		return Folder{}, err
	}
	defer func() { err = errors.Join(err, driver.Close()) }()
	shown := Folder{LocationID: locationID, RootLabel: location.Where(l, ""), Path: folder, Parent: parent(folder), Entries: []Entry{}}
	for e, err := range storage.ListFolder(ctx, driver, folder) {
		if err != nil {
			return Folder{}, explained("path", err)
		}
		if reserved(e.Key) {
			continue
		}
		if len(shown.Entries) == MaxEntries {
			shown.Truncated = true
			break
		}
		shown.Entries = append(shown.Entries, entryOf(e))
	}
	if len(shown.Entries) == 0 && folder != "" {
		return Folder{}, notAFolder(ctx, driver, folder)
	}
	slices.SortFunc(shown.Entries, foldersFirst)
	return shown, nil
}

func foldersFirst(a, b Entry) int {
	switch {
	case a.Folder && !b.Folder:
		return -1
	case b.Folder && !a.Folder:
		return 1
	}
	return cmp.Compare(a.Name, b.Name)
}

// notAFolder says why there is nothing in a folder.
func notAFolder(ctx context.Context, d storage.Driver, folder string) error {
	_, err := d.Stat(ctx, folder)
	switch {
	case err == nil:
		return refusedPath("path", "is a file, not a folder", nil)
	case errors.Is(err, storage.ErrNotExist):
		return absent(folder)
	}
	return explained("path", err)
}

func absent(key string) error {
	return errs.New(errs.NotFound, errs.CodeNotFound, "there is no file or folder %q in the storage; it may have been deleted", key)
}

// isFolder reports whether anything lies below a path.
func isFolder(ctx context.Context, d storage.Driver, key string) (bool, error) {
	prefix, err := storage.FolderPrefix(key)
	if err != nil { // no key is long enough to lie below
		return false, nil
	}
	for _, err := range d.List(ctx, prefix) {
		return err == nil, err
	}
	return false, nil
}

// file describes a file. A folder and what is not there are told apart by folder,
// the error for the former.
func file(ctx context.Context, d storage.Driver, field, key string, folder error) (storage.Object, error) {
	o, err := d.Stat(ctx, key)
	if err == nil {
		return o, nil
	}
	if !errors.Is(err, storage.ErrNotExist) {
		return storage.Object{}, explained(field, err)
	}
	below, err := isFolder(ctx, d, key)
	switch {
	case err != nil:
		return storage.Object{}, explained(field, err)
	case below:
		return storage.Object{}, folder
	}
	return storage.Object{}, absent(key)
}

// Open opens a file to be read from its beginning.
func (x *Explorer) Open(ctx context.Context, locationID, key string) (*Download, error) {
	asFolder := key != "" && key[len(key)-1] == '/'
	folder := errs.New(errs.Invalid, errs.CodeFolderDownload, "%q is a folder, and only single files can be downloaded; download its files one by one, or a whole backup by GET /api/backups/{id}/download", key)
	if asFolder {
		key = key[:len(key)-1]
	}
	if err := checkPath("path", key); err != nil {
		return nil, err
	}
	_, driver, err := x.places.Open(ctx, locationID)
	if err != nil {
		return nil, err
	}
	o, err := file(ctx, driver, "path", key, folder)
	if err == nil && asFolder {
		err = absent(key + "/")
	}
	if err != nil {
		return nil, errors.Join(err, driver.Close())
	}
	body, err := driver.Open(ctx, key, 0, o.Size)
	if err != nil {
		return nil, errors.Join(explained("path", err), driver.Close())
	}
	return &Download{Name: path.Base(key), Size: o.Size, ReadCloser: &opened{ReadCloser: body, driver: driver}}, nil
}

// opened closes its driver, too.
type opened struct {
	io.ReadCloser

	driver storage.Driver
}

// Close implements io.Closer.
func (o *opened) Close() error { return errors.Join(o.ReadCloser.Close(), o.driver.Close()) }
