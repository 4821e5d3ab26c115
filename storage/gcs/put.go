package gcs

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"sync/atomic"
	"time"

	gcloud "cloud.google.com/go/storage"
	"github.com/dataguardian/dataguardian/storage"
	"github.com/dataguardian/dataguardian/storage/internal/body"
)

// The metadata of an object. metaWrite names the write that made it, so that a
// write whose answer was lost can find out whether it went through.
const (
	metaDigest = "sha256"
	metaWrite  = "dataguardian-write"
)

// contentType is that of all objects.
const contentType = "application/octet-stream"

const (
	// maxStreamed is the size up to which a body that can be read again goes out in
	// one request.
	maxStreamed = 512 << 20
	// chunkSize is how much of any other body is held in memory to be sent again.
	chunkSize = 8 << 20
	// chunkRetryLimit bounds how long one chunk is tried.
	chunkRetryLimit = 10 * time.Second
	// settleLimit bounds what follows a write when its context has ended.
	settleLimit = 30 * time.Second
)

// write is one Put under way.
type write struct {
	d      *Driver
	key    string
	object *gcloud.ObjectHandle
	mark   string
	opts   storage.PutOptions
	body   *body.Checked
	crc    hash.Hash32
	// failures in a row; the library would try a write until its context ends.
	failures atomic.Int32
}

// Put stores r; see storage.Driver.
func (d *Driver) Put(ctx context.Context, key string, r io.Reader, opts storage.PutOptions) (storage.Object, error) {
	object, err := d.object(key)
	if err != nil {
		return storage.Object{}, err
	}
	if opts.IfAbsent {
		if err := refuseExisting(ctx, object); err != nil {
			return storage.Object{}, err
		}
		object = object.If(gcloud.Conditions{DoesNotExist: true})
	}
	w := &write{
		d: d, key: key, object: object, mark: rand.Text(), opts: opts,
		body: body.Check(ctx, r, opts), crc: crc32.New(crc32.MakeTable(crc32.Castagnoli)),
	}
	attrs, err := w.send(ctx)
	w.body.Stop()
	if bodyErr := w.body.Err(); bodyErr != nil {
		return storage.Object{}, bodyErr
	}
	if err != nil {
		attrs, err = w.settle(ctx, err)
	}
	if err != nil {
		return storage.Object{}, err
	}
	return w.confirm(ctx, attrs)
}

func refuseExisting(ctx context.Context, object *gcloud.ObjectHandle) error {
	_, err := object.Attrs(ctx)
	switch err = failed(ctx, err); {
	case err == nil:
		return fmt.Errorf("%w: %q", storage.ErrExist, object.ObjectName())
	case errors.Is(err, storage.ErrNotExist), errors.Is(err, storage.ErrPermission):
		return nil // who may only write is told when writing
	default:
		return err
	}
}

// send streams a body that is known and can be read again, and sends any other in
// chunks.
func (w *write) send(ctx context.Context) (*gcloud.ObjectAttrs, error) {
	if w.opts.SHA256 != "" && 0 <= w.opts.Size && w.opts.Size <= maxStreamed {
		if again, ok := w.body.Seekable().(io.Seeker); ok {
			return w.stream(ctx, again)
		}
	}
	return w.chunks(ctx)
}

// chunks copies the body into a writer. Closing a writer commits what it has, so
// its context is ended first when the body is not proven.
func (w *write) chunks(ctx context.Context) (*gcloud.ObjectAttrs, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out := w.object.Retryer(gcloud.WithErrorFunc(w.again)).NewWriter(ctx)
	out.ProgressFunc = func(int64) { w.failures.Store(0) }
	out.ChunkSize = w.chunk()
	out.ChunkRetryDeadline = chunkRetryLimit
	out.ContentType, out.Metadata = contentType, w.metadata()
	if _, err := io.Copy(io.MultiWriter(out, w.crc), w.body); err != nil {
		cancel()
		_ = out.Close() // fails, as its context has ended
		return nil, err
	}
	if err := out.Close(); err != nil {
		return nil, err
	}
	return out.Attrs(), nil
}

// again decides whether a request of the write is tried once more.
func (w *write) again(err error) bool {
	return gcloud.ShouldRetry(err) && w.failures.Add(1) < maxAttempts
}

func (w *write) metadata() map[string]string {
	m := map[string]string{metaWrite: w.mark}
	if w.opts.SHA256 != "" {
		m[metaDigest] = w.opts.SHA256
	}
	return m
}

// chunk is no larger than the body needs.
func (w *write) chunk() int {
	if w.opts.Size < 0 || w.opts.Size >= chunkSize {
		return chunkSize
	}
	return int(w.opts.Size) + 1
}

// settle finds out what became of a write that failed: its answer may have been
// lost, so that it went through after all, and a second try of the library then
// met the object of the first.
func (w *write) settle(ctx context.Context, sendErr error) (*gcloud.ObjectAttrs, error) {
	err := failed(ctx, sendErr)
	if errors.Is(err, storage.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", storage.ErrNoBucket, sendErr)
	}
	if !w.body.Proven() {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleLimit)
	defer cancel()
	attrs, headErr := w.d.bucket.Object(w.object.ObjectName()).Attrs(ctx)
	if headErr == nil && attrs.Metadata[metaWrite] == w.mark {
		return attrs, nil
	}
	return nil, err
}

// confirm compares what the store has with what was read.
func (w *write) confirm(ctx context.Context, attrs *gcloud.ObjectAttrs) (storage.Object, error) {
	size, digest := w.body.Sum()
	if attrs.Size == size && attrs.CRC32C == w.crc.Sum32() {
		o := w.d.described(w.key, attrs)
		o.SHA256 = digest
		return o, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleLimit)
	defer cancel()
	err := fmt.Errorf("%w: %d of %d bytes were stored", storage.ErrChecksum, attrs.Size, size)
	stored := w.d.bucket.Object(attrs.Name).If(gcloud.Conditions{GenerationMatch: attrs.Generation})
	return storage.Object{}, errors.Join(err, stored.Delete(ctx))
}
