// Package local keeps objects as files below one directory. Everything happens
// inside an os.Root: no key, symbolic link or race leads outside.
//
// A write goes to a temporary file in a hidden area of the same directory, is
// synced, and is then moved to its name in one step. Directories are made on
// demand and pruned when their last object goes. Symbolic links below the
// directory are never followed.
package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dataguardian/dataguardian/storage"
	"golang.org/x/sys/unix"
)

// Config of a local storage.
type Config struct {
	// Path is the absolute directory that holds the objects. It is made (0700)
	// when its parent exists.
	Path string
	// MaxBytes caps what is stored below Path; 0 means no cap.
	MaxBytes int64
}

// Driver stores objects below one directory. It implements storage.Driver,
// storage.Spacer, storage.Sweeper and storage.Foldered.
type Driver struct {
	root    *os.Root
	quota   *quota
	buffers buffers
}

var (
	_ storage.Driver   = (*Driver)(nil)
	_ storage.Spacer   = (*Driver)(nil)
	_ storage.Sweeper  = (*Driver)(nil)
	_ storage.Foldered = (*Driver)(nil)
)

const (
	dirMode     fs.FileMode = 0o700
	fileMode    fs.FileMode = 0o600
	bufferSize              = 1 << 20
	keptBuffers             = 4
)

// New opens the directory of c. It fails with storage.ErrConfig for a path that
// is not absolute, storage.ErrNoBucket when the directory is absent and cannot
// be made, and storage.ErrPermission when it cannot be written.
func New(c Config) (*Driver, error) {
	if !filepath.IsAbs(c.Path) {
		return nil, fmt.Errorf("%w: the path %q is not absolute", storage.ErrConfig, c.Path)
	}
	if c.MaxBytes < 0 {
		return nil, fmt.Errorf("%w: the size limit is negative", storage.ErrConfig)
	}
	root, err := os.OpenRoot(c.Path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.Mkdir(c.Path, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, rootError(err)
		}
		root, err = os.OpenRoot(c.Path)
	}
	if err != nil {
		return nil, rootError(err)
	}
	if err := writable(root); err != nil {
		return nil, errors.Join(rootError(err), root.Close())
	}
	d := &Driver{root: root, buffers: make(buffers, keptBuffers)}
	if c.MaxBytes > 0 {
		d.quota = &quota{max: c.MaxBytes, measure: d.measure}
	}
	return d, nil
}

// writable asks the file system; it writes nothing, so that a full disk can
// still be opened to delete from it.
func writable(root *os.Root) error {
	f, err := root.Open(".")
	if err != nil {
		return err
	}
	defer forget(f)
	err = unix.Faccessat(int(f.Fd()), ".", unix.W_OK|unix.X_OK, unix.AT_EACCESS)
	return os.NewSyscallError("access", err)
}

// Close releases the directory.
func (d *Driver) Close() error { return d.root.Close() }

// Stat describes an object. Its SHA256 is empty: files do not carry one.
func (d *Driver) Stat(ctx context.Context, key string) (storage.Object, error) {
	info, err := d.object(ctx, key)
	if err != nil {
		return storage.Object{}, err
	}
	return storage.Object{Key: key, Size: info.Size(), Modified: info.ModTime()}, nil
}

// Open reads a range of an object; see storage.Driver.
func (d *Driver) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if offset < 0 {
		return nil, fmt.Errorf("the offset %d is negative", offset)
	}
	if _, err := d.object(ctx, key); err != nil {
		return nil, err
	}
	f, err := d.root.Open(key)
	if err != nil {
		return nil, d.failed(err)
	}
	r, err := section(ctx, f, offset, length)
	if err != nil {
		return nil, errors.Join(d.failed(err), f.Close())
	}
	return r, nil
}

func section(ctx context.Context, f *os.File, offset, length int64) (io.ReadCloser, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	left := info.Size() - offset
	if left < 0 {
		return nil, fmt.Errorf("the offset is %d bytes beyond the end: %w", -left, io.ErrUnexpectedEOF)
	}
	if length < 0 {
		length = left
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return nil, err
	}
	return storage.Exactly(&contextReader{ctx: ctx, r: f, closer: f}, length), nil
}

// contextReader fails once its context ends.
type contextReader struct {
	ctx    context.Context
	r      io.Reader
	closer io.Closer
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

func (c *contextReader) Close() error { return c.closer.Close() }
