package artifact

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// Completion is what is known once the dump is proven complete.
type Completion struct {
	Dump       engine.DumpResult
	Proof      string // how completeness was proven, for people
	FinishedAt time.Time
}

// Status of one target after a commit.
type Status string

// Statuses.
const (
	Available Status = "available" // all parts confirmed, manifest written
	Failed    Status = "failed"    // given up; may hold parts, holds no manifest of ours
)

// Outcome says what became of one target.
type Outcome struct {
	TargetID  string
	Name      string
	Status    Status
	Path      string
	Err       error // *errs.Error when failed
	Confirmed int   // parts
	Touched   bool  // BeforeFirstObject was called: objects may be there
}

// Part is one stored object of an artifact.
type Part struct {
	Number int // from 1, over all members
	Member string
	Key    string
	Size   int64
	SHA256 string
}

// Result of a commit. Fallback targets that were never tried have no outcome.
type Result struct {
	Manifest    Manifest
	Path        string
	Outcomes    []Outcome
	Parts       []Part
	RawBytes    int64
	StoredBytes int64
	// SpoolKept says that Resume can complete the targets that failed.
	SpoolKept bool
}

// Commit waits for the uploads and writes the manifests. It succeeds when at
// least one target has everything. It fails when any member was not closed
// cleanly, Guard failed, ctx ended, or no target took it all; then a full spool
// whose dump is complete is kept for Resume. Result tells the outcomes known so
// far in any case. After an error call Abort, or leave the spool for a retry.
func (w *Writer) Commit(ctx context.Context, c Completion) (Result, error) {
	defer context.AfterFunc(ctx, func() { w.stop(context.Cause(ctx)) })()
	if err := w.end(); err != nil {
		return Result{}, err
	}
	m, saved, err := w.seal(c)
	if err != nil {
		err = w.fail(err)
	}
	<-w.uploads.done
	defer w.stop(errs.New(errs.Cancelled, errs.CodeCancelled, "the backup has ended"))
	if err != nil {
		return Result{Path: w.cfg.Path, Outcomes: w.uploads.outcomes()}, errors.Join(err, w.uploads.leave(false))
	}
	r, err := w.uploads.conclude(m, saved)
	if err == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.phase = committed
	}
	return r, err
}

// end takes no more members.
func (w *Writer) end() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.phase != open {
		return errs.New(errs.Internal, errs.CodeInternal, "the artifact was ended twice")
	}
	w.phase = failed // until it is committed
	return nil
}

// seal turns complete members into a manifest, saves the state of a full spool
// and lets the targets finish.
func (w *Writer) seal(c Completion) (m Manifest, saved bool, err error) {
	if err := w.whole(); err != nil {
		return m, false, err
	}
	m = w.describe(c)
	encoded, err := m.encode()
	if err != nil {
		return m, false, err
	}
	if w.cfg.Spool == SpoolFull {
		if err := w.spool.save(w.cfg.Path, encoded, w.uploads.all()); err != nil {
			return m, false, err
		}
		saved = true
	}
	w.uploads.finish(encoded)
	return m, saved, nil
}

// whole fails unless there are members and all were closed cleanly.
func (w *Writer) whole() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ctx.Err() != nil {
		return w.cause()
	}
	for _, m := range w.members {
		if !m.done {
			return errs.New(errs.Internal, errs.CodeDumpIncomplete, "the member %q of the dump was never completed, so nothing was stored: run the backup again", m.name)
		}
	}
	if len(w.members) == 0 {
		return errs.New(errs.Internal, errs.CodeDumpIncomplete, "the dump wrote nothing, so nothing was stored: run the backup again")
	}
	return nil
}

// conclude sums the outcomes up and keeps or removes the spool. saved says that
// the spool can be resumed.
func (u *uploads) conclude(m Manifest, saved bool) (Result, error) {
	r := Result{
		Manifest: m, Path: u.cfg.Path, Outcomes: u.outcomes(), Parts: m.AllParts(u.cfg.Path),
		RawBytes: m.Totals.RawSize, StoredBytes: m.Totals.StoredSize,
	}
	err := u.verdict()
	failures := 0
	for _, o := range r.Outcomes {
		if o.Status == Failed {
			failures++
		}
	}
	incomplete := err != nil || u.cfg.Strategy == Replicate && failures > 0
	r.SpoolKept = saved && (incomplete || u.cfg.KeepSpool)
	if leaveErr := u.leave(r.SpoolKept); leaveErr != nil {
		u.cfg.Log(engine.LevelWarn, "The spool was not cleaned up: "+leaveErr.Error())
	}
	return r, err
}

// verdict is nil when at least one target has it all and nothing ended the
// artifact before the others had.
func (u *uploads) verdict() error {
	u.mu.Lock()
	available, interrupted := 0, false
	for _, d := range u.deliveries {
		switch {
		case d.ended && d.err == nil:
			available++
		case !d.ended || d.interrupted:
			interrupted = true
		}
	}
	u.mu.Unlock()
	switch {
	case interrupted && u.ctx.Err() != nil && (available == 0 || u.cfg.Strategy == Replicate):
		return ended(context.Cause(u.ctx))
	case available == 0:
		return u.failure()
	}
	return nil
}

// failure is the error of an artifact that no target took.
func (u *uploads) failure() error {
	var causes []error
	var code errs.Code
	var first *errs.Error
	for _, o := range u.outcomes() {
		e := errs.As(o.Err)
		if e == nil {
			continue
		}
		causes = append(causes, e)
		switch {
		case first == nil:
			first, code = e, e.Code
		case code != e.Code:
			code = errs.CodeUploadFailed
		}
	}
	if len(causes) == 1 {
		return first
	}
	return errs.Wrap(errors.Join(causes...), errs.Unavailable, code, "none of the %d storages took the backup; first, %s", len(causes), errs.Message(first))
}

func (u *uploads) outcomes() []Outcome {
	u.mu.Lock()
	defer u.mu.Unlock()
	var all []Outcome
	for _, d := range u.deliveries {
		if !d.ended {
			continue
		}
		o := Outcome{TargetID: d.target.ID, Name: d.target.Name, Status: Available, Path: u.cfg.Path, Confirmed: d.confirmed, Touched: d.isBooked()}
		if d.err != nil {
			o.Status, o.Err = Failed, d.err
		}
		all = append(all, o)
	}
	return all
}

// leave ends the work in the spool: kept ones are made durable, others go.
func (u *uploads) leave(keep bool) error {
	var err error
	if keep {
		err = u.spool.sync(u.all())
	} else {
		err = u.spool.remove()
	}
	if err := errors.Join(err, u.spool.close()); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	return nil
}
