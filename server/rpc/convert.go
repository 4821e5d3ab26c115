package rpc

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/internal/auth"
	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/datasource"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/health"
	"github.com/dataguardian/dataguardian/internal/location"
	"github.com/dataguardian/dataguardian/internal/logs"
	"github.com/dataguardian/dataguardian/internal/notification"
)

// Domain to proto. A list shows less than a detail: no settings, no lines, no
// parts.

func datasourceRow(d datasource.Datasource) *pb.Datasource {
	return &pb.Datasource{
		Id: d.ID, Name: d.Name, Type: toEnum[pb.Datasource_Type](d.Type), Status: toEnum[pb.Datasource_Status](d.Status),
		Enabled: d.Enabled, Tags: d.Tags, Protected: d.Protected, LastHealthCheckAt: timestamp(d.LastHealthCheckAt),
		CreatedAt: moment(d.CreatedAt), UpdatedAt: moment(d.UpdatedAt),
	}
}

func datasourceDetail(d datasource.Datasource) (*pb.Datasource, error) {
	view, err := toStruct(datasource.ConfigView(d.Conn))
	if err != nil {
		return nil, err
	}
	shown := datasourceRow(d)
	shown.ConnectionConfig = view
	return shown, nil
}

func datasourceTest(r datasource.TestResult) *pb.TestDatasourceResponse {
	if r.Err != nil {
		return &pb.TestDatasourceResponse{
			Status: pb.TestResult_error, LatencyMs: millis(r.Latency),
			Error: proto.String(errs.Message(r.Err)), ErrorCode: proto.String(string(errs.CodeOf(r.Err))),
		}
	}
	return &pb.TestDatasourceResponse{Status: pb.TestResult_ok, LatencyMs: millis(r.Latency), ServerVersion: some(r.ServerVersion)}
}

func locationRow(l location.Location) *pb.StorageLocation {
	return &pb.StorageLocation{
		Id: l.ID, Name: l.Name, Type: toEnum[pb.StorageLocation_Type](l.Type), IsDefault: l.IsDefault,
		AvailableSpaceGb: gib(l.AvailableBytes), Status: toEnum[pb.StorageLocation_Status](l.Status),
		CreatedAt: moment(l.CreatedAt), UpdatedAt: moment(l.UpdatedAt),
	}
}

func locationDetail(l location.Location) (*pb.StorageLocation, error) {
	view, err := toStruct(location.ConfigView(l.Type, l.Config))
	if err != nil {
		return nil, err
	}
	shown := locationRow(l)
	shown.Config = view
	return shown, nil
}

func locationTest(r location.TestResult) *pb.TestStorageResponse {
	answer := &pb.TestStorageResponse{Status: pb.TestResult_ok, LatencyMs: millis(r.Latency), AvailableSpaceGb: gib(r.AvailableBytes), Warnings: r.Warnings}
	if r.Err != nil {
		answer.Status = pb.TestResult_error
		answer.Error, answer.ErrorCode = proto.String(errs.Message(r.Err)), proto.String(string(errs.CodeOf(r.Err)))
	}
	return answer
}

func jobDetail(j backup.Job) *pb.BackupJob {
	shown := &pb.BackupJob{
		Id: j.ID, Name: j.Name, DatasourceId: j.DatasourceID, StorageLocationId: j.StorageLocationID,
		ScheduleCron: j.ScheduleCron, ScheduleTimezone: j.ScheduleTimezone, Enabled: j.Enabled,
		RetentionPolicy: policy(j.Retention), BackupOptions: options(j.Options),
		LastExecutionAt: timestamp(j.LastExecutionAt), NextExecutionAt: timestamp(j.NextExecutionAt),
		CreatedAt: moment(j.CreatedAt), UpdatedAt: moment(j.UpdatedAt),
		Datasource:      &pb.BackupJob_DatasourceRef{Id: j.DatasourceID, Name: j.DatasourceName, Type: toEnum[pb.Datasource_Type](j.DatasourceType)},
		StorageLocation: &pb.BackupJob_StorageLocationRef{Id: j.StorageLocationID, Name: j.StorageName, Type: toEnum[pb.StorageLocation_Type](j.StorageType)},
	}
	if last := j.Last; last != nil {
		shown.LastExecution = &pb.BackupJob_LastExecution{
			Id: last.ID, Status: toEnum[pb.Execution_Status](last.Status), StartedAt: timestamp(last.StartedAt),
			FinishedAt: timestamp(last.FinishedAt), SizeBytes: last.SizeBytes, ErrorMessage: last.ErrorMessage,
		}
	}
	return shown
}

