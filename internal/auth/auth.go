// Package auth says who calls and what they may do.
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
	Hash       []byte // SHA-256 of the secret
	ExpiresAt  *time.Time
	LastUsedAt *time.Time
	CreatedAt  time.Time
}

// Principal is an authenticated caller.
type Principal struct {
	TokenID string
	Name    string
	Role    Role
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
