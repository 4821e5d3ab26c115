// Package oidc learns from an OpenID provider who somebody is: the authorization
// code flow with PKCE, state and nonce.
package oidc

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/dataguardian/dataguardian/internal/auth"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// discoverEvery is how soon a provider that did not answer is asked again: who comes
// meanwhile does not wait for it.
const discoverEvery = 2 * time.Second

// loginTimeout is how long somebody may take at the provider.
const loginTimeout = 10 * time.Minute

// Config of a Provider.
type Config struct {
	Issuer, ClientID, ClientSecret, RedirectURL string
	// NameClaim is the claim with the user's name, default preferred_username.
	NameClaim string
	// RoleClaim is the claim with a word or a list of words, default groups; a claim
	// inside of another one is named by its path, such as realm_access.roles. Roles says
	// which role each word gives. The highest one counts; without one nobody comes in.
	RoleClaim string
	Roles     map[string]auth.Role
	// Scopes are asked for beside openid and profile: some providers send the claim with
	// the role only for one of their own.
	Scopes []string
	// Box seals what the browser keeps: only a login that one of these servers has begun
	// can go on.
	Box Box
}

// Box seals and opens texts with a key that all servers share.
type Box interface {
	Seal(plain []byte, aad string) ([]byte, error)
	Open(sealed []byte, aad string) ([]byte, error)
}

// Provider is an OpenID provider. It is asked for its addresses when somebody logs
// in, so that a server starts while the provider is down.
type Provider struct {
	config Config
	client *http.Client

	mu     sync.Mutex
	found  *oidc.Provider
	failed error     // of the last try to find it
	at     time.Time // of that try
}

// New returns a provider.
func New(c Config) *Provider {
	if c.NameClaim == "" {
		c.NameClaim = "preferred_username"
	}
	if c.RoleClaim == "" {
		c.RoleClaim = "groups"
	}
	return &Provider{config: c, client: newClient()}
}

// stateAAD is the place that a sealed login is bound to.
const stateAAD = "OpenID login"

// Login is one that is under way. The browser keeps it, sealed; the provider's answer
// has to match it.
type Login struct {
	State    string    `json:"s"`
	Nonce    string    `json:"n"`
	Verifier string    `json:"v"`
	Until    time.Time `json:"t"`
}

// Begin returns where to send a browser, and what it keeps until it is back.
func (p *Provider) Begin(ctx context.Context) (location, state string, err error) {
	found, err := p.discover(ctx)
	if err != nil {
		return "", "", err
	}
	login := Login{State: rand.Text(), Nonce: rand.Text(), Verifier: oauth2.GenerateVerifier(), Until: time.Now().Add(loginTimeout)}
	text, err := json.Marshal(login)
	if err != nil {
		return "", "", err
	}
	sealed, err := p.config.Box.Seal(text, stateAAD)
	if err != nil {
		return "", "", err
	}
	location = p.oauth(found).AuthCodeURL(login.State, oidc.Nonce(login.Nonce), oauth2.S256ChallengeOption(login.Verifier))
	return location, base64.RawURLEncoding.EncodeToString(sealed), nil
}

// Back returns the login that goes on with the provider's answer. state is what Begin
// gave the browser. It asks nobody, so that answers to logins that nobody has begun cost
// nothing.
func (p *Provider) Back(state string, answer url.Values) (Login, error) {
	login, err := p.read(state)
	switch {
	case err != nil: // the key file may be the reason
	case subtle.ConstantTimeCompare([]byte(login.State), []byte(answer.Get("state"))) != 1:
		err = errors.New("the answer is to another login")
	case time.Now().After(login.Until):
		err = fmt.Errorf("the login was to be over at %s", login.Until.Format(time.RFC3339))
	}
	if err != nil {
		return Login{}, errs.Wrap(err, errs.Unauthenticated, errs.CodeUnauthorized, "the login took too long or was begun in another browser; begin again at /api/auth/oidc/login")
	}
	if issuer := answer.Get("iss"); issuer != "" && issuer != p.config.Issuer { // RFC 9207
		return Login{}, refused(errors.New("the answer is of another provider"))
	}
	if answer.Get("error") != "" {
		return Login{}, errs.New(errs.Unauthenticated, errs.CodeUnauthorized, "the OpenID provider has refused the login")
	}
	return login, nil
}

