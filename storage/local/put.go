package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"github.com/dataguardian/dataguardian/storage"
	"golang.org/x/sys/unix"
)

// Put writes r to a temporary file, proves size and digest, syncs it and moves
// it to key; see storage.Driver. An object cannot lie below another one here:
// such a key fails with storage.ErrBadKey.
func (d *Driver) Put(ctx context.Context, key string, r io.Reader, opts storage.PutOptions) (storage.Object, error) {
	replaced, err := d.admit(ctx, key, opts)
	if err != nil {
		return storage.Object{}, err
	}
	t, err := d.newTemporary()
	if err != nil {
		return storage.Object{}, d.failed(err)
	}
	defer t.discard()

	if err := t.fill(ctx, r, opts.Size); err != nil {
		return storage.Object{}, err
	}
	if err := t.verify(opts); err != nil {
		return storage.Object{}, err
	}
	info, err := t.seal()
	if err != nil {
		return storage.Object{}, d.failed(err)
	}
	if err := ctx.Err(); err != nil {
		return storage.Object{}, err
	}
	if err := d.publish(t, key, opts.IfAbsent); err != nil {
		return storage.Object{}, d.failed(err)
	}
	d.quota.release(replaced)
	return storage.Object{Key: key, Size: t.size, Modified: info.ModTime(), SHA256: t.digest()}, nil
}

// admit refuses what is known to fail before a byte is written. It returns the
// size of the object that will be replaced.
func (d *Driver) admit(ctx context.Context, key string, opts storage.PutOptions) (replaced int64, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if err := checkKey(key); err != nil {
		return 0, err
	}
	info, err := d.lookup(key)
	switch {
	case errors.Is(err, unix.ENOTDIR):
		return 0, fmt.Errorf("%w: %q would lie below another object", storage.ErrBadKey, key)
	case errors.Is(err, fs.ErrNotExist):
		return 0, nil
	case err != nil:
		return 0, d.failed(err)
	case info.IsDir():
		return 0, d.admitFolder(key)
	case opts.IfAbsent:
		return 0, fmt.Errorf("%w: %q", storage.ErrExist, key)
	}
	return info.Size(), nil
}

// admitFolder lets an object take the name of a folder that is empty, which an
// interrupted write may have left.
func (d *Driver) admitFolder(key string) error {
	err := d.unlink(key, unix.AT_REMOVEDIR)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("%w: %q is a folder: %w", storage.ErrBadKey, key, err)
}

// maxPlacements bounds how often publish makes folders that deletions prune.
const maxPlacements = 100

// publish moves t to key and makes that durable. When the last step fails the
// object is taken back: it may not survive a crash.
func (d *Driver) publish(t *temporary, key string, ifAbsent bool) error {
	dir := path.Dir(key)
	if err := d.place(t, key, ifAbsent); err != nil {
		d.prune(dir)
		return err
	}
	t.placed = true
	if err := d.syncDirs(dir); err != nil {
		d.quota.release(t.size)
		return errors.Join(err, d.unlink(key, 0))
	}
	return nil
}

func (d *Driver) place(t *temporary, key string, ifAbsent bool) error {
	for range maxPlacements {
		err := d.move(t.name, key, ifAbsent)
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := d.makeDirs(path.Dir(key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return fmt.Errorf("the temporary file of %q or its folder was removed by someone else", key)
}

func (d *Driver) move(from, to string, ifAbsent bool) error {
	if ifAbsent {
		return d.moveNew(from, to)
	}
	return d.root.Rename(from, to)
}

// linkNew gives from the new name to, unless to exists; from stays.
func (d *Driver) linkNew(from, to string) error {
	if err := d.root.Link(from, to); err != nil {
		return err
	}
	return d.root.Remove(from)
}

// Delete removes an object for good and the folders it leaves empty.
func (d *Driver) Delete(ctx context.Context, key string) error {
	info, err := d.object(ctx, key)
	if errors.Is(err, storage.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	switch err := d.unlink(key, 0); {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.EISDIR):
		return nil
	case err != nil:
		return d.failed(err)
	}
	d.quota.release(info.Size())
	if err := d.syncDir(path.Dir(key)); err != nil {
		return d.failed(err)
	}
	d.prune(path.Dir(key))
	return nil
}
