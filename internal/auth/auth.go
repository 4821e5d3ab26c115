// Package auth says who calls and what they may do: users with passwords and
// sessions, API tokens, and the scope of a caller.
package auth

import (
	"context"
	"time"

	"github.com/dataguardian/dataguardian/internal/paging"
)

// Role of a caller, rising: each includes the ones before it.
type Role int

// Roles. Nobody is the role of a caller without a credential.
const (
	Nobody Role = iota
	Viewer
	Operator
	Admin
)

var roleNames = map[Role]string{Nobody: "nobody", Viewer: "viewer", Operator: "operator", Admin: "admin"}

// String returns the role's name.
func (r Role) String() string { return roleNames[r] }

// ParseRole returns the role of a name; false when there is none.
func ParseRole(name string) (Role, bool) {
	for role, n := range roleNames {
		if n == name && role != Nobody {
			return role, true
		}
	}
	return Nobody, false
}

// Token is an API token. Its secret is known to its owner only.
type Token struct {
	ID         string
	Name       string
	Role       Role
	Scope      []string // tags of the datasources it reaches; empty: everything
	Hash       []byte   // SHA-256 of the secret
	ExpiresAt  *time.Time
	LastUsedAt *time.Time
	CreatedAt  time.Time
}

// User is a person.
type User struct {
	ID           string
	Username     string // unique whatever the case of its letters
	Role         Role
	PasswordHash string // argon2id; empty for a user of the OpenID provider
	Subject      string // issuer and subject of the OpenID provider; empty for a local user
	LastLoginAt  *time.Time
	CreatedAt    time.Time
	UpdatedAt    time.Time
}

// Session is a login that goes on. Its secret is in the user's cookie only.
type Session struct {
	ID      string
	UserID  string
	Hash    []byte // SHA-256 of the secret
	Address string // where it was begun
}

// Principal is an authenticated caller.
type Principal struct {
	TokenID   string // of an API token
	UserID    string // of a user, by session or certificate
	SessionID string // of a session
	Name      string
	Role      Role
	Scope     []string // see Token.Scope
}

// KeyRotation is what was done to the key that encrypts stored credentials.
type KeyRotation struct {
	KeyID    string // of the key that encrypts from now on
	Resealed int    // credentials that were encrypted anew
	Keys     int    // in the key file
	Path     string // of the key file
	Message  string // a sentence for a person
}

// Kind says what a caller has shown: token, user or certificate.
func (p Principal) Kind() string {
	switch {
	case p.TokenID != "":
		return "token"
	case p.SessionID != "":
		return "user"
	default:
		return "certificate"
	}
}

// TokenStore keeps tokens. Methods fail with NotFound for an id that is not there.
type TokenStore interface {
	// Create stores t; a taken name fails with Exists (CodeConflict).
	Create(ctx context.Context, t Token) (Token, error)
	// Get returns a token that is neither revoked nor expired.
	Get(ctx context.Context, id string) (Token, error)
	// List returns a page by name and the rows in all, without revoked ones.
	List(ctx context.Context, p paging.Page) ([]Token, int, error)
	// Revoke ends a token at once.
	Revoke(ctx context.Context, id string) error
	// Touch records that a token was used; callers do it at most once a minute.
	Touch(ctx context.Context, id string) error
	// Any reports whether there has ever been a token.
	Any(ctx context.Context) (bool, error)
}

// UserStore keeps users. Methods fail with NotFound for one that is not there, and
// with CodeLastAdministrator when no administrator would be left.
type UserStore interface {
	// Any reports whether there is a user.
	Any(ctx context.Context) (bool, error)
	// First stores u when there is no user yet, else fails with Conflict. Of many
	// callers at once, one succeeds.
	First(ctx context.Context, u User) (User, error)
	// Create stores u; a taken name fails with Exists (CodeConflict).
	Create(ctx context.Context, u User) (User, error)
	// Get, ByName and BySubject return a user. Names match whatever their case.
	Get(ctx context.Context, id string) (User, error)
	ByName(ctx context.Context, username string) (User, error)
	BySubject(ctx context.Context, subject string) (User, error)
	// List returns a page by name and the rows in all.
	List(ctx context.Context, p paging.Page) ([]User, int, error)
	// Update changes role and password of a user and ends its sessions.
	Update(ctx context.Context, id string, change func(*User)) (User, error)
	// Delete removes a user and its sessions.
	Delete(ctx context.Context, id string) error
}

// TryStore counts attempts to log in for all processes.
type TryStore interface {
	// Take takes one try out of a bucket, which holds size tries and gets one back
	// every so often. It returns how long there will be none; 0: it was taken.
	Take(ctx context.Context, key []byte, size int, every time.Duration) (wait time.Duration, err error)
	// GiveBack returns a try to a bucket.
	GiveBack(ctx context.Context, key []byte, size int) error
	// Prune forgets buckets that nobody has used for an hour.
	Prune(ctx context.Context) error
}

// MaxSessions is how many sessions a user has at most.
const MaxSessions = 50

// SessionStore keeps sessions. Methods fail with NotFound for one that is not there.
type SessionStore interface {
	// Begin stores a session that ends after lifetime, and dates the user's login. Of
	// a user's sessions it keeps the newest MaxSessions.
	Begin(ctx context.Context, s Session, lifetime time.Duration) error
	// Addresses returns from where the user of that name, in any case, has begun the
	// sessions that go on.
	Addresses(ctx context.Context, username string, idle time.Duration) ([]string, error)
	// Get returns a session, with its user, that has neither ended nor been unused for
	// idle.
	Get(ctx context.Context, id string, idle time.Duration) (Session, User, error)
	// Touch records that a session was used; callers do it at most once a minute.
	Touch(ctx context.Context, id string) error
	// End ends a session at once.
	End(ctx context.Context, id string) error
	// Prune removes sessions that are over.
	Prune(ctx context.Context, idle time.Duration) error
}
