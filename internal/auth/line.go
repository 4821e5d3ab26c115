package auth

import (
	"context"
	"slices"
	"sync"
	"time"
)

// line lets in one at a time. Regulars wait in a line of their own, which goes first:
// a flood of strangers does not keep them out. Every third turn is a stranger's all the
// same. The zero value is empty.
type line struct {
	mu      sync.Mutex
	busy    bool
	ahead   int                      // regulars in a row
	waiting map[bool][]chan struct{} // by whether they are regulars
}

// maxInARow is how many regulars go before a stranger who waits.
const maxInARow = 2

// enter waits for the turn, which leave ends. It fails with ErrTooManyLogins when too
// many wait or it takes too long, and with the cause of ctx.
func (l *line) enter(ctx context.Context, regular bool) error {
	turn, err := l.queue(regular)
	if turn == nil {
		return err
	}
	patience := time.NewTimer(maxWait)
	defer patience.Stop()
	select {
	case <-turn:
		return nil
	case <-patience.C:
		err = ErrTooManyLogins
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	l.giveUp(turn, regular)
	return err
}

// queue takes the turn when nobody has it, and else a place in the line.
func (l *line) queue(regular bool) (chan struct{}, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.busy {
		l.busy = true
		return nil, nil
	}
	if len(l.waiting[regular]) >= maxWaiting {
		return nil, ErrTooManyLogins
	}
	if l.waiting == nil {
		l.waiting = map[bool][]chan struct{}{}
	}
	turn := make(chan struct{})
	l.waiting[regular] = append(l.waiting[regular], turn)
	return turn, nil
}

// giveUp leaves the line; the turn goes on when it came meanwhile.
func (l *line) giveUp(turn chan struct{}, regular bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.waiting[regular], turn); i >= 0 {
		l.waiting[regular] = slices.Delete(l.waiting[regular], i, i+1)
		return
	}
	l.next()
}

// leave gives the turn to the next one.
func (l *line) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next()
}

func (l *line) next() {
	first := l.ahead < maxInARow
	for _, regular := range []bool{first, !first} {
		if waiting := l.waiting[regular]; len(waiting) > 0 {
			l.ahead++
			if !regular {
				l.ahead = 0
			}
			close(waiting[0])
			l.waiting[regular] = slices.Delete(waiting, 0, 1)
			return
		}
	}
	l.busy, l.ahead = false, 0
}

// full reports whether one more would be turned away.
func (l *line) full(regular bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting[regular]) >= maxWaiting
}
