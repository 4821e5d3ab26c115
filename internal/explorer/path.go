package explorer

import (
	"errors"
	"path"
	"strings"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/storage"
)

// reservedPrefix begins the names at the root of a location that are ours: the
// mark of a directory, files being written, what a test writes.
const reservedPrefix = ".dataguardian-"

// reserved reports whether a path is not shown and must not be touched. Some file
// systems do not tell upper from lower case.
func reserved(key string) bool {
	return len(key) >= len(reservedPrefix) && strings.EqualFold(key[:len(reservedPrefix)], reservedPrefix)
}

// checkPath accepts what names a file in every storage and is nobody's secret.
// field is the path's name in the request.
func checkPath(field, key string) error {
	if err := storage.CheckKey(key); err != nil {
		return refusedPath(field, strings.TrimPrefix(err.Error(), storage.ErrBadKey.Error()+": "), err)
	}
	if reserved(key) {
		return refusedPath(field, "is for DataGuardian's own use and cannot be seen or changed here", nil)
	}
	return nil
}

// checkFolder accepts a path with or without one trailing slash; empty is the root.
func checkFolder(field, key string) (string, error) {
	folder := strings.TrimSuffix(key, "/")
	if key == "" {
		return "", nil
	}
	if err := checkPath(field, folder); err != nil {
		return "", err
	}
	if _, err := storage.FolderPrefix(folder); err != nil {
		return "", refusedPath(field, "is too long for a folder", err)
	}
	return folder, nil
}

func refusedPath(field, why string, cause error) error {
	e := errs.InvalidFields(errs.CodeValidation, errs.Field{Field: field, Message: why})
	e.Msg += `; use a path relative to the root of the storage, such as "shop/2026-11-24_030000_5f0c2a54/manifest.json"`
	e.Err = cause
	return e
}

// explained makes an error of a driver one for people. A path that the driver
// refuses, such as one that leads through a symbolic link, is a bad field.
func explained(field string, err error) error {
	if errors.Is(err, storage.ErrBadKey) {
		return refusedPath(field, "is refused by the storage, for example because it leads through a symbolic link", err)
	}
	if err == nil {
		return nil
	}
	return storage.Explain(err)
}

func entryOf(e storage.Entry) Entry {
	key := strings.TrimSuffix(e.Key, "/")
	return Entry{Name: path.Base(key), Path: key, Folder: e.Folder, Size: e.Size, Modified: e.Modified}
}

// parent of a folder; nil for the root.
func parent(folder string) *string {
	if folder == "" {
		return nil
	}
	above := ""
	if end := strings.LastIndexByte(folder, '/'); end >= 0 {
		above = folder[:end]
	}
	return &above
}
