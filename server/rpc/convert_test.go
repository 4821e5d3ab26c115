package rpc

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"
	"pgregory.net/rapid"

	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/location"
	"github.com/dataguardian/dataguardian/internal/logs"
)

func optional(t *rapid.T, low, high int, name string) *int {
	if !rapid.Bool().Draw(t, name+" is set") {
		return nil
	}
	n := rapid.IntRange(low, high).Draw(t, name)
	return &n
}

func TestOptionsAndPoliciesComeBackAsTheyWent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := backup.RetentionPolicy{MaxBackups: optional(t, 1, 9, "max"), KeepDaily: optional(t, 1, 9, "daily"),
			KeepWeekly: optional(t, 1, 9, "weekly"), KeepMonthly: optional(t, 1, 9, "monthly"), AutoDelete: rapid.Bool().Draw(t, "auto")}
		require.Equal(t, p, policyFrom(policy(p)))

		words := rapid.SliceOfN(rapid.StringMatching(`[a-z.]{1,9}`), 1, 3)
		o := backup.Options{
			Compression:      rapid.SampledFrom([]backup.Compression{backup.Zstd, backup.Gzip, backup.LZ4, backup.NoCompression}).Draw(t, "compression"),
			CompressionLevel: optional(t, 0, 9, "level"), ParallelJobs: rapid.IntRange(1, 16).Draw(t, "jobs"),
			IncludeTables: words.Draw(t, "include"), ExcludeTables: words.Draw(t, "exclude"), ExcludeTableData: words.Draw(t, "data"),
			PartSizeMB: rapid.IntRange(1, 5120).Draw(t, "part"), Recipients: words.Draw(t, "recipients"),
			Strategy:       rapid.SampledFrom([]backup.Strategy{backup.Fallback, backup.Replicate}).Draw(t, "strategy"),
			Targets:        []backup.Target{{StorageLocationID: "x", Order: rapid.IntRange(-5, 5).Draw(t, "order")}},
			Spool:          rapid.SampledFrom([]backup.Spool{backup.SpoolFull, backup.SpoolBounded}).Draw(t, "spool"),
			TimeoutMinutes: optional(t, 1, 9, "timeout"),
			MissedRun:      rapid.SampledFrom([]backup.MissedRun{backup.RunOnce, backup.Skip}).Draw(t, "missed"),
		}
		require.Equal(t, o, optionsFrom(options(o)))
	})
}

func TestAnExecutionShowsAllItHas(t *testing.T) {
	at, n, size, text := time.Date(2026, 11, 24, 3, 0, 0, 5e8, time.UTC), 2, int64(1<<40), "x"
	end, percent := at.Add(90*time.Second), 50.0
	e := execution.Execution{
		ID: "e", JobID: "j", JobName: "nightly", JobCron: "@daily", DatasourceID: "d", StorageLocationID: "s", Operation: execution.Backup, Status: execution.Completed,
		Trigger: execution.Schedule, ScheduledFor: &at, StartedAt: &at, FinishedAt: &end, SizeBytes: &size, StoredBytes: &size, BackupPath: &text, PartsCount: &n,
		ErrorCode: &text, ErrorMessage: &text, Attempt: 2, CreatedAt: at, DatasourceName: "shop", DatasourceType: "postgres", StorageName: "disk", StorageType: location.Local,
		Progress: execution.Progress{Phase: execution.Dumping, BytesDone: 7, BytesTotal: &size, Percent: &percent, Rate: 3, ETASeconds: &percent},
		Request:  execution.Request{SourceExecutionID: "src"},
		Record: execution.Record{ServerVersion: "15.18", Tools: map[string]string{"pg_dump": "15.18"}, Format: "custom", Encrypted: true, Compression: "zstd", Tables: 4, WorkerHost: "h",
			UploadRetry: &execution.UploadRetry{Possible: true, Reason: "r", SpoolExpiresAt: &end}, Checked: map[string]any{"rows": 5}},
		Copies: []backup.Copy{{StorageLocationID: "s", StorageName: "disk", Path: "p", Status: backup.CopyMissing}},
		Parts:  []backup.Part{{Number: 1, Key: "k", Size: 9, SHA256: "ff"}},
		Logs:   []logs.Line{{Seq: 1, Time: at, Level: "info", Message: "m"}},
	}
	shown, err := executionDetail(e)
	require.NoError(t, err)
	require.Empty(t, unset(shown.ProtoReflect()), "fields without a value")
	require.InDelta(t, 90, shown.GetDurationSeconds(), 0)
	require.Equal(t, map[string]any{
		"operation": "backup", "source_execution_id": "src", "phase": "dumping", "server_version": "15.18", "tools": map[string]any{"pg_dump": "15.18"},
		"progress": map[string]any{"phase": "dumping", "bytes_done": 7.0, "bytes_total": float64(size), "percent": 50.0, "rate_bytes_per_s": 3.0, "eta_seconds": 50.0},
		"storage_results": []any{map[string]any{"storage_location_id": "s", "storage_name": "disk", "status": "failed", "backup_path": "p",
			"error": "objects of this copy are gone from the storage, and nobody here deleted them"}},
		"upload_retry": map[string]any{"possible": true, "reason": "r", "spool_expires_at": "2026-11-24T03:01:30.5Z"},
		"format":       "custom", "compression": "zstd", "worker_host": "h", "encrypted": true, "tables": 4.0, "checked": map[string]any{"rows": 5.0},
		"execution_logs": []any{map[string]any{"seq": 1.0, "ts": "2026-11-24T03:00:00.5Z", "level": "info", "message": "m"}},
	}, shown.GetMetadata().AsMap())

	row, err := executionRow(e)
	require.NoError(t, err)
	require.Empty(t, row.GetChunks())
	require.NotContains(t, row.GetMetadata().AsMap(), "execution_logs")
}

func TestABackupShowsAllItHas(t *testing.T) {
	at := time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)
	end := at.Add(time.Second)
	b := backup.Backup{ExecutionID: "e", JobID: "j", JobName: "nightly", DatasourceID: "d", DatasourceName: "shop", DatasourceType: "postgres", CreatedAt: at,
		StartedAt: &at, FinishedAt: &end, SizeBytes: 2, StoredBytes: 1, Path: "p", Encrypted: true, VerifiedAt: &end,
		Copies: []backup.Copy{{StorageLocationID: "s", StorageName: "disk", StorageType: location.Local, StorageStatus: location.Healthy, Path: "p", FullPath: "/b/p", Live: backup.LiveMissing, LiveMessage: "gone"}}}
	shown := backupDetail(b)
	require.Empty(t, unset(shown.ProtoReflect()))
	require.Empty(t, unset(shown.GetStorageLocations()[0].ProtoReflect()))
	require.Empty(t, unset(shown.GetPrimaryStorage().ProtoReflect()))
	require.Equal(t, "/b/p", shown.GetStorageLocations()[0].GetBackupPath())
	require.Nil(t, backupDetail(backup.Backup{}).GetJob())
	require.Equal(t, "unknown", backupDetail(backup.Backup{Copies: []backup.Copy{{}}}).GetStorageLocations()[0].GetStatus().String())
}

// unset lists the fields of a message that have no value.
func unset(m protoreflect.Message) []string {
	var names []string
	for i := range m.Descriptor().Fields().Len() {
		if f := m.Descriptor().Fields().Get(i); !m.Has(f) {
			names = append(names, string(f.Name()))
		}
	}
	return names
}

func TestCountsNeverOverflow(t *testing.T) {
	require.EqualValues(t, 1<<31-1, count(1<<40))
	require.EqualValues(t, 0, count(-1))
}
