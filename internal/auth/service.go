package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/paging"
	"github.com/dataguardian/dataguardian/internal/settings"
)

const (
	// tokenPrefix lets people and secret scanners recognise a token.
	tokenPrefix = "dgt_"
	// secretBytes of entropy make guessing hopeless, so a plain hash is enough at rest.
	secretBytes = 32
	// touchInterval bounds how often a token's last use is written.
	touchInterval = time.Minute
)

// ErrUnauthenticated is the answer to every bad credential, whatever is wrong with it.
var ErrUnauthenticated = errs.New(errs.Unauthenticated, errs.CodeUnauthorized,
	"a valid API token is required: send the header \"Authorization: Bearer TOKEN\"")

// Service authenticates callers and hands out tokens.
type Service struct {
	tokens TokenStore

	mu      sync.Mutex
	touched map[string]time.Time
	recent  map[[sha256.Size]byte]recent // by the hash of the whole token
}

// recent is a caller whose token was good a moment ago.
type recent struct {
	principal Principal
	at        time.Time
}

const (
	// fresh is how long a good token is not looked up again. A revoked one is
	// refused within that time.
	fresh = 2 * time.Second
	// remembered is how long a good token is good enough while the database is away:
	// nothing but the state of the control plane can be asked for then.
	remembered = 15 * time.Minute
	// maxRecent bounds the memory of good tokens.
	maxRecent = 10_000
)

// NewService returns a service on tokens.
func NewService(tokens TokenStore) *Service {
	return &Service{tokens: tokens, touched: map[string]time.Time{}, recent: map[[sha256.Size]byte]recent{}}
}

// Authenticate returns who the bearer of a token is. Every failure but that of
// the store is ErrUnauthenticated.
func (s *Service) Authenticate(ctx context.Context, bearer string) (Principal, error) {
	id, ok := tokenID(bearer)
	if !ok {
		return Principal{}, ErrUnauthenticated
	}
	hash := hashOf(bearer)
	if p, ok := s.recall(hash, fresh); ok {
		return p, nil
	}
	t, err := s.tokens.Get(ctx, id)
	known := err == nil
	if err != nil && errs.KindOf(err) != errs.NotFound {
		if p, ok := s.recall(hash, remembered); ok && errs.KindOf(err) == errs.Unavailable {
			return p, nil
		}
		return Principal{}, err
	}
	match := subtle.ConstantTimeCompare(hash, pad(t.Hash)) == 1
	if !known || !match {
		s.forget(hash)
		return Principal{}, ErrUnauthenticated
	}
	if s.touchDue(id) {
		if err := s.tokens.Touch(ctx, id); err != nil {
			return Principal{}, err
		}
	}
	p := Principal{TokenID: t.ID, Name: t.Name, Role: t.Role}
	s.remember(hash, p)
	return p, nil
}

func (s *Service) recall(hash []byte, within time.Duration) (Principal, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.recent[[sha256.Size]byte(hash)]
	return r.principal, ok && time.Since(r.at) < within
}

func (s *Service) remember(hash []byte, p Principal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.recent) >= maxRecent {
		clear(s.recent)
	}
	s.recent[[sha256.Size]byte(hash)] = recent{principal: p, at: time.Now()}
}

func (s *Service) forget(hash []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.recent, [sha256.Size]byte(hash))
}

// pad keeps the comparison's time the same for tokens that do not exist.
func pad(hash []byte) []byte {
	if len(hash) == sha256.Size {
		return hash
	}
	return make([]byte, sha256.Size)
}

func (s *Service) touchDue(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.touched[id]) < touchInterval {
		return false
	}
	s.touched[id] = time.Now()
	return true
}

// Create makes a token and returns its secret, which is nowhere else.
func (s *Service) Create(ctx context.Context, name string, role Role, expires *time.Time) (Token, string, error) {
	name, fields := settings.Name(name)
	if role < Viewer || role > Admin {
		fields = append(fields, errs.Field{Field: "role", Message: "must be viewer, operator or admin"})
	}
	if expires != nil && !expires.After(time.Now()) {
		fields = append(fields, errs.Field{Field: "expires_at", Message: "must lie in the future"})
	}
	if len(fields) > 0 {
		return Token{}, "", errs.InvalidFields(errs.CodeValidation, fields...)
	}
	id := uuid.New()
	secret := make([]byte, secretBytes)
	if _, err := rand.Read(secret); err != nil {
		return Token{}, "", err
	}
	bearer := tokenPrefix + base64.RawURLEncoding.EncodeToString(id[:]) + "." + base64.RawURLEncoding.EncodeToString(secret)
	t, err := s.tokens.Create(ctx, Token{ID: id.String(), Name: name, Role: role, Hash: hashOf(bearer), ExpiresAt: expires})
	return t, bearer, err
}

// EnsureAdmin makes the administrator's token when there has never been one. The
// secret is empty when there has.
func (s *Service) EnsureAdmin(ctx context.Context) (secret string, err error) {
	has, err := s.tokens.Any(ctx)
	if err != nil || has {
		return "", err
	}
	_, secret, err = s.Create(ctx, "admin", Admin, nil)
	if errs.KindOf(err) == errs.Exists {
		return "", nil // another process was faster
	}
	return secret, err
}

// List returns a page of tokens by name and the rows in all.
func (s *Service) List(ctx context.Context, p paging.Page) ([]Token, int, error) {
	return s.tokens.List(ctx, p)
}

// Revoke ends a token at once.
func (s *Service) Revoke(ctx context.Context, id string) error { return s.tokens.Revoke(ctx, id) }

func hashOf(bearer string) []byte {
	sum := sha256.Sum256([]byte(bearer))
	return sum[:]
}

// tokenID reads the id out of a token.
func tokenID(bearer string) (string, bool) {
	rest, ok := strings.CutPrefix(bearer, tokenPrefix)
	if !ok {
		return "", false
	}
	encoded, _, ok := strings.Cut(rest, ".")
	if !ok {
		return "", false
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return "", false
	}
	id, err := uuid.FromBytes(raw)
	return id.String(), err == nil
}
