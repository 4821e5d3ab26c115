package oidc

import (
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/dataguardian/dataguardian/internal/netguard"
)

const (
	// callTimeout bounds a call of the provider.
	callTimeout = 15 * time.Second
	// maxDocument bounds what the provider answers: its addresses, keys, tokens and what
	// it tells of a person, in bytes.
	maxDocument = 1 << 20
	// maxRedirects bounds how often the provider sends a call on.
	maxRedirects = 3
)

var (
	errSentAway = errors.New("the provider sends the call on to another place, which nobody has named")
	errTooLong  = errors.New("the provider's answer is longer than 1 MiB")
)

// newClient returns the client that calls the provider. The provider names most of the
// addresses it is called at: they lead to no metadata service, and what is sent there,
// the secret of this server among it, goes to no third place.
func newClient() *http.Client {
	return &http.Client{Timeout: callTimeout, Transport: bounded{netguard.Policy{}.Transport()}, CheckRedirect: stay}
}

// stay lets a look at a document be sent on within the same host.
func stay(r *http.Request, via []*http.Request) error {
	first := via[0]
	if first.Method != http.MethodGet || r.URL.Scheme != first.URL.Scheme || r.URL.Host != first.URL.Host || len(via) > maxRedirects {
		return errSentAway
	}
	return nil
}

// bounded reads no endless answers.
type bounded struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		answer.Body = &boundedBody{answer.Body, maxDocument}
	}
	return answer, err
}

type boundedBody struct {
	io.ReadCloser

	left int64
}

// Read fails when there is more than there may be.
func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, errTooLong
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left+1)])
	b.left -= int64(n)
	if b.left < 0 {
		return 0, errTooLong
	}
	return n, err
}
