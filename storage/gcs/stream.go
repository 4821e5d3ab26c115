package gcs

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"time"

	gcloud "cloud.google.com/go/storage"
	"github.com/googleapis/gax-go/v2"
	"google.golang.org/api/googleapi"
	raw "google.golang.org/api/storage/v1"
)

// The library would hold a chunk of every body in memory. Without chunks it would end
// a body that broke as if it were whole. So a body that can be read again is sent by
// the request below, which announces its length: a store that received less than that
// throws it away.
// https://docs.cloud.google.com/storage/docs/uploading-objects#rest-upload-objects

// worthAsking is the size from which the store is asked whether it would take the body
// before that is sent: one that refuses a body and does not read it breaks the
// connection, which may hide its answer.
const worthAsking = 2 << 20

// stream sends the body in one request, of which nothing is held in memory: what has
// to be sent again is read again, from the start.
func (w *write) stream(ctx context.Context, start io.Seeker) (*gcloud.ObjectAttrs, error) {
	pauses := backoff()
	for {
		attrs, err := w.request(ctx)
		if err == nil || w.body.Err() != nil || !w.again(err) {
			return attrs, err
		}
		if gax.Sleep(ctx, pauses.Pause()) != nil {
			return nil, err
		}
		if _, seekErr := start.Seek(0, io.SeekStart); seekErr != nil {
			return nil, errors.Join(err, seekErr)
		}
	}
}

// request sends the body once. It is not read any more when request returns.
func (w *write) request(ctx context.Context) (*gcloud.ObjectAttrs, error) {
	before, after, kind, err := w.envelope()
	if err != nil {
		return nil, err
	}
	w.crc.Reset()
	message := io.MultiReader(bytes.NewReader(before), io.TeeReader(w.body, w.crc), bytes.NewReader(after))
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.uploadURL(), io.NopCloser(message))
	if err != nil {
		return nil, err
	}
	r.ContentLength = int64(len(before)) + w.opts.Size + int64(len(after))
	r.Header.Set("Content-Type", kind)
	if r.ContentLength >= worthAsking {
		r.Header.Set("Expect", "100-continue")
	}
	resp, err := w.d.authorized.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if err := googleapi.CheckResponse(resp); err != nil {
		return nil, err
	}
	return stored(resp.Body)
}

func (w *write) uploadURL() string {
	query := url.Values{"uploadType": {"multipart"}, "name": {w.object.ObjectName()}, "alt": {"json"}, "prettyPrint": {"false"}}
	if w.opts.IfAbsent {
		query.Set("ifGenerationMatch", "0")
	}
	path := "/upload/storage/v1/b/" + url.PathEscape(w.object.BucketName()) + "/o"
	return googleapi.ResolveRelative(w.d.endpoint, path) + "?" + query.Encode()
}

// envelope is what stands before and after the body: a message of two parts, the
// first of which describes the object.
func (w *write) envelope() (before, after []byte, kind string, err error) {
	var b bytes.Buffer
	m := multipart.NewWriter(&b)
	object, err := m.CreatePart(textproto.MIMEHeader{"Content-Type": {"application/json; charset=UTF-8"}})
	if err == nil {
		err = json.NewEncoder(object).Encode(&raw.Object{Name: w.object.ObjectName(), ContentType: contentType, Metadata: w.metadata()})
	}
	if err == nil {
		_, err = m.CreatePart(textproto.MIMEHeader{"Content-Type": {contentType}})
	}
	n := b.Len()
	if err = errors.Join(err, m.Close()); err != nil {
		return nil, nil, "", err
	}
	return b.Bytes()[:n], b.Bytes()[n:], "multipart/related; boundary=" + m.Boundary(), nil
}

// stored reads what the store says that it has.
func stored(answer io.Reader) (*gcloud.ObjectAttrs, error) {
	var o raw.Object
	if err := json.NewDecoder(answer).Decode(&o); err != nil {
		return nil, fmt.Errorf("the storage's answer to the upload cannot be read: %w", err)
	}
	sum, err := base64.StdEncoding.DecodeString(o.Crc32c)
	if err != nil || len(sum) != 4 {
		return nil, fmt.Errorf("the storage's answer to the upload has no checksum but %q", o.Crc32c)
	}
	attrs := &gcloud.ObjectAttrs{
		Name: o.Name, Size: int64(o.Size), CRC32C: binary.BigEndian.Uint32(sum), Generation: o.Generation, Metadata: o.Metadata, //nolint:gosec // no object has 8 EiB
	}
	attrs.Created, err = time.Parse(time.RFC3339, o.TimeCreated)
	return attrs, err
}
