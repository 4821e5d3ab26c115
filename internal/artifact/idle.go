package artifact

import "sync"

// idle keeps what is large for the next member of an artifact. It is no sync.Pool:
// what that was given survives two collections of garbage, also when nobody has the
// pool any more, so that a worker that makes small backups one after the other would
// hold the buffers of very many. Safe for concurrent use.
type idle[T any] struct {
	mu  sync.Mutex
	all []T
}

func (i *idle[T]) take() (one T, ok bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	last := len(i.all) - 1
	if last < 0 {
		return one, false
	}
	one = i.all[last]
	clear(i.all[last:])
	i.all = i.all[:last]
	return one, true
}

func (i *idle[T]) put(one T) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.all = append(i.all, one)
}
