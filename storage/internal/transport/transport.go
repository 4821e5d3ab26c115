// Package transport makes the HTTP clients of the object store drivers: they
// refuse metadata addresses, follow no redirects, and give up on connections
// that stopped moving.
package transport

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/dataguardian/dataguardian/internal/netguard"
)

// DefaultStall is how long a connection may move no byte while it is used.
const DefaultStall = 2 * time.Minute

// New returns a client whose connections fail after stall (DefaultStall when 0)
// without a byte in the direction it waits for.
func New(stall time.Duration) *http.Client {
	if stall <= 0 {
		stall = DefaultStall
	}
	policy := netguard.Policy{}
	t := policy.Transport()
	dialer := policy.Dialer()
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &stalling{Conn: conn, limit: stall}, nil
	}
	t.ResponseHeaderTimeout = stall
	// One connection per transfer: a shared one would pass a stall of one
	// transfer on to the others, and share its bandwidth.
	t.ForceAttemptHTTP2 = false
	t.DisableCompression = true // the bytes are the object's
	return &http.Client{
		Transport:     owning{t},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// stalling is a connection on which no single read or write may take longer
// than limit.
type stalling struct {
	net.Conn
	limit time.Duration
}

func (s *stalling) Read(p []byte) (int, error) {
	if err := s.SetReadDeadline(time.Now().Add(s.limit)); err != nil {
		return 0, err
	}
	return s.Conn.Read(p)
}

func (s *stalling) Write(p []byte) (int, error) {
	if err := s.SetWriteDeadline(time.Now().Add(s.limit)); err != nil {
		return 0, err
	}
	return s.Conn.Write(p)
}

// TimedOut tells a time limit of the connection from the end of a caller's
// context, which the former pretends to be: an error of a call whose context
// has not ended never matches context.DeadlineExceeded or context.Canceled.
func TimedOut(err error) error {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return timeout{err.Error()}
	}
	return err
}

// timeout is a net.Error.
type timeout struct{ text string }

func (t timeout) Error() string   { return t.text }
func (t timeout) Timeout() bool   { return true }
func (t timeout) Temporary() bool { return true }
