package queue_test

import (
	"context"
	"errors"
	"testing"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/queue"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

// listen runs a bell until the test ends and returns what it hears, at most one at
// a time.
func listen(t *testing.T, opt rueidis.ClientOption, name string) <-chan struct{} {
	t.Helper()
	heard := make(chan struct{}, 1)
	b := queue.NewBell(connect(t, opt), name, func() {
		select {
		case heard <- struct{}{}:
		default:
		}
	})
	ctx, cancel := context.WithCancelCause(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	enough := errors.New("enough")
	t.Cleanup(func() {
		cancel(enough)
		require.ErrorIs(t, <-ended, enough)
	})
	return heard
}

func TestABellIsHeardInEveryProcessThatListensToIt(t *testing.T) {
	eachRedis(t, func(t *testing.T, opt rueidis.ClientOption) {
		first, second, other := listen(t, opt, "notes"), listen(t, opt, "notes"), listen(t, opt, "other")
		for _, heard := range []<-chan struct{}{first, second, other} {
			receive(t, heard) // it may have rung before somebody listened
		}
		ringer := queue.NewBell(connect(t, opt), "notes", nil)
		for range 3 {
			require.NoError(t, ringer.Ring(t.Context()))
			receive(t, first)
			receive(t, second)
		}
		require.Empty(t, other)
	})
}

func TestABellIsHeardAgainWhenRedisIsBack(t *testing.T) {
	server := testkit.Redis(t)
	opt := parse(t, server.URL())
	heard := listen(t, opt, "notes")
	receive(t, heard)
	ringer := queue.NewBell(connect(t, opt), "notes", nil)
	server.Stop(t)
	require.Equal(t, errs.CodeRedisUnavailable, errs.CodeOf(ringer.Ring(t.Context())))
	server.Start(t)
	receive(t, heard)
}
