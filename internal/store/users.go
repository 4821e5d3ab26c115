package store

import (
	"context"
	"time"

	"github.com/dataguardian/dataguardian/internal/auth"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/paging"
	"github.com/dataguardian/dataguardian/internal/store/db"
)

const userNoun = "user"

type users struct{ *Store }

var _ auth.UserStore = users{}

// Users keeps users.
func (s *Store) Users() auth.UserStore { return users{s} }

func (s users) Any(ctx context.Context) (bool, error) {
	some, err := s.q.AnyUser(ctx)
	return some, failure(err)
}

func (s users) First(ctx context.Context, u auth.User) (made auth.User, err error) {
	err = s.tx(ctx, func(q *db.Queries) error {
		if err := q.LockUsers(ctx); err != nil {
			return err
		}
		some, err := q.AnyUser(ctx)
		if err == nil && some {
			err = auth.ErrSetupDone
		}
		if err != nil {
			return err
		}
		made, err = createUser(ctx, q, u)
		return err
	})
	return made, err
}

func (s users) Create(ctx context.Context, u auth.User) (auth.User, error) {
	return createUser(ctx, s.q, u)
}

func createUser(ctx context.Context, q *db.Queries, u auth.User) (auth.User, error) {
	row, err := q.CreateUser(ctx, db.CreateUserParams{
		ID: u.ID, Username: u.Username, Role: u.Role.String(), PasswordHash: u.PasswordHash, Subject: filter(u.Subject),
	})
	if err != nil {
		return auth.User{}, failure(err)
	}
	return user(row), nil
}

func (s users) Get(ctx context.Context, id string) (auth.User, error) {
	row, err := s.q.GetUser(ctx, id)
	if err != nil {
		return auth.User{}, missing(err, userNoun, id)
	}
	return user(row), nil
}

// ByName takes what people type: a name that cannot be stored is nobody's.
func (s users) ByName(ctx context.Context, username string) (auth.User, error) {
	row, err := s.q.UserByName(ctx, storable(username))
	if err != nil {
		return auth.User{}, failure(err)
	}
	return user(row), nil
}

func (s users) BySubject(ctx context.Context, subject string) (auth.User, error) {
	row, err := s.q.UserBySubject(ctx, filter(subject))
	if err != nil {
		return auth.User{}, failure(err)
	}
	return user(row), nil
}

func (s users) List(ctx context.Context, p paging.Page) ([]auth.User, int, error) {
	total, err := s.q.CountUsers(ctx)
	if err != nil {
		return nil, 0, failure(err)
	}
	limit, offset := window(p)
	rows, err := s.q.ListUsers(ctx, db.ListUsersParams{PageLimit: limit, PageOffset: offset})
	if err != nil {
		return nil, 0, failure(err)
	}
	return each(rows, user), int(total), nil
}

func (s users) Update(ctx context.Context, id string, change func(*auth.User)) (changed auth.User, err error) {
	err = s.tx(ctx, func(q *db.Queries) error {
		u, err := lockUser(ctx, q, id)
		if err != nil {
			return err
		}
		was := u.Role
		change(&u)
		if was == auth.Admin && u.Role != auth.Admin {
			if err := notTheLastAdmin(ctx, q, u); err != nil {
				return err
			}
		}
		row, err := q.SaveUser(ctx, db.SaveUserParams{ID: id, Role: u.Role.String(), PasswordHash: u.PasswordHash})
		if err != nil {
			return err
		}
		changed = user(row)
		_, err = q.EndSessionsOfUser(ctx, id)
		return err
	})
	return changed, err
}

func (s users) Delete(ctx context.Context, id string) error {
	return s.tx(ctx, func(q *db.Queries) error {
		u, err := lockUser(ctx, q, id)
		if err != nil {
			return err
		}
		if u.Role == auth.Admin {
			if err := notTheLastAdmin(ctx, q, u); err != nil {
				return err
			}
		}
		deleted, err := q.DeleteUser(ctx, id)
		return none(deleted, err, userNoun, id)
	})
}

// lockUser reads a user whom nobody else changes until the end of the transaction.
func lockUser(ctx context.Context, q *db.Queries, id string) (auth.User, error) {
	if err := q.LockUsers(ctx); err != nil {
		return auth.User{}, err
	}
	row, err := q.GetUser(ctx, id)
	if err != nil {
		return auth.User{}, missing(err, userNoun, id)
	}
	return user(row), nil
}

func notTheLastAdmin(ctx context.Context, q *db.Queries, u auth.User) error {
	others, err := q.OtherAdmins(ctx, u.ID)
	if err == nil && others == 0 {
		return errs.New(errs.Conflict, auth.CodeLastAdministrator, "%q is the last administrator; make another one first", u.Username)
	}
	return err
}

// user is a row as a user. An unknown role is nobody.
func user(row db.User) auth.User {
	role, _ := auth.ParseRole(row.Role)
	return auth.User{
		ID: row.ID, Username: row.Username, Role: role, PasswordHash: row.PasswordHash, Subject: text(row.Subject),
		LastLoginAt: row.LastLoginAt, CreatedAt: row.CreatedAt, UpdatedAt: row.UpdatedAt,
	}
}

type sessions struct{ *Store }

var _ auth.SessionStore = sessions{}

// Sessions keeps sessions.
func (s *Store) Sessions() auth.SessionStore { return sessions{s} }

func (s sessions) Begin(ctx context.Context, n auth.Session, lifetime time.Duration) error {
	return s.tx(ctx, func(q *db.Queries) error {
		err := q.CreateSession(ctx, db.CreateSessionParams{ID: n.ID, UserID: n.UserID, Hash: n.Hash, Address: storable(n.Address), Lifetime: lifetime})
		if err != nil {
			return err
		}
		if err := q.EndOldestSessions(ctx, db.EndOldestSessionsParams{UserID: n.UserID, Keep: auth.MaxSessions}); err != nil {
			return err
		}
		return q.StampLogin(ctx, n.UserID)
	})
}

func (s sessions) Addresses(ctx context.Context, username string, idle time.Duration) ([]string, error) {
	addresses, err := s.q.SessionAddresses(ctx, db.SessionAddressesParams{Username: storable(username), Idle: idle})
	return addresses, failure(err)
}

func (s sessions) Get(ctx context.Context, id string, idle time.Duration) (auth.Session, auth.User, error) {
	row, err := s.q.GetSession(ctx, db.GetSessionParams{ID: id, Idle: idle})
	if err != nil {
		return auth.Session{}, auth.User{}, missing(err, sessionNoun, id)
	}
	role, _ := auth.ParseRole(row.Role)
	return auth.Session{ID: row.ID, UserID: row.UserID, Hash: row.Hash}, auth.User{ID: row.UserID, Username: row.Username, Role: role}, nil
}

const sessionNoun = "session"

func (s sessions) Touch(ctx context.Context, id string) error {
	touched, err := s.q.TouchSession(ctx, id)
	return none(touched, err, sessionNoun, id)
}

func (s sessions) End(ctx context.Context, id string) error {
	ended, err := s.q.EndSession(ctx, id)
	return none(ended, err, sessionNoun, id)
}

func (s sessions) Prune(ctx context.Context, idle time.Duration) error {
	_, err := s.q.PruneSessions(ctx, idle)
	return failure(err)
}
