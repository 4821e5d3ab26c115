package artifact

import "io"

const (
	// beltBuffer is how many bytes are handed over at once. Handing over costs about
	// the same for any number of them, so that few and large ones are cheap.
	beltBuffer = 512 << 10
	// beltBuffers go around in one belt: one is filled, one waits, one is emptied.
	beltBuffers = 3
)

// belts keeps buffers for the next belt. Safe for concurrent use.
type belts struct{ idle idle[[]byte] }

func (k *belts) take() []byte {
	if b, ok := k.idle.take(); ok {
		return b[:0]
	}
	return make([]byte, 0, beltBuffer)
}

func (k *belts) put(b []byte) { k.idle.put(b) }

// belt carries bytes from the goroutine that makes them to one that writes them to
// dst, so that both work at the same time. A stream that fits one buffer needs no
// second goroutine.
type belt struct {
	dst io.Writer
	of  *belts

	filling []byte      // nil: none
	made    int         // buffers that are going around
	full    chan []byte // nil until the second goroutine runs
	empty   chan []byte
	ended   chan struct{} // closed when the second goroutine has ended
	failed  chan struct{} // closed after err was set
	err     error
	closed  bool
}

func newBelt(dst io.Writer, of *belts) *belt { return &belt{dst: dst, of: of} }

// Write hands p on. The error is that of an earlier piece.
func (b *belt) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		if b.filling == nil {
			b.filling = b.next()
		}
		n := min(len(p), cap(b.filling)-len(b.filling))
		b.filling = append(b.filling, p[:n]...)
		if len(b.filling) == cap(b.filling) {
			if err := b.pass(); err != nil {
				return written, err
			}
		}
		written += n
		p = p[n:]
	}
	return written, nil
}

// next returns an empty buffer, waiting for one when all are on their way.
func (b *belt) next() []byte {
	if b.made < beltBuffers {
		b.made++
		return b.of.take()
	}
	return <-b.empty
}

// pass gives the full buffer to the other goroutine.
func (b *belt) pass() error {
	if b.full == nil {
		b.full, b.empty = make(chan []byte, beltBuffers), make(chan []byte, beltBuffers)
		b.ended, b.failed = make(chan struct{}), make(chan struct{})
		go b.carry()
	}
	select {
	case <-b.failed:
		return b.err
	default:
	}
	b.full <- b.filling
	b.filling = nil
	return nil
}

// carry writes what comes until the belt is closed. After an error it only gives
// the buffers back, so that nobody waits for one.
func (b *belt) carry() {
	defer close(b.ended)
	for piece := range b.full {
		if b.err == nil {
			if _, err := b.dst.Write(piece); err != nil {
				b.err = err
				close(b.failed)
			}
		}
		b.empty <- piece[:0]
	}
}

// Close writes what is left, ends the goroutine and leaves dst open.
func (b *belt) Close() error {
	if b.closed {
		return nil
	}
	b.closed = true
	if b.full != nil {
		close(b.full)
		<-b.ended
		close(b.empty)
		for piece := range b.empty {
			b.of.put(piece)
		}
	}
	if b.filling == nil {
		return b.err
	}
	defer b.of.put(b.filling)
	if b.err != nil {
		return b.err
	}
	_, err := b.dst.Write(b.filling)
	return err
}
