package artifact

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// SpoolEntry is the spool of one execution on this machine.
type SpoolEntry struct {
	ExecutionID string
	Bytes       int64
	Resumable   bool      // its dump is complete: see Resume
	Modified    time.Time // when a file was last added or removed
}

// SpoolUsage lists the spools in dir; an absent dir has none.
func SpoolUsage(dir string) ([]SpoolEntry, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, spoolFailure(err)
	}
	var all []SpoolEntry
	for _, e := range entries {
		if !e.IsDir() || !isSpool(dir, e.Name()) {
			continue
		}
		s, err := measureSpool(dir, e.Name())
		if err != nil {
			return nil, spoolFailure(err)
		}
		all = append(all, s)
	}
	return all, nil
}

// isSpool recognises a spool by what is in it, so that a misplaced directory is
// never swept.
func isSpool(dir, name string) bool {
	if !plainName(name) {
		return false
	}
	entries, err := os.ReadDir(filepath.Join(dir, name))
	if err != nil {
		return false
	}
	for _, e := range entries {
		switch e.Name() {
		case partsDir, stateFile, manifestFile, stateFile + ".new", manifestFile + ".new":
		default:
			return false
		}
	}
	return true
}

// measureSpool sums a spool that may shrink or vanish meanwhile.
func measureSpool(dir, name string) (SpoolEntry, error) {
	s := SpoolEntry{ExecutionID: name}
	err := filepath.WalkDir(filepath.Join(dir, name), func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return unlessGone(err)
		}
		info, err := e.Info()
		if err != nil {
			return unlessGone(err)
		}
		if info.ModTime().After(s.Modified) {
			s.Modified = info.ModTime()
		}
		if info.Mode().IsRegular() {
			s.Bytes += info.Size()
		}
		s.Resumable = s.Resumable || filepath.Base(path) == stateFile
		return nil
	})
	return s, err
}

func unlessGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// SpoolResumable reports whether dir holds the complete dump of an execution.
// Only Resume knows whether it is still intact.
func SpoolResumable(dir, executionID string) bool {
	if !plainName(executionID) {
		return false
	}
	info, err := os.Stat(filepath.Join(dir, executionID, stateFile))
	return err == nil && info.Mode().IsRegular()
}

// SpooledPath is where the complete dump of an execution in dir belongs on its
// storages; empty when nothing there says so.
func SpooledPath(dir, executionID string) string {
	if !plainName(executionID) {
		return ""
	}
	root, err := os.OpenRoot(filepath.Join(dir, executionID))
	if err != nil {
		return ""
	}
	defer root.Close() //nolint:errcheck // only read
	st, err := (&spool{root: root}).loadState()
	if err != nil {
		return ""
	}
	return st.Path
}

// SweepSpool removes the spools in dir that keep does not want, except those
// somebody works on, and returns how many bytes that freed. What is not a spool
// is left alone.
func SweepSpool(dir string, keep func(executionID string) bool) (freed int64, err error) {
	all, err := SpoolUsage(dir)
	if err != nil {
		return 0, err
	}
	var problems []error
	for _, s := range all {
		if keep(s.ExecutionID) {
			continue
		}
		switch err := DropSpool(dir, s.ExecutionID); {
		case err == nil:
			freed += s.Bytes
		case errs.CodeOf(err) != errs.CodeExecutionRunning:
			problems = append(problems, err)
		}
	}
	return freed, errors.Join(problems...)
}

// DropSpool removes the spool of one execution; an absent one is fine. It fails
// with EXECUTION_ALREADY_RUNNING while somebody works on it.
func DropSpool(dir, executionID string) error {
	if !plainName(executionID) {
		return errs.New(errs.Invalid, errs.CodeValidation, "%q is not an execution's id", executionID)
	}
	s, err := openSpool(dir, executionID, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := errors.Join(s.remove(), s.close()); err != nil {
		return spoolFailure(err)
	}
	return nil
}
