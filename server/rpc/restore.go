package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/internal/execution"
)

// chunkBytes is how much of a download one message carries.
const chunkBytes = 256 << 10

func (s *backupServer) RestoreBackup(ctx context.Context, req *pb.RestoreBackupRequest) (*pb.RestoreBackupResponse, error) {
	e, target, err := s.restores.Restore(ctx, req.GetExecutionId(), execution.RestoreOrder{
		TargetDatasourceID: req.GetTargetDatasourceId(), Confirm: req.GetConfirm(),
		RestoreRequest: execution.RestoreRequest{
			StorageLocationID: req.GetStorageLocationId(), TargetDatabase: req.GetTargetDatabase(),
			DropExisting:     req.DropExisting == nil || req.GetDropExisting(),
			VerificationMode: req.GetVerificationMode(), KeepVerificationDatabase: req.GetKeepVerificationDatabase(),
			IncludeTables: req.GetIncludeTables(), Identity: req.GetIdentity(),
			WithOwners: req.GetWithOwners(), WithPrivileges: req.GetWithPrivileges(), ParallelJobs: int(req.GetParallelJobs()),
		},
	})
	if err != nil {
		return nil, err
	}
	return &pb.RestoreBackupResponse{
		Message:     "the restore is queued; follow it at /api/executions/" + e.ID + "/logs/stream",
		ExecutionId: e.ID, SourceExecutionId: req.GetExecutionId(), DatasourceId: target.ID, DatasourceName: target.Name,
		DatasourceType: toEnum[pb.Datasource_Type](target.Type), Status: toEnum[pb.Execution_Status](e.Status), StartedAt: timestamp(e.StartedAt),
	}, nil
}

func (s *backupServer) VerifyBackup(ctx context.Context, req *pb.VerifyBackupRequest) (*pb.VerifyBackupResponse, error) {
	e, err := s.restores.VerifyBackup(ctx, req.GetExecutionId(), req.GetStorageLocationId(), req.GetIdentity())
	if err != nil {
		return nil, err
	}
	return &pb.VerifyBackupResponse{
		ExecutionId: e.ID, SourceExecutionId: req.GetExecutionId(), Status: toEnum[pb.Execution_Status](e.Status),
		Message: "the verification is queued; follow it at /api/executions/" + e.ID + "/logs/stream",
	}, nil
}

// DownloadBackup sends its header when the backup is open: what fails before is
// an ordinary error, what fails after breaks the stream.
func (s *backupServer) DownloadBackup(req *pb.DownloadBackupRequest, stream grpc.ServerStreamingServer[httpbody.HttpBody]) error {
	d, err := s.downloads.Download(stream.Context(), req.GetExecutionId(), req.GetStorageLocationId())
	if err != nil {
		return err
	}
	if err := stream.SetHeader(metadata.Pairs("content-disposition", fmt.Sprintf("attachment; filename=%q", d.Name))); err != nil {
		return errors.Join(err, d.Close())
	}
	return errors.Join(sendAll(stream, d, "application/x-tar"), d.Close())
}

// sendAll sends a body in messages of about chunkBytes, at least one, which brings
// the type. Only the bare io.EOF is its end: a body that broke off must not look
// whole.
func sendAll(stream grpc.ServerStreamingServer[httpbody.HttpBody], body io.Reader, contentType string) error {
	for first := true; ; first = false {
		chunk := make([]byte, chunkBytes) // a message may still be under way when the next is read
		n, err := fill(body, chunk)
		if n > 0 || first && err == io.EOF { //nolint:errorlint // one that is wrapped is a failure
			if err := stream.Send(&httpbody.HttpBody{ContentType: contentType, Data: chunk[:n]}); err != nil {
				return err
			}
		}
		if err == io.EOF { //nolint:errorlint // as above
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// fill reads until chunk is full or the body ends.
func fill(body io.Reader, chunk []byte) (n int, err error) {
	for n < len(chunk) && err == nil {
		var m int
		m, err = body.Read(chunk[n:])
		n += m
	}
	return n, err
}
