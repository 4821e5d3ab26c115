package rpc

import (
	"context"

	"google.golang.org/protobuf/types/known/emptypb"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/internal/location"
)

type locationServer struct {
	pb.UnimplementedStorageLocationServiceServer

	locations Locations
	files     Files
	imports   Imports
}

func (s *locationServer) ListStorageLocations(ctx context.Context, req *pb.ListStorageLocationsRequest) (*pb.ListStorageLocationsResponse, error) {
	page := pageOf(req)
	filter := location.Filter{Type: fromEnum[location.Type](req.GetType()), Status: fromEnum[location.Status](req.GetStatus())}
	rows, total, err := s.locations.List(ctx, filter, page)
	if err != nil {
		return nil, err
	}
	return &pb.ListStorageLocationsResponse{Data: mapped(rows, locationRow), Pagination: pagination(page, total)}, nil
}

func (s *locationServer) CreateStorageLocation(ctx context.Context, req *pb.CreateStorageLocationRequest) (*pb.StorageLocation, error) {
	l, err := s.locations.Create(ctx, location.New{
		Name: req.GetName(), Type: fromEnum[location.Type](req.GetType()), Config: configFrom(req.GetConfig()), IsDefault: req.IsDefault,
	})
	if err != nil {
		return nil, err
	}
	return locationDetail(l)
}

func (s *locationServer) GetStorageLocation(ctx context.Context, req *pb.GetStorageLocationRequest) (*pb.StorageLocation, error) {
	l, err := s.locations.Get(ctx, req.GetId())
	if err != nil {
		return nil, err
	}
	return locationDetail(l)
}

func (s *locationServer) UpdateStorageLocation(ctx context.Context, req *pb.UpdateStorageLocationRequest) (*pb.StorageLocation, error) {
	l, err := s.locations.Update(ctx, req.GetId(), location.Patch{
		Name: req.Name, Type: fromEnum[location.Type](req.GetType()), Config: configFrom(req.GetConfig()), IsDefault: req.IsDefault,
	})
	if err != nil {
		return nil, err
	}
	return locationDetail(l)
}

func (s *locationServer) DeleteStorageLocation(ctx context.Context, req *pb.DeleteStorageLocationRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, s.locations.Delete(ctx, req.GetId())
}

func (s *locationServer) TestStorageConfig(ctx context.Context, req *pb.TestStorageConfigRequest) (*pb.TestStorageResponse, error) {
	result, err := s.locations.TestConfig(ctx, fromEnum[location.Type](req.GetType()), configFrom(req.GetConfig()))
	if err != nil {
		return nil, err
	}
	return locationTest(result), nil
}

func (s *locationServer) TestStorageLocation(ctx context.Context, req *pb.TestStorageLocationRequest) (*pb.TestStorageResponse, error) {
	result, err := s.locations.Test(ctx, req.GetId())
	if err != nil {
		return nil, err
	}
	return locationTest(result), nil
}
