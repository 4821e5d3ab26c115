package rpc

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/emptypb"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/internal/execution"
)

// StreamHeader marks the header of a stream that has begun: whatever comes next,
// the request was good. The REST side sends its response head when it sees it.
const StreamHeader = "dataguardian-stream"

type executionServer struct {
	pb.UnimplementedExecutionServiceServer

	executions Executions
	watches    Watches
	restores   Restores
}

func (s *executionServer) ListExecutions(ctx context.Context, req *pb.ListExecutionsRequest) (*pb.ListExecutionsResponse, error) {
	page := pageOf(req)
	filter := execution.Filter{
		JobID: req.GetJobId(), DatasourceID: req.GetDatasourceId(), StorageLocationID: req.GetStorageLocationId(),
		Status: fromEnum[execution.Status](req.GetStatus()), Operation: fromEnum[execution.Operation](req.GetOperation()),
		From: timeFrom(req.GetFrom()), To: timeFrom(req.GetTo()),
	}
	rows, total, err := s.executions.List(ctx, filter, page)
	if err != nil {
		return nil, err
	}
	data, err := tryMapped(rows, executionRow)
	if err != nil {
		return nil, err
	}
	return &pb.ListExecutionsResponse{Data: data, Pagination: pagination(page, total)}, nil
}

func (s *executionServer) GetExecution(ctx context.Context, req *pb.GetExecutionRequest) (*pb.Execution, error) {
	e, err := s.executions.Get(ctx, req.GetId())
	if err != nil {
		return nil, err
	}
	return executionDetail(e)
}

func (s *executionServer) DeleteExecution(ctx context.Context, req *pb.DeleteExecutionRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, s.executions.Delete(ctx, req.GetId(), req.GetForce())
}

func (s *executionServer) GetExecutionLogs(ctx context.Context, req *pb.GetExecutionLogsRequest) (*pb.GetExecutionLogsResponse, error) {
	e, err := s.executions.Logs(ctx, req.GetId())
	if err != nil {
		return nil, err
	}
	return executionLogs(e), nil
}

// StreamExecutionLogs sends its header as soon as it knows the execution, which
// may be long before the first line.
func (s *executionServer) StreamExecutionLogs(req *pb.StreamExecutionLogsRequest, stream grpc.ServerStreamingServer[pb.StreamExecutionLogsResponse]) error {
	ctx := stream.Context()
	for event, err := range s.executions.Follow(ctx, req.GetId(), req.GetAfter()) {
		if err != nil {
			return err
		}
		if event.Open {
			err = stream.SendHeader(metadata.Pairs(StreamHeader, "open"))
		} else if message := tailEvent(event); message != nil {
			err = stream.Send(message)
		}
		if err != nil {
			return err
		}
		if event.End != nil {
			return nil
		}
	}
	return context.Cause(ctx) // a tail that ends without an End was cut off
}

// WatchExecutions sends its header with the first event, which comes at once.
func (s *executionServer) WatchExecutions(req *pb.WatchExecutionsRequest, stream grpc.ServerStreamingServer[pb.WatchExecutionsResponse]) error {
	ctx := stream.Context()
	begun := false
	for event, err := range s.watches.Watch(ctx, execution.WatchRequest{
		JobID: req.GetJobId(), DatasourceID: req.GetDatasourceId(), Operation: fromEnum[execution.Operation](req.GetOperation()),
		Lines: req.GetIncludeLogs(), After: req.GetAfter(),
	}) {
		if err != nil {
			return err
		}
		if !begun {
			begun = true
			if err := stream.SendHeader(metadata.Pairs(StreamHeader, "open")); err != nil {
				return err
			}
		}
		if err := stream.Send(executionEvent(event)); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

func (s *executionServer) CancelExecution(ctx context.Context, req *pb.CancelExecutionRequest) (*pb.CancelExecutionResponse, error) {
	status, err := s.executions.Cancel(ctx, req.GetId())
	if err != nil {
		return nil, err
	}
	message := "the worker has been asked to stop and will within seconds"
	if status.Terminal() {
		message = "the execution was cancelled before a worker took it"
	}
	return &pb.CancelExecutionResponse{Id: req.GetId(), Status: toEnum[pb.Execution_Status](status), Message: message}, nil
}

func (s *executionServer) RetryUpload(ctx context.Context, req *pb.RetryUploadRequest) (*pb.RetryUploadResponse, error) {
	e, err := s.restores.RetryUpload(ctx, req.GetId())
	if err != nil {
		return nil, err
	}
	return &pb.RetryUploadResponse{
		ExecutionId: e.ID, Status: toEnum[pb.Execution_Status](e.Status),
		Message: "the worker that keeps the dump sends what is missing; follow it at /api/executions/" + e.ID + "/logs/stream",
	}, nil
}