// Identify returns who a code of the provider speaks of, in a login that is Back. The
// identity of somebody who is known to the provider, but has no role here, comes with
// the error.
func (p *Provider) Identify(ctx context.Context, login Login, code string) (auth.Identity, error) {
	found, err := p.discover(ctx)
	if err != nil {
		return auth.Identity{}, err
	}
	ctx = oidc.ClientContext(ctx, p.client)
	tokens, err := p.oauth(found).Exchange(ctx, code, oauth2.VerifierOption(login.Verifier))
	if err != nil {
		return auth.Identity{}, failed(err)
	}
	raw, ok := tokens.Extra("id_token").(string)
	if !ok {
		return auth.Identity{}, refused(errors.New("the answer holds no ID token"))
	}
	id, err := found.Verifier(&oidc.Config{ClientID: p.config.ClientID}).Verify(ctx, raw)
	if err != nil {
		return auth.Identity{}, refused(err)
	}
	if subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(login.Nonce)) != 1 {
		return auth.Identity{}, refused(errors.New("the ID token is of another login: its nonce differs"))
	}
	claims, err := p.claims(ctx, found, tokens, id)
	if err != nil {
		return auth.Identity{}, err
	}
	return p.identity(id, claims)
}

// forUs refuses a token that was made for another client, or for others, too, when it
// does not say that it was made for this one (OpenID Connect Core 3.1.3.7).
func (p *Provider) forUs(id *oidc.IDToken, claims map[string]any) error {
	party, named := claims["azp"]
	if named && party != p.config.ClientID || !named && len(id.Audience) > 1 {
		return refused(errors.New("the ID token was made for another client"))
	}
	return nil
}

// claims are those of a verified token and, when it lacks one that is needed, those
// that the provider tells of the same person.
func (p *Provider) claims(ctx context.Context, found *oidc.Provider, tokens *oauth2.Token, id *oidc.IDToken) (map[string]any, error) {
	var claims map[string]any
	if err := id.Claims(&claims); err != nil {
		return nil, refused(err)
	}
	if err := p.forUs(id, claims); err != nil {
		return nil, err
	}
	if at(claims, p.config.NameClaim) != nil && at(claims, p.config.RoleClaim) != nil || found.UserInfoEndpoint() == "" {
		return claims, nil
	}
	info, err := found.UserInfo(ctx, oauth2.StaticTokenSource(tokens))
	if err != nil {
		return nil, failed(err)
	}
	if info.Subject != id.Subject {
		return nil, refused(errors.New("the provider's user information is about somebody else than its ID token"))
	}
	more := map[string]any{}
	if err := info.Claims(&more); err != nil {
		return nil, refused(err)
	}
	maps.Copy(more, claims) // what was signed counts
	return more, nil
}

// at is the claim of a name, or of a path into claims; nil: there is none.
func at(claims map[string]any, name string) any {
	if claim, ok := claims[name]; ok {
		return claim
	}
	first, rest, ok := strings.Cut(name, ".")
	if inner, is := claims[first].(map[string]any); ok && is {
		return at(inner, rest)
	}
	return nil
}

func (p *Provider) read(state string) (login Login, err error) {
	text, err := base64.RawURLEncoding.DecodeString(state)
	if err == nil {
		text, err = p.config.Box.Open(text, stateAAD)
	}
	if err == nil {
		err = json.Unmarshal(text, &login)
	}
	if err == nil && (login.State == "" || login.Nonce == "" || login.Verifier == "") {
		err = errs.New(errs.Malformed, errs.CodeInvalidArgument, "the state of the login is not whole")
	}
	return login, err
}

