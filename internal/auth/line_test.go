package auth

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

func TestWhoHasBeenHereDoesNotWaitBehindAFloodOfStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l line
		require.NoError(t, l.enter(t.Context(), false))
		var group sync.WaitGroup
		var mu sync.Mutex
		var order []string
		turnedAway := 0
		come := func(ctx context.Context, who string, regular bool) {
			group.Go(func() {
				err := l.enter(ctx, regular)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					turnedAway++
					return
				}
				order = append(order, who)
				l.leave()
			})
		}
		for range maxWaiting + 5 {
			come(t.Context(), "stranger", false)
		}
		impatient, leave := context.WithCancelCause(t.Context())
		come(impatient, "impatient", true)
		synctest.Wait()
		require.True(t, l.full(false))
		require.False(t, l.full(true))
		come(t.Context(), "regular", true)
		leave(errors.New("gone"))
		synctest.Wait()
		l.leave()
		group.Wait()
		require.Len(t, order, maxWaiting+1)
		require.Equal(t, "regular", order[0])
		require.Equal(t, 5+1, turnedAway)
		require.NoError(t, l.enter(t.Context(), false), "the line is empty")
		come(t.Context(), "late", true)
		group.Wait()
		require.Equal(t, 5+2, turnedAway, "nobody waits for ever")

		order = nil
		for range 4 {
			come(t.Context(), "regular", true)
		}
		come(t.Context(), "stranger", false)
		synctest.Wait()
		l.leave()
		group.Wait()
		require.Equal(t, []string{"regular", "regular", "stranger", "regular", "regular"}, order, "a stranger does not wait for ever either")
	})
}
