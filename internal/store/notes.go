package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/datasource"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/location"
	"github.com/dataguardian/dataguardian/internal/logs"
	"github.com/dataguardian/dataguardian/internal/notification"
	"github.com/dataguardian/dataguardian/internal/store/db"
)

// notificationLock is the advisory lock of whoever writes notifications.
const notificationLock = 0x6461746167756102

// notify writes notifications. It comes last in its transaction: it waits for
// other writers, and holds them up until the commit.
func notify(ctx context.Context, q *db.Queries, notes ...notification.Notification) error {
	if len(notes) == 0 {
		return nil
	}
	var rows db.CreateNotificationsParams
	for _, n := range notes {
		metadata, err := encodeStorable(n.Metadata)
		if err != nil {
			return err
		}
		rows.Types = append(rows.Types, string(n.Type))
		rows.Severities = append(rows.Severities, string(n.Severity))
		rows.EntityTypes = append(rows.EntityTypes, string(n.EntityType))
		rows.EntityIds = append(rows.EntityIds, n.EntityID)
		rows.Titles = append(rows.Titles, storable(n.Title))
		rows.Messages = append(rows.Messages, storable(n.Message))
		rows.Metadata = append(rows.Metadata, string(metadata))
	}
	if err := q.TakeNotificationTurn(ctx, notificationLock); err != nil {
		return err
	}
	return q.CreateNotifications(ctx, rows)
}

// endNotes tells how an execution ended; a cancelled one, and a verification that
// found nothing wrong, are no news.
func endNotes(e execution.Execution, copies []backup.Copy) []notification.Notification {
	n := notification.Notification{EntityType: notification.Datasource, EntityID: e.DatasourceID, Metadata: map[string]any{
		"execution_id": e.ID, "datasource_id": e.DatasourceID, "operation": string(e.Operation),
	}}
	if e.JobID != "" {
		n.Metadata["job_id"] = e.JobID
	}
	if e.JobID != "" && e.Operation != execution.Restore {
		n.EntityType, n.EntityID = notification.BackupJob, e.JobID
	}
	switch e.Status {
	case execution.Completed:
		if !succeeded(&n, e, copies) {
			return nil
		}
	case execution.Failed:
		failed(&n, e)
	default:
		return nil
	}
	return []notification.Notification{n}
}

func succeeded(n *notification.Notification, e execution.Execution, copies []backup.Copy) bool {
	n.Severity = notification.Info
	switch e.Operation {
	case execution.Backup:
		n.Type = notification.BackupSuccess
		n.Title = fmt.Sprintf("Backup of %s completed", e.DatasourceName)
		n.Message = fmt.Sprintf("%s backed up %s%s.", jobName(e.JobName), e.DatasourceName, sizeOf(e.SizeBytes))
		if lost := failedCopies(copies); lost != "" {
			n.Severity = notification.Warning
			switch retry := e.Record.UploadRetry; {
			case retry == nil: // it was to be on one storage, the first that takes it
				n.Message += fmt.Sprintf(" It is on %s, as it could not be stored where it should have been first: %s", placesOf(copies), lost)
			case retry.Possible:
				n.Message += " A copy is missing: " + lost + " Retry the upload to complete it."
			default:
				n.Message += " A copy is missing: " + lost + " It cannot be completed: " + sentence(retry.Reason)
			}
		}
	case execution.Restore:
		n.Type = notification.RestoreSuccess
		n.Title = fmt.Sprintf("Restore to %s completed", e.DatasourceName)
		n.Message = fmt.Sprintf("A backup was restored to %s%s.", e.DatasourceName, sizeOf(e.SizeBytes))
	default:
		return false
	}
	return true
}

func failed(n *notification.Notification, e execution.Execution) {
	n.Severity = notification.Critical
	n.Metadata["error_code"] = text(e.ErrorCode)
	why := sentence(text(e.ErrorMessage))
	switch e.Operation {
	case execution.Restore:
		n.Type = notification.RestoreFailed
		n.Title = fmt.Sprintf("Restore to %s failed", e.DatasourceName)
		n.Message = fmt.Sprintf("A backup could not be restored to %s: %s", e.DatasourceName, why)
	case execution.Verify:
		n.Type = notification.VerifyFailed
		n.Title = fmt.Sprintf("Verification of a backup of %s failed", e.DatasourceName)
		n.Message = fmt.Sprintf("A backup of %s could not be proven good: %s", e.DatasourceName, why)
	default:
		n.Type = notification.BackupFailed
		n.Title = fmt.Sprintf("Backup of %s failed", e.DatasourceName)
		n.Message = fmt.Sprintf("%s could not back up %s: %s", jobName(e.JobName), e.DatasourceName, why)
	}
}

