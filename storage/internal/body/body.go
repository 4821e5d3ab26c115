// Package body checks what drivers send. A Checked body counts and hashes, and
// holds its end back until the whole body is proven: a store that received less
// than was announced throws it away.
package body

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"

	"github.com/dataguardian/dataguardian/storage"
)

// Checked reads a body of storage.Driver.Put. It may be read by another
// goroutine than the one that stops it.
type Checked struct {
	ctx  context.Context
	opts storage.PutOptions

	mu      sync.Mutex
	r       io.Reader
	hash    hash.Hash
	size    int64
	ended   bool // this reading of the body
	proof   *proof
	stopped bool
	err     error
}

// proof is kept when the body is read again: what was sent once may have been
// stored.
type proof struct {
	size   int64
	digest string
}

// Check wraps r. Reading fails with storage.ErrChecksum when r does not match
// opts, with r's own error, or once ctx ends.
func Check(ctx context.Context, r io.Reader, opts storage.PutOptions) *Checked {
	return &Checked{ctx: ctx, opts: opts, r: r, hash: sha256.New()}
}

// errStopped is what a reader gets that still reads when the write is over.
var errStopped = errors.New("the write has ended")

// Read returns io.EOF, or the last byte of a body of known size, only when the
// whole body is proven.
func (c *Checked) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.stopped:
		return 0, errStopped
	case c.err != nil:
		return 0, c.err
	case c.ended:
		return 0, io.EOF
	case len(p) == 0:
		return 0, nil
	}
	n, err := c.read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		c.err = err
		return 0, err
	}
	return n, err
}

func (c *Checked) read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.r.Read(p)
	c.size += int64(n)
	c.hash.Write(p[:n])
	switch {
	case err != nil && err != io.EOF:
		return 0, err
	case c.opts.Size >= 0 && c.size > c.opts.Size:
		return 0, fmt.Errorf("%w: the body is longer than the %d bytes announced", storage.ErrChecksum, c.opts.Size)
	case err == nil && c.size == c.opts.Size:
		if err := c.atEnd(); err != nil {
			return 0, err
		}
		return n, c.prove()
	case err == io.EOF:
		if err := c.prove(); err != nil {
			return 0, err
		}
		return n, io.EOF
	}
	return n, nil
}

// atEnd fails unless nothing follows.
func (c *Checked) atEnd() error {
	var one [1]byte
	for {
		switch n, err := c.r.Read(one[:]); {
		case n > 0:
			return fmt.Errorf("%w: the body is longer than the %d bytes announced", storage.ErrChecksum, c.opts.Size)
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case c.ctx.Err() != nil:
			return c.ctx.Err()
		}
	}
}

func (c *Checked) prove() error {
	if c.opts.Size >= 0 && c.size != c.opts.Size {
		return fmt.Errorf("%w: the body has %d of the %d bytes announced", storage.ErrChecksum, c.size, c.opts.Size)
	}
	digest := hex.EncodeToString(c.hash.Sum(nil))
	if c.opts.SHA256 != "" && digest != c.opts.SHA256 {
		return fmt.Errorf("%w: SHA-256 is %s, announced was %s", storage.ErrChecksum, digest, c.opts.SHA256)
	}
	c.ended, c.proof = true, &proof{size: c.size, digest: digest}
	return nil
}

// Proven reports whether the whole body was read, at least once, and is what
// was announced.
func (c *Checked) Proven() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.proof != nil
}

// Err is what made reading fail, nil when nothing did.
func (c *Checked) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Sum returns size and digest of a proven body.
func (c *Checked) Sum() (size int64, sha256 string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.proof == nil {
		return 0, ""
	}
	return c.proof.size, c.proof.digest
}

// Stop waits for a read that is under way and refuses all later ones: the body
// belongs to its owner again.
func (c *Checked) Stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
}

// Seekable returns c with a Seek method when its body has one, so that a
// request can be sent again from the start; else c. The body must have a known
// size.
func (c *Checked) Seekable() io.Reader {
	s, ok := c.r.(io.Seeker)
	if !ok {
		return c
	}
	base, err := s.Seek(0, io.SeekCurrent)
	if err != nil {
		return c
	}
	return &seekable{Checked: c, seeker: s, base: base}
}

type seekable struct {
	*Checked
	seeker io.Seeker
	base   int64
}

// Seek goes back to the start, or tells position and size.
func (s *seekable) Seek(offset int64, whence int) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.stopped:
		return 0, errStopped
	case s.err != nil:
		return 0, s.err
	case whence == io.SeekCurrent && offset == 0:
		return s.size, nil
	case whence == io.SeekEnd && offset == 0:
		return s.opts.Size, nil
	case whence == io.SeekStart && offset == 0:
		return 0, s.rewind()
	case whence == io.SeekStart && offset == s.size:
		return offset, nil
	}
	return 0, fmt.Errorf("a body can only be read again from its start, not from %d (%d)", offset, whence)
}

func (s *seekable) rewind() error {
	if s.size == 0 {
		return nil
	}
	if _, err := s.seeker.Seek(s.base, io.SeekStart); err != nil {
		return err
	}
	s.hash.Reset()
	s.size, s.ended = 0, false
	return nil
}
