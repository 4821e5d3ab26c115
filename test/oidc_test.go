package test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/coreos/go-oidc/v3/oidc/oidctest"
	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/test/harness"
)

const (
	oidcClient   = "dataguardian"
	oidcSecret   = "the secret of a client"
	oidcRedirect = "https://backups.example/api/auth/oidc/callback"
)

// identityProvider is an OpenID provider: go-oidc's discovery and keys, and the two
// endpoints of the authorization code flow with PKCE. A code works once.
type identityProvider struct {
	oidctest.Server

	url     string
	key     crypto.PrivateKey
	curve   crypto.PrivateKey // its other key
	foreign crypto.PrivateKey // a key that is not its own

	mu     sync.Mutex
	grants map[string]grant // by code
	person config           // claims of whoever comes next
	token  func(claims config) string
	broken bool

	slow chan struct{} // whoever shows a code that is none waits until it is closed; nil: nobody
	held chan struct{} // gets one for each who waits
}

// grant is what a code stands for.
type grant struct {
	challenge string
	claims    config
}

func newIdentityProvider(t *testing.T) *identityProvider {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	foreign, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	p := &identityProvider{key: key, curve: curve, foreign: foreign, grants: map[string]grant{}}
	p.Algorithms = []string{oidc.RS256, oidc.ES256}
	p.PublicKeys = []oidctest.PublicKey{
		{PublicKey: key.Public(), KeyID: "rsa", Algorithm: oidc.RS256}, {PublicKey: curve.Public(), KeyID: "curve", Algorithm: oidc.ES256},
	}
	mux := http.NewServeMux()
	mux.Handle("/", &p.Server)
	mux.HandleFunc("GET /auth", p.authorize)
	mux.HandleFunc("POST /token", p.exchange)
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	p.url = s.URL
	p.SetIssuer(s.URL)
	return p
}

// next says who comes next, and how the token is made when not as it should be.
func (p *identityProvider) next(person config, token func(claims config) string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.person, p.token, p.broken = person, token, false
}

func (p *identityProvider) breakDown() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broken = true
}

func signed(key crypto.PrivateKey, id, algorithm string, claims config) string {
	text, err := json.Marshal(claims)
	if err != nil {
		return err.Error()
	}
	return oidctest.SignIDToken(key, id, algorithm, string(text))
}

// authorize takes the person at the browser for who comes next.
func (p *identityProvider) authorize(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := r.URL.Query()
	if q.Get("client_id") != oidcClient || q.Get("redirect_uri") != oidcRedirect || q.Get("response_type") != "code" || q.Get("scope") != "openid profile groups" ||
		q.Get("code_challenge_method") != "S256" || q.Get("state") == "" || q.Get("nonce") == "" {
		http.Error(w, "bad request: "+r.URL.RawQuery, http.StatusBadRequest)
		return
	}
	claims := config{"iss": p.url, "aud": oidcClient, "sub": "1", "nonce": q.Get("nonce"), "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()}
	maps.Copy(claims, p.person)
	code := rand.Text()
	p.grants[code] = grant{q.Get("code_challenge"), claims}
	http.Redirect(w, r, oidcRedirect+"?"+url.Values{"code": {code}, "state": {q.Get("state")}}.Encode(), http.StatusFound)
}

// holdForged keeps those waiting who show a code that is none, until release.
func (p *identityProvider) holdForged() (release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.slow, p.held = make(chan struct{}), make(chan struct{}, 100)
	return sync.OnceFunc(func() { close(p.slow) })
}

// wait holds up who shows a code that is none.
func (p *identityProvider) wait(r *http.Request) {
	p.mu.Lock()
	_, known := p.grants[r.PostFormValue("code")]
	slow, held := p.slow, p.held
	p.mu.Unlock()
	if known || slow == nil {
		return
	}
	held <- struct{}{}
	select {
	case <-slow:
	case <-r.Context().Done():
	}
}

func (p *identityProvider) exchange(w http.ResponseWriter, r *http.Request) {
	p.wait(r)
	p.mu.Lock()
	defer p.mu.Unlock()
	answer := func(status int, body config) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(body) // a client that is gone needs no answer
	}
	id, secret, _ := r.BasicAuth()
	g, ok := p.grants[r.PostFormValue("code")]
	delete(p.grants, r.PostFormValue("code"))
	challenge := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	switch {
	case p.broken:
		answer(http.StatusBadGateway, config{})
	case id != oidcClient || secret != url.QueryEscape(oidcSecret):
		answer(http.StatusUnauthorized, config{"error": "invalid_client"})
	case !ok || base64.RawURLEncoding.EncodeToString(challenge[:]) != g.challenge || r.PostFormValue("redirect_uri") != oidcRedirect:
		answer(http.StatusBadRequest, config{"error": "invalid_grant"})
	default:
		token := signed(p.key, "rsa", oidc.RS256, g.claims)
		if p.token != nil {
			token = p.token(g.claims)
		}
		answer(http.StatusOK, config{"access_token": rand.Text(), "token_type": "Bearer", "expires_in": 60, "id_token": token})
	}
}

