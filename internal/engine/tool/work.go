package tool

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/dataguardian/dataguardian/internal/process"
)

// looks is how often per stall time a silent tool is looked at.
const looks = 10

// Work is one run of a tool that neither writes nor reads what could be watched.
type Work struct {
	Spec  process.Spec
	Stall time.Duration // 0 means DefaultStall
	// Alive is asked now and then whether the tool is at work though it says nothing.
	Alive func(ctx context.Context) bool
}

// Run returns when the tool is gone; nil means that it exited with 0. A tool that
// said nothing and was never seen alive for the stall time is ended. Of several
// errors the first of these is returned: the cause of ctx's end, ErrStalled,
// *process.ExitError.
func (w Work) Run(ctx context.Context) (process.Result, error) {
	stall := w.Stall
	if stall <= 0 {
		stall = DefaultStall
	}
	var said atomic.Int64
	spec, listen := w.Spec, w.Spec.OnStderr
	spec.Grace = grace
	spec.OnStderr = func(line string) {
		said.Add(1)
		if listen != nil {
			listen(line)
		}
	}
	p, err := process.Start(ctx, spec)
	if err != nil {
		return process.Result{}, err
	}
	watching, stop := context.WithCancel(ctx)
	stalled := make(chan bool)
	go func() {
		lines := said.Load()
		ended := Watch(watching, stall, func(ctx context.Context) bool {
			before := lines
			lines = said.Load()
			return lines != before || w.Alive(ctx)
		})
		if ended {
			p.Kill(ErrStalled)
		}
		stalled <- ended
	}()
	res, exit := p.Wait()
	stop()
	wasStalled := <-stalled
	switch {
	case ctx.Err() != nil:
		return res, context.Cause(ctx)
	case wasStalled && exit != nil:
		return res, ErrStalled
	}
	return res, exit
}

// Watch asks again and again whether something moves. It returns true when nothing
// did for the stall time, false when ctx ends.
func Watch(ctx context.Context, stall time.Duration, moves func(ctx context.Context) bool) bool {
	tick := time.NewTicker(max(stall/looks, time.Millisecond))
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
		if moves(ctx) {
			last = time.Now()
		}
		if ctx.Err() == nil && time.Since(last) >= stall {
			return true
		}
	}
}
