package artifact

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"time"

	"github.com/dataguardian/dataguardian/storage"
)

const (
	chunkSize = 256 << 10
	// chunksAhead is how many chunks one member may have read ahead: 4 MiB.
	chunksAhead = 16
)

// fetch reads the parts of one member as one stream, ahead of its consumer. The
// last bytes of a part are given out only after its digest was proven. An error
// names the part; reading it again gives the same error.
type fetch struct {
	driver storage.Driver
	path   string
	parts  []ManifestPart
	retry  Retry
	stall  time.Duration
	onRead func(n int)

	ctx    context.Context
	cancel context.CancelFunc
	chunks chan chunk
	free   chan []byte
	size   int64 // of a buffer
	made   int   // buffers

	now chunk // what the consumer has left of a chunk
	err error // sticky, for the consumer
}

type chunk struct {
	data   []byte
	buffer []byte
	proven bool // it ends a part
	err    error
}

// fetch begins to read a member. Close ends it; ctx must live until then.
func (s *Source) fetch(ctx context.Context, m ManifestMember) *fetch {
	f := &fetch{
		driver: s.driver, path: s.path, parts: m.Parts,
		retry: s.Retry.withDefaults(), stall: s.StallTimeout, onRead: s.OnRead,
		chunks: make(chan chunk, chunksAhead), free: make(chan []byte, chunksAhead),
	}
	for _, p := range m.Parts {
		f.size = min(chunkSize, max(f.size, p.Size))
	}
	f.ctx, f.cancel = context.WithCancel(ctx)
	go func() { //nolint:contextcheck // it works under f.ctx, made of ctx
		defer close(f.chunks)
		for _, p := range f.parts {
			err := f.part(p)
			if f.ctx.Err() != nil {
				return // the closed channel tells
			}
			if err != nil {
				f.give(chunk{err: err})
				return
			}
		}
	}()
	return f
}

// Read returns io.EOF only when every part was proven.
func (f *fetch) Read(p []byte) (int, error) {
	for len(f.now.data) == 0 {
		if err := f.advance(); err != nil {
			return 0, err
		}
	}
	n := copy(p, f.now.data)
	f.now.data = f.now.data[n:]
	return n, nil
}

// advance takes the next chunk.
func (f *fetch) advance() error {
	if f.err != nil {
		return f.err
	}
	if f.now.buffer != nil {
		f.free <- f.now.buffer // has room for all there are
	}
	next, ok := <-f.chunks
	switch {
	case ok && next.err == nil:
		f.now = next
		return nil
	case ok:
		f.err = next.err
	case f.ctx.Err() != nil:
		f.err = ended(context.Cause(f.ctx))
	default:
		f.err = io.EOF
	}
	f.now = chunk{}
	return f.err
}

// prove reads on to the end of the current part and returns what was wrong with
// the parts up to there, if anything.
func (f *fetch) prove() error {
	for !f.now.proven {
		if err := f.advance(); err != nil {
			break
		}
	}
	if errors.Is(f.err, io.EOF) {
		return nil
	}
	return f.err
}

// Close ends the reading and waits for it.
func (f *fetch) Close() error {
	f.cancel()
	for range f.chunks {
		continue
	}
	return nil
}

// part reads one part, over as many connections as it takes. Its error is of no
// matter once ctx has ended.
func (f *fetch) part(p ManifestPart) error {
	r := &partRead{f: f, part: p, hash: sha256.New()}
	for failures := 0; ; {
		before := r.offset
		err := r.attempt()
		if err == nil {
			return r.end()
		}
		if f.ctx.Err() != nil {
			return err
		}
		if r.offset > before {
			failures = 0
		}
		failures++
		if err := r.judge(err); err != nil {
			return err
		}
		if failures >= f.retry.Attempts {
			return readFailure(err, "reading "+p.Name)
		}
		if err := f.retry.Sleep(f.ctx, f.retry.delay(failures)); err != nil {
			return err
		}
	}
}