func policy(p backup.RetentionPolicy) *pb.RetentionPolicy {
	return &pb.RetentionPolicy{
		MaxBackups: toInt32(p.MaxBackups), KeepDaily: toInt32(p.KeepDaily), KeepWeekly: toInt32(p.KeepWeekly),
		KeepMonthly: toInt32(p.KeepMonthly), AutoDelete: proto.Bool(p.AutoDelete),
	}
}

// policyFrom reads a policy; auto_delete is true unless it says otherwise.
func policyFrom(p *pb.RetentionPolicy) backup.RetentionPolicy {
	return backup.RetentionPolicy{
		MaxBackups: intFrom(p.MaxBackups), KeepDaily: intFrom(p.KeepDaily), KeepWeekly: intFrom(p.KeepWeekly),
		KeepMonthly: intFrom(p.KeepMonthly), AutoDelete: p.AutoDelete == nil || p.GetAutoDelete(),
	}
}

// options shows every default that applies.
func options(o backup.Options) *pb.BackupOptions {
	o = o.WithDefaults()
	shown := &pb.BackupOptions{
		Compression: toEnum[pb.BackupOptions_Compression](o.Compression), CompressionLevel: toInt32(o.CompressionLevel),
		ParallelJobs: proto.Int32(count(o.ParallelJobs)), IncludeTables: o.IncludeTables, ExcludeTables: o.ExcludeTables,
		ExcludeTableData: o.ExcludeTableData, MaxFileSizeMb: proto.Int32(count(o.PartSizeMB)),
		StorageStrategy: toEnum[pb.BackupOptions_StorageStrategy](o.Strategy), Spool: toEnum[pb.BackupOptions_Spool](o.Spool),
		TimeoutMinutes: toInt32(o.TimeoutMinutes), MissedRun: toEnum[pb.BackupOptions_MissedRun](o.MissedRun),
	}
	if len(o.Recipients) > 0 {
		shown.Encryption = &pb.BackupOptions_Encryption{Recipients: o.Recipients}
	}
	if len(o.Assertions) > 0 {
		shown.Verification = &pb.BackupOptions_Verification{Assertions: mapped(o.Assertions, func(a backup.Assertion) *pb.BackupOptions_Verification_Assertion {
			return &pb.BackupOptions_Verification_Assertion{Name: a.Name, Sql: a.SQL, Expect: a.Expect}
		})}
	}
	for _, t := range o.Targets {
		shown.StorageTargets = append(shown.StorageTargets, &pb.BackupOptions_StorageTarget{StorageLocationId: t.StorageLocationID, Order: int32(t.Order)}) //nolint:gosec // read from an int32
	}
	return shown
}

func optionsFrom(o *pb.BackupOptions) backup.Options {
	read := backup.Options{
		Compression: fromEnum[backup.Compression](o.GetCompression()), CompressionLevel: intFrom(o.CompressionLevel),
		ParallelJobs: int(o.GetParallelJobs()), IncludeTables: o.GetIncludeTables(), ExcludeTables: o.GetExcludeTables(),
		ExcludeTableData: o.GetExcludeTableData(), PartSizeMB: int(o.GetMaxFileSizeMb()), Recipients: o.GetEncryption().GetRecipients(),
		Strategy: fromEnum[backup.Strategy](o.GetStorageStrategy()), Spool: fromEnum[backup.Spool](o.GetSpool()),
		TimeoutMinutes: intFrom(o.TimeoutMinutes), MissedRun: fromEnum[backup.MissedRun](o.GetMissedRun()),
	}
	for _, a := range o.GetVerification().GetAssertions() {
		read.Assertions = append(read.Assertions, backup.Assertion{Name: a.GetName(), SQL: a.GetSql(), Expect: a.Expect})
	}
	for _, t := range o.GetStorageTargets() {
		read.Targets = append(read.Targets, backup.Target{StorageLocationID: t.GetStorageLocationId(), Order: int(t.GetOrder())})
	}
	return read
}

