package local

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/dataguardian/dataguardian/storage"
)

// temporary is a file on its way to become an object.
type temporary struct {
	d      *Driver
	f      *os.File
	name   string
	hash   hash.Hash
	size   int64
	sent   int64 // towards the disk
	limit  int64 // -1 means none
	placed bool
	closed bool
}

// writebackSize is how much is written before the disk is asked to begin.
const writebackSize = 8 << 20

func (d *Driver) newTemporary() (*temporary, error) {
	name := temporaryDir + "/" + rand.Text()
	f, err := d.createTemporary(name)
	if errors.Is(err, fs.ErrNotExist) {
		if err := d.root.Mkdir(temporaryDir, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		f, err = d.createTemporary(name)
	}
	if err != nil {
		return nil, err
	}
	return &temporary{d: d, f: f, name: name, hash: sha256.New()}, nil
}

func (d *Driver) createTemporary(name string) (*os.File, error) {
	return d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
}

// fill copies r into the file, hashing on the way. size is the expected number
// of bytes or -1.
func (t *temporary) fill(ctx context.Context, r io.Reader, size int64) error {
	t.limit = size
	if err := t.d.quota.admit(ctx, size); err != nil {
		return err
	}
	if err := reserve(t.f, size); err != nil {
		return t.d.failed(err)
	}
	buf := t.d.buffers.get()
	defer t.d.buffers.put(buf)
	_, err := io.CopyBuffer(writerOnly{t}, &contextReader{ctx: ctx, r: r}, buf)
	return err
}

// writerOnly hides every method but Write from io.Copy.
type writerOnly struct{ io.Writer }

// Write adds p to file, digest and quota.
func (t *temporary) Write(p []byte) (int, error) {
	if t.limit >= 0 && t.size+int64(len(p)) > t.limit {
		return 0, fmt.Errorf("%w: the body is longer than the %d bytes announced", storage.ErrChecksum, t.limit)
	}
	if err := t.d.quota.take(int64(len(p))); err != nil {
		return 0, err
	}
	t.hash.Write(p)
	t.size += int64(len(p))
	if _, err := t.f.Write(p); err != nil {
		return 0, t.d.failed(err)
	}
	if pending := t.size - t.sent; pending >= writebackSize {
		startWriteback(t.f, t.sent, pending)
		t.sent = t.size
	}
	return len(p), nil
}

func (t *temporary) digest() string { return hex.EncodeToString(t.hash.Sum(nil)) }

func (t *temporary) verify(opts storage.PutOptions) error {
	if opts.Size >= 0 && t.size != opts.Size {
		return fmt.Errorf("%w: the body has %d of the %d bytes announced", storage.ErrChecksum, t.size, opts.Size)
	}
	if got := t.digest(); opts.SHA256 != "" && got != opts.SHA256 {
		return fmt.Errorf("%w: SHA-256 is %s, announced was %s", storage.ErrChecksum, got, opts.SHA256)
	}
	return nil
}

// seal makes the bytes durable.
func (t *temporary) seal() (fs.FileInfo, error) {
	info, err := t.f.Stat()
	if err != nil {
		return nil, err
	}
	if err := t.f.Sync(); err != nil {
		return nil, err
	}
	t.closed = true
	return info, t.f.Close()
}

// discard removes a file that did not become an object. What it cannot remove
// is left to Sweep.
func (t *temporary) discard() {
	if !t.closed {
		_ = t.f.Close()
	}
	if !t.placed {
		_ = t.d.root.Remove(t.name)
		t.d.quota.release(t.size)
	}
}

// Sweep removes temporary files that have not been written to for longer than
// age, under whatever prefix.
func (d *Driver) Sweep(ctx context.Context, _ string, age time.Duration) (int, error) {
	dir, err := d.root.Open(temporaryDir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, d.failed(err)
	}
	swept, err := d.sweep(ctx, dir, time.Now().Add(-age))
	return swept, errors.Join(err, dir.Close())
}

func (d *Driver) sweep(ctx context.Context, dir *os.File, before time.Time) (swept int, err error) {
	for ctx.Err() == nil {
		entries, err := dir.ReadDir(entriesPerRead)
		for _, entry := range entries {
			info, err := entry.Info()
			if err != nil || info.ModTime().After(before) {
				continue
			}
			switch err := d.root.Remove(temporaryDir + "/" + entry.Name()); {
			case err == nil:
				swept++
				d.quota.release(info.Size())
			case !errors.Is(err, fs.ErrNotExist):
				return swept, d.failed(err)
			}
		}
		if err == io.EOF {
			return swept, nil
		}
		if err != nil {
			return swept, d.failed(err)
		}
	}
	return swept, ctx.Err()
}

// buffers are for copying; a few are kept.
type buffers chan []byte

func (b buffers) get() []byte {
	select {
	case buf := <-b:
		return buf
	default:
		return make([]byte, bufferSize)
	}
}

func (b buffers) put(buf []byte) {
	select {
	case b <- buf:
	default:
	}
}
