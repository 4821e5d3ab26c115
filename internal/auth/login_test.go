package auth_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/auth"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// people keeps users and sessions in memory.
type people struct {
	users    map[string]auth.User // by name
	sessions map[string]auth.Session
}

func newPeople() *people {
	return &people{users: map[string]auth.User{}, sessions: map[string]auth.Session{}}
}

var errNobody = errs.New(errs.NotFound, errs.CodeNotFound, "nobody")

func (p *people) Any(context.Context) (bool, error) { return len(p.users) > 0, nil }

func (p *people) First(_ context.Context, u auth.User) (auth.User, error) {
	p.users[u.Username] = u
	return u, nil
}

func (p *people) ByName(_ context.Context, name string) (auth.User, error) {
	u, ok := p.users[name]
	if !ok {
		return auth.User{}, errNobody
	}
	return u, nil
}

func (p *people) find(which func(auth.User) bool) (auth.User, error) {
	for _, u := range p.users {
		if which(u) {
			return u, nil
		}
	}
	return auth.User{}, errNobody
}

func (p *people) Update(_ context.Context, id string, change func(*auth.User)) (auth.User, error) {
	u, err := p.find(func(u auth.User) bool { return u.ID == id })
	if err != nil {
		return u, err
	}
	change(&u)
	p.users[u.Username] = u
	clear(p.sessions)
	return u, nil
}

// users is people as a UserStore; what no test calls is missing.
type users struct {
	auth.UserStore
	people *people
}

func (u users) Any(ctx context.Context) (bool, error) { return u.people.Any(ctx) }

func (u users) First(ctx context.Context, n auth.User) (auth.User, error) {
	return u.people.First(ctx, n)
}

func (u users) ByName(ctx context.Context, name string) (auth.User, error) {
	return u.people.ByName(ctx, strings.ToLower(name))
}

func (u users) Update(ctx context.Context, id string, change func(*auth.User)) (auth.User, error) {
	return u.people.Update(ctx, id, change)
}

func (u users) Get(_ context.Context, id string) (auth.User, error) {
	return u.people.find(func(u auth.User) bool { return u.ID == id })
}

func (u users) BySubject(_ context.Context, subject string) (auth.User, error) {
	return u.people.find(func(u auth.User) bool { return u.Subject == subject })
}

func (u users) Create(_ context.Context, n auth.User) (auth.User, error) {
	u.people.users[n.Username] = n
	return n, nil
}

func (p *people) Begin(_ context.Context, s auth.Session, _ time.Duration) error {
	p.sessions[s.ID] = s
	return nil
}

func (p *people) Get(_ context.Context, id string, _ time.Duration) (auth.Session, auth.User, error) {
	s, ok := p.sessions[id]
	if !ok {
		return auth.Session{}, auth.User{}, errNobody
	}
	u, err := p.find(func(u auth.User) bool { return u.ID == s.UserID })
	return s, u, err
}

func (p *people) Touch(context.Context, string) error { return nil }

func (p *people) End(_ context.Context, id string) error {
	delete(p.sessions, id)
	return nil
}

func withPeople(p *people) *auth.Service {
	return auth.NewService(auth.Config{
		Tokens: &shelf{tokens: map[string]auth.Token{}}, Users: users{people: p}, Sessions: sessionStore{p}, Passwords: cheap(),
	})
}

// sessionStore is people as a SessionStore.
type sessionStore struct{ people *people }

func (s sessionStore) Begin(ctx context.Context, n auth.Session, l time.Duration) error {
	return s.people.Begin(ctx, n, l)
}
func (s sessionStore) Addresses(_ context.Context, name string, _ time.Duration) (from []string, _ error) {
	for _, session := range s.people.sessions {
		if u, ok := s.people.users[strings.ToLower(name)]; ok && u.ID == session.UserID {
			from = append(from, session.Address)
		}
	}
	return from, nil
}
func (s sessionStore) Get(ctx context.Context, id string, idle time.Duration) (auth.Session, auth.User, error) {
	return s.people.Get(ctx, id, idle)
}
func (s sessionStore) Touch(ctx context.Context, id string) error { return s.people.Touch(ctx, id) }
func (s sessionStore) End(ctx context.Context, id string) error   { return s.people.End(ctx, id) }
func (s sessionStore) Prune(context.Context, time.Duration) error { return nil }

const (
	password = "correct horse battery"
	home     = "192.0.2.1"
)

