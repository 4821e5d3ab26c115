// Package gcs keeps objects in Google Cloud Storage.
//
// A body of known size and digest that can be read again goes out in one request,
// and nothing of it is held in memory. Any other body is a resumable upload in chunks
// of a few megabytes. The last bytes are sent only when the whole body is proven. An
// upload that was given up is never visible; the store forgets it after a week.
// Objects carry their SHA-256, where it is known before they are written, in the
// metadata "sha256".
package gcs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
	"time"

	gcloud "cloud.google.com/go/storage"
	"github.com/dataguardian/dataguardian/storage"
	"github.com/dataguardian/dataguardian/storage/internal/transport"
	"github.com/googleapis/gax-go/v2"
	"google.golang.org/api/iterator"
	"google.golang.org/api/option"
)

// Config of a Google Cloud Storage.
type Config struct {
	Bucket string
	// Prefix is put before every key, with a slash between.
	Prefix string
	// CredentialsJSON is the key of a service account. Empty means the machine's
	// own credentials, or none with an Endpoint.
	CredentialsJSON string
	// Endpoint is the URL of a store other than Google's, such as an emulator.
	Endpoint string

	// StallTimeout is how long a connection may move no byte; 2 minutes when 0.
	StallTimeout time.Duration
}

// maxAttempts is how often one request is tried before the caller is told.
const maxAttempts = 3

// Driver stores objects in one bucket. It implements storage.Driver and
// storage.Foldered.
type Driver struct {
	client     *gcloud.Client
	http       *http.Client
	authorized *http.Client // over http, with credentials
	endpoint   string       // of the API, with a trailing slash
	bucket     *gcloud.BucketHandle
	prefix     string // empty or with a trailing slash
}

var (
	_ storage.Driver   = (*Driver)(nil)
	_ storage.Foldered = (*Driver)(nil)
	_ storage.Keeper   = (*Driver)(nil)
)

// New checks c and returns its driver. It asks for no object, but may ask the
// machine's metadata service for credentials. The error wraps
// storage.ErrConfig.
func New(ctx context.Context, c Config) (*Driver, error) {
	endpoint, err := c.endpoint()
	if err == nil {
		err = c.check()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", storage.ErrConfig, err)
	}
	base := transport.New(c.StallTimeout)
	authorized, err := c.authorized(ctx, base)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", storage.ErrConfig, err)
	}
	client, err := gcloud.NewClient(ctx,
		option.WithEndpoint(endpoint),
		option.WithHTTPClient(authorized),
		option.WithoutAuthentication(), // authorized does that
		gcloud.WithJSONReads(),
		gcloud.WithDisabledClientMetrics(),
	)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", storage.ErrConfig, err)
	}
	client.SetRetry(
		// Deleting twice is fine, and writes carry their mark.
		gcloud.WithPolicy(gcloud.RetryAlways),
		gcloud.WithMaxAttempts(maxAttempts),
		gcloud.WithBackoff(backoff()),
	)
	d := &Driver{client: client, http: base, authorized: authorized, endpoint: endpoint, bucket: client.Bucket(c.Bucket)}
	if p := strings.Trim(c.Prefix, "/"); p != "" {
		d.prefix = p + "/"
	}
	return d, nil
}

// backoff tells the pauses between the tries of a request.
func backoff() gax.Backoff {
	return gax.Backoff{Initial: 200 * time.Millisecond, Max: 5 * time.Second, Multiplier: 2}
}

// Close drops idle connections.
func (d *Driver) Close() error {
	err := d.client.Close()
	d.http.CloseIdleConnections()
	return err
}

// object refers to key in the bucket.
func (d *Driver) object(key string) (*gcloud.ObjectHandle, error) {
	if err := storage.CheckKey(key); err != nil {
		return nil, err
	}
	if n := len(d.prefix) + len(key); n > storage.MaxKeyBytes {
		return nil, fmt.Errorf("%w: with its prefix it has %d bytes, more than %d", storage.ErrBadKey, n, storage.MaxKeyBytes)
	}
	return d.bucket.Object(d.prefix + key), nil
}

func (d *Driver) described(key string, a *gcloud.ObjectAttrs) storage.Object {
	return storage.Object{Key: key, Size: a.Size, Modified: a.Created, SHA256: a.Metadata[metaDigest]}
}

