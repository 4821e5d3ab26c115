package auth

import (
	"context"
	"errors"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/paging"
)

// Codes of this package.
const (
	// CodeLastAdministrator says that nobody would be left who may change anything.
	CodeLastAdministrator errs.Code = "LAST_ADMINISTRATOR"
	// CodeSetupDone says that the first user has been made.
	CodeSetupDone errs.Code = "SETUP_ALREADY_DONE"
)

const (
	maxUsername = 100
	minPassword = 10
	maxPassword = 1000
)

// errBadLogin is the answer to a wrong name and to a wrong password.
var errBadLogin = errs.New(errs.Unauthenticated, errs.CodeUnauthorized, "the name or the password is wrong")

// HasUser reports whether there is a user.
func (s *Service) HasUser(ctx context.Context) (bool, error) { return s.Users.Any(ctx) }

// Setup makes the first user, an administrator, and logs it in. It fails with
// CodeSetupDone when there is one.
func (s *Service) Setup(ctx context.Context, username, password, address string) (User, string, error) {
	u, err := newUser(username, password, Admin)
	if err != nil {
		return User{}, "", err
	}
	some, err := s.Users.Any(ctx)
	if err == nil && some {
		err = ErrSetupDone
	}
	if err != nil {
		return User{}, "", err
	}
	if err := s.attempt(ctx, visitor{address: address}, true); err != nil {
		return User{}, "", err
	}
	if u.PasswordHash, err = s.Passwords.Hash(ctx, password); err != nil {
		return User{}, "", err
	}
	if u, err = s.Users.First(ctx, u); err != nil {
		return User{}, "", err
	}
	return s.begin(ctx, u, address)
}

// ErrSetupDone is the refusal of a second first user.
var ErrSetupDone = errs.New(errs.Conflict, CodeSetupDone, "the first user exists already: log in, or ask an administrator for a user")

// TurnsAway returns the refusal that Login would answer to whoever comes from an address
// now, with any name and password; nil: it has to look at them. It asks nobody but this
// process and costs no try, so that a flood of logins is cheap to refuse.
func (s *Service) TurnsAway(address string) error {
	regulars := s.limits.regulars.from(address)
	if err := s.limits.refuses(address, regulars); err != nil {
		return err
	}
	if !regulars && s.limits.lookups.wait("") > 0 && s.Passwords.full(false) {
		return ErrTooManyLogins // who has a session from there could not be found out
	}
	return nil
}

// Login begins a session of a user and returns its cookie. A failed one returns the
// user, too, when there is one with this name, for the audit log only.
func (s *Service) Login(ctx context.Context, username, password, address string) (User, string, error) {
	if err := s.TurnsAway(address); err != nil {
		return User{}, "", err
	}
	v := visitor{address: address, account: username, regular: s.knows(ctx, address, username)}
	ahead, end := s.limits.regulars.begin(address, username)
	defer end()
	if err := s.attempt(ctx, v, ahead); err != nil {
		return User{}, "", err
	}
	u, err := s.Users.ByName(ctx, username)
	if err != nil && errs.KindOf(err) != errs.NotFound {
		return User{}, "", err
	}
	match, err := s.Passwords.Check(ctx, u.PasswordHash, password, ahead)
	if err == nil && !match {
		err = errBadLogin
	}
	if err != nil {
		return u, "", err
	}
	s.limits.regulars.add(address, username)
	if err := s.limits.good(ctx, v); err != nil {
		return u, "", err
	}
	return s.begin(ctx, u, address)
}

// knows reports whether somebody has logged in from there before: with this process, or
// in a session that goes on. Of many who come at once only some are looked up, and
// whoever cannot be is a stranger.
func (s *Service) knows(ctx context.Context, address, username string) bool {
	if s.limits.regulars.has(address, username) {
		return true
	}
	if _, ok := s.limits.lookups.take(""); !ok {
		return false
	}
	from, err := s.Sessions.Addresses(ctx, username, s.SessionIdle)
	here := func(other string) bool { return network(other) == network(address) }
	if err != nil || !slices.ContainsFunc(from, here) {
		return false
	}
	s.limits.regulars.add(address, username)
	return true
}

