package logs

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	outboxLines = 10_000
	outboxBytes = 4 << 20
	outboxBatch = 256
	firstResend = 100 * time.Millisecond
	lastResend  = 2 * time.Second
)

// outbox sends lines in order in the background, again and again until they
// are taken. It is bounded: when too many wait, the oldest are dropped.
type outbox struct {
	send   func(ctx context.Context, lines []Line) error
	failed func(error) // the first failure of a row

	mu      sync.Mutex
	queue   []Line
	bytes   int
	closing bool

	wake chan struct{}
	done chan struct{}
}

// start sends until close and all is sent, or until ctx ends.
func startOutbox(ctx context.Context, send func(context.Context, []Line) error, failed func(error)) *outbox {
	o := &outbox{send: send, failed: failed, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go o.run(ctx)
	return o
}

func (o *outbox) put(l Line) {
	o.mu.Lock()
	o.queue = append(o.queue, l)
	o.bytes += size(&l)
	drop := 0
	for len(o.queue)-drop > outboxLines || o.bytes > outboxBytes {
		o.bytes -= size(&o.queue[drop])
		drop++
	}
	if drop > 0 {
		clear(o.queue[:drop])
		o.queue = o.queue[drop:]
	}
	o.mu.Unlock()
	signal(o.wake)
}

// close asks to send what is left and to end.
func (o *outbox) close() {
	o.mu.Lock()
	o.closing = true
	o.mu.Unlock()
	signal(o.wake)
}

func (o *outbox) take() (batch []Line, closing bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := min(len(o.queue), outboxBatch)
	batch, o.queue = o.queue[:n:n], o.queue[n:]
	for i := range batch {
		o.bytes -= size(&batch[i])
	}
	if len(o.queue) == 0 {
		o.queue = nil
	}
	return batch, o.closing
}

func (o *outbox) run(ctx context.Context) {
	defer close(o.done)
	for {
		batch, closing := o.take()
		switch {
		case len(batch) > 0:
			if !o.deliver(ctx, batch) {
				return
			}
		case closing:
			return
		default:
			select {
			case <-o.wake:
			case <-ctx.Done():
				return
			}
		}
	}
}

func (o *outbox) deliver(ctx context.Context, batch []Line) bool {
	for wait := firstResend; ; wait = min(2*wait, lastResend) {
		err := o.send(ctx, batch)
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		if wait == firstResend {
			o.failed(err)
		}
		timer := time.NewTimer(wait/2 + rand.N(wait/2)) //nolint:gosec // spreads load
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return false
		}
	}
}
