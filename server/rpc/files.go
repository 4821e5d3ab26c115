package rpc

import (
	"context"
	"errors"
	"mime"

	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/internal/explorer"
)

// Files is what the RPCs ask of the files in storage locations; *explorer.Explorer
// has it.
type Files interface {
	List(ctx context.Context, locationID, folder string) (explorer.Folder, error)
	Delete(ctx context.Context, locationID, path string, force bool) error
	Copy(ctx context.Context, locationID, from, to string) (explorer.Entry, error)
	Open(ctx context.Context, locationID, path string) (*explorer.Download, error)
}

func (s *locationServer) ListStorageFiles(ctx context.Context, req *pb.ListStorageFilesRequest) (*pb.ListStorageFilesResponse, error) {
	folder, err := s.files.List(ctx, req.GetId(), req.GetPath())
	if err != nil {
		return nil, err
	}
	return &pb.ListStorageFilesResponse{
		StorageLocationId: folder.LocationID, CurrentPath: folder.Path, ParentPath: folder.Parent, RootLabel: folder.RootLabel,
		Entries: mapped(folder.Entries, storageFile), Truncated: folder.Truncated,
	}, nil
}

func storageFile(e explorer.Entry) *pb.StorageFile {
	if e.Folder {
		return &pb.StorageFile{Name: e.Name, Path: e.Path, Kind: pb.StorageFile_folder}
	}
	return &pb.StorageFile{Name: e.Name, Path: e.Path, Kind: pb.StorageFile_file, SizeBytes: proto.Int64(e.Size), ModifiedAt: moment(e.Modified)}
}

func (s *locationServer) DeleteStorageFile(ctx context.Context, req *pb.DeleteStorageFileRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, s.files.Delete(ctx, req.GetId(), req.GetPath(), req.GetForce())
}

func (s *locationServer) CopyStorageFile(ctx context.Context, req *pb.CopyStorageFileRequest) (*pb.StorageFile, error) {
	made, err := s.files.Copy(ctx, req.GetId(), req.GetSourcePath(), req.GetDestinationPath())
	if err != nil {
		return nil, err
	}
	return storageFile(made), nil
}

// DownloadStorageFile sends its header when the file is open, as DownloadBackup
// does.
func (s *locationServer) DownloadStorageFile(req *pb.DownloadStorageFileRequest, stream grpc.ServerStreamingServer[httpbody.HttpBody]) error {
	d, err := s.files.Open(stream.Context(), req.GetId(), req.GetPath())
	if err != nil {
		return err
	}
	if err := stream.SetHeader(metadata.Pairs("content-disposition", attachment(d.Name))); err != nil {
		return errors.Join(err, d.Close())
	}
	return errors.Join(sendAll(stream, d, "application/octet-stream"), d.Close())
}

// attachment names a download; names beyond ASCII are encoded.
func attachment(name string) string {
	if header := mime.FormatMediaType("attachment", map[string]string{"filename": name}); header != "" {
		return header
	}
	return "attachment"
}
