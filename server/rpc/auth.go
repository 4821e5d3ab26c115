package rpc

import (
	"context"

	"google.golang.org/protobuf/types/known/emptypb"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
)

type authServer struct {
	pb.UnimplementedAuthServiceServer

	tokens Tokens
}

// GetAuthStatus knows no users yet: every good credential is a token's.
func (s *authServer) GetAuthStatus(ctx context.Context, _ *pb.GetAuthStatusRequest) (*pb.GetAuthStatusResponse, error) {
	_, authenticated := PrincipalOf(ctx)
	return &pb.GetAuthStatusResponse{HasUser: false, Authenticated: authenticated}, nil
}

func (s *authServer) GetMe(ctx context.Context, _ *pb.GetMeRequest) (*pb.GetMeResponse, error) {
	p, _ := PrincipalOf(ctx) // there is one: the RPC asks for a role
	return &pb.GetMeResponse{User: &pb.User{Username: p.Name, Role: toRole(p.Role).Enum()}}, nil
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
	t, secret, err := s.tokens.Create(ctx, req.GetName(), roleFrom(req.GetRole()), timeFrom(req.GetExpiresAt()))
	if err != nil {
		return nil, err
	}
	return &pb.CreateTokenResponse{
		Id: t.ID, Name: t.Name, Role: toRole(t.Role), ExpiresAt: timestamp(t.ExpiresAt), Token: secret, CreatedAt: moment(t.CreatedAt),
	}, nil
}

func (s *authServer) RevokeToken(ctx context.Context, req *pb.RevokeTokenRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, s.tokens.Revoke(ctx, req.GetId())
}