func verdict(v backup.Verdict) *pb.PreviewRetentionResponse_Verdict {
	return &pb.PreviewRetentionResponse_Verdict{
		ExecutionId: v.Backup.ExecutionID, CreatedAt: moment(v.Backup.CreatedAt), SizeBytes: v.Backup.SizeBytes,
		CompressedSizeBytes: v.Backup.StoredBytes, Reason: v.Reason,
	}
}

func datasourceBackups(d backup.DatasourceBackups) *pb.ListBackupDatasourcesResponse_Item {
	return &pb.ListBackupDatasourcesResponse_Item{
		DatasourceId: d.ID, DatasourceName: d.Name, DatasourceType: toEnum[pb.Datasource_Type](d.Type),
		DatasourceStatus: toEnum[pb.Datasource_Status](d.Status), DatasourceEnabled: d.Enabled,
		BackupsCount: count(d.Backups), LastBackupAt: timestamp(d.Newest), UpdatedAt: moment(d.UpdatedAt),
	}
}

func backupDetail(b backup.Backup) *pb.Backup {
	shown := &pb.Backup{
		ExecutionId: b.ExecutionID, Status: pb.Execution_completed, BackupType: backupTypes[execution.Backup],
		CreatedAt: moment(b.CreatedAt), StartedAt: timestamp(b.StartedAt), FinishedAt: timestamp(b.FinishedAt),
		SizeBytes: b.SizeBytes, CompressedSizeBytes: b.StoredBytes, BackupPath: b.Path, Encrypted: b.Encrypted,
		VerifiedAt:       timestamp(b.VerifiedAt),
		Datasource:       &pb.Backup_DatasourceRef{Id: b.DatasourceID, Name: b.DatasourceName, Type: toEnum[pb.Datasource_Type](b.DatasourceType)},
		StorageLocations: mapped(b.Copies, backupCopy),
	}
	if b.JobID != "" {
		shown.Job = &pb.Backup_JobRef{Id: b.JobID, Name: b.JobName}
	}
	if b.StartedAt != nil && b.FinishedAt != nil {
		shown.DurationSeconds = proto.Float64(b.FinishedAt.Sub(*b.StartedAt).Seconds())
	}
	if len(b.Copies) > 0 {
		first := b.Copies[0]
		shown.PrimaryStorage = &pb.Backup_PrimaryStorage{
			Id: first.StorageLocationID, Name: first.StorageName, Type: toEnum[pb.StorageLocation_Type](first.StorageType),
			Status: toEnum[pb.StorageLocation_Status](first.StorageStatus),
		}
	}
	return shown
}

func backupCopy(c backup.Copy) *pb.Backup_Copy {
	live := c.Live
	if live == "" {
		live = backup.LiveUnknown
	}
	where := c.FullPath
	if where == "" {
		where = c.Path
	}
	return &pb.Backup_Copy{
		StorageLocationId: c.StorageLocationID, StorageName: c.StorageName, StorageType: toEnum[pb.StorageLocation_Type](c.StorageType),
		ConfiguredStatus: toEnum[pb.StorageLocation_Status](c.StorageStatus), BackupPath: where, RelativePath: c.Path,
		Status: toEnum[pb.Backup_Copy_Status](live), Message: some(c.LiveMessage),
	}
}

func notificationRow(n notification.Notification) (*pb.Notification, error) {
	metadata, err := toStruct(n.Metadata)
	if err != nil {
		return nil, err
	}
	return &pb.Notification{
		Id: n.ID, Type: toEnum[pb.Notification_Type](n.Type), Severity: toEnum[pb.Notification_Severity](n.Severity),
		EntityType: toEnum[pb.Notification_EntityType](n.EntityType), EntityId: some(n.EntityID), Title: n.Title, Message: n.Message,
		Metadata: metadata, ReadAt: timestamp(n.ReadAt), CreatedAt: moment(n.CreatedAt),
	}, nil
}

func token(t auth.Token) *pb.Token {
	return &pb.Token{
		Id: t.ID, Name: t.Name, Role: toRole(t.Role), ExpiresAt: timestamp(t.ExpiresAt),
		LastUsedAt: timestamp(t.LastUsedAt), CreatedAt: moment(t.CreatedAt), Scope: t.Scope,
	}
}

