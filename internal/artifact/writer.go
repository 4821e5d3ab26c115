package artifact

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync"

	"filippo.io/age"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// Writer takes the members of one dump and stores them as one artifact. It
// implements engine.Sink. Create may be called concurrently. End it with Commit
// or Abort, after every member has been closed; both leave no goroutine.
type Writer struct {
	cfg        Config
	compressor *compressor
	belts      belts
	recipients []age.Recipient
	spool      *spool
	uploads    *uploads
	counters   *counters
	ctx        context.Context
	stop       context.CancelCauseFunc

	mu      sync.Mutex
	phase   phase
	members []*memberWriter
	names   map[string]bool
	serial  int // parts so far
}

var _ engine.Sink = (*Writer)(nil)

type phase uint8

const (
	open phase = iota
	failed
	committed
	aborted
)

// NewWriter makes the spool and starts the uploads. The end of ctx ends the
// artifact. What an earlier attempt of the same execution left in the spool is
// removed: Resume it before, if at all.
func NewWriter(ctx context.Context, cfg Config) (*Writer, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	recipients, err := parseRecipients(cfg.Recipients)
	if err != nil {
		return nil, err
	}
	s, err := createSpool(cfg.SpoolDir, cfg.Header.ExecutionID, cfg.SpoolReserve)
	if err != nil {
		return nil, err
	}
	w := &Writer{
		cfg:        cfg,
		compressor: newCompressor(cfg.Compression, cfg.Level),
		recipients: recipients,
		spool:      s,
		counters:   &counters{report: cfg.Progress},
		names:      map[string]bool{},
	}
	ctx, stop := context.WithCancelCause(ctx)
	w.ctx, w.stop = ctx, stop
	w.uploads = startUploads(ctx, stop, cfg, s, w.counters)
	return w, nil
}

func (w *Writer) encryption() Encryption {
	if len(w.recipients) > 0 {
		return Age
	}
	return NoEncryption
}

// Create starts a member. Names are plain key segments (storage.Segment makes
// them) and unique in the artifact.
func (w *Writer) Create(ctx context.Context, member string) (engine.MemberWriter, error) {
	if err := checkMember(member); err != nil {
		return nil, w.fail(err)
	}
	m := &memberWriter{ctx: ctx, w: w, name: member, hash: sha256.New()}
	m.split = &splitter{
		spool:    w.spool,
		base:     member + w.cfg.Compression.suffix() + w.encryption().suffix(),
		limit:    w.cfg.PartSize,
		stopped:  w.cause,
		reserve:  w.reservePart,
		finished: func(p *part) error { return w.uploads.add(ctx, p) },
		wrote: func(n int) {
			w.counters.stored.Add(int64(n))
			w.counters.changed()
		},
	}
	if err := w.admit(m); err != nil {
		return nil, err
	}
	if err := m.build(); err != nil {
		return nil, w.fail(err)
	}
	return m, nil
}

func (w *Writer) admit(m *memberWriter) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.ctx.Err() != nil:
		return w.cause()
	case w.phase != open:
		return errs.New(errs.Internal, errs.CodeInternal, "the artifact takes no more members")
	case w.names[m.name]:
		err := errs.New(errs.Internal, errs.CodeInternal, "the member %q was created twice", m.name)
		w.stop(err)
		return err
	}
	w.names[m.name] = true
	w.members = append(w.members, m)
	return nil
}

func (w *Writer) reservePart() (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.serial == MaxParts {
		return 0, errs.New(errs.Exhausted, errs.CodeDumpFailed, "the backup has more than %d parts and was ended: raise the job's max_file_size_mb", MaxParts)
	}
	w.serial++
	return w.serial, nil
}

func (w *Writer) complete(m *memberWriter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m.done = true
}

// fail ends the artifact and returns why it ended first.
func (w *Writer) fail(err error) error {
	w.stop(err)
	return w.cause()
}

// cause is why the artifact has ended, nil when it has not.
func (w *Writer) cause() error {
	if w.ctx.Err() == nil {
		return nil
	}
	return ended(context.Cause(w.ctx))
}

// Abort gives the artifact up, also after a failed Commit: it ends the uploads,
// removes the spool and deletes what was written, manifests first. When Owned
// fails it touches nothing: the artifact is somebody else's by now. A committed
// artifact is not aborted; see Delete.
func (w *Writer) Abort(ctx context.Context) error {
	w.mu.Lock()
	before := w.phase
	if before != committed {
		w.phase = aborted
	}
	w.mu.Unlock()
	switch before {
	case committed:
		return errs.New(errs.Internal, errs.CodeInternal, "a committed backup was to be aborted")
	case aborted:
		return nil
	case failed: // Commit has ended everything
	case open:
		w.stop(errs.New(errs.Cancelled, errs.CodeCancelled, "the backup was given up"))
		<-w.uploads.done
		defer w.spool.close() //nolint:errcheck // only releases the lock
	}
	if err := w.cfg.Owned(); err != nil {
		return err
	}
	var problems []error
	for _, d := range w.uploads.deliveries {
		if d.isBooked() {
			problems = append(problems, Delete(ctx, d.target.Driver, w.cfg.Path))
		}
	}
	if err := w.spool.remove(); err != nil {
		problems = append(problems, spoolFailure(err))
	}
	return errors.Join(problems...)
}
