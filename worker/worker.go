// Package worker runs long-lived services side by side and takes queued
// executions under leases.
package worker

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// Service is a long-lived piece of work. Run works until ctx ends and then
// returns nil after it has put everything in order; any return before that is a
// failure.
type Service interface {
	Name() string
	Run(ctx context.Context) error
}

// Run runs services until ctx ends or one of them ends by itself. Then it stops
// them in the reverse of their order, each when the ones after it have ended: a
// service may rely on the ones before it to its last moment. It returns the
// first failure, nil after an orderly stop.
func Run(ctx context.Context, services ...Service) error {
	failed := make(chan error, len(services))
	stops := make([]func(), 0, len(services))
	for _, s := range services {
		stops = append(stops, start(ctx, s, failed))
	}
	var first error
	select {
	case <-ctx.Done():
	case first = <-failed:
	}
	for i := len(stops) - 1; i >= 0; i-- {
		stops[i]()
	}
	close(failed)
	for err := range failed {
		first = errors.Join(first, err)
	}
	return first
}

// start runs one service under a context that outlives ctx until stop is called.
func start(ctx context.Context, s Service, failed chan<- error) (stop func()) {
	own, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	var done sync.WaitGroup
	done.Go(func() {
		err := guarded(own, s)
		switch {
		case err != nil:
			failed <- fmt.Errorf("%s: %w", s.Name(), err)
		case own.Err() == nil:
			failed <- fmt.Errorf("%s ended by itself", s.Name())
		}
	})
	return func() {
		cancel(ErrShutdown)
		done.Wait()
	}
}

// guarded turns a panic of a service into its failure, so that the others can
// still be stopped in order.
func guarded(ctx context.Context, s Service) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return s.Run(ctx)
}

// ErrShutdown is the cause of contexts that end because the process ends.
var ErrShutdown = errors.New("the process is shutting down")

// Every calls work at once and then at every interval until ctx ends. The work
// gets ctx and reports its own errors.
func Every(ctx context.Context, interval time.Duration, work func(context.Context)) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for ctx.Err() == nil {
		work(ctx)
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

// Loop makes a Service of a function that works until its context ends. That it
// returns the context's cause then is an orderly end.
func Loop(name string, run func(ctx context.Context) error) Service {
	return loop{name, run}
}

type loop struct {
	name string
	run  func(ctx context.Context) error
}

// Name implements Service.
func (l loop) Name() string { return l.name }

// Run implements Service.
func (l loop) Run(ctx context.Context) error {
	err := l.run(ctx)
	if ctx.Err() != nil && (errors.Is(err, context.Cause(ctx)) || errors.Is(err, ctx.Err())) {
		return nil
	}
	return err
}
