package archive

import (
	"bytes"
	"io"
)

// chunkSize is how many bytes of rows a chunk has, unless one row has more.
const chunkSize = 256 << 10

// Slice writes a run of one table's rows. The slices of a table, one behind the
// other, are the block of its data in an archive that is not compressed. It is used
// by one goroutine.
type Slice struct {
	out  io.Writer
	head []byte // not written yet
	rows []byte // not written yet
	last bool
	n    int64
}

// NewSlice returns a slice of the entry with dumpID. The first one begins the block,
// the last one ends it; they may be the same.
func NewSlice(out io.Writer, dumpID int, first, last bool) *Slice {
	s := &Slice{out: out, rows: make([]byte, 0, chunkSize), last: last}
	if first {
		s.head = appendInteger([]byte{blockData}, int64(dumpID))
	}
	return s
}

// Write takes COPY text.
func (s *Slice) Write(p []byte) (int, error) {
	if len(s.rows)+len(p) > chunkSize {
		if err := s.flush(); err != nil {
			return 0, err
		}
	}
	s.n += int64(bytes.Count(p, []byte{'\n'}))
	if len(p) > chunkSize {
		return len(p), s.chunk(p)
	}
	s.rows = append(s.rows, p...)
	return len(p), nil
}

// Rows returns how many rows were written: a row is a line of COPY text.
func (s *Slice) Rows() int64 { return s.n }

// Close writes what is left and leaves the writer below open.
func (s *Slice) Close() error {
	if err := s.flush(); err != nil || !s.last {
		return err
	}
	if err := s.chunk([]byte(copyEnd)); err != nil {
		return err
	}
	_, err := s.out.Write(appendInteger(nil, 0))
	return err
}

func (s *Slice) flush() error {
	rows := s.rows
	s.rows = s.rows[:0]
	return s.chunk(rows)
}

func (s *Slice) chunk(rows []byte) error {
	head := s.head
	s.head = nil
	if len(rows) > 0 {
		head = appendInteger(head, int64(len(rows)))
	}
	if len(head) == 0 {
		return nil
	}
	if _, err := s.out.Write(head); err != nil {
		return err
	}
	_, err := s.out.Write(rows)
	return err
}
