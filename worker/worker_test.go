package worker_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/dataguardian/dataguardian/worker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// diary notes what happened in order.
type diary struct {
	mu    sync.Mutex
	notes []string
}

func (d *diary) note(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.notes = append(d.notes, text)
}

func untilStopped(d *diary, name string) worker.Service {
	return worker.Loop(name, func(ctx context.Context) error {
		<-ctx.Done()
		d.note(name)
		return context.Cause(ctx)
	})
}

func TestServicesStopInReverseOrderWhenTheContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &diary{}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() {
			ended <- worker.Run(ctx, untilStopped(d, "database"), untilStopped(d, "worker"), untilStopped(d, "server"))
		}()
		synctest.Wait()
		cancel()
		require.NoError(t, <-ended)
		require.Equal(t, []string{"server", "worker", "database"}, d.notes)
	})
}

func TestAServiceThatEndsByItselfStopsAllAndIsNamed(t *testing.T) {
	broken := errors.New("the disk is gone")
	for name, c := range map[string]struct {
		run  func(context.Context) error
		want string
	}{
		"with an error": {func(context.Context) error { return broken }, "fragile: the disk is gone"},
		"without one":   {func(context.Context) error { return nil }, "fragile ended by itself"},
		"with a panic":  {func(context.Context) error { panic("boom") }, "fragile: panic: boom"},
	} {
		t.Run(name, func(t *testing.T) {
			d := &diary{}
			err := worker.Run(t.Context(), untilStopped(d, "steady"), worker.Loop("fragile", c.run))
			require.ErrorContains(t, err, c.want)
			require.Equal(t, []string{"steady"}, d.notes)
		})
	}
}

func TestEveryWorksAtOnceAndThenAtItsInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 35*time.Second)
		defer cancel()
		calls := 0
		worker.Every(ctx, 10*time.Second, func(context.Context) { calls++ })
		require.Equal(t, 4, calls)
	})
}
