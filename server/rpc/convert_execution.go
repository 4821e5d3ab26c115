package rpc

import (
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/logs"
)

var backupTypes = map[execution.Operation]string{execution.Backup: "full", execution.Restore: "restore", execution.Verify: "verify"}

func executionRow(e execution.Execution) (*pb.Execution, error) { return executionOf(e, false) }

func executionDetail(e execution.Execution) (*pb.Execution, error) {
	shown, err := executionOf(e, true)
	if err != nil {
		return nil, err
	}
	shown.Chunks = mapped(e.Parts, func(p backup.Part) *pb.Execution_Chunk {
		return &pb.Execution_Chunk{ChunkNumber: count(p.Number), FilePath: p.Key, SizeBytes: p.Size, Checksum: p.SHA256}
	})
	return shown, nil
}

func executionOf(e execution.Execution, detail bool) (*pb.Execution, error) {
	metadata, err := executionMetadata(e, detail)
	if err != nil {
		return nil, err
	}
	shown := &pb.Execution{
		Id: e.ID, JobId: e.JobID, DatasourceId: e.DatasourceID, StorageLocationId: e.StorageLocationID,
		Operation: toEnum[pb.Execution_Operation](e.Operation), Status: toEnum[pb.Execution_Status](e.Status),
		BackupType: backupTypes[e.Operation], Trigger: toEnum[pb.Execution_Trigger](e.Trigger),
		StartedAt: timestamp(e.StartedAt), FinishedAt: timestamp(e.FinishedAt),
		SizeBytes: e.SizeBytes, CompressedSizeBytes: e.StoredBytes, BackupPath: e.BackupPath, FilesCount: toInt32(e.PartsCount),
		ErrorCode: e.ErrorCode, ErrorMessage: e.ErrorMessage, Attempt: count(e.Attempt), Metadata: metadata,
		CreatedAt: moment(e.CreatedAt), ScheduledFor: timestamp(e.ScheduledFor),
		Datasource:      &pb.Execution_DatasourceRef{Name: e.DatasourceName, Type: toEnum[pb.Datasource_Type](e.DatasourceType)},
		StorageLocation: &pb.Execution_StorageLocationRef{Name: e.StorageName, Type: toEnum[pb.StorageLocation_Type](e.StorageType)},
	}
	if e.JobID != "" {
		shown.Job = &pb.Execution_Job{Name: e.JobName, ScheduleCron: e.JobCron}
	}
	if e.StartedAt != nil && e.FinishedAt != nil {
		shown.DurationSeconds = proto.Float64(e.FinishedAt.Sub(*e.StartedAt).Seconds())
	}
	return shown, nil
}

// executionMetadata is what the contract keeps beside the fields: how far it is,
// what became of each copy, with which tools, and the lines when shown alone.
func executionMetadata(e execution.Execution, detail bool) (*structpb.Struct, error) {
	m := map[string]any{
		"operation":       string(e.Operation),
		"phase":           orNull(string(e.Progress.Phase)),
		"progress":        progressMap(e.Progress),
		"storage_results": mappedAny(e.Copies, storageResult),
		"upload_retry":    uploadRetry(e.Record.UploadRetry),
		"tools":           stringMap(e.Record.Tools),
		"server_version":  orNull(e.Record.ServerVersion),
	}
	optional := map[string]string{
		"source_execution_id": e.Request.SourceExecutionID, "format": e.Record.Format,
		"compression": e.Record.Compression, "worker_host": e.Record.WorkerHost,
	}
	for key, value := range optional {
		if value != "" {
			m[key] = value
		}
	}
	if e.Record.Encrypted {
		m["encrypted"] = true
	}
	if e.Record.Tables > 0 {
		m["tables"] = e.Record.Tables
	}
	if len(e.Record.Sources) > 0 {
		m["sources"] = mappedAny(e.Record.Sources, sourceAttempt)
	}
	if detail {
		m["execution_logs"] = mappedAny(e.Logs, logLineMap)
	}
	s, err := structpb.NewStruct(m)
	if err != nil {
		return nil, err
	}
	if len(e.Record.Checked) > 0 {
		checked, err := toStruct(e.Record.Checked)
		if err != nil {
			return nil, err
		}
		s.Fields["checked"] = structpb.NewStructValue(checked)
	}
	return s, nil
}

func progressMap(p execution.Progress) map[string]any {
	return map[string]any{
		"phase": orNull(string(p.Phase)), "bytes_done": p.BytesDone, "bytes_total": deref(p.BytesTotal),
		"percent": deref(p.Percent), "rate_bytes_per_s": p.Rate, "eta_seconds": deref(p.ETASeconds),
	}
}

// copyWords are the contract's words for the states of our books.
var copyWords = map[backup.CopyStatus]string{
	backup.CopyPending: "pending", backup.CopyAvailable: "available", backup.CopyFailed: "failed",
	backup.CopyDeleting: "deleted", backup.CopyDeleted: "deleted", backup.CopyMissing: "failed",
}

