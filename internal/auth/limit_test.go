package auth

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// The service has no stores: asking one would panic.
func TestAFloodIsTurnedAwayWithoutAskingAnybodyAndRegularsAreNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewService(Config{Passwords: NewPasswords(Params{MemoryKiB: 8, Passes: 1, Threads: 1})})
		const stranger, home, exhausted = "192.0.2.1", "203.0.113.7", "198.51.100.1"
		s.limits.regulars.add(home, "ada")
		s.limits.regulars.add(exhausted, "bob")
		for s.limits.try(visitor{address: exhausted}) == nil {
			require.Empty(t, s.limits.sites.buckets)
		}
		_, _, err := s.Login(t.Context(), "bob", "a password", exhausted)
		require.Equal(t, errs.CodeRateLimited, errs.CodeOf(err), "the tries of an address are for regulars, too")
		require.Contains(t, errs.As(err).Details, "retry_after_seconds")
		require.NoError(t, s.TurnsAway(stranger))
		require.NotContains(t, s.limits.addresses.buckets, stranger, "looking remembers nobody")
		for i := range 40 {
			require.NoError(t, s.TurnsAway("2001:db8:7:ffff::1"))
			require.NoError(t, s.limits.try(visitor{address: fmt.Sprintf("2001:db8:7:%x::1", i)}))
		}
		require.Error(t, s.TurnsAway("2001:db8:7:ffff::1"), "a site has its tries, too")
		s.limits.regulars.add("2001:db8:7:ffff::2", "cleo")
		require.NoError(t, s.TurnsAway("2001:db8:7:ffff::1"), "which are not for regulars")

		require.NoError(t, s.Passwords.turns.enter(t.Context(), false))
		require.Equal(t, restShare*time.Second, s.Passwords.rest(time.Second))
		waiting, leave := context.WithCancelCause(t.Context())
		var group sync.WaitGroup
		for range maxWaiting {
			group.Go(func() { _ = s.Passwords.turns.enter(waiting, false) })
		}
		synctest.Wait()
		require.Equal(t, floodShare*time.Second, s.Passwords.rest(time.Second), "a flood gets less")
		require.NoError(t, s.TurnsAway(stranger), "somebody may have a session from there")
		for s.limits.lookups.wait("") == 0 {
			s.limits.lookups.take("")
		}
		require.ErrorIs(t, s.TurnsAway(stranger), ErrTooManyLogins)
		require.NoError(t, s.TurnsAway(home), "a regular has a line of his own")
		_, _, err = s.Login(t.Context(), "ada", "a password", stranger)
		require.ErrorIs(t, err, ErrTooManyLogins)

		leave(errors.New("gone"))
		group.Wait()
		require.NoError(t, s.TurnsAway(stranger))
		<-time.After(time.Minute)
		require.NoError(t, s.TurnsAway(exhausted), "tries come back with time")
	})
}
