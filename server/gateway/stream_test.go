package gateway

import (
	"errors"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// wire is a connection that counts how often something is sent.
type wire struct {
	http.ResponseWriter

	written, sent strings.Builder
	flushes       int
	broken        error
}

func (w *wire) Write(b []byte) (int, error) { return w.written.Write(b) }

func (w *wire) FlushError() error {
	w.flushes++
	w.sent.WriteString(w.written.String())
	w.written.Reset()
	return w.broken
}

func TestMessagesThatComeTogetherAreSentTogetherAndOneAloneAtOnce(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // a goroutine that does not wait goes on
	synctest.Test(t, func(t *testing.T) {
		const many = 1000
		to := &wire{}
		w := &response{ResponseWriter: to}
		tell := func(message string) error {
			_, err := w.Write([]byte(message))
			require.NoError(t, err)
			return http.NewResponseController(w).Flush()
		}
		require.NoError(t, tell("alone"))
		synctest.Wait() // the stream waits, and no time passes
		require.Equal(t, "alone", to.sent.String())
		require.Equal(t, 1, to.flushes)

		for range many {
			require.NoError(t, tell("."))
		}
		synctest.Wait()
		require.Equal(t, "alone"+strings.Repeat(".", many), to.sent.String())
		require.Less(t, to.flushes, many/10)

		to.broken = errors.New("nobody is there")
		require.NoError(t, tell("lost"))
		synctest.Wait()
		require.ErrorIs(t, tell("lost, too"), to.broken)

		to.broken, w.flushed = nil, nil
		before := to.flushes
		require.NoError(t, tell("last"))
		w.end()
		synctest.Wait()
		require.Equal(t, before, to.flushes, "nobody touches the connection after the handler")
		require.Contains(t, to.written.String(), "last", "which the server sends")
	})
}