func refused(cause error) error {
	return errs.Wrap(cause, errs.Unauthenticated, errs.CodeUnauthorized, "what the OpenID provider sent cannot be trusted; begin again at /api/auth/oidc/login")
}

// failed tells a provider that does not answer from one that refuses a code.
func failed(cause error) error {
	var answered *oauth2.RetrieveError
	var unanswered *url.Error
	if errors.As(cause, &answered) && answered.Response.StatusCode >= http.StatusInternalServerError || errors.As(cause, &unanswered) {
		return away(cause)
	}
	return refused(cause)
}

func away(cause error) error {
	return errs.Wrap(cause, errs.Unavailable, "OIDC_UNAVAILABLE", "the OpenID provider does not answer; try again, or log in with a password")
}

// identity reads the claims of a verified token.
func (p *Provider) identity(id *oidc.IDToken, claims map[string]any) (auth.Identity, error) {
	name, _ := at(claims, p.config.NameClaim).(string)
	role := p.role(at(claims, p.config.RoleClaim))
	switch {
	case name == "":
		return auth.Identity{}, errs.New(errs.Denied, errs.CodeForbidden, "the OpenID provider sent no claim %q, which should hold the user's name", p.config.NameClaim)
	case role == auth.Nobody:
		return auth.Identity{Username: name}, errs.New(errs.Denied, errs.CodeForbidden, "the OpenID provider gives %q no role here: none of the values of its claim %q is known", name, p.config.RoleClaim)
	}
	return auth.Identity{Subject: id.Issuer + " " + id.Subject, Username: name, Role: role}, nil
}

// role is the highest one that a claim gives.
func (p *Provider) role(claim any) auth.Role {
	words, ok := claim.([]any)
	if !ok {
		words = []any{claim}
	}
	role := auth.Nobody
	for _, word := range words {
		if text, ok := word.(string); ok {
			role = max(role, p.config.Roles[text])
		}
	}
	return role
}

func (p *Provider) oauth(found *oidc.Provider) *oauth2.Config {
	endpoint := found.Endpoint()
	endpoint.AuthStyle = p.authStyle(found)
	return &oauth2.Config{
		ClientID: p.config.ClientID, ClientSecret: p.config.ClientSecret, RedirectURL: p.config.RedirectURL,
		Endpoint: endpoint, Scopes: append([]string{oidc.ScopeOpenID, "profile"}, p.config.Scopes...),
	}
}

// authStyle is how this server proves itself to the provider. Trying one way after
// the other, as oauth2 does by itself, would use up a code and hide the first answer.
func (p *Provider) authStyle(found *oidc.Provider) oauth2.AuthStyle {
	var offers struct {
		Methods []string `json:"token_endpoint_auth_methods_supported"`
	}
	// The document was read once already; a provider that says nothing takes the header.
	if err := found.Claims(&offers); err != nil {
		return oauth2.AuthStyleInHeader
	}
	basic := len(offers.Methods) == 0 || slices.Contains(offers.Methods, "client_secret_basic")
	if p.config.ClientSecret != "" && basic {
		return oauth2.AuthStyleInHeader
	}
	return oauth2.AuthStyleInParams
}

// discover asks the provider for its addresses, until it has answered once.
func (p *Provider) discover(ctx context.Context) (*oidc.Provider, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.found != nil {
		return p.found, nil
	}
	if p.failed != nil && time.Since(p.at) < discoverEvery {
		return nil, p.failed
	}
	// The provider keeps the context for later calls.
	found, err := oidc.NewProvider(oidc.ClientContext(context.WithoutCancel(ctx), p.client), p.config.Issuer)
	p.at = time.Now()
	if err != nil {
		p.failed = away(err)
		return nil, p.failed
	}
	p.found, p.failed = found, nil
	return found, nil
}
