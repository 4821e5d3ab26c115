package storagetest

import (
	"bytes"
	"io"
)

func newUnseekable(b []byte) io.Reader { return Unseekable{bytes.NewReader(b)} }

// failing ends in err after left bytes, also when the body is shorter.
type failing struct {
	r    io.Reader
	left int64
	err  error
}

func (f *failing) Read(p []byte) (int, error) {
	if f.left <= 0 {
		return 0, f.err
	}
	n, err := f.r.Read(p[:min(int64(len(p)), f.left)])
	f.left -= int64(n)
	if err == io.EOF {
		err = f.err
	}
	return n, err
}

// flipping flips a bit of the first byte.
type flipping struct {
	r    io.Reader
	done bool
}

func (f *flipping) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if n > 0 && !f.done {
		p[0] ^= 1
		f.done = true
	}
	return n, err
}

type readCloser struct {
	io.Reader
	io.Closer
}
