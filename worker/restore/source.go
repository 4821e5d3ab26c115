package restore

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/dataguardian/dataguardian/internal/artifact"
	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/logs"
	"github.com/dataguardian/dataguardian/storage"
)

// source is one copy of the backup, with an open storage.
type source struct {
	copy     backup.Copy
	driver   storage.Driver
	manifest artifact.Manifest
	report   artifact.Report // once it was proven
}

// copyError is trouble with one copy: another one may be good.
type copyError struct{ error }

func (e copyError) Unwrap() error { return e.error }

// ofCopy makes err a matter of the copy, unless it is of the key or of the end of
// the work: those are the same with every copy.
func ofCopy(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil || errs.CodeOf(err) == errs.CodeDecryptionFailed {
		return err
	}
	return copyError{err}
}

// candidates lists the copies to take the backup from: the wanted one, the others
// in their order, and last those that were found damaged, which may be back.
func (r *run) candidates() []backup.Copy {
	var wanted, available, damaged []backup.Copy
	for _, c := range r.backup.Copies {
		switch {
		case c.Status != backup.CopyAvailable && c.Status != backup.CopyMissing:
		case c.StorageLocationID == r.request.StorageLocationID:
			wanted = append(wanted, c)
		case c.Status == backup.CopyAvailable:
			available = append(available, c)
		default:
			damaged = append(damaged, c)
		}
	}
	return append(append(wanted, available...), damaged...)
}

// fromAny lets use work with one copy after the other until one serves. What came
// of each is noted in any case.
func (r *run) fromAny(ctx context.Context, use func(c backup.Copy) error) error {
	var failures []error
	for _, c := range r.candidates() {
		if len(failures) > 0 {
			r.Log.Logf(engine.LevelInfo, "Trying the copy on %q", c.StorageName)
		}
		err := use(c)
		var bad copyError
		if !errors.As(err, &bad) {
			if err == nil {
				r.note(c, execution.SourceUsed, nil)
			}
			return err
		}
		failures = append(failures, bad.error)
		r.Log.Logf(engine.LevelWarn, "The copy on %q cannot be used: %s", c.StorageName, errs.Message(bad.error))
		r.judge(ctx, c, bad.error)
	}
	switch len(failures) {
	case 0:
		return errs.New(errs.Unavailable, errs.CodeBackupUnavailable, "no storage has this backup any more; choose another one")
	case 1:
		return failures[0]
	}
	return errs.Wrap(errors.Join(failures...), errs.KindOf(failures[0]), errs.CodeOf(failures[0]),
		"none of the %d copies can be used; the first: %s", len(failures), errs.Message(failures[0]))
}

// note keeps what came of a copy for the record.
func (r *run) note(c backup.Copy, outcome execution.SourceOutcome, err error) {
	attempt := execution.SourceAttempt{StorageLocationID: c.StorageLocationID, StorageName: c.StorageName, Outcome: outcome}
	if err != nil {
		attempt.Error = errs.Message(err)
	}
	r.sources = append(r.sources, attempt)
}

// judge notes a copy that failed. One whose bytes are not those that were written
// is marked, so that people see it and nobody counts on it.
func (r *run) judge(ctx context.Context, c backup.Copy, err error) {
	if errs.CodeOf(err) != errs.CodeArtifactCorrupt {
		r.note(c, execution.SourceUnreadable, err)
		return
	}
	r.note(c, execution.SourceDamaged, err)
	if markErr := r.Catalogue.MarkMissing(ctx, c, errs.Message(err)); markErr != nil && errs.KindOf(markErr) != errs.Conflict {
		r.Log.Logf(engine.LevelWarn, "The copy on %q could not be marked as damaged: %s", c.StorageName, errs.Message(markErr))
	}
}

// open opens a copy and reads its manifest.
func (r *run) open(ctx context.Context, c backup.Copy) (*source, error) {
	_, driver, err := r.Vault.Open(ctx, c.StorageLocationID)
	if err != nil {
		return nil, ofCopy(ctx, err)
	}
	s := &source{copy: c, driver: driver}
	if s.manifest, err = artifact.OpenManifest(ctx, driver, c.Path); err == nil {
		err = r.agrees(c, s.manifest)
	}
	if errs.KindOf(err) == errs.NotFound {
		err = errs.Wrap(err, errs.Conflict, errs.CodeArtifactCorrupt, "the copy on %q has lost its manifest: use another copy", c.StorageName)
	}
	if err != nil {
		r.closeDriver(driver)
		return nil, ofCopy(ctx, err)
	}
	return s, nil
}