// placesOf names the storages that have the backup.
func placesOf(copies []backup.Copy) string {
	var names []string
	for _, c := range copies {
		if c.Status == backup.CopyAvailable {
			names = append(names, c.StorageName)
		}
	}
	return strings.Join(names, ", ")
}

func failedCopies(copies []backup.Copy) string {
	var lost []string
	for _, c := range copies {
		if c.Status == backup.CopyFailed {
			lost = append(lost, sentence(c.StorageName+": "+c.Error))
		}
	}
	return strings.Join(lost, " ")
}

func missedNote(j backup.Job, missed int, newest time.Time, ran bool) notification.Notification {
	n := notification.Notification{
		Type: notification.BackupMissed, Severity: notification.Warning, EntityType: notification.BackupJob, EntityID: j.ID,
		Title:    fmt.Sprintf("Backup of %s was missed", j.DatasourceName),
		Metadata: map[string]any{"job_id": j.ID, "datasource_id": j.DatasourceID, "missed": missed, "newest": newest.UTC(), "ran": ran},
	}
	n.Message = fmt.Sprintf("%s did not run for %s, the newest at %s.", jobName(j.Name), count(int64(missed), "due time"), newest.UTC().Format("2006-01-02 15:04 MST"))
	if ran {
		n.Message += " It runs now, once for all of them."
	} else {
		n.Message += " The next due time is its turn again."
	}
	return n
}

func cleanupNote(j backup.Job, deleted []backup.Backup) notification.Notification {
	var bytes int64
	ids := make([]string, 0, len(deleted))
	for _, b := range deleted {
		bytes += b.StoredBytes
		ids = append(ids, b.ExecutionID)
	}
	return notification.Notification{
		Type: notification.CleanupCompleted, Severity: notification.Info, EntityType: notification.BackupJob, EntityID: j.ID,
		Title:    fmt.Sprintf("Old backups of %s were removed", j.DatasourceName),
		Message:  fmt.Sprintf("The retention policy of %s removed %s and freed %s.", jobName(j.Name), count(int64(len(deleted)), "backup"), logs.HumanBytes(bytes)),
		Metadata: map[string]any{"job_id": j.ID, "datasource_id": j.DatasourceID, "deleted": len(deleted), "freed_bytes": bytes, "execution_ids": ids},
	}
}

// missingNote tells that a copy of a backup has lost objects.
func missingNote(e execution.Execution, c backup.Copy, why string) notification.Notification {
	return notification.Notification{
		Type: notification.BackupLost, Severity: notification.Critical, EntityType: notification.StorageLocation, EntityID: c.StorageLocationID,
		Title: fmt.Sprintf("A backup of %s is no longer on %s", e.DatasourceName, c.StorageName),
		Message: fmt.Sprintf("The backup %s of %s cannot be restored from %s: %s. Find out what removes objects there, and run the job again.",
			c.Path, e.DatasourceName, c.StorageName, strings.TrimRight(why, ".")),
		Metadata: map[string]any{"execution_id": e.ID, "datasource_id": e.DatasourceID, "storage_location_id": c.StorageLocationID, "path": c.Path},
	}
}

// datasourceNotes tells of a change of a datasource's status. The first good
// check of a new one is no news.
func datasourceNotes(id, name string, before, after datasource.Status, why string) []notification.Notification {
	n := notification.Notification{
		EntityType: notification.Datasource, EntityID: id,
		Metadata: map[string]any{"datasource_id": id, "before": string(before), "after": string(after)},
	}
	switch {
	case before == after || after == datasource.Unknown:
		return nil
	case after == datasource.Critical:
		n.Type, n.Severity = notification.ConnectionLost, notification.Critical
		n.Title = name + " cannot be reached"
		n.Message = because("The connection to "+name+" is lost, its backups will fail until it is back", why)
	case after == datasource.Warning:
		n.Type, n.Severity = notification.HealthDegraded, notification.Warning
		n.Title = name + " has trouble"
		n.Message = because(name+" answers, but not as it should", why)
	case before == datasource.Unknown:
		return nil
	default:
		n.Type, n.Severity = notification.ConnectionRestored, notification.Info
		n.Title = name + " is healthy again"
		n.Message = name + " answers again as it should."
	}
	return []notification.Notification{n}
}

