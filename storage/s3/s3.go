// Package s3 keeps objects in Amazon S3 and the stores that speak its protocol
// (MinIO, Ceph, R2, versitygw, ...).
//
// A body of known size and digest goes out in one streamed request that the
// store checks against the digest. Any other body is read into parts of a few
// megabytes; what fits one part is one request, the rest a multipart upload
// that is committed only when the whole body is proven. Objects carry their
// SHA-256, where it is known before they are written, in the metadata "sha256".
//
// In a bucket with versioning a deleted object leaves its old versions to the
// bucket's life cycle rules.
package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/dataguardian/dataguardian/storage"
	"github.com/dataguardian/dataguardian/storage/internal/transport"
)

// Config of an S3 storage.
type Config struct {
	// Endpoint is a URL, or host:port whose scheme UseSSL chooses. Empty means
	// Amazon's.
	Endpoint string
	UseSSL   bool
	Bucket   string
	// Region is us-east-1 when empty.
	Region string
	// AccessKeyID and SecretAccessKey may both be empty for Amazon's endpoint:
	// then the machine's own credentials are used (environment, shared files,
	// role).
	AccessKeyID     string
	SecretAccessKey string
	SessionToken    string
	// Prefix is put before every key, with a slash between.
	Prefix string
	// StorageClass of new objects; empty means the bucket's default.
	StorageClass string
	// ForcePathStyle puts the bucket into the path, not into the host name.
	ForcePathStyle bool

	// PartSize of multipart uploads, at least 5 MiB; 8 MiB when 0.
	PartSize int64
	// StallTimeout is how long a connection may move no byte; 2 minutes when 0.
	StallTimeout time.Duration
}

const (
	defaultRegion   = "us-east-1"
	defaultPartSize = 8 << 20
	minPartSize     = 5 << 20

	maxAttempts  = 4
	firstBackoff = 100 * time.Millisecond
	maxBackoff   = 3 * time.Second
)

// Driver stores objects in one bucket. It implements storage.Driver,
// storage.Sweeper, storage.Foldered and storage.Keeper.
type Driver struct {
	client   *awss3.Client
	http     *http.Client
	bucket   string
	prefix   string // empty or with a trailing slash
	class    string
	partSize int64
	amazon   bool
	// unconditional: the store does not know writes that must not replace.
	unconditional atomic.Bool
}

var (
	_ storage.Driver   = (*Driver)(nil)
	_ storage.Sweeper  = (*Driver)(nil)
	_ storage.Foldered = (*Driver)(nil)
	_ storage.Keeper   = (*Driver)(nil)
)

// New checks c and returns its driver; it sends nothing. The error wraps
// storage.ErrConfig.
func New(ctx context.Context, c Config) (*Driver, error) {
	endpoint, err := c.endpoint()
	if err == nil {
		err = c.check()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", storage.ErrConfig, err)
	}
	provider, err := c.credentials(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", storage.ErrConfig, err)
	}
	d := &Driver{
		http: transport.New(c.StallTimeout), bucket: c.Bucket, class: c.StorageClass,
		partSize: c.PartSize, amazon: c.Endpoint == "",
	}
	if p := strings.Trim(c.Prefix, "/"); p != "" {
		d.prefix = p + "/"
	}
	if d.partSize == 0 {
		d.partSize = defaultPartSize
	}
	d.client = awss3.New(awss3.Options{
		BaseEndpoint: endpoint,
		Region:       c.region(),
		Credentials:  provider,
		UsePathStyle: c.ForcePathStyle,
		HTTPClient:   d.http,
		Retryer:      retries(),
		// Many stores do not know the newer checksums; ours are the digests.
		RequestChecksumCalculation:                aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation:                aws.ResponseChecksumValidationWhenRequired,
		DisableLogOutputChecksumValidationSkipped: true,
	})
	return d, nil
}

// retries are few and soon: the caller has a patience of its own.
func retries() aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = maxAttempts
		o.Backoff = retry.BackoffDelayerFunc(func(attempt int, _ error) (time.Duration, error) {
			limit := min(firstBackoff<<attempt, maxBackoff)
			return limit/2 + rand.N(limit/2), nil //nolint:gosec // jitter
		})
	})
}

func (c Config) check() error {
	switch {
	case c.Bucket == "":
		return errors.New("the bucket is empty")
	case strings.ContainsAny(c.Bucket, "/?#\\ "):
		return fmt.Errorf("the bucket %q is not a bucket's name", c.Bucket)
	case (c.AccessKeyID == "") != (c.SecretAccessKey == ""):
		return errors.New("the access key and its secret belong together, and one is missing")
	case c.AccessKeyID == "" && c.Endpoint != "":
		return errors.New("the access key is missing, which an endpoint other than Amazon's needs")
	case c.PartSize != 0 && c.PartSize < minPartSize:
		return fmt.Errorf("the part size is below %d bytes", minPartSize)
	}
	return storage.CheckPrefix(strings.Trim(c.Prefix, "/"))
}