func datasourceCheck(c health.Check) (*pb.DatasourceHealthEntry, error) {
	metadata, err := toStruct(c.Metadata)
	if err != nil {
		return nil, err
	}
	return &pb.DatasourceHealthEntry{
		Id: c.ID, DatasourceId: c.EntityID, CheckedAt: moment(c.CheckedAt), Status: toEnum[pb.DatasourceHealthEntry_Status](c.Outcome),
		Datasource: &pb.DatasourceHealthEntry_DatasourceRef{Name: c.EntityName, Type: toEnum[pb.Datasource_Type](c.DatasourceType)},
		LatencyMs:  toInt32(c.LatencyMS), ErrorMessage: some(c.ErrorMessage), Metadata: metadata,
	}, nil
}

// storageCheck shows every way to fail as an error: a storage has no finer outcome.
func storageCheck(c health.Check) *pb.StorageHealthEntry {
	status := pb.StorageHealthEntry_error
	if c.Outcome == health.OK {
		status = pb.StorageHealthEntry_ok
	}
	return &pb.StorageHealthEntry{
		Id: c.ID, StorageLocationId: c.EntityID, StorageName: c.EntityName, StorageType: toEnum[pb.StorageLocation_Type](c.StorageType),
		CheckedAt: moment(c.CheckedAt), Status: status, LatencyMs: toInt32(c.LatencyMS),
		AvailableSpaceGb: gib(c.AvailableBytes), ErrorMessage: some(c.ErrorMessage),
	}
}

func healthReport(r health.Report) *pb.Health {
	shown := &pb.Health{
		Status: pb.Health_degraded, Version: r.Version, UptimeSeconds: int64(r.Uptime.Seconds()),
		Services: services(r),
		Stats: &pb.Health_Stats{
			DatasourcesTotal: count(r.Stats.DatasourcesTotal), DatasourcesHealthy: count(r.Stats.DatasourcesHealthy),
			DatasourcesCritical: count(r.Stats.DatasourcesCritical), JobsTotal: count(r.Stats.JobsTotal),
			JobsEnabled: count(r.Stats.JobsEnabled), ExecutionsToday: count(r.Stats.ExecutionsToday),
			ExecutionsFailedToday: count(r.Stats.ExecutionsFailedToday),
			NotificationsPending:  count(r.Stats.NotificationsPending), NotificationsStuck: count(r.Stats.NotificationsStuck),
		},
		WorkerDetails: map[string]*pb.Health_WorkerDetail{},
	}
	if r.OK {
		shown.Status = pb.Health_ok
	}
	for _, role := range health.WorkerRoles {
		w := r.Workers[role]
		shown.WorkerDetails[string(role)] = &pb.Health_WorkerDetail{
			Status: workerState(r, role), LastStartedAt: timestamp(w.LastStartedAt), LastFinishedAt: timestamp(w.LastFinishedAt),
			LastError: some(w.LastError), Instances: count(w.Instances),
		}
	}
	return shown
}

func services(r health.Report) *pb.Health_Services {
	return &pb.Health_Services{
		Database: serviceState(r.DatabaseOK), Redis: serviceState(r.RedisOK),
		Workers: &pb.Health_Workers{
			Backup: workerState(r, health.RoleBackup), Restore: workerState(r, health.RoleRestore),
			Scheduler: workerState(r, health.RoleScheduler), Health: workerState(r, health.RoleHealth),
			Cleanup: workerState(r, health.RoleCleanup), Outbox: workerState(r, health.RoleOutbox),
		},
	}
}

func serviceState(ok bool) pb.Health_Services_State {
	if ok {
		return pb.Health_Services_ok
	}
	return pb.Health_Services_error
}

func workerState(r health.Report, role health.Role) pb.Health_Workers_State {
	state := r.Workers[role].State
	if state == "" {
		state = health.WorkerStopped
	}
	return toEnum[pb.Health_Workers_State](state)
}

func logLine(l logs.Line) *pb.LogLine {
	return &pb.LogLine{Seq: l.Seq, Ts: moment(l.Time), Level: toEnum[pb.LogLine_Level](l.Level), Message: l.Message}
}

// configFrom reads free-form settings: nil when they were not sent.
func configFrom(s *structpb.Struct) map[string]any {
	if s == nil {
		return nil
	}
	return s.AsMap()
}
