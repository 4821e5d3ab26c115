package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
)

// stage lets the servers that tests start take part in a benchmark: it is the
// little of a test that they ask for.
type stage struct {
	testing.TB // nil: the servers call nothing but the methods below
	ctx        context.Context
	dir        string
	cleanups   []func()
	failures   []error
}

// errStage is how Fatal leaves the code that called it.
type errStage struct{ error }

// onStage runs work with servers, which have ended when it returns.
func (b *bench) onStage(ctx context.Context, work func(*stage) error) (err error) {
	s := &stage{ctx: ctx, dir: b.work}
	defer func() { err = errors.Join(append(s.failures, err)...) }()
	defer func() {
		for _, cleanup := range slices.Backward(s.cleanups) {
			cleanup()
		}
	}()
	defer func() {
		if failed, ok := recover().(errStage); ok {
			err = failed.error
		}
	}()
	return work(s)
}

// Helper implements testing.TB.
func (s *stage) Helper() {}

// Context implements testing.TB.
func (s *stage) Context() context.Context { return s.ctx }

// Cleanup implements testing.TB.
func (s *stage) Cleanup(f func()) { s.cleanups = append(s.cleanups, f) }

// TempDir implements testing.TB. The directory goes with everything else.
func (s *stage) TempDir() string {
	dir, err := os.MkdirTemp(s.dir, "stage-")
	if err != nil {
		s.Fatal(err)
	}
	return dir
}

// Errorf implements testing.TB.
func (s *stage) Errorf(format string, args ...any) {
	s.failures = append(s.failures, fmt.Errorf(format, args...))
}

// Fatal implements testing.TB.
func (s *stage) Fatal(args ...any) { panic(errStage{errors.New(fmt.Sprint(args...))}) }

// Fatalf implements testing.TB.
func (s *stage) Fatalf(format string, args ...any) { panic(errStage{fmt.Errorf(format, args...)}) }
