package app

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/dataguardian/dataguardian/internal/auth"
	"github.com/dataguardian/dataguardian/internal/oidc"
	"github.com/dataguardian/dataguardian/server"
)

// OIDCConfig says which OpenID provider logs people in; an empty issuer: none.
type OIDCConfig struct {
	Issuer, ClientID string
	ClientSecretFile string
	RedirectURL      string
	NameClaim        string
	RoleClaim        string
	Scopes           []string
	Roles            map[string]string // role by value of the claim
}

func (c OIDCConfig) check() error {
	if c.Issuer == "" {
		return nil
	}
	for flag, value := range map[string]string{"--oidc-client-id": c.ClientID, "--oidc-redirect-url": c.RedirectURL} {
		if value == "" {
			return fmt.Errorf("%s is required with --oidc-issuer", flag)
		}
	}
	if len(c.Roles) == 0 {
		return fmt.Errorf("--oidc-role is required with --oidc-issuer: nobody would get a role, such as --oidc-role backup-admins=admin")
	}
	for value, name := range c.Roles {
		if _, ok := auth.ParseRole(name); !ok {
			return fmt.Errorf("--oidc-role: %s=%s names none of viewer, operator, admin", value, name)
		}
	}
	return nil
}

// oidc returns nil when no provider is configured.
func (f *foundation) oidc(d *domain) (server.OIDC, error) {
	c := f.config.OIDC
	if c.Issuer == "" {
		return nil, nil
	}
	secret, err := readSecretFile(c.ClientSecretFile)
	if err != nil {
		return nil, fmt.Errorf("--oidc-client-secret-file: %w", err)
	}
	roles := map[string]auth.Role{}
	for value, name := range c.Roles {
		roles[value], _ = auth.ParseRole(name) // it was checked
	}
	return newProvider(oidc.Config{
		Issuer: c.Issuer, ClientID: c.ClientID, ClientSecret: secret, RedirectURL: c.RedirectURL,
		NameClaim: c.NameClaim, RoleClaim: c.RoleClaim, Roles: roles, Scopes: c.Scopes, Box: f.box,
	}, d.access), nil
}

// provider begins sessions of those whom an OpenID provider sends.
type provider struct {
	*oidc.Provider

	access *auth.Service
}

func newProvider(c oidc.Config, access *auth.Service) provider {
	return provider{Provider: oidc.New(c), access: access}
}

// Begin implements server.OIDC.
func (p provider) Begin(ctx context.Context, address string) (location, state string, err error) {
	if err := p.access.VisitExternal(address); err != nil {
		return "", "", err
	}
	return p.Provider.Begin(ctx)
}

// Finish implements server.OIDC. It returns the name, too, of somebody whom it
// refuses, when the provider vouches for it: for the audit log. What does not belong to
// a login that was begun here is refused before it takes a place or a try.
func (p provider) Finish(ctx context.Context, state string, answer url.Values, address string) (auth.User, string, error) {
	login, err := p.Back(state, answer)
	if err != nil {
		return auth.User{}, "", err
	}
	leave, err := p.access.AttemptExternal(ctx, address)
	if err != nil {
		return auth.User{}, "", err
	}
	defer leave()
	identity, err := p.Identify(ctx, login, answer.Get("code"))
	if err != nil {
		return auth.User{Username: identity.Username}, "", err
	}
	u, session, err := p.access.LoginExternal(ctx, identity, address)
	if err != nil {
		return auth.User{Username: identity.Username}, "", err
	}
	return u, session, nil
}

// sessionSweep is how often sessions that are over are removed.
const sessionSweep = time.Hour

// sessions removes sessions that are over.
func (f *foundation) sessions(d *domain) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		ticker := time.NewTicker(sessionSweep)
		defer ticker.Stop()
		for {
			if err := d.access.PruneSessions(ctx); err != nil && ctx.Err() == nil {
				f.logger.WarnContext(ctx, "sessions that are over could not be removed; they are tried again in an hour", "error", err)
			}
			select {
			case <-ctx.Done():
				return nil
			case <-ticker.C:
			}
		}
	}
}
