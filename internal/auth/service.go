package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"sync"
	"time"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/paging"
	"github.com/dataguardian/dataguardian/internal/settings"
)

// touchInterval bounds how often the last use of a credential is written.
const touchInterval = time.Minute

// ErrUnauthenticated is the answer to every bad credential, whatever is wrong with it.
var ErrUnauthenticated = errs.New(errs.Unauthenticated, errs.CodeUnauthorized,
	"a valid API token or session is required: send the header \"Authorization: Bearer TOKEN\", or log in")

// Config is what a Service stands on. All but Tokens may be left out by who needs
// no users.
type Config struct {
	Tokens   TokenStore
	Users    UserStore
	Sessions SessionStore
	// Tries counts attempts to log in for all processes; nil: each counts for itself.
	Tries TryStore
	// Passwords hashes; nil: NewPasswords(DefaultParams).
	Passwords *Passwords
	// SessionLifetime and SessionIdle end a session; default 7 days, and 24 hours
	// without use.
	SessionLifetime, SessionIdle time.Duration
}

// Service authenticates callers, lets people in and hands out tokens.
type Service struct {
	Config

	limits limits

	mu      sync.Mutex
	touched map[string]time.Time
	recent  map[digest]recent // by the hash of the whole credential
}

// recent is a caller whose credential was good a moment ago.
type recent struct {
	principal Principal
	at        time.Time
}

const (
	// fresh is how long a good credential is not looked up again. A revoked one is
	// refused within that time.
	fresh = 2 * time.Second
	// remembered is how long a good credential is good enough while the database is
	// away: nothing but the state of the control plane can be asked for then.
	remembered = 15 * time.Minute
	// maxRecent bounds the memory of good credentials.
	maxRecent = 10_000

	defaultLifetime = 7 * 24 * time.Hour
	defaultIdle     = 24 * time.Hour
)

// NewService returns a service.
func NewService(c Config) *Service {
	if c.Passwords == nil {
		c.Passwords = NewPasswords(DefaultParams())
	}
	if c.SessionLifetime <= 0 {
		c.SessionLifetime = defaultLifetime
	}
	if c.SessionIdle <= 0 {
		c.SessionIdle = defaultIdle
	}
	return &Service{Config: c, limits: newLimits(c.Tries), touched: map[string]time.Time{}, recent: map[digest]recent{}}
}

// Authenticate returns who the bearer of a token or session is. Every failure but
// that of the store is ErrUnauthenticated.
func (s *Service) Authenticate(ctx context.Context, bearer string) (Principal, error) {
	shown, ok := parse(bearer)
	if !ok {
		return Principal{}, ErrUnauthenticated
	}
	hash := hashOf(bearer)
	return s.known(hash, func() (Principal, error) {
		stored, p, err := s.lookUp(ctx, shown)
		absent := errs.KindOf(err) == errs.NotFound && err != nil
		if err != nil && !absent {
			return Principal{}, err
		}
		match := subtle.ConstantTimeCompare(hash[:], pad(stored)) == 1
		if absent || !match {
			return Principal{}, ErrUnauthenticated
		}
		return p, s.touch(ctx, shown)
	})
}

// AuthenticateCertificate returns the user that a verified client certificate
// names.
func (s *Service) AuthenticateCertificate(ctx context.Context, username string) (Principal, error) {
	return s.known(sha256.Sum256([]byte("certificate of "+username)), func() (Principal, error) {
		u, err := s.Users.ByName(ctx, username)
		if errs.KindOf(err) == errs.NotFound && err != nil {
			return Principal{}, ErrUnauthenticated
		}
		return Principal{UserID: u.ID, Name: u.Username, Role: u.Role}, err
	})
}

// known asks once in a while whether a credential is still good.
func (s *Service) known(hash digest, ask func() (Principal, error)) (Principal, error) {
	if p, ok := s.recall(hash, fresh); ok {
		return p, nil
	}
	p, err := ask()
	switch {
	case err == nil:
		s.remember(hash, p)
		return p, nil
	case errs.KindOf(err) == errs.Unavailable:
		if p, ok := s.recall(hash, remembered); ok {
			return p, nil
		}
	default:
		s.drop(func(h digest, _ Principal) bool { return h == hash })
	}
	return Principal{}, err
}

