package rpc

import (
	"context"
	"net/http"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/emptypb"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/internal/auth"
)

// SessionCookie is the name of the cookie that holds a session.
const SessionCookie = "dg_session"

type authServer struct {
	pb.UnimplementedAuthServiceServer

	tokens Tokens
	users  Users
	keys   Keys
	oidc   bool
}

func (s *authServer) GetAuthStatus(ctx context.Context, _ *pb.GetAuthStatusRequest) (*pb.GetAuthStatusResponse, error) {
	some, err := s.users.HasUser(ctx)
	if err != nil {
		return nil, err
	}
	p, authenticated := PrincipalOf(ctx)
	answer := &pb.GetAuthStatusResponse{HasUser: some, Authenticated: authenticated, Oidc: s.oidc}
	if p.UserID != "" {
		answer.User = &pb.User{Username: p.Name, Role: toRole(p.Role).Enum()}
	}
	return answer, nil
}

func (s *authServer) SetupFirstUser(ctx context.Context, req *pb.SetupFirstUserRequest) (*pb.SessionResponse, error) {
	u, session, err := s.users.Setup(ctx, req.GetUsername(), req.GetPassword(), OriginOf(ctx).Address)
	return begun(ctx, u, session, "the first user was made; you are logged in", err)
}

func (s *authServer) Login(ctx context.Context, req *pb.LoginRequest) (*pb.SessionResponse, error) {
	u, session, err := s.users.Login(ctx, req.GetUsername(), req.GetPassword(), OriginOf(ctx).Address)
	return begun(ctx, u, session, "you are logged in", err)
}

// begun hands a new session out as a cookie.
func begun(ctx context.Context, u auth.User, session, message string, err error) (*pb.SessionResponse, error) {
	OriginOf(ctx).Actor = u.Username
	if err != nil {
		return nil, err
	}
	if err := setCookie(ctx, NewSessionCookie(session, OriginOf(ctx).Secure)); err != nil {
		return nil, err
	}
	return &pb.SessionResponse{Message: message, User: &pb.User{Username: u.Username, Role: toRole(u.Role).Enum()}}, nil
}

// NewSessionCookie returns the cookie of a session. It lives as long as the browser
// wants: the server knows when the session ends.
func NewSessionCookie(session string, secure bool) *http.Cookie {
	return &http.Cookie{Name: SessionCookie, Value: session, Path: "/", HttpOnly: true, Secure: secure, SameSite: http.SameSiteStrictMode} //nolint:gosec // Secure follows the connection: sessions work over plain loopback too
}

func setCookie(ctx context.Context, c *http.Cookie) error {
	return grpc.SetHeader(ctx, metadata.Pairs("set-cookie", c.String()))
}

func dropCookie(ctx context.Context) error {
	c := NewSessionCookie("", OriginOf(ctx).Secure) //nolint:gosec // Secure follows the connection: sessions work over plain loopback too
	c.MaxAge = -1
	return setCookie(ctx, c)
}

func (s *authServer) Logout(ctx context.Context, _ *pb.LogoutRequest) (*pb.LogoutResponse, error) {
	p, _ := PrincipalOf(ctx) // there is one: the RPC asks for a role
	if err := s.users.Logout(ctx, p); err != nil {
		return nil, err
	}
	return &pb.LogoutResponse{Message: "you are logged out"}, dropCookie(ctx)
}

func (s *authServer) GetMe(ctx context.Context, _ *pb.GetMeRequest) (*pb.GetMeResponse, error) {
	p, _ := PrincipalOf(ctx) // there is one: the RPC asks for a role
	return &pb.GetMeResponse{User: &pb.User{Username: p.Name, Role: toRole(p.Role).Enum()}}, nil
}

func (s *authServer) ChangePassword(ctx context.Context, req *pb.ChangePasswordRequest) (*pb.ChangePasswordResponse, error) {
	p, _ := PrincipalOf(ctx) // there is one: the RPC asks for a role
	if err := s.users.ChangePassword(ctx, p, req.GetCurrentPassword(), req.GetNewPassword(), OriginOf(ctx).Address); err != nil {
		return nil, err
	}
	return &pb.ChangePasswordResponse{Message: "the password was changed and every session of yours has ended; log in again"}, dropCookie(ctx)
}

func (s *authServer) ListTokens(ctx context.Context, req *pb.ListTokensRequest) (*pb.ListTokensResponse, error) {
	page := pageOf(req)
	rows, total, err := s.tokens.List(ctx, page)
	if err != nil {
		return nil, err
	}
	return &pb.ListTokensResponse{Data: mapped(rows, token), Pagination: pagination(page, total)}, nil
}

func (s *authServer) CreateToken(ctx context.Context, req *pb.CreateTokenRequest) (*pb.CreateTokenResponse, error) {
	t, secret, err := s.tokens.Create(ctx, req.GetName(), roleFrom(req.GetRole()), req.GetScope(), timeFrom(req.GetExpiresAt()))
	if err != nil {
		return nil, err
	}
	return &pb.CreateTokenResponse{
		Id: t.ID, Name: t.Name, Role: toRole(t.Role), ExpiresAt: timestamp(t.ExpiresAt), Token: secret, CreatedAt: moment(t.CreatedAt), Scope: t.Scope,
	}, nil
}

func (s *authServer) RevokeToken(ctx context.Context, req *pb.RevokeTokenRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, s.tokens.Revoke(ctx, req.GetId())
}

func (s *authServer) ListUsers(ctx context.Context, req *pb.ListUsersRequest) (*pb.ListUsersResponse, error) {
	page := pageOf(req)
	rows, total, err := s.users.ListUsers(ctx, page)
	if err != nil {
		return nil, err
	}
	return &pb.ListUsersResponse{Data: mapped(rows, account), Pagination: pagination(page, total)}, nil
}

func (s *authServer) CreateUser(ctx context.Context, req *pb.CreateUserRequest) (*pb.Account, error) {
	u, err := s.users.CreateUser(ctx, req.GetUsername(), req.GetPassword(), roleFrom(req.GetRole()))
	if err != nil {
		return nil, err
	}
	return account(u), nil
}

func (s *authServer) UpdateUser(ctx context.Context, req *pb.UpdateUserRequest) (*pb.Account, error) {
	var role *auth.Role
	if req.GetRole() != pb.Access_role_unspecified {
		role = new(roleFrom(req.GetRole()))
	}
	u, err := s.users.UpdateUser(ctx, req.GetId(), role, req.Password)
	if err != nil {
		return nil, err
	}
	return account(u), nil
}

func (s *authServer) DeleteUser(ctx context.Context, req *pb.DeleteUserRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, s.users.DeleteUser(ctx, req.GetId())
}

func account(u auth.User) *pb.Account {
	return &pb.Account{
		Id: u.ID, Username: u.Username, Role: toRole(u.Role), External: u.Subject != "", LastLoginAt: timestamp(u.LastLoginAt),
		CreatedAt: moment(u.CreatedAt), UpdatedAt: moment(u.UpdatedAt),
	}
}

func (s *authServer) RotateKey(ctx context.Context, req *pb.RotateKeyRequest) (*pb.RotateKeyResponse, error) {
	r, err := s.keys.Rotate(ctx, req.GetPrepareOnly(), req.GetDropOld())
	if err != nil {
		return nil, err
	}
	return &pb.RotateKeyResponse{KeyId: r.KeyID, Resealed: count(r.Resealed), Keys: count(r.Keys), KeyFile: r.Path, Message: r.Message}, nil
}
