package s3

import (
	"context"
	"errors"
	"iter"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/dataguardian/dataguardian/storage"
)

// List yields the objects a page at a time. Objects whose names are no keys
// (folder markers, control characters) are left out.
func (d *Driver) List(ctx context.Context, prefix string) iter.Seq2[storage.Object, error] {
	return func(yield func(storage.Object, error) bool) {
		if err := storage.CheckPrefix(prefix); err != nil {
			yield(storage.Object{}, err)
			return
		}
		pages := awss3.NewListObjectsV2Paginator(d.client, &awss3.ListObjectsV2Input{
			Bucket: &d.bucket, Prefix: aws.String(d.prefix + prefix),
			EncodingType: types.EncodingTypeUrl, // XML cannot hold every name
		})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				yield(storage.Object{}, failed(ctx, err))
				return
			}
			if !d.yieldPage(page, yield) {
				return
			}
		}
	}
}

func (d *Driver) yieldPage(page *awss3.ListObjectsV2Output, yield func(storage.Object, error) bool) bool {
	for _, found := range page.Contents {
		name, err := decode(page.EncodingType, aws.ToString(found.Key))
		if err != nil {
			return yield(storage.Object{}, err)
		}
		key, ok := strings.CutPrefix(name, d.prefix)
		if !ok || storage.CheckKey(key) != nil {
			continue
		}
		if !yield(storage.Object{Key: key, Size: aws.ToInt64(found.Size), Modified: aws.ToTime(found.LastModified)}, nil) {
			return false
		}
	}
	return true
}

func decode(encoding types.EncodingType, name string) (string, error) {
	if encoding != types.EncodingTypeUrl {
		return name, nil
	}
	return url.QueryUnescape(name)
}

// Sweep aborts multipart uploads under prefix that began more than age ago.
func (d *Driver) Sweep(ctx context.Context, prefix string, age time.Duration) (int, error) {
	if err := storage.CheckPrefix(prefix); err != nil {
		return 0, err
	}
	pages := awss3.NewListMultipartUploadsPaginator(d.client, &awss3.ListMultipartUploadsInput{
		Bucket: &d.bucket, Prefix: aws.String(d.prefix + prefix), EncodingType: types.EncodingTypeUrl,
	})
	before := time.Now().Add(-age)
	swept := 0
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return swept, failed(ctx, err)
		}
		for _, u := range page.Uploads {
			if aws.ToTime(u.Initiated).After(before) {
				continue
			}
			name, err := decode(page.EncodingType, aws.ToString(u.Key))
			if err != nil {
				return swept, err
			}
			if err := d.abort(ctx, name, aws.ToString(u.UploadId)); err != nil {
				return swept, err
			}
			swept++
		}
	}
	return swept, nil
}

// abort ends a multipart upload; one that is gone is fine.
func (d *Driver) abort(ctx context.Context, name, uploadID string) error {
	_, err := d.client.AbortMultipartUpload(ctx, &awss3.AbortMultipartUploadInput{Bucket: &d.bucket, Key: &name, UploadId: &uploadID})
	if codeOf(err) == "NoSuchUpload" {
		return nil
	}
	if err = failed(ctx, err); errors.Is(err, storage.ErrNotExist) {
		return nil
	}
	return err
}
