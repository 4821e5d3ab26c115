package explorer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"time"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/storage"
)

// undoTimeout bounds the removal of a copy that turned out wrong.
const undoTimeout = 15 * time.Second

// Copy copies a file within a location to a path where nothing is. It is read back
// and compared before the call returns; a copy that differs is removed again.
func (x *Explorer) Copy(ctx context.Context, locationID, from, to string) (_ Entry, err error) {
	if err := errors.Join(checkPath("source_path", from), checkPath("destination_path", to)); err != nil {
		return Entry{}, errs.As(err)
	}
	_, driver, err := x.places.Open(ctx, locationID)
	if err != nil {
		return Entry{}, err
	}
	defer func() { err = errors.Join(err, driver.Close()) }()
	o, err := file(ctx, driver, "source_path", from, refusedPath("source_path", "is a folder, and only single files can be copied", nil))
	if err != nil {
		return Entry{}, err
	}
	digest, err := send(ctx, driver, o, to)
	if err != nil {
		return Entry{}, err
	}
	made, err := prove(ctx, driver, to, o.Size, digest)
	if err != nil {
		return Entry{}, errors.Join(err, undo(ctx, driver, to))
	}
	return entryOf(storage.Entry{Object: made}), nil
}

// send stores the bytes of o under another key and returns their digest.
func send(ctx context.Context, d storage.Driver, o storage.Object, to string) (string, error) {
	body, err := d.Open(ctx, o.Key, 0, o.Size)
	if err != nil {
		return "", explained("source_path", err)
	}
	hash := sha256.New()
	_, err = d.Put(ctx, to, io.TeeReader(body, hash), storage.PutOptions{Size: o.Size, SHA256: o.SHA256, IfAbsent: true})
	if err = errors.Join(err, body.Close()); err != nil {
		return "", explained("destination_path", err)
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// prove reads an object back.
func prove(ctx context.Context, d storage.Driver, key string, size int64, digest string) (storage.Object, error) {
	made, err := d.Stat(ctx, key)
	if err != nil {
		return storage.Object{}, explained("destination_path", err)
	}
	body, err := d.Open(ctx, key, 0, -1)
	if err != nil {
		return storage.Object{}, explained("destination_path", err)
	}
	hash := sha256.New()
	n, err := io.Copy(hash, body)
	if err = errors.Join(err, body.Close()); err != nil {
		return storage.Object{}, explained("destination_path", err)
	}
	if made.Size != size || n != size || hex.EncodeToString(hash.Sum(nil)) != digest {
		return storage.Object{}, errs.New(errs.Unavailable, errs.CodeStorageUnavailable,
			"the storage holds other bytes at %q than were sent, so the copy was removed; try again; if it happens often, check the network and the disks", key)
	}
	return made, nil
}

// undo removes a copy also when the caller is gone.
func undo(ctx context.Context, d storage.Driver, key string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	return d.Delete(ctx, key)
}
