package main

import (
	"io"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"
)

// linkRate is what the link to a database far away carries, in bytes per second. A dump
// through it takes longer than all the processor time that a backup needs, shared by two
// cores: there the dump is the slowest stage, as it is where a database is far away, or
// slow, or has to be spared.
const linkRate = 50e6

// linkBurst is how late a link may be and still make up for it: timers are not exact.
const linkBurst = 20 * time.Millisecond

// link is a network before the cluster that carries so many bytes per second from it,
// all connections together.
type link struct {
	listener net.Listener
	socket   string // of the cluster

	working sync.WaitGroup
	mu      sync.Mutex
	free    time.Time // when the link has carried what it was given
	ends    []net.Conn
	closed  bool
}

// openLink leads to the cluster from a port of its own. It ends with the stage.
func openLink(s *stage, c *cluster) *link {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.Fatal(err)
	}
	l := &link{listener: listener, socket: filepath.Join(c.SocketDir(), ".s.PGSQL."+strconv.Itoa(c.Port()))}
	l.working.Go(l.accept)
	s.Cleanup(l.close)
	return l
}

func (l *link) port() int { return l.listener.Addr().(*net.TCPAddr).Port } //nolint:errcheck,forcetypeassert // it listens to TCP

// client is what a client program needs to find a database by the link.
func (l *link) client(c *cluster, database string) []string {
	return append(c.client(database), "PGHOST=127.0.0.1", "PGPORT="+strconv.Itoa(l.port()))
}

// connection is how a server of ours reaches a database by the link.
func (l *link) connection(c *cluster, database string) map[string]any {
	connection := c.connection(database)
	connection["host"], connection["port"] = "127.0.0.1", l.port()
	return connection
}

// accept leads clients to the cluster; those that it cannot lead there see it hang up.
func (l *link) accept() {
	for {
		near, err := l.listener.Accept()
		if err != nil {
			return // the link was closed
		}
		far, err := net.Dial("unix", l.socket)
		if err != nil {
			closeAll(near)
			continue
		}
		if !l.keep(near, far) {
			return
		}
		l.working.Go(func() {
			defer closeAll(near, far)
			_, _ = io.Copy(far, near) // either end may go at any time
		})
		l.working.Go(func() {
			defer closeAll(near, far)
			_, _ = io.Copy(paced{near, l}, onlyReader{far})
		})
	}
}

// keep remembers connections, or closes them when the link was closed meanwhile.
func (l *link) keep(ends ...net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		closeAll(ends...)
		return false
	}
	l.ends = append(l.ends, ends...)
	return true
}

func (l *link) close() {
	l.mu.Lock()
	l.closed = true
	ends := slices.Clone(l.ends)
	l.mu.Unlock()
	_ = l.listener.Close() // only ends accept
	closeAll(ends...)
	l.working.Wait()
}

func closeAll(ends ...net.Conn) {
	for _, end := range ends {
		_ = end.Close() // the other side of the link may have closed it
	}
}

// carry returns when the link has carried n bytes more.
func (l *link) carry(n int) {
	if wait := l.due(time.Now(), n); wait > 0 {
		<-time.After(wait)
	}
}

// due tells how long after now the link will have carried n bytes more.
func (l *link) due(now time.Time, n int) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if earliest := now.Add(-linkBurst); l.free.Before(earliest) {
		l.free = earliest
	}
	l.free = l.free.Add(time.Duration(float64(n) / linkRate * float64(time.Second)))
	return l.free.Sub(now)
}

// paced writes as fast as the link allows.
type paced struct {
	net.Conn
	l *link
}

// Write implements io.Writer.
func (p paced) Write(b []byte) (int, error) {
	p.l.carry(len(b))
	return p.Conn.Write(b)
}

// onlyReader keeps the kernel from moving bytes past the one that counts them.
type onlyReader struct{ io.Reader }
