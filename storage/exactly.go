package storage

import (
	"fmt"
	"io"
)

// Exactly returns a reader of the next n bytes of rc that ends in
// io.ErrUnexpectedEOF when rc has fewer. Closing it closes rc.
func Exactly(rc io.ReadCloser, n int64) io.ReadCloser {
	return &exactReader{rc: rc, left: n}
}

type exactReader struct {
	rc   io.ReadCloser
	left int64
}

func (e *exactReader) Read(p []byte) (int, error) {
	if e.left <= 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > e.left {
		p = p[:e.left]
	}
	n, err := e.rc.Read(p)
	e.left -= int64(n)
	switch {
	case err == io.EOF && e.left > 0:
		return n, fmt.Errorf("the object ended %d bytes early: %w", e.left, io.ErrUnexpectedEOF)
	case err == io.EOF:
		return n, nil
	}
	return n, err
}

func (e *exactReader) Close() error { return e.rc.Close() }
