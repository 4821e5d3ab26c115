package notification

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestASummaryCountsEverythingOnce(t *testing.T) {
	t.Parallel()
	n := Summarize(Notification{ID: "lead", EntityType: BackupJob, EntityID: "x"}, []Kind{
		{BackupFailed, Critical, 30}, {StorageFull, Critical, 1}, {BackupFailed, Warning, 2}, {BackupSuccess, Info, 4},
	}, []string{"Backup of shop failed", "Backup of crm failed"})
	require.Equal(t, "37 notifications in one", n.Title)
	require.Equal(t, []any{"lead", BackupFailed, Critical, System, ""}, []any{n.ID, n.Type, n.Severity, n.EntityType, n.EntityID})
	require.True(t, strings.HasPrefix(n.Message, "32 backup_failed, 1 storage_full, 4 backup_success.\n- Backup of shop failed\n"), n.Message)
	require.Contains(t, n.Message, "and 35 more")
	require.Equal(t, map[string]any{"digest": true, "count": 37, "types": map[string]any{"backup_failed": 32, "storage_full": 1, "backup_success": 4}}, n.Metadata)
}
