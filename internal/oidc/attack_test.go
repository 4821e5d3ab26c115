package oidc

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/coreos/go-oidc/v3/oidc/oidctest"
	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/netguard"
)

// ada is a person who gets in.
func ada(changes claims) claims {
	all := claims{"preferred_username": "ada", "groups": "boss"}
	for name, claim := range changes {
		all[name] = claim
	}
	return all
}

func TestATokenThatIsNotForUsOrNotTheProvidersOpensNothing(t *testing.T) {
	p := newProvider(t)
	p.token = ada(nil)
	_, err := p.enter(t, Config{ClientSecret: "shared"})
	require.NoError(t, err)
	public, err := x509.MarshalPKIXPublicKey(p.key.Public())
	require.NoError(t, err)
	symmetric := func(secret []byte) func(string) string {
		return func(text string) string { return oidctest.SignIDToken(secret, "k", "HS256", text) }
	}
	word := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	for name, c := range map[string]struct {
		changes claims
		sign    func(text string) string
		answer  url.Values
		good    bool
	}{
		"signed with the secret of the client": {sign: symmetric([]byte("shared" + strings.Repeat("\x00", 26)))},
		"signed with the public key":           {sign: symmetric(public)},
		"unsigned":                             {sign: func(text string) string { return word(`{"alg":"none"}`) + "." + word(text) + "." }},
		"unsigned, in capitals":                {sign: func(text string) string { return word(`{"alg":"NONE","kid":"k"}`) + "." + word(text) + "." }},
		"no signature": {sign: func(text string) string {
			return word(`{"alg":"ES256","kid":"k"}`) + "." + word(text) + "."
		}},
		"no token":                    {sign: func(string) string { return "" }},
		"not yet valid":               {changes: claims{"nbf": time.Now().Add(time.Hour).Unix()}},
		"expired":                     {changes: claims{"exp": time.Now().Add(-time.Minute).Unix()}},
		"no end":                      {changes: claims{"exp": nil}},
		"of another issuer":           {changes: claims{"iss": p.URL + "/"}},
		"for another":                 {changes: claims{"aud": "them"}},
		"for others, too":             {changes: claims{"aud": []string{"us", "them"}}},
		"for others, made for them":   {changes: claims{"aud": []string{"us", "them"}, "azp": "them"}},
		"for us, made for another":    {changes: claims{"azp": "them"}},
		"for others, but made for us": {changes: claims{"aud": []string{"us", "them"}, "azp": "us"}, good: true},
		"of another login":            {changes: claims{"nonce": "another"}},
		"the answer of another":       {answer: url.Values{"iss": {"https://another.example"}}},
		"the answer of this provider": {answer: url.Values{"iss": {p.URL}}, good: true},
	} {
		p.token, p.sign = ada(c.changes), c.sign
		got, err := p.enterWith(t, Config{ClientSecret: "shared"}, c.answer)
		if c.good {
			require.NoError(t, err, name)
			require.Equal(t, p.URL+" 7", got.Subject, name)
			continue
		}
		require.Equal(t, errs.Unauthenticated, errs.KindOf(err), "%s: %v", name, err)
		require.Empty(t, got, name)
	}
}

// endless answers what the provider would, after more than may be read: nothing but its
// length is wrong.
func endless(p *provider) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if _, err := w.Write(bytes.Repeat([]byte(" "), maxDocument+1)); err == nil { // else nobody reads on
			p.plain.ServeHTTP(quiet{w}, r)
		}
	})
}

// quiet swallows what cannot be written to one who has left.
type quiet struct{ http.ResponseWriter }

func (q quiet) Write(b []byte) (int, error) {
	if _, err := q.ResponseWriter.Write(b); err != nil {
		return len(b), nil //nolint:nilerr // see quiet
	}
	return len(b), nil
}

// The provider names its addresses, and may be somebody who was let in by mistake, or
// who has been broken into.
func TestTheProvidersAddressesLeadNowhereElseAndItsAnswersEnd(t *testing.T) {
	reached := 0
	third := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached++ }))
	t.Cleanup(third.Close)
	elsewhere := http.RedirectHandler(third.URL, http.StatusTemporaryRedirect)
	for name, c := range map[string]struct {
		document claims
		routes   map[string]http.Handler
		endless  string
		cause    error
	}{
		"a token endpoint that is a metadata service": {document: claims{"token_endpoint": "http://169.254.169.254/token"}, cause: netguard.ErrBlocked},
		"keys of a metadata service":                  {document: claims{"jwks_uri": "http://[::ffff:169.254.169.254]/keys"}, cause: netguard.ErrBlocked},
		"information of a metadata service":           {document: claims{"userinfo_endpoint": "http://169.254.169.254/latest"}, cause: netguard.ErrBlocked},
		"a token endpoint that sends on":              {routes: map[string]http.Handler{"/token": elsewhere}, cause: errSentAway},
		"keys that are elsewhere":                     {routes: map[string]http.Handler{"/keys": elsewhere}, cause: errSentAway},
		"information that is elsewhere":               {routes: map[string]http.Handler{"/info": elsewhere}, cause: errSentAway},
		"endless keys":                                {endless: "/keys", cause: errTooLong},
		"endless information":                         {endless: "/info", cause: errTooLong},
		"an endless token":                            {endless: "/token"}, // oauth2 itself reads no more either
	} {
		p := newProvider(t)
		p.token, p.info = claims{"preferred_username": "ada"}, claims{"sub": "7", "groups": "boss"}
		p.document, p.routes = c.document, c.routes
		if c.endless != "" {
			p.routes = map[string]http.Handler{c.endless: endless(p)}
		}
		got, err := p.enter(t, Config{ClientSecret: "shared"})
		require.Contains(t, []errs.Kind{errs.Unauthenticated, errs.Unavailable}, errs.KindOf(err), "%s: %v", name, err)
		require.Empty(t, got, name)
		require.Zero(t, reached, name)
		if c.cause != nil {
			require.ErrorContains(t, err, c.cause.Error(), name)
		}
	}
	for name, cause := range map[string]error{"endless": errTooLong, "elsewhere": errSentAway} {
		p := newProvider(t)
		handler := elsewhere
		if name == "endless" {
			handler = endless(p)
		}
		p.routes = map[string]http.Handler{"/.well-known/openid-configuration": handler}
		_, _, err := New(Config{Issuer: p.URL}).Begin(t.Context())
		require.Equal(t, errs.Unavailable, errs.KindOf(err), name)
		require.ErrorContains(t, err, cause.Error(), name)
		require.Zero(t, reached, name)
	}
	p := newProvider(t)
	p.token = ada(nil)
	p.routes = map[string]http.Handler{"/keys": http.RedirectHandler("/other/keys", http.StatusFound), "/other/keys": http.StripPrefix("/other", p.keys)}
	_, err := p.enter(t, Config{})
	require.NoError(t, err, "a document may be at another place of the same host")
	require.Equal(t, oidc.ES256, p.keys.PublicKeys[0].Algorithm)
}
