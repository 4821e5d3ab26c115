package store

import (
	"context"

	"github.com/dataguardian/dataguardian/internal/auth"
	"github.com/dataguardian/dataguardian/internal/paging"
	"github.com/dataguardian/dataguardian/internal/store/db"
)

const tokenNoun = "token"

type tokens struct{ *Store }

var _ auth.TokenStore = tokens{}

// Tokens keeps API tokens.
func (s *Store) Tokens() auth.TokenStore { return tokens{s} }

func (s tokens) Create(ctx context.Context, t auth.Token) (auth.Token, error) {
	row, err := s.q.CreateToken(ctx, db.CreateTokenParams{ID: t.ID, Name: t.Name, Role: t.Role.String(), Hash: t.Hash, ExpiresAt: t.ExpiresAt, Scope: tags(t.Scope)})
	if err != nil {
		return auth.Token{}, failure(err)
	}
	return token(row), nil
}

func (s tokens) Get(ctx context.Context, id string) (auth.Token, error) {
	row, err := s.q.GetToken(ctx, id)
	if err != nil {
		return auth.Token{}, missing(err, tokenNoun, id)
	}
	return token(row), nil
}

func (s tokens) List(ctx context.Context, p paging.Page) ([]auth.Token, int, error) {
	total, err := s.q.CountTokens(ctx)
	if err != nil {
		return nil, 0, failure(err)
	}
	limit, offset := window(p)
	rows, err := s.q.ListTokens(ctx, db.ListTokensParams{PageLimit: limit, PageOffset: offset})
	if err != nil {
		return nil, 0, failure(err)
	}
	return each(rows, token), int(total), nil
}

func (s tokens) Revoke(ctx context.Context, id string) error {
	revoked, err := s.q.RevokeToken(ctx, id)
	return none(revoked, err, tokenNoun, id)
}

func (s tokens) Touch(ctx context.Context, id string) error {
	touched, err := s.q.TouchToken(ctx, id)
	return none(touched, err, tokenNoun, id)
}

func (s tokens) Any(ctx context.Context) (bool, error) {
	some, err := s.q.AnyToken(ctx)
	return some, failure(err)
}

// token is a row as a token. An unknown role is nobody.
func token(row db.Token) auth.Token {
	role, _ := auth.ParseRole(row.Role)
	return auth.Token{
		ID: row.ID, Name: row.Name, Role: role, Scope: row.Scope, Hash: row.Hash, ExpiresAt: row.ExpiresAt, LastUsedAt: row.LastUsedAt, CreatedAt: row.CreatedAt,
	}
}
