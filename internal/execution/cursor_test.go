package execution

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// An id of an event comes back from anybody: it is one that could have been given
// out, or none.
func FuzzAnEventIdIsOneOfOursOrNone(f *testing.F) {
	for _, text := range []string{"", "AQAC", "AQP-____________AQ", cursor{since: timeOf(5), seats: []place{{id: "5f0c2a54-1f0a-4b53-9f61-5a3b7c0d9e21", changed: timeOf(9), seq: 3}}}.encode()} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, ok := decodeCursor(text)
		if !ok {
			return
		}
		require.LessOrEqual(t, len(c.seats), cursorPlaces)
		for _, s := range c.seats {
			require.GreaterOrEqual(t, s.seq, int64(0))
		}
		again, ok := decodeCursor(c.encode())
		require.True(t, ok)
		require.Len(t, again.seats, len(c.seats))
		require.Equal(t, c.since, again.since)
	})
}
