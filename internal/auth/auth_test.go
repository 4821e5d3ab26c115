package auth_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/auth"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// shelf keeps tokens in memory.
type shelf struct {
	auth.TokenStore
	mu      sync.Mutex
	tokens  map[string]auth.Token
	touches int
	away    error
}

func (s *shelf) Create(_ context.Context, t auth.Token) (auth.Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens[t.ID] = t
	return t, nil
}

func (s *shelf) Get(_ context.Context, id string) (auth.Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.tokens[id]
	if !ok && s.away == nil {
		return auth.Token{}, errs.New(errs.NotFound, errs.CodeNotFound, "none")
	}
	return t, s.away
}

func (s *shelf) Touch(context.Context, string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.touches++
	return nil
}

func (s *shelf) Any(context.Context) (bool, error) { return len(s.tokens) > 0, nil }

// cheap parameters keep tests quick.
func cheap() *auth.Passwords {
	return auth.NewPasswords(auth.Params{MemoryKiB: 8, Passes: 1, Threads: 1})
}

func service(store auth.TokenStore) *auth.Service {
	return auth.NewService(auth.Config{Tokens: store, Passwords: cheap()})
}

func TestOnlyTheExactTokenIsLetIn(t *testing.T) {
	store := &shelf{tokens: map[string]auth.Token{}}
	s := service(store)
	made, secret, err := s.Create(t.Context(), "ci", auth.Operator, nil, nil)
	require.NoError(t, err)
	require.NotContains(t, string(made.Hash), secret)

	p, err := s.Authenticate(t.Context(), secret)
	require.NoError(t, err)
	require.Equal(t, auth.Principal{TokenID: made.ID, Name: "ci", Role: auth.Operator}, p)

	other, otherSecret, err := s.Create(t.Context(), "other", auth.Admin, nil, nil)
	require.NoError(t, err)
	require.NotEqual(t, made.ID, other.ID)
	id, _, _ := strings.Cut(secret, ".")
	_, foreign, _ := strings.Cut(otherSecret, ".")
	last := secret[len(secret)-1:]
	for _, bad := range []string{
		"", "x", "dgt_", "dgt_.", secret + "x", secret[:len(secret)-1], strings.TrimSuffix(secret, last) + string(last[0]^1),
		strings.ToUpper(secret), id + "." + foreign, id + ".", "Bearer " + secret, secret + "\n", "dgt_AAAAAAAAAAAAAAAAAAAAAA.AAAA",
	} {
		_, err := s.Authenticate(t.Context(), bad)
		require.ErrorIs(t, err, auth.ErrUnauthenticated, "%q", bad)
	}
}

func TestAStoreThatIsAwayIsNotABadCredential(t *testing.T) {
	store := &shelf{tokens: map[string]auth.Token{}}
	s := service(store)
	_, secret, err := s.Create(t.Context(), "ci", auth.Viewer, nil, nil)
	require.NoError(t, err)
	store.away = errs.New(errs.Unavailable, errs.CodeDatabaseUnavailable, "away")
	_, err = s.Authenticate(t.Context(), secret)
	require.Equal(t, errs.CodeDatabaseUnavailable, errs.CodeOf(err))
}

func TestAGoodTokenIsRememberedBrieflyAndLongerWhileTheDatabaseIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &shelf{tokens: map[string]auth.Token{}}
		s := service(store)
		made, secret, err := s.Create(t.Context(), "ci", auth.Viewer, nil, nil)
		require.NoError(t, err)
		_, err = s.Authenticate(t.Context(), secret)
		require.NoError(t, err)

		store.away = errs.New(errs.Unavailable, errs.CodeDatabaseUnavailable, "away")
		<-time.After(10 * time.Minute)
		_, err = s.Authenticate(t.Context(), secret)
		require.NoError(t, err)
		<-time.After(10 * time.Minute)
		_, err = s.Authenticate(t.Context(), secret)
		require.Equal(t, errs.CodeDatabaseUnavailable, errs.CodeOf(err))

		store.away = nil
		_, err = s.Authenticate(t.Context(), secret)
		require.NoError(t, err)
		delete(store.tokens, made.ID)
		<-time.After(3 * time.Second)
		_, err = s.Authenticate(t.Context(), secret)
		require.ErrorIs(t, err, auth.ErrUnauthenticated, "a revoked token is refused within seconds")
	})
}

func TestTheLastUseIsWrittenAtMostOnceAMinute(t *testing.T) {
	store := &shelf{tokens: map[string]auth.Token{}}
	s := service(store)
	_, secret, err := s.Create(t.Context(), "ci", auth.Viewer, nil, nil)
	require.NoError(t, err)
	for range 10 {
		_, err = s.Authenticate(t.Context(), secret)
		require.NoError(t, err)
	}
	require.Equal(t, 1, store.touches)
}

func TestTheAdministratorsTokenIsMadeOnce(t *testing.T) {
	store := &shelf{tokens: map[string]auth.Token{}}
	s := service(store)
	secret, err := s.EnsureAdmin(t.Context())
	require.NoError(t, err)
	p, err := s.Authenticate(t.Context(), secret)
	require.NoError(t, err)
	require.Equal(t, auth.Admin, p.Role)
	secret, err = s.EnsureAdmin(t.Context())
	require.NoError(t, err)
	require.Empty(t, secret)
}

func TestABadTokenRequestNamesEveryField(t *testing.T) {
	s := service(&shelf{tokens: map[string]auth.Token{}})
	past := time.Now().Add(-time.Hour)
	_, _, err := s.Create(t.Context(), " ", auth.Nobody, nil, &past)
	require.Len(t, errs.As(err).Fields, 3)
}
