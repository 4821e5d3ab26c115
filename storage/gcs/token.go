package gcs

import (
	"context"
	"fmt"
	"net/http"
	"sync"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
)

// authorizing adds a token to every request. Unlike oauth2.Transport it does
// not wait for one longer than the request's context allows.
type authorizing struct {
	tokens oauth2.TokenSource
	base   http.RoundTripper
}

func (a *authorizing) RoundTrip(r *http.Request) (*http.Response, error) {
	token, err := a.token(r.Context())
	if err != nil {
		if r.Body != nil {
			_ = r.Body.Close() // as a RoundTripper must
		}
		return nil, err
	}
	r = r.Clone(r.Context())
	token.SetAuthHeader(r)
	return a.base.RoundTrip(r)
}

func (a *authorizing) token(ctx context.Context) (*oauth2.Token, error) {
	type answer struct {
		token *oauth2.Token
		err   error
	}
	answers := make(chan answer, 1)
	go func() {
		token, err := a.tokens.Token()
		answers <- answer{token, err}
	}()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case got := <-answers:
		return got.token, got.err
	}
}

// keyTokens trades a service account's key for tokens.
type keyTokens struct {
	mu     sync.Mutex
	source oauth2.TokenSource
	cause  causes
}

// newKeyTokens fetches tokens through base, later, when ctx may have ended.
func newKeyTokens(ctx context.Context, keyJSON, scope string, base *http.Client) (*keyTokens, error) {
	key, err := google.JWTConfigFromJSON([]byte(keyJSON), scope)
	if err != nil {
		return nil, err
	}
	k := &keyTokens{cause: causes{base: base.Transport}}
	client := *base
	client.Transport = &k.cause
	k.source = key.TokenSource(context.WithValue(context.WithoutCancel(ctx), oauth2.HTTPClient, &client))
	return k, nil
}

// Token keeps the cause of a failed connection, which the library only quotes.
func (k *keyTokens) Token() (*oauth2.Token, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cause.err = nil
	token, err := k.source.Token()
	if err != nil && k.cause.err != nil {
		return nil, fmt.Errorf("no token: %w", k.cause.err)
	}
	return token, err
}

// causes remembers why the last request failed.
type causes struct {
	base http.RoundTripper
	err  error
}

func (c *causes) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := c.base.RoundTrip(r)
	c.err = err
	return resp, err
}
