package rpc

import (
	"context"

	"google.golang.org/protobuf/types/known/emptypb"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/internal/backup"
)

type backupServer struct {
	pb.UnimplementedBackupServiceServer

	backups    Backups
	executions Executions
	restores   Restores
	downloads  Downloads
}

func (s *backupServer) ListBackupJobs(ctx context.Context, req *pb.ListBackupJobsRequest) (*pb.ListBackupJobsResponse, error) {
	page := pageOf(req)
	filter := backup.JobFilter{Enabled: req.Enabled, DatasourceID: req.GetDatasourceId(), StorageLocationID: req.GetStorageLocationId()}
	rows, total, err := s.backups.ListJobs(ctx, filter, page)
	if err != nil {
		return nil, err
	}
	return &pb.ListBackupJobsResponse{Data: mapped(rows, jobDetail), Pagination: pagination(page, total)}, nil
}

func (s *backupServer) CreateBackupJob(ctx context.Context, req *pb.CreateBackupJobRequest) (*pb.BackupJob, error) {
	n := backup.NewJob{
		Name: req.GetName(), DatasourceID: req.GetDatasourceId(), StorageLocationID: req.GetStorageLocationId(),
		ScheduleCron: req.GetScheduleCron(), ScheduleTimezone: req.GetScheduleTimezone(), Enabled: req.Enabled,
		Retention: policyFrom(req.GetRetentionPolicy()),
	}
	if req.GetBackupOptions() != nil {
		n.Options = optionsFrom(req.GetBackupOptions())
	}
	j, err := s.backups.CreateJob(ctx, n)
	if err != nil {
		return nil, err
	}
	return jobDetail(j), nil
}

func (s *backupServer) GetBackupJob(ctx context.Context, req *pb.GetBackupJobRequest) (*pb.BackupJob, error) {
	j, err := s.backups.GetJob(ctx, req.GetId())
	if err != nil {
		return nil, err
	}
	return jobDetail(j), nil
}

func (s *backupServer) UpdateBackupJob(ctx context.Context, req *pb.UpdateBackupJobRequest) (*pb.BackupJob, error) {
	p := backup.JobPatch{
		Name: req.Name, DatasourceID: req.DatasourceId, StorageLocationID: req.StorageLocationId,
		ScheduleCron: req.ScheduleCron, ScheduleTimezone: req.ScheduleTimezone, Enabled: req.Enabled,
	}
	if req.GetRetentionPolicy() != nil {
		retention := policyFrom(req.GetRetentionPolicy())
		p.Retention = &retention
	}
	if req.GetBackupOptions() != nil {
		chosen := optionsFrom(req.GetBackupOptions())
		p.Options = &chosen
	}
	j, err := s.backups.UpdateJob(ctx, req.GetId(), p)
	if err != nil {
		return nil, err
	}
	return jobDetail(j), nil
}

func (s *backupServer) DeleteBackupJob(ctx context.Context, req *pb.DeleteBackupJobRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, s.backups.DeleteJob(ctx, req.GetId())
}

func (s *backupServer) RunBackupJob(ctx context.Context, req *pb.RunBackupJobRequest) (*pb.RunBackupJobResponse, error) {
	e, err := s.executions.RunJob(ctx, req.GetId())
	if err != nil {
		return nil, err
	}
	return &pb.RunBackupJobResponse{
		ExecutionId: e.ID, JobId: req.GetId(), Status: toEnum[pb.Execution_Status](e.Status),
		Message: "the backup is queued; follow it at /api/executions/" + e.ID + "/logs/stream", CreatedAt: moment(e.CreatedAt),
	}, nil
}

func (s *backupServer) PreviewRetention(ctx context.Context, req *pb.PreviewRetentionRequest) (*pb.PreviewRetentionResponse, error) {
	preview, err := s.backups.PreviewRetention(ctx, req.GetId())
	if err != nil {
		return nil, err
	}
	return &pb.PreviewRetentionResponse{
		JobId: preview.Job.ID, Policy: policy(preview.Job.Retention), Keep: mapped(preview.Plan.Keep, verdict),
		Delete: mapped(preview.Plan.Delete, verdict), Halted: some(preview.Plan.Halted),
	}, nil
}

func (s *backupServer) ListBackupDatasources(ctx context.Context, _ *pb.ListBackupDatasourcesRequest) (*pb.ListBackupDatasourcesResponse, error) {
	rows, err := s.backups.Datasources(ctx)
	if err != nil {
		return nil, err
	}
	return &pb.ListBackupDatasourcesResponse{Data: mapped(rows, datasourceBackups)}, nil
}

func (s *backupServer) ListBackups(ctx context.Context, req *pb.ListBackupsRequest) (*pb.ListBackupsResponse, error) {
	rows, err := s.backups.Backups(ctx, req.GetDatasourceId())
	if err != nil {
		return nil, err
	}
	return &pb.ListBackupsResponse{DatasourceId: req.GetDatasourceId(), TotalBackups: count(len(rows)), Backups: mapped(rows, backupDetail)}, nil
}
