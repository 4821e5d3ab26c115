package query

import (
	"errors"
	"net"
	"sync/atomic"
)

// errTooMuch ends a connection that was sent more than it may.
var errTooMuch = errors.New("the server sent more than is taken")

// Bounded is a connection that fails once more than a number of bytes came in, so
// that no row, however large, is held in memory.
type Bounded struct {
	net.Conn

	left atomic.Int64
}

// Bound wraps a connection.
func Bound(conn net.Conn, most int64) *Bounded {
	b := &Bounded{Conn: conn}
	b.left.Store(most)
	return b
}

// Read implements net.Conn.
func (b *Bounded) Read(p []byte) (int, error) {
	if b.Exceeded() {
		return 0, errTooMuch
	}
	n, err := b.Conn.Read(p)
	b.left.Add(int64(-n))
	return n, err
}

// Exceeded reports whether the connection failed for that reason.
func (b *Bounded) Exceeded() bool { return b.left.Load() < 0 }
