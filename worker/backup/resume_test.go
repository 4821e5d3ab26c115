package backup

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/artifact"
	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/worker/attempt"
)

func resuming(t *testing.T, e execution.Execution) *run {
	e.ID = "00000000-0000-4000-8000-000000000001"
	return &run{Runner: &Runner{SpoolDir: t.TempDir(), SpoolID: "here"}, Attempt: &attempt.Attempt{Execution: e}, resuming: true}
}

func TestADumpThatIsNotHereIsKeptAsLongAsWasSaid(t *testing.T) {
	expires := time.Now().Add(time.Hour)
	before := &execution.UploadRetry{Possible: true, Reason: "it waits", SpoolExpiresAt: &expires, Spool: "here"}
	r := resuming(t, execution.Execution{Record: execution.Record{UploadRetry: before}})
	require.Equal(t, before, r.uploadRetry(artifact.Result{SpoolKept: true}))
	require.False(t, r.uploadRetry(artifact.Result{}).Possible, "it was given up")
}

func TestAResumedUploadGoesOnWhereItBegan(t *testing.T) {
	path := "last"
	e := execution.Execution{Copies: []backup.Copy{
		{Path: "first", Status: backup.CopyFailed}, {Path: "second", Status: backup.CopyPending}, {Path: "third", Status: backup.CopyDeleted},
	}}
	r := resuming(t, e)
	require.Equal(t, "second", r.resumedPath())
	r.Execution.BackupPath = &path
	require.Equal(t, "last", r.resumedPath())
	r.spooled = "of the spool"
	require.Equal(t, "of the spool", r.resumedPath())
}

// With fallback, a storage behind the one that took the backup was never to have it.
func TestAStorageRankedBehindTheOneThatTookTheBackupLacksNothing(t *testing.T) {
	r := resuming(t, execution.Execution{})
	r.spooled, r.ranked = "path", []string{"first", "second", "third"}
	r.options.Strategy = backup.Fallback
	r.unopened = []backup.Copy{{StorageLocationID: "third", Status: backup.CopyFailed}}
	names := func(outcomes ...artifact.Outcome) (names []string) {
		for _, c := range r.copies(outcomes, nil) {
			names = append(names, c.StorageLocationID+" "+string(c.Status))
		}
		return names
	}
	took, refused := artifact.Outcome{TargetID: "second", Status: artifact.Available}, artifact.Outcome{TargetID: "first", Status: artifact.Failed}
	require.Equal(t, []string{"first failed", "second available"}, names(refused, took))
	took.Status = artifact.Failed
	require.Equal(t, []string{"third failed", "first failed", "second failed"}, names(refused, took))
	took.Status, r.options.Strategy = artifact.Available, backup.Replicate
	require.Equal(t, []string{"third failed", "first failed", "second available"}, names(refused, took))
}