// endpoint returns nil for Amazon's.
func (c Config) endpoint() (*string, error) {
	if c.Endpoint == "" {
		return nil, nil
	}
	text := c.Endpoint
	if !strings.Contains(text, "://") {
		scheme := "http://"
		if c.UseSSL {
			scheme = "https://"
		}
		text = scheme + text
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, errors.New("the endpoint is not a URL") // the error would show what may be a secret
	case u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		return nil, errors.New("the endpoint is neither an http or https URL nor host:port")
	case u.User != nil, u.RawQuery != "", u.Fragment != "":
		return nil, errors.New("the endpoint must have no credentials, query or fragment")
	}
	return aws.String(strings.TrimSuffix(text, "/")), nil
}

func (c Config) region() string {
	if c.Region == "" {
		return defaultRegion
	}
	return c.Region
}

func (c Config) credentials(ctx context.Context) (aws.CredentialsProvider, error) {
	if c.AccessKeyID != "" {
		return credentials.NewStaticCredentialsProvider(c.AccessKeyID, c.SecretAccessKey, c.SessionToken), nil
	}
	loaded, err := config.LoadDefaultConfig(ctx, config.WithRegion(c.region()))
	if err != nil {
		return nil, fmt.Errorf("the machine's own credentials cannot be read: %w", err)
	}
	return loaded.Credentials, nil
}

// Close drops idle connections.
func (d *Driver) Close() error {
	d.http.CloseIdleConnections()
	return nil
}

// name is the full name of key in the bucket.
func (d *Driver) name(key string) (string, error) {
	if err := storage.CheckKey(key); err != nil {
		return "", err
	}
	if n := len(d.prefix) + len(key); n > storage.MaxKeyBytes {
		return "", fmt.Errorf("%w: with its prefix it has %d bytes, more than %d", storage.ErrBadKey, n, storage.MaxKeyBytes)
	}
	return d.prefix + key, nil
}

// Stat describes an object.
func (d *Driver) Stat(ctx context.Context, key string) (storage.Object, error) {
	name, err := d.name(key)
	if err != nil {
		return storage.Object{}, err
	}
	o, _, err := d.head(ctx, key, name)
	if errors.Is(err, storage.ErrNotExist) {
		err = d.absent(ctx, err)
	}
	return o, err
}

// head also returns the mark of the write that made the object.
func (d *Driver) head(ctx context.Context, key, name string) (o storage.Object, mark string, err error) {
	out, err := d.client.HeadObject(ctx, &awss3.HeadObjectInput{Bucket: &d.bucket, Key: &name})
	if err != nil {
		return storage.Object{}, "", failed(ctx, err)
	}
	return storage.Object{
		Key: key, Size: aws.ToInt64(out.ContentLength), Modified: aws.ToTime(out.LastModified),
		SHA256: out.Metadata[metaDigest],
	}, out.Metadata[metaWrite], nil
}

// absent tells an absent object from an absent bucket or user, which look the
// same in answers without a body.
func (d *Driver) absent(ctx context.Context, notExist error) error {
	_, err := d.client.ListObjectsV2(ctx, &awss3.ListObjectsV2Input{Bucket: &d.bucket, Prefix: &d.prefix, MaxKeys: aws.Int32(1)})
	mayNotList := codeOf(err) == "AccessDenied"
	err = failed(ctx, err)
	if ctx.Err() != nil || errors.Is(err, storage.ErrNoBucket) || errors.Is(err, storage.ErrPermission) && !mayNotList {
		return err
	}
	return notExist
}

// Open reads a range of an object; see storage.Driver.
func (d *Driver) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	name, err := d.name(key)
	if err != nil {
		return nil, err
	}
	if offset < 0 {
		return nil, fmt.Errorf("the offset %d is negative", offset)
	}
	if length == 0 {
		return d.nothing(ctx, key, offset, length)
	}
	in := &awss3.GetObjectInput{Bucket: &d.bucket, Key: &name, Range: byteRange(offset, length)}
	out, err := d.client.GetObject(ctx, in)
	if err != nil && statusOf(err) == http.StatusRequestedRangeNotSatisfiable {
		return d.nothing(ctx, key, offset, length)
	}
	if err != nil {
		return nil, failed(ctx, err)
	}
	if offset > 0 && out.ContentRange == nil {
		return nil, errors.Join(errors.New("the storage ignores ranges: it answered with the whole object"), out.Body.Close())
	}
	if length < 0 {
		length = aws.ToInt64(out.ContentLength)
	}
	return storage.Exactly(out.Body, length), nil
}

func byteRange(offset, length int64) *string {
	switch {
	case length >= 0:
		return aws.String(fmt.Sprintf("bytes=%d-%d", offset, offset+length-1))
	case offset > 0:
		return aws.String(fmt.Sprintf("bytes=%d-", offset))
	}
	return nil
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
	name, err := d.name(key)
	if err != nil {
		return err
	}
	_, err = d.client.DeleteObject(ctx, &awss3.DeleteObjectInput{Bucket: &d.bucket, Key: &name})
	if err = failed(ctx, err); errors.Is(err, storage.ErrNotExist) {
		return nil
	}
	return err
}

// KeepsDeleted asks whether the bucket has versioning switched on.
func (d *Driver) KeepsDeleted(ctx context.Context) (bool, error) {
	out, err := d.client.GetBucketVersioning(ctx, &awss3.GetBucketVersioningInput{Bucket: &d.bucket})
	if err != nil {
		return false, failed(ctx, err)
	}
	return out.Status == types.BucketVersioningStatusEnabled, nil
}
