package s3

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sigv4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/middleware"
	"github.com/dataguardian/dataguardian/storage"
	"github.com/dataguardian/dataguardian/storage/internal/body"
)

// The metadata of an object. metaWrite names the write that made it, so that a
// write whose answer was lost can find out whether it went through.
const (
	metaDigest = "sha256"
	metaWrite  = "dataguardian-write"
)

const (
	// maxStreamed is the size from which a body is worth several requests.
	maxStreamed = 512 << 20
	// settleLimit bounds what follows a write when its context has ended.
	settleLimit = 30 * time.Second
)

// write is one Put under way.
type write struct {
	d      *Driver
	key    string
	name   string
	mark   string
	opts   storage.PutOptions
	body   *body.Checked
	sealed bool // the store may have the whole object
}

// Put stores r; see storage.Driver. A store that does not know writes that must
// not replace is asked first instead.
func (d *Driver) Put(ctx context.Context, key string, r io.Reader, opts storage.PutOptions) (storage.Object, error) {
	name, err := d.name(key)
	if err != nil {
		return storage.Object{}, err
	}
	if opts.IfAbsent {
		if err := d.refuseExisting(ctx, key, name); err != nil {
			return storage.Object{}, err
		}
	}
	w := &write{d: d, key: key, name: name, mark: rand.Text(), opts: opts, body: body.Check(ctx, r, opts)}
	err = w.send(ctx)
	w.body.Stop()
	if bodyErr := w.body.Err(); bodyErr != nil {
		return storage.Object{}, bodyErr
	}
	return w.settle(ctx, err)
}

func (d *Driver) refuseExisting(ctx context.Context, key, name string) error {
	switch _, _, err := d.head(ctx, key, name); {
	case err == nil:
		return fmt.Errorf("%w: %q", storage.ErrExist, key)
	case errors.Is(err, storage.ErrNotExist), errors.Is(err, storage.ErrPermission):
		return nil // who may only write is told when writing
	default:
		return err
	}
}

// send streams a body that is known, and reads any other in parts.
func (w *write) send(ctx context.Context) error {
	if w.opts.SHA256 != "" && 0 < w.opts.Size && w.opts.Size <= maxStreamed {
		return w.put(ctx, w.body.Seekable(), w.opts.Size, w.opts.SHA256)
	}
	first, err := w.firstPart()
	if err != nil {
		return err
	}
	if !w.body.Proven() {
		return w.multipart(ctx, first)
	}
	size, digest := w.body.Sum()
	return w.put(ctx, bytes.NewReader(first), size, digest)
}

// firstPart reads what one part holds.
func (w *write) firstPart() ([]byte, error) {
	limit := w.partSize(1)
	var b bytes.Buffer
	if w.opts.Size >= 0 {
		b.Grow(int(min(limit, w.opts.Size)) + bytes.MinRead)
	}
	_, err := b.ReadFrom(io.LimitReader(w.body, limit))
	return b.Bytes(), err
}

// put sends the whole object in one request, signed with its digest, which the
// store checks.
func (w *write) put(ctx context.Context, r io.Reader, size int64, digest string) error {
	in := &awss3.PutObjectInput{
		Bucket: &w.d.bucket, Key: &w.name, Body: r, ContentLength: &size,
		Metadata: w.metadata(digest), StorageClass: types.StorageClass(w.d.class),
		IfNoneMatch: w.ifNoneMatch(), ChecksumSHA256: w.checksum(digest),
	}
	_, err := w.d.client.PutObject(ctx, in, signedWith(digest))
	w.sealed = w.body.Proven()
	if !w.conditionUnknown(in.IfNoneMatch, err) {
		return err
	}
	s, ok := r.(io.Seeker)
	if !ok {
		return err // the next try is made without the condition
	}
	if _, err := s.Seek(0, io.SeekStart); err != nil {
		return err
	}
	in.IfNoneMatch = nil
	_, err = w.d.client.PutObject(ctx, in, signedWith(digest))
	return err
}

func (w *write) ifNoneMatch() *string {
	if w.opts.IfAbsent && !w.d.unconditional.Load() {
		return aws.String("*")
	}
	return nil
}

// conditionUnknown reports whether the store refused because it does not know
// the condition, and remembers it: from then on Put's question whether the
// object exists must do.
func (w *write) conditionUnknown(condition *string, err error) bool {
	if condition == nil || statusOf(err) != http.StatusNotImplemented {
		return false
	}
	w.d.unconditional.Store(true)
	return true
}

// checksum is for Amazon, where buckets with object lock demand one.
func (w *write) checksum(digest string) *string {
	raw, err := hex.DecodeString(digest)
	if err != nil || !w.d.amazon {
		return nil
	}
	return aws.String(base64.StdEncoding.EncodeToString(raw))
}

func (w *write) metadata(digest string) map[string]string {
	m := map[string]string{metaWrite: w.mark}
	if digest != "" {
		m[metaDigest] = digest
	}
	return m
}

// signedWith signs a request with the digest of its body, which is not read
// for that.
func signedWith(digest string) func(*awss3.Options) {
	set := middleware.InitializeMiddlewareFunc("KnownPayloadHash",
		func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
			return next.HandleInitialize(sigv4.SetPayloadHash(ctx, digest), in)
		})
	return func(o *awss3.Options) {
		o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
			if err := sigv4.AddContentSHA256HeaderMiddleware(stack); err != nil {
				return nil //nolint:nilerr // it is there already
			}
			return stack.Initialize.Add(set, middleware.Before)
		})
	}
}

// settle confirms a write, or finds out what became of one that failed. Its
// answer may have been lost, so that it went through after all, and a second
// try of the SDK then met the object of the first; or the refusal of an
// exclusive write was lost, as the store need not read the body to refuse it.
func (w *write) settle(ctx context.Context, sendErr error) (storage.Object, error) {
	if sendErr != nil && !w.sealed && !w.opts.IfAbsent {
		return storage.Object{}, failed(ctx, sendErr)
	}
	detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleLimit)
	defer cancel()
	o, mark, err := w.d.head(detached, w.key, w.name)
	ours := err == nil && mark == w.mark
	switch {
	case sendErr != nil && !ours:
		return storage.Object{}, w.refused(ctx, sendErr, err == nil)
	case errors.Is(err, storage.ErrNotExist):
		return storage.Object{}, errors.New("the storage confirmed the object but does not have it")
	case !ours:
		// Not ours to look at, or replaced since: the answer to the write counts.
		o = storage.Object{Key: w.key, Modified: time.Now()}
	}
	return w.confirm(detached, o, ours)
}

func (w *write) refused(ctx context.Context, sendErr error, exists bool) error {
	err := failed(ctx, sendErr)
	if exists && w.opts.IfAbsent && !storage.Permanent(err) && !errors.Is(err, storage.ErrChecksum) {
		return fmt.Errorf("%w: %w", storage.ErrExist, err)
	}
	return err
}

func (w *write) confirm(ctx context.Context, o storage.Object, seen bool) (storage.Object, error) {
	size, digest := w.body.Sum()
	if seen && o.Size != size {
		err := fmt.Errorf("%w: %d of %d bytes were stored", storage.ErrChecksum, o.Size, size)
		return storage.Object{}, errors.Join(err, w.d.Delete(ctx, w.key))
	}
	o.Size, o.SHA256 = size, digest
	return o, nil
}
