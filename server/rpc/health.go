package rpc

import (
	"context"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/internal/health"
)

type healthServer struct {
	pb.UnimplementedHealthServiceServer

	health Health
}

func (s *healthServer) GetHealth(ctx context.Context, _ *pb.GetHealthRequest) (*pb.Health, error) {
	return healthReport(s.health.Get(ctx)), nil
}

func (s *healthServer) ListDatasourceHealth(ctx context.Context, req *pb.ListDatasourceHealthRequest) (*pb.ListDatasourceHealthResponse, error) {
	page := pageOf(req)
	filter := health.CheckFilter{EntityID: req.GetDatasourceId(), From: timeFrom(req.GetFrom()), To: timeFrom(req.GetTo())}
	rows, total, err := s.health.Datasources(ctx, filter, page)
	if err != nil {
		return nil, err
	}
	data, err := tryMapped(rows, datasourceCheck)
	if err != nil {
		return nil, err
	}
	return &pb.ListDatasourceHealthResponse{Data: data, Pagination: pagination(page, total)}, nil
}

func (s *healthServer) ListStorageHealth(ctx context.Context, req *pb.ListStorageHealthRequest) (*pb.ListStorageHealthResponse, error) {
	page := pageOf(req)
	filter := health.CheckFilter{EntityID: req.GetStorageLocationId(), From: timeFrom(req.GetFrom()), To: timeFrom(req.GetTo())}
	rows, total, err := s.health.Storages(ctx, filter, page)
	if err != nil {
		return nil, err
	}
	return &pb.ListStorageHealthResponse{Data: mapped(rows, storageCheck), Pagination: pagination(page, total)}, nil
}
