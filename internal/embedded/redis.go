package embedded

import (
	"context"
	"crypto/tls"
	"net"
	"sync"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/rueidis"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// Redis is a Redis inside the process, reached over pipes: no port, no file. It
// forgets everything when it is closed. Its methods are safe for concurrent use.
type Redis struct {
	mu     sync.Mutex
	server *miniredis.Miniredis // nil once closed
}

// StartRedis returns an empty, running Redis whose keys expire by the clock.
func StartRedis() (*Redis, error) {
	server := miniredis.NewMiniRedis()
	server.ClockTTL(true)
	r := &Redis{server: server}
	conn, err := r.Dial(context.Background(), "", nil, nil) // the first connection starts the server
	if err != nil {
		return nil, err
	}
	return r, conn.Close()
}

// Dial returns a connection. The address and the rest are there for rueidis,
// whose ClientOption.DialCtxFn this is; they are not used.
func (r *Redis) Dial(ctx context.Context, _ string, _ *net.Dialer, _ *tls.Config) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.server == nil {
		return nil, errs.Wrap(net.ErrClosed, errs.Unavailable, errs.CodeRedisUnavailable, "the in-process Redis has been closed")
	}
	conn, err := r.server.Dial()
	if err != nil {
		return nil, errs.Wrap(err, errs.Unavailable, errs.CodeRedisUnavailable, "the in-process Redis cannot be reached")
	}
	return conn, nil
}

// ClientOption returns what a rueidis client needs to use this Redis: one node,
// the older protocol and no client-side cache, of which it knows nothing.
func (r *Redis) ClientOption() rueidis.ClientOption {
	return rueidis.ClientOption{
		InitAddress:       []string{"in-process"},
		DialCtxFn:         r.Dial,
		ForceSingleClient: true,
		AlwaysRESP2:       true,
		DisableCache:      true,
	}
}

// Close breaks every connection and waits for their end. It may be called again.
func (r *Redis) Close() error {
	r.mu.Lock()
	server := r.server
	r.server = nil
	r.mu.Unlock()
	if server == nil {
		return nil
	}
	server.Close()
	return nil
}