// agrees compares a manifest with what the catalogue knows: one that was edited
// can be consistent in itself.
func (r *run) agrees(c backup.Copy, m artifact.Manifest) error {
	if difference := r.backup.Differs(m.ExecutionID, partsOf(m, c.Path)); difference != "" {
		return errs.New(errs.Conflict, errs.CodeArtifactCorrupt, "the manifest at %s is not the one that was written: %s", c.Path, difference)
	}
	return nil
}

func partsOf(m artifact.Manifest, path string) []backup.Part {
	var parts []backup.Part
	for _, p := range m.AllParts(path) {
		parts = append(parts, backup.Part{Number: p.Number, Key: p.Key, Size: p.Size, SHA256: p.SHA256})
	}
	return parts
}

// opens fails when the secret keys are not those of the backup: that is known
// from its first bytes.
func (r *run) opens(ctx context.Context, s *source) error {
	if !s.manifest.Encrypted() || len(s.manifest.Members) == 0 {
		return nil
	}
	member, err := artifact.NewSource(s.driver, s.copy.Path, s.manifest, r.identities...).Open(ctx, s.manifest.Members[0].Name)
	if err != nil {
		return ofCopy(ctx, err)
	}
	return ofCopy(ctx, member.Close())
}

// prove reads a copy to its end and compares every stored byte. What is inside is
// read, too, with inside. A restore beside the target does not ask for it: it reads that
// anyway, and whatever it finds then, the target is what it was.
func (r *run) prove(ctx context.Context, s *source, inside bool) error {
	r.Log.Logf(engine.LevelInfo, "Proving the copy on %q: %s, %s stored", s.copy.StorageName, s.copy.Path, logs.HumanBytes(s.manifest.Totals.StoredSize))
	progress := func(done, total int64) { r.Progress(engine.Progress{BytesDone: done, BytesTotal: total}) }
	var report artifact.Report
	var err error
	if inside {
		report, err = artifact.Verify(ctx, s.driver, s.copy.Path, r.identities, progress)
	} else {
		report, err = artifact.VerifyStored(ctx, s.driver, s.copy.Path, progress)
	}
	if err == nil {
		err = r.agrees(s.copy, report.Manifest)
	}
	if err != nil {
		return ofCopy(ctx, err)
	}
	s.report, s.manifest = report, report.Manifest
	what := "every part"
	if report.Decoded {
		what = "every part, and the dump inside,"
	}
	r.Log.Logf(engine.LevelInfo, "Proven: %s of %s (%s, %s) is as it was written",
		what, engine.Count(report.Members, "member"), engine.Count(report.Parts, "part"), logs.HumanBytes(report.StoredBytes))
	if report.Decoded {
		r.found(ctx, s.copy)
	}
	return nil
}

// found takes back that a copy was damaged, when it was. Its stored bytes are not enough:
// what is inside of them may have been the damage.
func (r *run) found(ctx context.Context, c backup.Copy) {
	if c.Status != backup.CopyMissing {
		return
	}
	if err := r.Catalogue.MarkFound(ctx, c); err != nil {
		r.Log.Logf(engine.LevelWarn, "The copy on %q is whole, which could not be noted: %s", c.StorageName, errs.Message(err))
		return
	}
	r.Log.Logf(engine.LevelInfo, "The copy on %q was marked as missing and is whole: it counts again", c.StorageName)
}

func (r *run) closeDriver(d storage.Driver) {
	if err := d.Close(); err != nil {
		r.Logger.Warn("a storage was not closed cleanly", "execution_id", r.Execution.ID, "error", err)
	}
}

// watched tells trouble of a source from trouble of the database that reads it.
type watched struct {
	engine.Source

	mu  sync.Mutex
	err error
}

// Open implements engine.Source.
func (w *watched) Open(ctx context.Context, member string) (io.ReadCloser, error) {
	r, err := w.Source.Open(ctx, member)
	if err != nil {
		w.note(err)
		return nil, err
	}
	m := &watchedMember{ReadCloser: r, source: w}
	if p, ok := r.(engine.Prover); ok {
		return &watchedProver{watchedMember: m, prover: p}, nil
	}
	return m, nil
}

func (w *watched) note(err error) {
	if errs.As(err) == nil { // an end, not a failure
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
}

// failure is the first thing that went wrong with the source.
func (w *watched) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

type watchedMember struct {
	io.ReadCloser
	source *watched
}

// Read implements io.Reader.
func (m *watchedMember) Read(p []byte) (int, error) {
	n, err := m.ReadCloser.Read(p)
	m.source.note(err)
	return n, err
}

// watchedProver is a member that can end early.
type watchedProver struct {
	*watchedMember
	prover engine.Prover
}

// Prove implements engine.Prover.
func (m *watchedProver) Prove() error {
	err := m.prover.Prove()
	m.source.note(err)
	return err
}
