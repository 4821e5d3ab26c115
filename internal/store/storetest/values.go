package storetest

import (
	"time"

	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/paging"
)

const (
	minute = time.Minute
	tick   = 10 * time.Millisecond
)

var (
	epoch         = time.Date(2026, 1, 2, 3, 4, 5, 678_901_000, time.UTC)
	allOperations = []execution.Operation{execution.Backup, execution.Restore, execution.Verify}
	firstPage     = paging.Page{}
)

// absent ids: one that is none, and one that is nobody's.
func absent() []string { return []string{"not-a-uuid", "", id()} }