// visitor is a browser that follows nothing by itself. It comes through a proxy, and
// each login from another address.
type visitor struct {
	t       *testing.T
	base    string
	client  *http.Client
	address byte
}

func newVisitor(t *testing.T, s *harness.Server) *visitor {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &visitor{t: t, base: "http://" + s.HTTP, client: &http.Client{
		Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (v *visitor) get(address string, cookies ...*http.Cookie) harness.Answer {
	v.t.Helper()
	resp, err := v.ask(address, cookies...)
	require.NoError(v.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(v.t, err)
	return harness.Answer{Status: resp.StatusCode, Header: resp.Header, Text: string(body)}
}

func (v *visitor) ask(address string, cookies ...*http.Cookie) (*http.Response, error) {
	r, err := http.NewRequestWithContext(v.t.Context(), http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	for _, cookie := range cookies {
		r.AddCookie(cookie)
	}
	r.Header.Set("X-Forwarded-For", fmt.Sprintf("198.51.100.%d", v.address))
	return v.client.Do(r)
}

// back comes back from the provider and returns the status of the answer; 0: none came.
func (v *visitor) back(l *login) int {
	resp, err := v.ask(v.base+"/api/auth/oidc/callback?"+l.answer.Encode(), l.kept)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close() // the status is all that counts
	return resp.StatusCode
}

// login is one that the provider has let through: what it sends back, and the cookie.
type login struct {
	answer url.Values
	kept   *http.Cookie
}

// begin goes to the provider and comes back.
func (v *visitor) begin() *login {
	v.t.Helper()
	v.address++
	here := v.get(v.base + "/api/auth/oidc/login")
	require.Equal(v.t, http.StatusFound, here.Status, here.Text)
	kept := cookieNamed(here, "dg_oidc")
	require.NotNil(v.t, kept)
	require.True(v.t, kept.HttpOnly)
	require.Equal(v.t, http.SameSiteLaxMode, kept.SameSite)
	require.Equal(v.t, "/api/auth/oidc", kept.Path)
	there := v.get(here.Header.Get("Location"))
	require.Equal(v.t, http.StatusFound, there.Status, there.Text)
	back, err := url.Parse(there.Header.Get("Location"))
	require.NoError(v.t, err)
	require.Equal(v.t, "/api/auth/oidc/callback", back.Path)
	return &login{answer: back.Query(), kept: kept}
}

// finish returns the answer and the session's cookie, nil when there is none. The
// login is over either way.
func (v *visitor) finish(l *login) (harness.Answer, *http.Cookie) {
	v.t.Helper()
	var cookies []*http.Cookie
	if l.kept != nil {
		cookies = append(cookies, l.kept)
	}
	got := v.get(v.base+"/api/auth/oidc/callback?"+l.answer.Encode(), cookies...)
	over := cookieNamed(got, "dg_oidc")
	require.NotNil(v.t, over)
	require.Negative(v.t, over.MaxAge)
	return got, cookieNamed(got, "dg_session")
}

func cookieNamed(a harness.Answer, name string) *http.Cookie {
	for _, cookie := range (&http.Response{Header: a.Header}).Cookies() {
		if cookie.Name == name {
			return cookie
		}
	}
	return nil
}

// serve starts a server that takes the provider's word, and tells each address apart.
func (p *identityProvider) serve(t *testing.T) *harness.Server {
	t.Helper()
	return harness.NewPlane(t).Serve(t, "api", "--trusted-proxies", "127.0.0.0/8", "--oidc-issuer", p.url, "--oidc-client-id", oidcClient, "--oidc-client-secret-file", writeFile(t, oidcSecret+"\n"),
		"--oidc-redirect-url", oidcRedirect, "--oidc-scope", "groups", "--oidc-role", "backup-admins=admin", "--oidc-role", "backup-viewers=viewer")
}

// Strangers make up codes, which the provider takes its time to refuse.
func TestStrangersWithForgedCodesDoNotKeepOthersFromLoggingIn(t *testing.T) {
	provider := newIdentityProvider(t)
	s := provider.serve(t)
	provider.next(config{"sub": "7", "preferred_username": "oda", "groups": "backup-viewers"}, nil)
	release := provider.holdForged()
	defer release()
	home := newVisitor(t, s)
	enter := func(v *visitor, l *login) {
		got, session := v.finish(l)
		require.Equal(t, http.StatusOK, got.Status, got.Text)
		require.NotNil(t, session)
	}
	enter(home, home.begin())
	outside := newVisitor(t, s)
	outside.address = 100
	forge := func() *login {
		l := outside.begin()
		l.answer.Set("code", rand.Text())
		return l
	}

	for range 30 { // states that nobody has made: as a browser keeps them, but for the key
		state := rand.Text()
		text, err := json.Marshal(config{"s": state, "n": rand.Text(), "v": rand.Text(), "t": time.Now().Add(time.Minute)})
		require.NoError(t, err)
		got, _ := outside.finish(&login{url.Values{"state": {state}, "code": {rand.Text()}}, &http.Cookie{Name: "dg_oidc", Value: base64.RawURLEncoding.EncodeToString(text)}})
		require.Contains(t, got.Refused(t, http.StatusUnauthorized, "UNAUTHORIZED"), "begun in another browser")
	}
	require.Empty(t, provider.held, "the provider is not asked about them")

	refused := make(chan int, 100)
	var waiting sync.WaitGroup
	defer waiting.Wait()
	defer release()
	hold := func(l *login) {
		v := *outside
		waiting.Go(func() { refused <- v.back(l) })
		select {
		case <-provider.held:
		case status := <-refused:
			require.FailNow(t, "a code was refused without asking the provider", "status %d", status)
		case <-time.After(time.Minute):
			require.FailNow(t, "the provider was not asked")
		}
	}
	tooMany := func(v *visitor, l *login) {
		got, _ := v.finish(l)
		got.Refused(t, http.StatusTooManyRequests, "RATE_LIMITED")
	}
	for network := range 3 {
		l := forge()
		for range 4 {
			hold(l)
		}
		tooMany(outside, l) // one network has few places
		if network == 0 {
			outside.address++
			enter(outside, outside.begin()) // which leaves some for all others
		}
	}
	tooMany(outside, forge()) // what is left is not for strangers

	l := home.begin()
	home.address = 1 // where somebody has logged in before
	enter(home, l)
	release()
	for range 3 * 4 {
		require.Equal(t, http.StatusUnauthorized, <-refused)
	}
	enter(outside, outside.begin())
}

func TestPeopleLogInWithAnOpenIDProvider(t *testing.T) {
	provider := newIdentityProvider(t)
	s := provider.serve(t)
	v := newVisitor(t, s)
	require.True(t, s.Get(t, "/api/auth/status").True("oidc"))
	local := s.Post(t, "/api/auth/users", config{"username": "ada", "password": "correct horse battery", "role": "admin"}, http.StatusCreated).Text("id")

	oda := config{"sub": "7", "preferred_username": "oda", "groups": []string{"staff", "backup-viewers"}}
	me := func(session *http.Cookie) harness.Answer { return v.get(v.base+"/api/auth/me", session) }
	enter := func() *http.Cookie {
		got, session := v.finish(v.begin())
		require.Equal(t, http.StatusOK, got.Status, got.Text)
		require.NotNil(t, session)
		require.True(t, session.HttpOnly)
		require.Equal(t, http.SameSiteStrictMode, session.SameSite)
		return session
	}
	role := func(session *http.Cookie) string {
		user := me(session).Expect(t, http.StatusOK)
		require.Equal(t, "oda", user.Text("user.username"))
		return user.Text("user.role")
	}
	provider.next(oda, nil)
	first := enter()
	require.Equal(t, "viewer", role(first))
	users := s.Get(t, "/api/auth/users").List("data")
	require.Len(t, users, 2)
	provider.next(oda, func(claims config) string { return signed(provider.curve, "curve", oidc.ES256, claims) })
	second := enter()
	require.Equal(t, "viewer", role(second))
	require.Equal(t, "viewer", role(first), "one does not end the other")
	provider.next(config{"sub": "7", "preferred_username": "renamed", "groups": "backup-admins"}, nil)
	require.Equal(t, "admin", role(enter()), "the provider's role counts, the name stays")
	require.Equal(t, http.StatusUnauthorized, me(first).Status, "sessions with another role are over")
	require.Len(t, s.Get(t, "/api/auth/users").List("data"), 2)

	with := func(changes config) config {
		person := maps.Clone(oda)
		maps.Copy(person, changes)
		return person
	}
	refusals := map[string]int64{}
	for name, c := range map[string]struct {
		person config
		token  func(config) string
		meddle func(*login)
		status int
		code   string
		says   string
		actor  string
	}{
		"wrong state":   {meddle: func(l *login) { l.answer.Set("state", rand.Text()) }, says: "begun in another browser"},
		"no state":      {meddle: func(l *login) { l.answer.Del("state") }, says: "begun in another browser"},
		"no cookie":     {meddle: func(l *login) { l.kept = nil }, status: http.StatusBadRequest, code: "INVALID_ARGUMENT", says: "has not begun to log in"},
		"cut cookie":    {meddle: func(l *login) { l.kept.Value = l.kept.Value[:40] }, says: "begun in another browser"},
		"provider's no": {meddle: func(l *login) { l.answer.Del("code"); l.answer.Set("error", "access_denied") }, says: "has refused"},
		"made-up code":  {meddle: func(l *login) { l.answer.Set("code", "1234") }, says: "cannot be trusted"},
		"used code": {meddle: func(l *login) {
			_, session := v.finish(l)
			require.NotNil(t, session)
		}, says: "cannot be trusted"},
		"code of another login": {meddle: func(l *login) { l.answer.Set("code", v.begin().answer.Get("code")) }, says: "cannot be trusted"}, // PKCE
		"wrong nonce":           {person: with(config{"nonce": "another"}), says: "cannot be trusted"},
		"no nonce":              {person: with(config{"nonce": nil}), says: "cannot be trusted"},
		"wrong audience":        {person: with(config{"aud": "another"}), says: "cannot be trusted"},
		"wrong issuer":          {person: with(config{"iss": "https://another.example"}), says: "cannot be trusted"},
		"expired":               {person: with(config{"exp": time.Now().Add(-time.Hour).Unix()}), says: "cannot be trusted"},
		"another's key":         {token: func(claims config) string { return signed(provider.foreign, "rsa", oidc.RS256, claims) }, says: "cannot be trusted"},
		"unknown key":           {token: func(claims config) string { return signed(provider.foreign, "new", oidc.RS256, claims) }, says: "cannot be trusted"},
		"algorithm not offered": {token: func(claims config) string { return signed(provider.key, "rsa", oidc.PS256, claims) }, says: "cannot be trusted"},
		"unsigned": {token: func(claims config) string {
			body := strings.Split(signed(provider.key, "rsa", oidc.RS256, claims), ".")[1]
			return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + body + "."
		}, says: "cannot be trusted"},
		"no role":        {person: with(config{"groups": []string{"staff"}}), status: http.StatusForbidden, code: "FORBIDDEN", says: "no role", actor: "oda"},
		"no groups":      {person: config{"sub": "8", "preferred_username": "eve"}, status: http.StatusForbidden, code: "FORBIDDEN", says: "no role", actor: "eve"},
		"no name":        {person: config{"sub": "9", "groups": "backup-admins"}, status: http.StatusForbidden, code: "FORBIDDEN", says: "preferred_username"},
		"another's name": {person: with(config{"sub": "11"}), status: http.StatusConflict, code: "CONFLICT", actor: "oda"},
		"a local name":   {person: config{"sub": "10", "preferred_username": "Ada", "groups": "backup-admins"}, status: http.StatusConflict, code: "CONFLICT", actor: "Ada"},
		"provider down":  {meddle: func(*login) { provider.breakDown() }, status: http.StatusServiceUnavailable, code: "OIDC_UNAVAILABLE", says: "does not answer"},
	} {
		if c.person == nil {
			c.person = oda
		}
		if c.status == 0 {
			c.status, c.code = http.StatusUnauthorized, "UNAUTHORIZED"
		}
		provider.next(c.person, c.token)
		l := v.begin()
		if c.meddle != nil {
			c.meddle(l)
		}
		got, session := v.finish(l)
		require.Equal(t, c.status, got.Status, "%s: %s", name, got.Text)
		require.Contains(t, got.Refused(t, c.status, c.code), c.says, name)
		require.Nil(t, session, name)
		refusals[c.actor+" "+c.code]++
	}
	require.Len(t, s.Get(t, "/api/auth/users").List("data"), 2, "nobody was made")
	require.Equal(t, local, s.Get(t, "/api/auth/users").List("data")[0].Text("id"))

	harness.Eventually(t, func() bool {
		written, entered := map[string]int64{}, 0
		for _, e := range s.Get(t, "/api/audit-logs?action=session.login&limit=100").List("data") {
			require.Equal(t, "oidc", e.Text("metadata.method"))
			if e.Text("outcome") == "ok" {
				require.Equal(t, "oda", e.Text("actor"))
				entered++
				continue
			}
			written[e.Text("actor")+" "+e.Text("outcome")] += e.Int("count")
		}
		return entered == 4 && maps.Equal(refusals, written)
	}, "every login is in the audit log")
	provider.next(oda, nil)
	l := v.begin()
	l.answer.Set("code", rand.Text())
	for range 10 {
		got, _ := v.finish(l)
		require.Equal(t, http.StatusUnauthorized, got.Status, got.Text)
	}
	got, _ := v.finish(l)
	require.Contains(t, got.Refused(t, http.StatusTooManyRequests, "RATE_LIMITED"), "too many attempts")
	enter() // from another address
}
