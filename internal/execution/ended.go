package execution

// endedPlaces bounds what a watcher remembers of executions that have ended.
const endedPlaces = 1024

// ended is how far the lines of executions were told whose end was told: a retried
// upload goes on with the same log. The zero value is ready.
type ended struct {
	seqs      map[string]int64
	order     []string // of seqs, oldest first, with some that were taken
	forgetful bool     // there may have been others
}

func (e *ended) note(id string, seq int64) {
	if seq <= 0 {
		return
	}
	if e.seqs == nil {
		e.seqs = map[string]int64{}
	}
	if _, known := e.seqs[id]; !known {
		e.order = append(e.order, id)
	}
	e.seqs[id] = seq
	if len(e.order) > endedPlaces {
		e.forgetful = true
		delete(e.seqs, e.order[0])
		e.order = e.order[1:]
	}
}

// take returns the last line of an execution that was told, -1 when nobody knows.
func (e *ended) take(x Execution) int64 {
	seq, known := e.seqs[x.ID]
	switch {
	case known:
		delete(e.seqs, x.ID)
		return seq
	case e.unsure(x):
		return -1
	}
	return 0
}

// unsure reports whether lines of an execution may have been told before its upload
// was retried.
func (e *ended) unsure(x Execution) bool { return e.forgetful && x.Trigger == Retry }