// Stat describes an object.
func (d *Driver) Stat(ctx context.Context, key string) (storage.Object, error) {
	object, err := d.object(key)
	if err != nil {
		return storage.Object{}, err
	}
	attrs, err := object.Attrs(ctx)
	if err != nil {
		return storage.Object{}, d.absent(ctx, failed(ctx, err))
	}
	return d.described(key, attrs), nil
}

// absent tells an absent object from an absent bucket, for which the store has
// the same answer. Any other error stays.
func (d *Driver) absent(ctx context.Context, err error) error {
	if !errors.Is(err, storage.ErrNotExist) {
		return err
	}
	objects := d.bucket.Objects(ctx, d.query(""))
	objects.PageInfo().MaxSize = 1
	_, listErr := objects.Next()
	if listErr = failed(ctx, listErr); errors.Is(listErr, storage.ErrNoBucket) || ctx.Err() != nil {
		return listErr
	}
	return err
}

// Open reads a range of an object; see storage.Driver.
func (d *Driver) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	object, err := d.object(key)
	if err != nil {
		return nil, err
	}
	if offset < 0 {
		return nil, fmt.Errorf("the offset %d is negative", offset)
	}
	if length == 0 {
		return d.nothing(ctx, key, offset, length)
	}
	r, err := object.NewRangeReader(ctx, offset, length)
	if err != nil && statusOf(err) == http.StatusRequestedRangeNotSatisfiable {
		return d.nothing(ctx, key, offset, length)
	}
	if err != nil {
		return nil, d.absent(ctx, failed(ctx, err))
	}
	if length < 0 {
		length = r.Attrs.Size - offset
	}
	return storage.Exactly(r, length), nil
}

// nothing answers for a range without bytes: empty at or before the end of the
// object, an error beyond it.
func (d *Driver) nothing(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	o, err := d.Stat(ctx, key)
	if err != nil {
		return nil, err
	}
	if beyond := offset + max(length, 0) - o.Size; beyond > 0 {
		return nil, fmt.Errorf("the range ends %d bytes beyond the object: %w", beyond, io.ErrUnexpectedEOF)
	}
	return http.NoBody, nil
}

// Delete removes an object.
func (d *Driver) Delete(ctx context.Context, key string) error {
	object, err := d.object(key)
	if err != nil {
		return err
	}
	err = d.absent(ctx, failed(ctx, object.Delete(ctx)))
	if errors.Is(err, storage.ErrNotExist) {
		return nil
	}
	return err
}

func (d *Driver) query(prefix string) *gcloud.Query {
	return &gcloud.Query{Prefix: d.prefix + prefix, Projection: gcloud.ProjectionNoACL}
}

// listed is what a list asks for of each object.
var listed = []string{"Name", "Size", "Created", "Metadata"}

// List yields the objects a page at a time. Objects whose names are no keys
// (folder markers, control characters) are left out.
func (d *Driver) List(ctx context.Context, prefix string) iter.Seq2[storage.Object, error] {
	return func(yield func(storage.Object, error) bool) {
		if err := storage.CheckPrefix(prefix); err != nil {
			yield(storage.Object{}, err)
			return
		}
		query := d.query(prefix)
		if err := query.SetAttrSelection(listed); err != nil {
			yield(storage.Object{}, err)
			return
		}
		objects := d.bucket.Objects(ctx, query)
		for {
			attrs, err := objects.Next()
			if errors.Is(err, iterator.Done) {
				return
			}
			if err != nil {
				yield(storage.Object{}, failed(ctx, err))
				return
			}
			key, ok := strings.CutPrefix(attrs.Name, d.prefix)
			if !ok || storage.CheckKey(key) != nil {
				continue
			}
			if !yield(d.described(key, attrs), nil) {
				return
			}
		}
	}
}

// KeepsDeleted asks whether the bucket has object versioning switched on.
func (d *Driver) KeepsDeleted(ctx context.Context) (bool, error) {
	attrs, err := d.bucket.Attrs(ctx)
	if err != nil {
		return false, failed(ctx, err)
	}
	return attrs.VersioningEnabled, nil
}
