package rpc

import (
	"context"

	"google.golang.org/protobuf/proto"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// shownImports is how many backups an answer names.
const shownImports = 1000

// Imports takes backups into the catalogue that it does not know; a *vault.Importer
// has it.
type Imports interface {
	Import(ctx context.Context, locationID string, r backup.ImportRequest) ([]backup.Imported, error)
}

func (s *locationServer) ImportBackups(ctx context.Context, req *pb.ImportBackupsRequest) (*pb.ImportBackupsResponse, error) {
	found, err := s.imports.Import(ctx, req.GetId(), backup.ImportRequest{Path: req.GetPath(), DatasourceID: req.GetDatasourceId(), DryRun: req.GetDryRun()})
	if err != nil {
		return nil, err
	}
	r := &pb.ImportBackupsResponse{}
	var imported []*pb.ImportedBackup
	for _, f := range found {
		b := importedBackup(f)
		if f.Err == nil {
			r.Imported++
			imported = append(imported, b)
		} else {
			r.LeftOut++
			r.Backups = append(r.Backups, b)
		}
	}
	r.Backups = append(r.Backups, imported...)
	r.Backups = r.Backups[:min(len(r.Backups), shownImports)]
	return r, nil
}

func importedBackup(f backup.Imported) *pb.ImportedBackup {
	b := &pb.ImportedBackup{Path: f.Path, Imported: f.Err == nil}
	if f.ExecutionID != "" {
		b.ExecutionId, b.DatasourceName, b.Database = proto.String(f.ExecutionID), f.DatasourceName, f.Database
		b.CreatedAt, b.SizeBytes, b.StoredBytes, b.Encrypted = moment(f.Backup.CreatedAt), f.Backup.SizeBytes, f.Backup.StoredBytes, f.Backup.Encrypted
	}
	if f.Err != nil {
		b.Error, b.ErrorCode = proto.String(errs.Message(f.Err)), proto.String(string(errs.CodeOf(f.Err)))
		return b
	}
	b.DatasourceId = proto.String(f.DatasourceID)
	return b
}