func TestAUserLogsInUntilTheSessionOrThePasswordEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeople()
		s := withPeople(p)
		_, cookie, err := s.Setup(t.Context(), "ada", password, home)
		require.NoError(t, err)
		me, err := s.Authenticate(t.Context(), cookie)
		require.NoError(t, err)
		require.Equal(t, auth.Admin, me.Role)
		require.Equal(t, "user", me.Kind())
		require.NotContains(t, fmt.Sprint(p.users), password)
		_, _, err = s.Setup(t.Context(), "eve", password, home)
		require.Equal(t, auth.CodeSetupDone, errs.CodeOf(err))

		require.NoError(t, s.Logout(t.Context(), me))
		_, err = s.Authenticate(t.Context(), cookie)
		require.ErrorIs(t, err, auth.ErrUnauthenticated, "at once")

		<-time.After(time.Hour)
		_, cookie, err = s.Login(t.Context(), "ada", password, home)
		require.NoError(t, err)
		me, err = s.Authenticate(t.Context(), cookie)
		require.NoError(t, err)
		require.Error(t, s.ChangePassword(t.Context(), me, "wrong", "another password", home))
		_, err = s.Authenticate(t.Context(), cookie)
		require.NoError(t, err)
		require.NoError(t, s.ChangePassword(t.Context(), me, password, "another password", home))
		_, err = s.Authenticate(t.Context(), cookie)
		require.ErrorIs(t, err, auth.ErrUnauthenticated)
		_, _, err = s.Login(t.Context(), "ada", password, home)
		require.Equal(t, errs.Unauthenticated, errs.KindOf(err))
		_, _, err = s.Login(t.Context(), "ada", "another password", home)
		require.NoError(t, err)
		<-time.After(time.Minute) // the last hash's rest
	})
}

func TestAWrongNameAndAWrongPasswordAreTheSame(t *testing.T) {
	s := withPeople(newPeople())
	_, _, err := s.Setup(t.Context(), "ada", password, home)
	require.NoError(t, err)
	_, _, wrong := s.Login(t.Context(), "ada", "not the password", home)
	_, _, nobody := s.Login(t.Context(), "eve", "not the password", home)
	require.Equal(t, errs.Unauthenticated, errs.KindOf(wrong))
	require.Equal(t, wrong, nobody)
	_, _, external := s.LoginExternal(t.Context(), auth.Identity{Subject: "i 1", Username: "oda", Role: auth.Viewer}, home)
	require.NoError(t, external)
	_, _, err = s.Login(t.Context(), "oda", "", home)
	require.Equal(t, wrong, err, "a user without a password has no empty one")
}

func TestAttemptsAreFewAndComeBackWithTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := withPeople(newPeople())
		_, _, err := s.Setup(t.Context(), "ada", password, "198.51.100.9")
		require.NoError(t, err)
		refused := func(address, name string) bool {
			_, _, err := s.Login(t.Context(), name, "not the password", address)
			require.Error(t, err)
			return errs.CodeOf(err) == errs.CodeRateLimited
		}
		tries := 0
		for !refused(home, fmt.Sprint("nobody ", tries)) {
			tries++
		}
		require.Equal(t, 10, tries, "an address has ten tries, whatever the name")
		require.False(t, refused("2001:db8::1", "ada"))
		for i := range 9 {
			refused(fmt.Sprintf("2001:db8::%x", i+2), "ada")
		}
		require.True(t, refused("2001:db8::ffff", "ada"), "an IPv6 network is one address")
		_, _, err = s.Login(t.Context(), "ada", password, "203.0.113.5")
		require.NoError(t, err, "one attacker does not lock an account")
		for i := range 40 {
			refused(fmt.Sprintf("203.0.113.%d", 100+i), "ADA")
		}
		_, _, err = s.Login(t.Context(), "ada", password, "203.0.113.6")
		require.Equal(t, errs.CodeRateLimited, errs.CodeOf(err), "an account under attack rests")
		require.Contains(t, errs.As(err).Details, "retry_after_seconds")
		_, _, err = s.Login(t.Context(), "Ada", password, "203.0.113.5")
		require.NoError(t, err, "who has logged in from there before is not locked out")
		for range 20 {
			require.True(t, refused("203.0.113.7", "ada"))
		}
		require.False(t, refused("203.0.113.7", "nobody"), "what the account refuses costs the address nothing")
		for i := range 40 {
			require.False(t, refused(fmt.Sprintf("2001:db8:7:%x::1", i), fmt.Sprint("nobody ", i)))
		}
		require.True(t, refused("2001:db8:7:ffff::1", "nobody"), "a site of IPv6 has forty tries, however many networks")
		<-time.After(time.Minute)
		_, _, err = s.Login(t.Context(), "ada", password, "203.0.113.6")
		require.NoError(t, err)
		<-time.After(time.Minute)
	})
}

// sharedTries is a TryStore of two processes in one.
type sharedTries struct {
	taken map[string]int
	asked int
}

func (s *sharedTries) Take(_ context.Context, key []byte, size int, every time.Duration) (time.Duration, error) {
	s.asked++
	if s.taken[string(key)] >= size {
		return every, nil
	}
	s.taken[string(key)]++
	return 0, nil
}

func (s *sharedTries) GiveBack(_ context.Context, key []byte, _ int) error {
	s.taken[string(key)]--
	return nil
}

func (s *sharedTries) Prune(context.Context) error { return nil }