// lookUp returns the stored hash of a credential and who it belongs to.
func (s *Service) lookUp(ctx context.Context, shown credential) ([]byte, Principal, error) {
	if shown.prefix == tokenPrefix {
		t, err := s.Tokens.Get(ctx, shown.id)
		return t.Hash, Principal{TokenID: t.ID, Name: t.Name, Role: t.Role, Scope: t.Scope}, err
	}
	if s.Sessions == nil {
		return nil, Principal{}, ErrUnauthenticated
	}
	session, user, err := s.Sessions.Get(ctx, shown.id, s.SessionIdle)
	return session.Hash, Principal{SessionID: session.ID, UserID: user.ID, Name: user.Username, Role: user.Role}, err
}

// touch dates a use, at most once a minute. One that was revoked meanwhile is bad.
func (s *Service) touch(ctx context.Context, shown credential) (err error) {
	if !s.touchDue(shown.id) {
		return nil
	}
	if shown.prefix == tokenPrefix {
		err = s.Tokens.Touch(ctx, shown.id)
	} else {
		err = s.Sessions.Touch(ctx, shown.id)
	}
	if err != nil && errs.KindOf(err) == errs.NotFound {
		return ErrUnauthenticated
	}
	return err
}

func (s *Service) recall(hash digest, within time.Duration) (Principal, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.recent[hash]
	return r.principal, ok && time.Since(r.at) < within
}

func (s *Service) remember(hash digest, p Principal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.recent) >= maxRecent {
		clear(s.recent)
	}
	s.recent[hash] = recent{principal: p, at: time.Now()}
}

// drop forgets credentials, so that the next use asks the store.
func (s *Service) drop(which func(hash digest, p Principal) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for hash, r := range s.recent {
		if which(hash, r.principal) {
			delete(s.recent, hash)
		}
	}
}

func (s *Service) touchDue(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.touched[id]) < touchInterval {
		return false
	}
	if len(s.touched) >= maxRecent {
		clear(s.touched)
	}
	s.touched[id] = time.Now()
	return true
}

// Create makes a token and returns its secret, which is nowhere else. scope holds
// the tags of the datasources it reaches; empty: everything.
func (s *Service) Create(ctx context.Context, name string, role Role, scope []string, expires *time.Time) (Token, string, error) {
	name, fields := settings.Name(name)
	if role < Viewer || role > Admin {
		fields = append(fields, errs.Field{Field: "role", Message: "must be viewer, operator or admin"})
	}
	if role == Admin && len(scope) > 0 {
		fields = append(fields, errs.Field{Field: "scope", Message: "cannot bound an administrator, who may change tags; choose viewer or operator"})
	}
	if expires != nil && !expires.After(time.Now()) {
		fields = append(fields, errs.Field{Field: "expires_at", Message: "must lie in the future"})
	}
	if len(fields) > 0 {
		return Token{}, "", errs.InvalidFields(errs.CodeValidation, fields...)
	}
	id, bearer := newCredential(tokenPrefix)
	hash := hashOf(bearer)
	t, err := s.Tokens.Create(ctx, Token{ID: id, Name: name, Role: role, Scope: scope, Hash: hash[:], ExpiresAt: expires})
	return t, bearer, err
}

// EnsureAdmin makes the administrator's token when there has never been one. The
// secret is empty when there has.
func (s *Service) EnsureAdmin(ctx context.Context) (secret string, err error) {
	has, err := s.Tokens.Any(ctx)
	if err != nil || has {
		return "", err
	}
	_, secret, err = s.Create(ctx, "admin", Admin, nil, nil)
	if errs.KindOf(err) == errs.Exists {
		return "", nil // another process was faster
	}
	return secret, err
}

// List returns a page of tokens by name and the rows in all.
func (s *Service) List(ctx context.Context, p paging.Page) ([]Token, int, error) {
	return s.Tokens.List(ctx, p)
}

// Revoke ends a token at once in this process, and within seconds in others.
func (s *Service) Revoke(ctx context.Context, id string) error {
	err := s.Tokens.Revoke(ctx, id)
	s.drop(func(_ digest, p Principal) bool { return p.TokenID == id })
	return err
}