// give hands a chunk to the consumer, or fails when it has gone.
func (f *fetch) give(c chunk) bool {
	select {
	case f.chunks <- c:
		return true
	case <-f.ctx.Done():
		return false
	}
}

// buffer returns one that is free, or a new one while there are few. One chunk
// is with the consumer, one is held back, one is being filled.
func (f *fetch) buffer() ([]byte, error) {
	select {
	case b := <-f.free:
		return b, nil
	default:
	}
	if f.made < chunksAhead {
		f.made++
		return make([]byte, f.size), nil
	}
	select {
	case b := <-f.free:
		return b, nil
	case <-f.ctx.Done():
		return nil, context.Cause(f.ctx)
	}
}

// partRead is the state of one part's reading across connections.
type partRead struct {
	f      *fetch
	part   ManifestPart
	hash   hash.Hash
	offset int64
	held   chunk // the newest bytes, held back until more follow or all is proven
}

// attempt reads from offset to the end of the part, and one byte further: there
// must be none.
func (r *partRead) attempt() error {
	if r.offset == r.part.Size && r.offset > 0 {
		return r.longer()
	}
	ctx, watch := watchStall(r.f.ctx, r.f.stall)
	defer watch.stop()
	rc, err := r.f.driver.Open(ctx, r.f.path+"/"+r.part.Name, r.offset, -1)
	if err != nil {
		return watch.explain(err)
	}
	defer rc.Close()
	watch.pause()
	src := watchedReader{rc, watch}
	for r.offset < r.part.Size {
		if err := r.chunk(src); err != nil {
			return err
		}
	}
	switch n, err := io.ReadFull(src, make([]byte, 1)); {
	case n > 0:
		return errTooLong
	case !errors.Is(err, io.EOF):
		return err
	}
	return nil
}

// longer looks whether the object goes on where the part has ended.
func (r *partRead) longer() error {
	o, err := r.f.driver.Stat(r.f.ctx, r.f.path+"/"+r.part.Name)
	if err == nil && o.Size > r.part.Size {
		return errTooLong
	}
	return err
}

var errTooLong = errors.New("the object is longer than the part")

// chunk fills one buffer and gives the one before it out.
func (r *partRead) chunk(src io.Reader) error {
	buffer, err := r.f.buffer()
	if err != nil {
		return err
	}
	want := buffer[:min(r.f.size, r.part.Size-r.offset)]
	n, err := io.ReadFull(src, want)
	if n == 0 {
		r.f.free <- buffer
		return unexpected(err)
	}
	r.hash.Write(want[:n])
	r.offset += int64(n)
	r.f.onRead(n)
	if r.held.data != nil && !r.f.give(r.held) {
		return context.Cause(r.f.ctx)
	}
	r.held = chunk{data: want[:n], buffer: buffer}
	return unexpected(err)
}

// unexpected makes a clean but early end an error.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// judge returns a final error when err says, or a look at the object shows, that
// reading again cannot help.
func (r *partRead) judge(err error) error {
	if errors.Is(err, errTooLong) {
		return corrupt(err, "%s is longer than it was", r.part.Name)
	}
	if errors.Is(err, storage.ErrNotExist) {
		return corrupt(err, "%s is missing", r.part.Name)
	}
	if hopeless(err) {
		return readFailure(err, "reading "+r.part.Name)
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	o, statErr := r.f.driver.Stat(r.f.ctx, r.f.path+"/"+r.part.Name)
	if statErr == nil && o.Size != r.part.Size {
		return corrupt(err, "%s has %d bytes and had %d", r.part.Name, o.Size, r.part.Size)
	}
	return nil
}

// end proves the digest and gives the rest out.
func (r *partRead) end() error {
	if hex.EncodeToString(r.hash.Sum(nil)) != r.part.SHA256 {
		return corrupt(nil, "%s has other bytes than it had", r.part.Name)
	}
	r.held.proven = true
	if !r.f.give(r.held) {
		return context.Cause(r.f.ctx)
	}
	return nil
}