func TestAllProcessesCountTogetherAndNobodysNameIsKept(t *testing.T) {
	p, shared := newPeople(), &sharedTries{taken: map[string]int{}}
	process := func() *auth.Service {
		return auth.NewService(auth.Config{Tokens: &shelf{}, Users: users{people: p}, Sessions: sessionStore{p}, Passwords: cheap(), Tries: shared})
	}
	all := []*auth.Service{process(), process(), process()}
	_, _, err := all[0].Setup(t.Context(), "ada", password, "198.51.100.9")
	require.NoError(t, err)
	for i := range 10 {
		_, _, err := all[i%3].Login(t.Context(), "hunter2", "not the password", home)
		require.Equal(t, errs.Unauthenticated, errs.KindOf(err), "try %d: %v", i, err)
	}
	for _, s := range all {
		_, _, err := s.Login(t.Context(), "ada", password, home)
		require.Equal(t, errs.CodeRateLimited, errs.CodeOf(err))
		_, err = s.AttemptExternal(t.Context(), home)
		require.Equal(t, errs.CodeRateLimited, errs.CodeOf(err), "whichever way somebody comes in")
	}
	require.NotContains(t, fmt.Sprint(shared.taken), "hunter2")
	asked := shared.asked
	for range 20 {
		_, _, err = all[0].Login(t.Context(), "ada", password, home)
		require.Equal(t, errs.CodeRateLimited, errs.CodeOf(err))
	}
	require.Less(t, shared.asked-asked, 20, "who is over the limit of a process is not counted by the others")

	before := fmt.Sprint(shared.taken)
	_, _, err = all[0].Login(t.Context(), "ada", password, "203.0.113.1")
	require.NoError(t, err)
	leave, err := all[1].AttemptExternal(t.Context(), "203.0.113.2")
	require.NoError(t, err)
	leave()
	_, _, err = all[1].LoginExternal(t.Context(), auth.Identity{Subject: "i 1", Username: "oda", Role: auth.Viewer}, "203.0.113.2")
	require.NoError(t, err)
	for _, left := range shared.taken {
		require.GreaterOrEqual(t, left, 0)
	}
	require.Contains(t, fmt.Sprint(shared.taken), ":0", "a good login gives its tries back: %s", before)

	for range 60 {
		require.NoError(t, all[2].VisitExternal(home))
	}
	require.Equal(t, errs.CodeRateLimited, errs.CodeOf(all[2].VisitExternal(home)))

	_, _, err = all[0].Login(t.Context(), "ada", password, "203.0.113.8")
	require.NoError(t, err)
	for i := range 40 {
		_, _, err := all[1].Login(t.Context(), "ada", "not the password", fmt.Sprint("198.51.100.", 100+i))
		require.Error(t, err)
	}
	_, _, err = all[2].Login(t.Context(), "ada", password, "203.0.113.88")
	require.Equal(t, errs.CodeRateLimited, errs.CodeOf(err))
	_, _, err = all[2].Login(t.Context(), "ada", password, "203.0.113.8")
	require.NoError(t, err, "every process knows who has a session from there")
}

func TestHashesTakeTurnsAndTooManyAreTurnedAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := cheap()
		hash, err := p.Hash(t.Context(), password)
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(hash, "$argon2id$v=19$m=8,t=1,p=1$"), hash)
		var group sync.WaitGroup
		var mu sync.Mutex
		turnedAway := 0
		for range 100 {
			group.Go(func() {
				match, err := p.Check(t.Context(), hash, password, false)
				mu.Lock()
				defer mu.Unlock()
				if errs.CodeOf(err) == errs.CodeRateLimited && err != nil {
					turnedAway++
					return
				}
				require.NoError(t, err)
				require.True(t, match)
			})
		}
		group.Wait()
		require.Positive(t, turnedAway)
		require.Less(t, turnedAway, 100)
		gone, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("the caller is gone"))
		_, err = p.Check(gone, "$argon2id$v=19$m=8$damaged", password, false)
		require.Error(t, err)
		<-time.After(time.Minute)
	})
}

func TestBadUsersNameEveryField(t *testing.T) {
	s := withPeople(newPeople())
	_, err := s.CreateUser(t.Context(), " eve\n", "short", auth.Nobody)
	require.Len(t, errs.As(err).Fields, 3)
	_, err = s.CreateUser(t.Context(), "Margarethe", "margarethe", auth.Viewer)
	require.Len(t, errs.As(err).Fields, 1)
	_, _, err = s.Create(t.Context(), "boss", auth.Admin, []string{"prod"}, nil)
	require.Equal(t, "scope", errs.As(err).Fields[0].Field, "an administrator could change the tags")
}

func TestAnOpenIDUserHasTheProvidersRole(t *testing.T) {
	p := newPeople()
	s := withPeople(p)
	u, cookie, err := s.LoginExternal(t.Context(), auth.Identity{Subject: "issuer 7", Username: "oda", Role: auth.Viewer}, home)
	require.NoError(t, err)
	require.Equal(t, auth.Viewer, u.Role)
	_, err = s.Authenticate(t.Context(), cookie)
	require.NoError(t, err)
	again, _, err := s.LoginExternal(t.Context(), auth.Identity{Subject: "issuer 7", Username: "renamed", Role: auth.Operator}, home)
	require.NoError(t, err)
	require.Equal(t, u.ID, again.ID)
	require.Equal(t, auth.Operator, again.Role)
	_, err = s.UpdateUser(t.Context(), u.ID, nil, new("a password of ours"))
	require.Equal(t, "password", errs.As(err).Fields[0].Field)
}
