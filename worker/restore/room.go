package restore

import (
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// scratchRoom is what any restore may need on the worker's disk, in bytes: lists of
// tables, credentials, what belongs to tables. A dump itself passes by; a restore
// that would unpack it does not when there is no room.
const scratchRoom = 64 << 20

// requireScratch fails when the disk of a directory has less than so many bytes free.
// One whose room cannot be told is taken as it is.
func requireScratch(dir string, need int64) error {
	free, ok := engine.FreeSpace(dir)
	if !ok || free >= need {
		return nil
	}
	return errs.New(errs.Exhausted, errs.CodeSpoolFull,
		"the worker has %d MB free for temporary files in %s and a restore needs %d MB there, so it was not begun and the target is as it was: make room, or set TMPDIR of the worker to another disk",
		free>>20, dir, need>>20)
}