// attempt takes a try. Whom the hasher would turn away anyway is told so before the
// database is asked, and it costs no try: a flood must not use up those of others.
func (s *Service) attempt(ctx context.Context, v visitor, ahead bool) error {
	if s.Passwords.full(ahead) {
		return ErrTooManyLogins
	}
	return s.limits.take(ctx, v)
}

// Identity is a person as the OpenID provider knows them.
type Identity struct {
	Subject  string // issuer and subject: never another person's
	Username string
	Role     Role
}

// VisitExternal takes a try of an address to begin a login with the OpenID provider.
func (s *Service) VisitExternal(address string) error {
	if wait, ok := s.limits.visits.take(network(address)); !ok {
		return tooMany(wait)
	}
	return nil
}

// AttemptExternal takes a place among those who come back from the OpenID provider, until
// leave is called, and a try of the address, which LoginExternal gives back.
func (s *Service) AttemptExternal(ctx context.Context, address string) (leave func(), err error) {
	leave, ok := s.limits.returns.take(address, s.limits.regulars.from(address))
	if !ok {
		return nil, ErrTooManyLogins
	}
	if err := s.limits.take(ctx, visitor{address: address}); err != nil {
		leave()
		return nil, err
	}
	return leave, nil
}

// LoginExternal begins a session of a person whom the OpenID provider has sent. The
// first time it makes a user; each time the user gets the provider's role.
func (s *Service) LoginExternal(ctx context.Context, i Identity, address string) (User, string, error) {
	u, err := s.Users.BySubject(ctx, i.Subject)
	switch {
	case err == nil && u.Role != i.Role:
		id := u.ID
		u, err = s.Users.Update(ctx, id, func(u *User) { u.Role = i.Role })
		s.dropUser(id)
	case err != nil && errs.KindOf(err) == errs.NotFound:
		if field := checkUsername(i.Username); field != nil {
			return User{}, "", errs.New(errs.Denied, errs.CodeForbidden, "the OpenID provider sent a name that cannot be used: it %s", field.Message)
		}
		u, err = s.Users.Create(ctx, User{ID: uuid.NewString(), Username: i.Username, Role: i.Role, Subject: i.Subject})
	}
	if err == nil {
		s.limits.regulars.add(address, u.Username)
		err = s.limits.good(ctx, visitor{address: address})
	}
	if err != nil {
		return User{}, "", err
	}
	return s.begin(ctx, u, address)
}

func (s *Service) begin(ctx context.Context, u User, address string) (User, string, error) {
	id, bearer := newCredential(sessionPrefix)
	hash := hashOf(bearer)
	err := s.Sessions.Begin(ctx, Session{ID: id, UserID: u.ID, Hash: hash[:], Address: address}, s.SessionLifetime)
	return u, bearer, err
}

// Logout ends the session of a caller; a caller with a token has none.
func (s *Service) Logout(ctx context.Context, p Principal) error {
	if p.SessionID == "" {
		return errs.New(errs.Conflict, errs.CodeConflict, "there is no session to end: a token ends when it is revoked")
	}
	err := s.Sessions.End(ctx, p.SessionID)
	s.drop(func(_ digest, q Principal) bool { return q.SessionID == p.SessionID })
	if errs.KindOf(err) == errs.NotFound {
		return nil // it ended meanwhile
	}
	return err
}

// ChangePassword gives a user another password and ends its sessions.
func (s *Service) ChangePassword(ctx context.Context, p Principal, current, password, address string) error {
	if p.UserID == "" {
		return errs.New(errs.Denied, errs.CodeForbidden, "only a user has a password: log in first")
	}
	v := visitor{address: address, account: p.Name, regular: s.knows(ctx, address, p.Name)}
	if err := s.attempt(ctx, v, true); err != nil {
		return err
	}
	u, err := s.Users.Get(ctx, p.UserID)
	if err != nil {
		return err
	}
	match, err := s.Passwords.Check(ctx, u.PasswordHash, current, true)
	switch {
	case err != nil:
		return err
	case !match:
		return errs.InvalidFields(errs.CodeValidation, errs.Field{Field: "current_password", Message: "is not the present password"})
	}
	if err := s.limits.good(ctx, v); err != nil {
		return err
	}
	_, err = s.UpdateUser(ctx, u.ID, nil, &password)
	return err
}

