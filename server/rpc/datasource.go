package rpc

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/structpb"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/internal/datasource"
	"github.com/dataguardian/dataguardian/internal/errs"
)

type datasourceServer struct {
	pb.UnimplementedDatasourceServiceServer

	datasources Datasources
}

func (s *datasourceServer) ListDatasources(ctx context.Context, req *pb.ListDatasourcesRequest) (*pb.ListDatasourcesResponse, error) {
	page := pageOf(req)
	filter := datasource.Filter{Status: fromEnum[datasource.Status](req.GetStatus()), Enabled: req.Enabled, Tag: req.GetTag()}
	setWord(&filter.Type, req.GetType())
	rows, total, err := s.datasources.List(ctx, filter, page)
	if err != nil {
		return nil, err
	}
	return &pb.ListDatasourcesResponse{Data: mapped(rows, datasourceRow), Pagination: pagination(page, total)}, nil
}

func (s *datasourceServer) CreateDatasource(ctx context.Context, req *pb.CreateDatasourceRequest) (*pb.Datasource, error) {
	n := datasource.New{
		Name: req.GetName(), Config: configFrom(req.GetConnectionConfig()), Enabled: req.Enabled,
		Tags: req.GetTags(), Protected: req.GetProtected(),
	}
	setWord(&n.Type, req.GetType())
	d, err := s.datasources.Create(ctx, n)
	if err != nil {
		return nil, err
	}
	return datasourceDetail(d)
}

func (s *datasourceServer) GetDatasource(ctx context.Context, req *pb.GetDatasourceRequest) (*pb.Datasource, error) {
	d, err := s.datasources.Get(ctx, req.GetId())
	if err != nil {
		return nil, err
	}
	return datasourceDetail(d)
}

func (s *datasourceServer) UpdateDatasource(ctx context.Context, req *pb.UpdateDatasourceRequest) (*pb.Datasource, error) {
	p := datasource.Patch{Name: req.Name, Config: configFrom(req.GetConnectionConfig()), Enabled: req.Enabled, Protected: req.Protected}
	setWord(&p.Type, req.GetType())
	if req.GetTags() != nil {
		tags, fields := readTags(req.GetTags())
		if len(fields) > 0 {
			return nil, errs.InvalidFields(errs.CodeValidation, fields...)
		}
		p.Tags = &tags
	}
	d, err := s.datasources.Update(ctx, req.GetId(), p)
	if err != nil {
		return nil, err
	}
	return datasourceDetail(d)
}

func (s *datasourceServer) DeleteDatasource(ctx context.Context, req *pb.DeleteDatasourceRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, s.datasources.Delete(ctx, req.GetId())
}

func (s *datasourceServer) TestDatasource(ctx context.Context, req *pb.TestDatasourceRequest) (*pb.TestDatasourceResponse, error) {
	result, err := s.datasources.Test(ctx, req.GetId())
	if err != nil {
		return nil, err
	}
	return datasourceTest(result), nil
}

// Limits of the tags of a datasource, as CreateDatasourceRequest declares them.
const (
	maxTags    = 50
	maxTagSize = 100
)

// readTags reads the list of tags of an update, whose presence counts.
func readTags(list *structpb.ListValue) ([]string, []errs.Field) {
	if len(list.GetValues()) > maxTags {
		return nil, []errs.Field{{Field: "tags", Message: fmt.Sprintf("must hold at most %d tags", maxTags)}}
	}
	tags := make([]string, 0, len(list.GetValues()))
	var fields []errs.Field
	for i, value := range list.GetValues() {
		tag, ok := value.GetKind().(*structpb.Value_StringValue)
		if !ok || tag.StringValue == "" || len([]rune(tag.StringValue)) > maxTagSize {
			fields = append(fields, errs.Field{Field: fmt.Sprintf("tags[%d]", i), Message: fmt.Sprintf("must be a string of 1 to %d characters", maxTagSize)})
			continue
		}
		tags = append(tags, tag.StringValue)
	}
	return tags, fields
}
