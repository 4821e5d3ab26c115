package artifact

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/storage"
	"golang.org/x/sync/errgroup"
)

// delivery brings one artifact to one target.
type delivery struct {
	u      *uploads
	target Target
	bit    uint32

	booking sync.Mutex
	booked  bool // guarded by booking

	// guarded by u.mu
	next        int // index of the first part that was not taken yet
	confirmed   int
	ended       bool
	interrupted bool  // ended because the artifact did
	err         error // why it ended, nil when the target has it all
}

// end keeps the outcome. The caller holds u.mu.
func (d *delivery) end(err error) {
	d.ended = true
	if err == nil {
		return
	}
	if d.u.ctx.Err() != nil {
		d.interrupted, d.err = true, ended(err)
		return
	}
	d.err = uploadFailure(d.target, err)
	d.u.cfg.Log(engine.LevelError, "Upload to "+quoted(d.target)+" failed: "+d.err.Error())
}

// run sends every part, then the manifest.
func (d *delivery) run(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	for range d.u.cfg.Concurrency {
		g.Go(func() error { return d.sendParts(gctx) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return d.commit(ctx)
}

func (d *delivery) sendParts(ctx context.Context) error {
	for {
		p, err := d.u.take(ctx, d)
		if err != nil || p == nil {
			return err
		}
		err = d.persist(ctx, p.name, func() error { return d.send(ctx, p) })
		if err != nil {
			return err
		}
		d.u.confirm(d, p)
	}
}

// persist repeats step until it succeeds, cannot help or has used up its tries.
func (d *delivery) persist(ctx context.Context, what string, step func() error) error {
	retry := d.u.cfg.Retry
	for n := 1; ; n++ {
		err := d.attempt(ctx, step)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case hopeless(err):
			return err
		case n >= retry.Attempts:
			return d.giveUp(err)
		}
		wait := retry.delay(n)
		retry.Again()
		d.u.cfg.Log(engine.LevelWarn, fmt.Sprintf("Upload of %s to %s failed (try %d of %d), next try in %.1fs: %v",
			what, quoted(d.target), n, retry.Attempts, wait.Seconds(), err))
		if err := retry.Sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// attempt does step once, when the artifact is still ours and its copy is booked.
func (d *delivery) attempt(ctx context.Context, step func() error) error {
	if err := d.u.cfg.Guard(); err != nil {
		return d.halt(err)
	}
	if err := d.book(ctx); err != nil {
		return err
	}
	return step()
}

// book announces the first object. It is done once; others wait for it.
func (d *delivery) book(ctx context.Context) error {
	d.booking.Lock()
	defer d.booking.Unlock()
	if d.booked {
		return nil
	}
	err := d.u.cfg.BeforeFirstObject(ctx, d.target.ID)
	if err != nil && errs.KindOf(err) != errs.Unavailable {
		return d.halt(err)
	}
	d.booked = err == nil
	return err
}

// giveUp ends the whole artifact when it was the booking that kept failing.
func (d *delivery) giveUp(err error) error {
	if !d.isBooked() {
		return d.halt(err)
	}
	return err
}

func (d *delivery) isBooked() bool {
	d.booking.Lock()
	defer d.booking.Unlock()
	return d.booked
}

// halt ends the whole artifact, not only this delivery.
func (d *delivery) halt(err error) error {
	d.u.stop(err)
	return err
}

func (d *delivery) key(name string) string { return d.u.cfg.Path + "/" + name }

// send uploads p, unless a resumed target has it already.
func (d *delivery) send(ctx context.Context, p *part) error {
	if d.u.resumed {
		if there, err := d.has(ctx, p); there || err != nil {
			return err
		}
	}
	err := d.put(ctx, p)
	switch {
	case errors.Is(err, storage.ErrExist):
		return d.recognise(ctx, p)
	case errors.Is(err, storage.ErrChecksum):
		if lost := d.u.spool.check(p); lost != nil {
			return d.halt(lost)
		}
	}
	return err
}

func (d *delivery) put(ctx context.Context, p *part) error {
	f, err := d.u.spool.root.Open(p.file)
	if err != nil {
		return d.halt(spoolUnread(err, "a part of the spooled backup is missing or cannot be opened"))
	}
	defer f.Close() //nolint:errcheck // only read
	ctx, watch := watchStall(ctx, d.u.cfg.StallTimeout)
	defer watch.stop()
	b := newBody(f, p.size, d.u.counters, watch)
	o, err := d.target.Driver.Put(ctx, d.key(p.name), b, storage.PutOptions{Size: p.size, SHA256: p.sha256, IfAbsent: true})
	err = watch.explain(err)
	if b.failed() != nil {
		return d.halt(spoolUnread(b.failed(), "a part of the spooled backup cannot be read"))
	}
	if err == nil {
		err = p.matches(o)
	}
	if err != nil {
		b.sent(0)
		return err
	}
	b.sent(p.size)
	return nil
}

// matches compares what a storage says it has with the part.
func (p *part) matches(o storage.Object) error {
	if o.Size != p.size || o.SHA256 != "" && o.SHA256 != p.sha256 {
		return fmt.Errorf("%w: the storage has %d bytes of %d, digest %q of %q", storage.ErrChecksum, o.Size, p.size, o.SHA256, p.sha256)
	}
	return nil
}

// has reports whether the target holds p. A different object under its name is
// an error.
func (d *delivery) has(ctx context.Context, p *part) (bool, error) {
	o, err := d.target.Driver.Stat(ctx, d.key(p.name))
	if errors.Is(err, storage.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := p.matches(o); err != nil {
		return false, fmt.Errorf("%w: %w", storage.ErrExist, err)
	}
	d.u.counters.uploaded.Add(p.size)
	d.u.counters.changed()
	return true, nil
}

// recognise decides whether the object that was in the way is p: the answer to
// an earlier try may have been lost.
func (d *delivery) recognise(ctx context.Context, p *part) error {
	there, err := d.has(ctx, p)
	if err != nil {
		return err
	}
	if !there {
		return fmt.Errorf("%s was refused as present and is absent", p.name)
	}
	r, err := d.target.Driver.Open(ctx, d.key(p.name), 0, p.size)
	if err != nil {
		return err
	}
	defer r.Close()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return err
	}
	if hex.EncodeToString(h.Sum(nil)) != p.sha256 {
		return fmt.Errorf("%w: its digest differs", storage.ErrExist)
	}
	return nil
}

// commit proves that every part is there and writes the manifest.
func (d *delivery) commit(ctx context.Context) error {
	if err := d.persist(ctx, "the parts", func() error { return d.prove(ctx) }); err != nil {
		return err
	}
	return d.persist(ctx, manifestFile, func() error { return d.putManifest(ctx) })
}

// prove compares one listing with all parts: what was confirmed must not have
// been removed since.
func (d *delivery) prove(ctx context.Context) error {
	sizes := map[string]int64{}
	for o, err := range d.target.Driver.List(ctx, d.u.cfg.Path+"/") {
		if err != nil {
			return err
		}
		sizes[o.Key] = o.Size
	}
	for _, p := range d.u.all() {
		if size, ok := sizes[d.key(p.name)]; !ok || size != p.size {
			return fmt.Errorf("%w: %s", errObjectLost, p.name)
		}
	}
	return nil
}

func (d *delivery) putManifest(ctx context.Context) error {
	body := d.u.manifest
	sum := sha256.Sum256(body)
	ctx, watch := watchStall(ctx, d.u.cfg.StallTimeout)
	defer watch.stop()
	_, err := d.target.Driver.Put(ctx, d.key(manifestFile), bytes.NewReader(body),
		storage.PutOptions{Size: int64(len(body)), SHA256: hex.EncodeToString(sum[:]), IfAbsent: true})
	if !errors.Is(err, storage.ErrExist) {
		return watch.explain(err)
	}
	r, openErr := d.target.Driver.Open(ctx, d.key(manifestFile), 0, -1)
	if openErr != nil {
		return openErr
	}
	defer r.Close()
	there, readErr := readBounded(r, int64(len(body)))
	if readErr == nil && bytes.Equal(there, body) {
		return nil
	}
	return fmt.Errorf("%w: another manifest: %w", storage.ErrExist, errors.Join(err, readErr))
}

// all returns the parts; there will be no more.
func (u *uploads) all() []*part {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.parts
}

// body is a part's file as the body of an upload. It counts how far the upload
// is, and remembers an error of the disk, which is not the storage's.
type body struct {
	*io.SectionReader
	counters *counters
	watch    *stallWatch

	mu       sync.Mutex
	reported int64
	err      error
}

func newBody(f *os.File, size int64, c *counters, watch *stallWatch) *body {
	b := &body{counters: c, watch: watch}
	b.SectionReader = io.NewSectionReader(&diskReader{f: f, body: b}, 0, size)
	return b
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.SectionReader.Read(p)
	b.moved()
	return n, err
}

func (b *body) Seek(offset int64, whence int) (int64, error) {
	n, err := b.SectionReader.Seek(offset, whence)
	b.moved()
	return n, err
}

// moved reports the position as what was sent.
func (b *body) moved() {
	if position, err := b.SectionReader.Seek(0, io.SeekCurrent); err == nil {
		b.sent(position)
	}
}

func (b *body) sent(total int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counters.uploaded.Add(total - b.reported)
	b.reported = total
	b.counters.changed()
}

func (b *body) failed() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

type diskReader struct {
	f    *os.File
	body *body
}

func (r *diskReader) ReadAt(p []byte, offset int64) (int, error) {
	r.body.watch.moved()
	n, err := r.f.ReadAt(p, offset)
	if err != nil && err != io.EOF {
		r.body.mu.Lock()
		defer r.body.mu.Unlock()
		r.body.err = err
	}
	return n, err
}
