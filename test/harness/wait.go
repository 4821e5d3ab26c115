package harness

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Patience ends when something that was waited for does not come any more.
func Patience() <-chan time.Time { return time.After(patience) }

// Eventually waits until a condition holds. It is asked from the test's own
// goroutine, so that it may fail the test.
func Eventually(t testing.TB, holds func() bool, message string, args ...any) {
	t.Helper()
	for limit := time.Now().Add(patience); !holds(); <-time.After(20 * time.Millisecond) {
		require.True(t, time.Now().Before(limit), append([]any{message}, args...)...)
	}
}
