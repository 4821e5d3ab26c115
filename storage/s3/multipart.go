package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"
)

const (
	maxParts = 10_000
	// partsPerSize is how many parts of a body of unknown size have the same
	// size; then it doubles, so that 5 TiB fit.
	partsPerSize = 1000
	// partsAtOnce is how many parts are sent, and held in memory, at a time.
	partsAtOnce = 3
)

// partSize is the size of the n-th part, from 1. All parts of a body of known
// size have the same, as some stores demand.
func (w *write) partSize(n int32) int64 {
	if w.opts.Size >= 0 {
		return max(w.d.partSize, w.opts.Size/(maxParts-1)+1)
	}
	return w.d.partSize << ((n - 1) / partsPerSize)
}

// multipart sends the body in parts, the first of which was read already. The
// upload is completed when the body is proven and aborted otherwise.
func (w *write) multipart(ctx context.Context, first []byte) error {
	out, err := w.d.client.CreateMultipartUpload(ctx, &awss3.CreateMultipartUploadInput{
		Bucket: &w.d.bucket, Key: &w.name, Metadata: w.metadata(w.opts.SHA256), StorageClass: types.StorageClass(w.d.class),
	})
	if err != nil {
		return err
	}
	u := &upload{write: w, id: aws.ToString(out.UploadId)}
	err = u.sendParts(ctx, first)
	if err == nil {
		err = u.complete(ctx)
	}
	if err != nil {
		return u.giveUp(ctx, err)
	}
	return nil
}

// upload is a multipart upload under way.
type upload struct {
	*write
	id string

	mu   sync.Mutex
	done []types.CompletedPart // by number - 1
}

func (u *upload) sendParts(ctx context.Context, first []byte) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(partsAtOnce)
	buffers := make(chan []byte, partsAtOnce+1)
	readErr := u.eachPart(ctx, first, buffers, func(number int32, part []byte) {
		group.Go(func() error {
			err := u.sendPart(ctx, number, part)
			if err == nil {
				buffers <- part
			}
			return err
		})
	})
	if err := group.Wait(); err != nil {
		return err
	}
	return readErr
}

// eachPart reads the body part by part into buffers that come back.
func (u *upload) eachPart(ctx context.Context, part []byte, buffers <-chan []byte, send func(int32, []byte)) error {
	for number := int32(1); number <= maxParts; number++ {
		send(number, part)
		if u.body.Proven() {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		size := u.partSize(number + 1)
		select {
		case part = <-buffers:
		default:
			part = nil
		}
		if int64(cap(part)) < size {
			part = make([]byte, size)
		}
		n, err := io.ReadFull(u.body, part[:size])
		if u.body.Err() != nil {
			return u.body.Err()
		}
		if n == 0 {
			return nil
		}
		if err != nil && !u.body.Proven() {
			return err
		}
		part = part[:n]
	}
	return errors.New("the body has more bytes than fit into one object")
}

func (u *upload) sendPart(ctx context.Context, number int32, part []byte) error {
	sum := sha256.Sum256(part)
	out, err := u.d.client.UploadPart(ctx, &awss3.UploadPartInput{
		Bucket: &u.d.bucket, Key: &u.name, UploadId: &u.id, PartNumber: &number,
		Body: bytes.NewReader(part), ContentLength: aws.Int64(int64(len(part))),
	}, signedWith(hex.EncodeToString(sum[:])))
	if err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for len(u.done) < int(number) {
		u.done = append(u.done, types.CompletedPart{})
	}
	u.done[number-1] = types.CompletedPart{ETag: out.ETag, PartNumber: &number}
	return nil
}

func (u *upload) complete(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	u.sealed = true
	in := &awss3.CompleteMultipartUploadInput{
		Bucket: &u.d.bucket, Key: &u.name, UploadId: &u.id, IfNoneMatch: u.ifNoneMatch(),
		MultipartUpload: &types.CompletedMultipartUpload{Parts: u.done},
	}
	_, err := u.d.client.CompleteMultipartUpload(ctx, in)
	if u.conditionUnknown(in.IfNoneMatch, err) {
		in.IfNoneMatch = nil
		_, err = u.d.client.CompleteMultipartUpload(ctx, in)
	}
	return err
}

// giveUp aborts the upload; what it cannot abort is left to Sweep.
func (u *upload) giveUp(ctx context.Context, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleLimit)
	defer cancel()
	if err := u.d.abort(ctx, u.name, u.id); err != nil {
		return fmt.Errorf("%w (and its parts could not be removed: %v)", cause, err) //nolint:errorlint // only the cause counts
	}
	return cause
}
