package transport

import (
	"errors"
	"io"
	"net/http"
	"sync"
)

// owning is a RoundTripper that lets go of a request's body: a server may
// answer before it has read one, and http.Transport goes on sending it
// meanwhile. Once the call has failed, or the body of its answer is closed, the
// request's body is not read any more and its memory may be used again.
type owning struct{ base *http.Transport }

// CloseIdleConnections is what http.Client's method of that name calls.
func (o owning) CloseIdleConnections() { o.base.CloseIdleConnections() }

func (o owning) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return o.base.RoundTrip(r)
	}
	sent := &bodies{}
	owned := r.Clone(r.Context())
	owned.Body = sent.add(r.Body, r.ContentLength)
	if r.GetBody != nil {
		owned.GetBody = func() (io.ReadCloser, error) {
			body, err := r.GetBody()
			if err != nil {
				return nil, err
			}
			return sent.add(body, r.ContentLength), nil
		}
	}
	resp, err := o.base.RoundTrip(owned)
	if err != nil {
		sent.letGo()
		return nil, err
	}
	resp.Body = &answer{ReadCloser: resp.Body, sent: sent}
	return resp, nil
}

// answer lets go of what was sent when it is closed.
type answer struct {
	io.ReadCloser
	sent *bodies
}

func (a *answer) Close() error {
	err := a.ReadCloser.Close()
	a.sent.letGo()
	return err
}

// bodies are those of one request: http.Transport takes another one when it
// sends the request again.
type bodies struct {
	mu  sync.Mutex
	all []*owned
}

func (b *bodies) add(body io.ReadCloser, length int64) *owned {
	b.mu.Lock()
	defer b.mu.Unlock()
	o := &owned{ReadCloser: body, left: length}
	b.all = append(b.all, o)
	return o
}

func (b *bodies) letGo() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, o := range b.all {
		o.letGo()
	}
}

// owned is a body that can be taken away from its reader.
type owned struct {
	io.ReadCloser
	mu   sync.Mutex
	left int64 // of a known length
	gone bool
}

var errGone = errors.New("the request is over")

func (o *owned) Read(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.gone && o.left == 0 {
		return 0, io.EOF // all was sent: only its end was not looked at
	}
	if o.gone {
		return 0, errGone
	}
	n, err := o.ReadCloser.Read(p)
	o.left -= int64(n)
	return n, err
}

// letGo waits for a read that is under way.
func (o *owned) letGo() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.gone = true
}
