package artifact

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"os"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// part is a slice of a member between the spool and the targets.
type part struct {
	name   string // of the object, below the artifact's path
	file   string // in the spool
	size   int64
	sha256 string
	have   uint32 // set of the targets that have confirmed it; guarded by uploads.mu
}

// partName is the name of the n-th part (from 1) of a member whose parts are
// called base. A member of one part carries no number.
func partName(base string, n int, only bool) string {
	if only {
		return base
	}
	return fmt.Sprintf("%s.%04d", base, n)
}

// splitter cuts a stream into parts in the spool. A full part is finished only
// when another byte follows or the stream ends: only then its name is known.
type splitter struct {
	spool *spool
	base  string // name of the parts
	limit int64
	// stopped is an error once the artifact has failed.
	stopped func() error
	// reserve counts one more part and returns its serial number in the artifact.
	reserve func() (int, error)
	// finished receives each part once; it may block.
	finished func(*part) error
	wrote    func(n int)

	parts   []*part
	file    *os.File
	out     *bufio.Writer
	hash    hash.Hash
	size    int64
	checked int64 // size when the disk was last asked
	current string
}

const (
	spoolBuffer = 128 << 10
	// roomEvery is how many bytes go to the disk between two looks at its room.
	roomEvery = 16 << 20
)

func (s *splitter) Write(p []byte) (int, error) {
	written := 0
	if err := s.stopped(); err != nil {
		return 0, err
	}
	for len(p) > 0 {
		if err := s.ready(); err != nil {
			return written, err
		}
		n, err := s.append(p[:min(int64(len(p)), s.limit-s.size)])
		written += n
		if err != nil {
			return written, err
		}
		p = p[n:]
	}
	return written, nil
}

// ready makes sure that the current part takes at least one more byte.
func (s *splitter) ready() error {
	if s.file != nil && s.size == s.limit {
		if err := s.finish(false); err != nil {
			return err
		}
	}
	if s.file == nil {
		return s.open()
	}
	if s.size-s.checked >= roomEvery {
		s.checked = s.size
		return s.spool.room()
	}
	return nil
}

func (s *splitter) open() error {
	serial, err := s.reserve()
	if err != nil {
		return err
	}
	s.current = s.spool.file(serial)
	f, err := s.spool.create(s.current)
	if err != nil {
		return err
	}
	if s.out == nil {
		s.out, s.hash = bufio.NewWriterSize(nil, spoolBuffer), sha256.New()
	}
	s.file, s.size, s.checked = f, 0, 0
	s.out.Reset(f)
	s.hash.Reset()
	return nil
}

func (s *splitter) append(p []byte) (int, error) {
	n, err := s.out.Write(p)
	if err != nil {
		return n, spoolFailure(err)
	}
	s.hash.Write(p)
	s.size += int64(n)
	s.wrote(n)
	return n, nil
}

// finish hands the current part on; last says that no byte follows.
func (s *splitter) finish(last bool) error {
	f := s.file
	s.file = nil
	if err := errors.Join(s.out.Flush(), f.Close()); err != nil {
		return spoolFailure(err)
	}
	n := len(s.parts) + 1
	p := &part{
		name:   partName(s.base, n, last && n == 1),
		file:   s.current,
		size:   s.size,
		sha256: hex.EncodeToString(s.hash.Sum(nil)),
	}
	s.parts = append(s.parts, p)
	return s.finished(p)
}

// Close finishes the last part. An empty stream has one empty part.
func (s *splitter) Close() error {
	if s.file == nil {
		if len(s.parts) > 0 {
			return errs.New(errs.Internal, errs.CodeInternal, "the member was closed twice")
		}
		if err := s.open(); err != nil {
			return err
		}
	}
	return s.finish(true)
}

// discard gives up the current part.
func (s *splitter) discard() {
	if s.file != nil {
		s.file.Close() //nolint:errcheck,gosec // the file is about to be removed with its spool
		s.file = nil
	}
}