// locationNotes tells of a change of a storage location's status.
func locationNotes(id, name string, before, after location.Status, why string) []notification.Notification {
	n := notification.Notification{
		EntityType: notification.StorageLocation, EntityID: id,
		Metadata: map[string]any{"storage_location_id": id, "before": string(before), "after": string(after)},
	}
	switch {
	case before == after:
		return nil
	case after == location.Unreachable:
		n.Type, n.Severity = notification.StorageUnreachable, notification.Critical
		n.Title = "The storage " + name + " cannot be reached"
		n.Message = because("Backups to "+name+" will fail until it answers again", why)
	case after == location.Full:
		n.Type, n.Severity = notification.StorageFull, notification.Critical
		n.Title = "The storage " + name + " is full"
		n.Message = because("Backups to "+name+" will fail until there is space; remove old backups or make it larger", why)
	default:
		n.Type, n.Severity = notification.StorageRestored, notification.Info
		n.Title = "The storage " + name + " works again"
		n.Message = name + " takes backups again."
	}
	return []notification.Notification{n}
}

// spaceNotes tells that the space of a storage that works becomes low, or is
// enough again. One that is full says so itself.
func spaceNotes(before db.StorageLocation, status location.Status, low bool, available *int64) []notification.Notification {
	if low == before.LowSpace || available == nil || status != location.Healthy || before.Status != string(location.Healthy) {
		return nil
	}
	n := notification.Notification{
		EntityType: notification.StorageLocation, EntityID: before.ID,
		Metadata: map[string]any{"storage_location_id": before.ID, "available_bytes": *available},
	}
	if low {
		n.Type, n.Severity = notification.HealthDegraded, notification.Warning
		n.Title = "The storage " + before.Name + " is nearly full"
		n.Message = fmt.Sprintf("%s has %s left; remove old backups or make it larger before backups fail.", before.Name, logs.HumanBytes(*available))
	} else {
		n.Type, n.Severity = notification.StorageRestored, notification.Info
		n.Title = "The storage " + before.Name + " has space again"
		n.Message = fmt.Sprintf("%s has %s left.", before.Name, logs.HumanBytes(*available))
	}
	return []notification.Notification{n}
}

func because(what, why string) string {
	if why == "" {
		return sentence(what)
	}
	return what + ": " + sentence(why)
}

// sentence ends text with a full stop.
func sentence(text string) string {
	text = strings.TrimSpace(text)
	if text == "" {
		return "the reason is unknown."
	}
	if strings.HasSuffix(text, ".") || strings.HasSuffix(text, "!") || strings.HasSuffix(text, "?") {
		return text
	}
	return text + "."
}

func jobName(name string) string {
	if name == "" {
		return "A job that was deleted"
	}
	return fmt.Sprintf("The job %q", name)
}

func count(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func sizeOf(bytes *int64) string {
	if bytes == nil {
		return ""
	}
	return " (" + logs.HumanBytes(*bytes) + ")"
}

// reaped is why an execution whose worker vanished has failed. touched says that a
// restore had noted what it was about to make.
func reaped(op execution.Operation, touched bool) (errs.Code, string) {
	switch {
	case op != execution.Restore:
		return errs.CodeWorkerLost, "the worker vanished and no attempt is left; look at the worker's log and start it again"
	case !touched:
		return errs.CodeRestoreInterrupted, "the worker vanished before the restore touched its target, which is as it was; start the restore again"
	}
	return errs.CodeRestoreInterrupted, "the worker vanished in the middle of the restore; within minutes the cleanup worker removes what was made beside the target, " +
		"and finishes or takes back an exchange that was cut off: then the target holds its old content, or the whole backup. Look at it, and start the restore again if need be"
}
