package oidc

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/coreos/go-oidc/v3/oidc/oidctest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/auth"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// claims of a token or of the user information.
type claims = map[string]any

// provider is a small OpenID provider with user information.
type provider struct {
	*httptest.Server

	key         *ecdsa.PrivateKey
	keys        *oidctest.Server
	token, info claims
	document    claims                   // what its document says otherwise
	routes      map[string]http.Handler  // answered otherwise, by path
	sign        func(text string) string // nil: with its key
	nonce       string
	asked       int // for user information
	discovered  int
	away        bool
	plain       http.Handler // what it answers without routes
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	p := &provider{key: key}
	p.keys = &oidctest.Server{PublicKeys: []oidctest.PublicKey{{PublicKey: key.Public(), KeyID: "k", Algorithm: oidc.ES256}}}
	answer := func(w http.ResponseWriter, body any) {
		w.Header().Set("Content-Type", "application/json")
		assert.NoError(t, json.NewEncoder(w).Encode(body))
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		p.discovered++
		if p.away {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		document := claims{
			"issuer": p.URL, "authorization_endpoint": p.URL + "/auth", "token_endpoint": p.URL + "/token", "jwks_uri": p.URL + "/keys",
			"userinfo_endpoint": p.URL + "/info", "id_token_signing_alg_values_supported": []string{oidc.ES256, "HS256", "none"},
		}
		maps.Copy(document, p.document)
		answer(w, document)
	})
	mux.HandleFunc("/token", func(w http.ResponseWriter, _ *http.Request) {
		all := claims{"iss": p.URL, "aud": "us", "sub": "7", "nonce": p.nonce, "exp": time.Now().Add(time.Hour).Unix()}
		maps.Copy(all, p.token)
		text, err := json.Marshal(all)
		if !assert.NoError(t, err) {
			return
		}
		sign := p.sign
		if sign == nil {
			sign = func(text string) string { return oidctest.SignIDToken(key, "k", oidc.ES256, text) }
		}
		answer(w, claims{"access_token": "a token", "token_type": "Bearer", "id_token": sign(string(text))})
	})
	mux.HandleFunc("/info", func(w http.ResponseWriter, r *http.Request) {
		p.asked++
		assert.Equal(t, "Bearer a token", r.Header.Get("Authorization"))
		answer(w, p.info)
	})
	mux.Handle("/", p.keys)
	p.plain = mux
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if other, ok := p.routes[r.URL.Path]; ok {
			other.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(p.Close)
	p.keys.SetIssuer(p.URL)
	return p
}

// enter goes through a login.
func (p *provider) enter(t *testing.T, c Config) (auth.Identity, error) {
	t.Helper()
	return p.enterWith(t, c, nil)
}

// enterWith adds something to the provider's answer.
func (p *provider) enterWith(t *testing.T, c Config, more url.Values) (auth.Identity, error) {
	t.Helper()
	c.Issuer, c.ClientID, c.RedirectURL, c.Box = p.URL, "us", "https://us.example/callback", openBox{}
	c.Roles = map[string]auth.Role{"boss": auth.Admin, "guest": auth.Viewer}
	ours := New(c)
	location, state, err := ours.Begin(t.Context())
	require.NoError(t, err)
	there, err := url.Parse(location)
	require.NoError(t, err)
	p.nonce = there.Query().Get("nonce")
	answer := url.Values{"state": {there.Query().Get("state")}, "code": {"c"}}
	maps.Copy(answer, more)
	login, err := ours.Back(state, answer)
	if err != nil {
		return auth.Identity{}, err
	}
	return ours.Identify(t.Context(), login, answer.Get("code"))
}

// openBox hides nothing; that forged states do not open is tested with the whole program.
type openBox struct{}

func (openBox) Seal(plain []byte, _ string) ([]byte, error)  { return plain, nil }
func (openBox) Open(sealed []byte, _ string) ([]byte, error) { return sealed, nil }

func TestTheRoleMayLieDeepOrInTheUserInformation(t *testing.T) {
	p := newProvider(t)
	for name, c := range map[string]struct {
		claim       string
		token, info claims
		want        auth.Role
		asked       int
	}{
		"flat":                      {"groups", claims{"preferred_username": "oda", "groups": "guest"}, nil, auth.Viewer, 0},
		"deep":                      {"realm_access.roles", claims{"preferred_username": "oda", "realm_access": claims{"roles": []string{"x", "boss"}}}, nil, auth.Admin, 0},
		"deeper":                    {"resource_access.us.roles", claims{"preferred_username": "oda", "resource_access": claims{"us": claims{"roles": "guest"}}}, nil, auth.Viewer, 0},
		"a name with dots":          {"https://us.example/roles", claims{"preferred_username": "oda", "https://us.example/roles": "guest"}, nil, auth.Viewer, 0},
		"in the user information":   {"groups", claims{"preferred_username": "oda"}, claims{"sub": "7", "groups": []string{"boss"}}, auth.Admin, 1},
		"the name there":            {"groups", claims{"groups": "guest"}, claims{"sub": "7", "preferred_username": "oda", "groups": "boss"}, auth.Viewer, 1},
		"deep in the information":   {"realm_access.roles", claims{"preferred_username": "oda"}, claims{"sub": "7", "realm_access": claims{"roles": []string{"boss"}}}, auth.Admin, 1},
		"information of another":    {"groups", claims{"preferred_username": "oda"}, claims{"sub": "8", "groups": "boss"}, auth.Nobody, 1},
		"information without roles": {"groups", claims{"preferred_username": "oda"}, claims{"sub": "7"}, auth.Nobody, 1},
		"a path through a word":     {"groups.roles", claims{"preferred_username": "oda", "groups": "boss"}, claims{"sub": "7"}, auth.Nobody, 1},
	} {
		p.token, p.info, p.asked = c.token, c.info, 0
		got, err := p.enter(t, Config{RoleClaim: c.claim})
		require.Equal(t, c.asked, p.asked, name)
		if c.want == auth.Nobody {
			require.Contains(t, []errs.Kind{errs.Denied, errs.Unauthenticated}, errs.KindOf(err), name)
			continue
		}
		require.NoError(t, err, name)
		require.Equal(t, auth.Identity{Subject: p.URL + " 7", Username: "oda", Role: c.want}, got, name)
	}
}

func TestAProviderThatIsAwayIsNotAskedByEverybody(t *testing.T) {
	p := newProvider(t)
	p.away = true
	ours := New(Config{Issuer: p.URL})
	for range 5 {
		_, _, err := ours.Begin(t.Context())
		require.Equal(t, errs.Unavailable, errs.KindOf(err))
	}
	require.Less(t, p.discovered, 5, "the failure is told for a while")
}

func TestOnlyTheLogIsToldWhyALoginDoesNotGoOn(t *testing.T) {
	p := newProvider(t)
	unreadable := errors.New("the key file cannot be read")
	for cause, box := range map[string]Box{unreadable.Error(): lostBox{err: unreadable}, "the answer is to another login": openBox{}} {
		ours := New(Config{Issuer: p.URL, Box: box})
		_, state, err := ours.Begin(t.Context())
		require.NoError(t, err)
		_, err = ours.Back(state, url.Values{"state": {"other"}})
		require.Equal(t, errs.Unauthenticated, errs.KindOf(err))
		require.ErrorContains(t, err, cause)
		require.NotContains(t, errs.Message(err), cause)
	}
}

// lostBox opens nothing.
type lostBox struct {
	openBox
	err error
}

func (b lostBox) Open([]byte, string) ([]byte, error) { return nil, b.err }

// What a provider or a browser sends is read without a panic, and gives a role only
// for one of its words.
func FuzzWhatAProviderAndABrowserSend(f *testing.F) {
	f.Add(`{"groups":["boss"]}`, "groups", "state")
	f.Add(`{"realm_access":{"roles":["guest"]}}`, "realm_access.roles", "e30")
	f.Add(`{"a":{"":{"b":"boss"}}}`, "a..b", "eyJzIjoiYSIsIm4iOiJiIiwidiI6ImMifQ")
	f.Add(`{"groups":[null,1,{"boss":"boss"},["boss"]]}`, ".", "bnVsbA")
	f.Fuzz(func(t *testing.T, text, path, state string) {
		p := New(Config{Roles: map[string]auth.Role{"boss": auth.Admin}, Box: openBox{}})
		if login, err := p.read(state); err == nil && (login.State == "" || login.Nonce == "" || login.Verifier == "") {
			t.Fatalf("a login that is not whole was taken: %+v", login)
		}
		var all map[string]any
		if json.Unmarshal([]byte(text), &all) != nil {
			return
		}
		if role := p.role(at(all, path)); role != auth.Nobody && !strings.Contains(text, "boss") && !strings.Contains(text, `\u`) {
			t.Fatalf("%q gives %s at %q", text, role, path)
		}
	})
}
