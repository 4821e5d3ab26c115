package s3

import (
	"context"
	"iter"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/dataguardian/dataguardian/storage"
)

// ListFolder lets the store collapse the folders; see storage.Foldered.
func (d *Driver) ListFolder(ctx context.Context, folder string) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		prefix, err := storage.FolderPrefix(folder)
		if err != nil {
			yield(storage.Entry{}, err)
			return
		}
		pages := awss3.NewListObjectsV2Paginator(d.client, &awss3.ListObjectsV2Input{
			Bucket: &d.bucket, Prefix: aws.String(d.prefix + prefix), Delimiter: aws.String("/"), EncodingType: types.EncodingTypeUrl,
		})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				yield(storage.Entry{}, failed(ctx, err))
				return
			}
			entries, err := d.entries(page)
			if err != nil {
				yield(storage.Entry{}, err)
				return
			}
			for _, e := range entries {
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}

// entries of one page, of which the store keeps objects and folders apart.
func (d *Driver) entries(page *awss3.ListObjectsV2Output) ([]storage.Entry, error) {
	var entries []storage.Entry
	var failure error
	d.yieldPage(page, func(o storage.Object, err error) bool {
		entries, failure = append(entries, storage.Entry{Object: o}), err
		return err == nil
	})
	if failure != nil {
		return nil, failure
	}
	for _, found := range page.CommonPrefixes {
		name, err := decode(page.EncodingType, aws.ToString(found.Prefix))
		if err != nil {
			return nil, err
		}
		key, ok := strings.CutPrefix(name, d.prefix)
		if ok && storage.CheckKey(strings.TrimSuffix(key, "/")) == nil {
			entries = append(entries, storage.Entry{Object: storage.Object{Key: key}, Folder: true})
		}
	}
	return entries, nil
}