// CreateUser makes a user.
func (s *Service) CreateUser(ctx context.Context, username, password string, role Role) (User, error) {
	u, err := newUser(username, password, role)
	if err != nil {
		return User{}, err
	}
	if u.PasswordHash, err = s.Passwords.Hash(ctx, password); err != nil {
		return User{}, err
	}
	return s.Users.Create(ctx, u)
}

// ListUsers returns a page of users by name and the rows in all.
func (s *Service) ListUsers(ctx context.Context, p paging.Page) ([]User, int, error) {
	return s.Users.List(ctx, p)
}

// UpdateUser changes what is given and ends the user's sessions.
func (s *Service) UpdateUser(ctx context.Context, id string, role *Role, password *string) (User, error) {
	u, err := s.Users.Get(ctx, id)
	if err != nil {
		return User{}, err
	}
	var hash string
	if password != nil {
		if u.Subject != "" {
			return User{}, errs.InvalidFields(errs.CodeValidation, errs.Field{Field: "password", Message: "cannot be set: the user logs in with the OpenID provider"})
		}
		if field := checkPassword(u.Username, *password); field != nil {
			return User{}, errs.InvalidFields(errs.CodeValidation, *field)
		}
		if hash, err = s.Passwords.Hash(ctx, *password); err != nil {
			return User{}, err
		}
	}
	u, err = s.Users.Update(ctx, id, func(u *User) {
		if role != nil {
			u.Role = *role
		}
		if password != nil {
			u.PasswordHash = hash
		}
	})
	s.dropUser(id)
	return u, err
}

// DeleteUser removes a user and ends its sessions.
func (s *Service) DeleteUser(ctx context.Context, id string) error {
	err := s.Users.Delete(ctx, id)
	s.dropUser(id)
	return err
}

func (s *Service) dropUser(id string) {
	s.drop(func(_ digest, p Principal) bool { return p.UserID == id })
}

// PruneSessions removes sessions that are over, and forgets old attempts to log in.
func (s *Service) PruneSessions(ctx context.Context) error {
	err := s.Sessions.Prune(ctx, s.SessionIdle)
	if s.Tries != nil {
		err = errors.Join(err, s.Tries.Prune(ctx))
	}
	return err
}

// newUser checks what a user is made of.
func newUser(username, password string, role Role) (User, error) {
	var fields []errs.Field
	for _, field := range []*errs.Field{checkUsername(username), checkPassword(username, password)} {
		if field != nil {
			fields = append(fields, *field)
		}
	}
	if role < Viewer || role > Admin {
		fields = append(fields, errs.Field{Field: "role", Message: "must be viewer, operator or admin"})
	}
	if len(fields) > 0 {
		return User{}, errs.InvalidFields(errs.CodeValidation, fields...)
	}
	return User{ID: uuid.NewString(), Username: username, Role: role}, nil
}

func checkUsername(name string) *errs.Field {
	unfit := func(r rune) bool { return !unicode.IsPrint(r) }
	switch {
	case name == "" || utf8.RuneCountInString(name) > maxUsername || !utf8.ValidString(name):
		return &errs.Field{Field: "username", Message: "must have 1 to 100 characters"}
	case strings.TrimSpace(name) != name || strings.ContainsFunc(name, unfit):
		return &errs.Field{Field: "username", Message: "must not begin or end with a space or hold control characters"}
	}
	return nil
}

func checkPassword(username, password string) *errs.Field {
	switch {
	case utf8.RuneCountInString(password) < minPassword || len(password) > 4*maxPassword:
		return &errs.Field{Field: "password", Message: "must have 10 to 1000 characters"}
	case strings.EqualFold(username, password):
		return &errs.Field{Field: "password", Message: "must not be the name"}
	}
	return nil
}
