package rpc

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/types/known/structpb"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/internal/datasource"
)

func (s *datasourceServer) GetDatasourceSchema(ctx context.Context, req *pb.GetDatasourceSchemaRequest) (*pb.GetDatasourceSchemaResponse, error) {
	found, err := s.datasources.Schema(ctx, req.GetId())
	if err != nil {
		return nil, err
	}
	return &pb.GetDatasourceSchemaResponse{Schemas: mapped(found, schema)}, nil
}

func schema(s datasource.Schema) *pb.Schema {
	return &pb.Schema{Name: s.Name, Tables: mapped(s.Tables, func(t datasource.Table) *pb.Table {
		return &pb.Table{Name: t.Name, Columns: mapped(t.Columns, column)}
	})}
}

func column(c datasource.Column) *pb.Column {
	return &pb.Column{
		Name: c.Name, Type: c.Type, Nullable: c.Nullable, PrimaryKey: c.PrimaryKey, Unique: c.Unique,
		ForeignKey: c.ForeignKey, DefaultValue: c.Default,
	}
}

func (s *datasourceServer) QueryDatasource(ctx context.Context, req *pb.QueryDatasourceRequest) (*pb.QueryDatasourceResponse, error) {
	r, err := s.datasources.Query(ctx, req.GetId(), req.GetSql())
	if err != nil {
		return nil, err
	}
	rows, err := tryMapped(r.Rows, structpb.NewList)
	if err != nil {
		return nil, fmt.Errorf("a value that JSON cannot hold: %w", err)
	}
	return &pb.QueryDatasourceResponse{
		Columns: r.Columns, Rows: rows, RowCount: count(len(r.Rows)), ExecutionTime: count(int(r.Took.Milliseconds())), Message: some(r.Message),
	}, nil
}
