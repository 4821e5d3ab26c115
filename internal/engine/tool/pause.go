package tool

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	shortestPause = time.Millisecond
	longestPause  = 8 * time.Millisecond
)

// pause lets a pipe fill between two reads. Tools write pieces of 4 KiB; to be
// woken for each costs a reader that is faster than the tool, and the tool, more
// than what is done with the bytes. The pause adapts to the tool: a read finds
// an eighth to a quarter of what the pipe holds, so that there is room for the
// tool to go on writing.
type pause struct {
	capacity int // of the pipe in bytes; 0 means no pauses
	length   time.Duration
}

// after follows a read of n bytes. It returns early when ctx ends.
func (p *pause) after(ctx context.Context, n int) {
	switch {
	case p.capacity == 0:
		return
	case n > p.capacity/4:
		p.length /= 2
		return
	case n < p.capacity/8:
		p.length = min(max(2*p.length, shortestPause), longestPause)
	}
	t := time.NewTimer(p.length)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// pipeCapacity returns how many bytes a pipe holds; 0 when it cannot be known.
func pipeCapacity(pipe *os.File) (size int) {
	raw, err := pipe.SyscallConn()
	if err != nil {
		return 0
	}
	err = raw.Control(func(fd uintptr) {
		if n, err := unix.FcntlInt(fd, unix.F_GETPIPE_SZ, 0); err == nil {
			size = n
		}
	})
	if err != nil {
		return 0
	}
	return size
}