func storageResult(c backup.Copy) any {
	problem := c.Error
	if c.Status == backup.CopyMissing && problem == "" {
		problem = "objects of this copy are gone from the storage, and nobody here deleted them"
	}
	return map[string]any{
		"storage_location_id": c.StorageLocationID, "storage_name": c.StorageName, "status": copyWords[c.Status],
		"backup_path": c.Path, "error": orNull(problem),
	}
}

func sourceAttempt(a execution.SourceAttempt) any {
	return map[string]any{
		"storage_location_id": a.StorageLocationID, "storage_name": a.StorageName, "outcome": string(a.Outcome), "error": orNull(a.Error),
	}
}

func uploadRetry(r *execution.UploadRetry) any {
	if r == nil {
		return nil
	}
	return map[string]any{"possible": r.Possible, "reason": r.Reason, "spool_expires_at": instant(r.SpoolExpiresAt)}
}

func logLineMap(l logs.Line) any {
	return map[string]any{"seq": l.Seq, "ts": instant(&l.Time), "level": string(l.Level), "message": l.Message}
}

func instant(t *time.Time) any {
	if t == nil {
		return nil
	}
	return t.UTC().Format(time.RFC3339Nano)
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func deref[T any](p *T) any {
	if p == nil {
		return nil
	}
	return *p
}

func stringMap(m map[string]string) map[string]any {
	out := make(map[string]any, len(m))
	for key, value := range m {
		out[key] = value
	}
	return out
}

func mappedAny[A any](in []A, convert func(A) any) []any { return mapped(in, convert) }

func executionLogs(e execution.Execution) *pb.GetExecutionLogsResponse {
	return &pb.GetExecutionLogsResponse{
		ExecutionId: e.ID, Status: toEnum[pb.Execution_Status](e.Status), StartedAt: timestamp(e.StartedAt),
		FinishedAt: timestamp(e.FinishedAt), Logs: mapped(e.Logs, logLine),
	}
}

// tailEvent converts what a tail receives; nil for an event without content.
func tailEvent(e execution.Event) *pb.StreamExecutionLogsResponse {
	switch {
	case e.Line != nil:
		return &pb.StreamExecutionLogsResponse{Event: &pb.StreamExecutionLogsResponse_Line{Line: logLine(*e.Line)}}
	case e.Gap != nil:
		return &pb.StreamExecutionLogsResponse{Event: &pb.StreamExecutionLogsResponse_Gap_{
			Gap: &pb.StreamExecutionLogsResponse_Gap{From: e.Gap.From, To: e.Gap.To},
		}}
	case e.Progress != nil:
		return &pb.StreamExecutionLogsResponse{Event: &pb.StreamExecutionLogsResponse_Progress_{Progress: progress(*e.Progress)}}
	case e.End != nil:
		return &pb.StreamExecutionLogsResponse{Event: &pb.StreamExecutionLogsResponse_End_{End: &pb.StreamExecutionLogsResponse_End{
			Status: toEnum[pb.Execution_Status](e.End.Status), ErrorCode: e.End.ErrorCode, ErrorMessage: e.End.ErrorMessage,
		}}}
	case e.Idle:
		return &pb.StreamExecutionLogsResponse{Event: &pb.StreamExecutionLogsResponse_Heartbeat_{
			Heartbeat: &pb.StreamExecutionLogsResponse_Heartbeat{Ts: timestamppb.Now()},
		}}
	}
	return nil
}

// executionEvent converts what one who watches executions receives.
func executionEvent(e execution.WatchEvent) *pb.WatchExecutionsResponse {
	now := timestamppb.Now()
	if e.Idle {
		return &pb.WatchExecutionsResponse{Id: e.ID, Event: &pb.WatchExecutionsResponse_Heartbeat{
			Heartbeat: &pb.StreamExecutionLogsResponse_Heartbeat{Ts: now},
		}}
	}
	shown := &pb.WatchExecutionsResponse{
		Id: e.ID, Ts: now, ExecutionId: e.Execution.ID, JobId: e.Execution.JobID, JobName: e.Execution.JobName,
		DatasourceId: e.Execution.DatasourceID, DatasourceName: e.Execution.DatasourceName,
		Operation: toEnum[pb.Execution_Operation](e.Execution.Operation), Status: toEnum[pb.Execution_Status](e.Execution.Status),
		ErrorCode: e.Execution.ErrorCode, ErrorMessage: e.Execution.ErrorMessage,
	}
	switch {
	case e.Line != nil:
		shown.Event = &pb.WatchExecutionsResponse_Line{Line: logLine(*e.Line)}
	case e.Gap != nil:
		shown.Event = &pb.WatchExecutionsResponse_Gap{Gap: &pb.StreamExecutionLogsResponse_Gap{From: e.Gap.From, To: e.Gap.To}}
	case e.Progress != nil:
		shown.Event = &pb.WatchExecutionsResponse_Progress{Progress: progress(*e.Progress)}
	}
	return shown
}

func progress(p execution.Progress) *pb.StreamExecutionLogsResponse_Progress {
	return &pb.StreamExecutionLogsResponse_Progress{
		Phase: string(p.Phase), BytesDone: p.BytesDone, BytesTotal: p.BytesTotal, Percent: p.Percent,
		RateBytesPerS: p.Rate, EtaSeconds: p.ETASeconds,
	}
}
