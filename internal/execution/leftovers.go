package execution

import "context"

// Leftovers are the databases that a restore makes only for a while: those with
// its Token in their names, and the one of a verification.
type Leftovers struct {
	ExecutionID  string
	DatasourceID string
	Database     string // of a verification, empty for none
	Error        string // why they could not be dropped the last time
}

// RestoreStore is what restores need of the truth beyond their execution.
type RestoreStore interface {
	// HoldTarget locks the database that a running restore is about to change, by
	// its TargetKey. While another restore holds it: Conflict (CodeExecutionRunning)
	// with details "execution_id". The database that this store is in is refused, too:
	// Conflict (CodeRestoreNotSupported).
	HoldTarget(ctx context.Context, l Lease, key string) error
	// NoteLeftovers notes what a restore is about to make, before it does.
	NoteLeftovers(ctx context.Context, l Lease, x Leftovers) error
	// ForgetLeftovers notes that nothing of a restore is left.
	ForgetLeftovers(ctx context.Context, executionID string) error
	// Abandoned lists what restores that have ended left behind, those first that
	// were tried least recently.
	Abandoned(ctx context.Context, limit int) ([]Leftovers, error)
	// NoteSweepFailure records why leftovers are still there.
	NoteSweepFailure(ctx context.Context, executionID, why string) error
}
