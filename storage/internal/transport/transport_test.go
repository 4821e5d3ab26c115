package transport_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dataguardian/dataguardian/internal/netguard"
	"github.com/dataguardian/dataguardian/storage/internal/transport"
	"github.com/stretchr/testify/require"
)

func get(t *testing.T, c *http.Client, url string) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	return c.Do(req)
}

func TestABodyThatStopsMovingIsGivenUp(t *testing.T) {
	end := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "some")
		_ = http.NewResponseController(w).Flush()
		<-end
	}))
	defer server.Close()
	defer close(end)
	client := transport.New(2 * time.Second) // the beginning must come sooner, on a busy machine too
	defer client.CloseIdleConnections()
	resp, err := get(t, client, server.URL)
	require.NoError(t, err)
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	require.Equal(t, "some", string(got))
	var timeout net.Error
	require.ErrorAs(t, err, &timeout)
	require.True(t, timeout.Timeout())
}

// endless is a body whose state is its owner's after the request.
type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	e.read += len(p)
	return len(p), nil
}

// The race detector tells whether somebody may still be reading.
func TestABodyIsOursAgainAfterAnEarlyAnswer(t *testing.T) {
	done := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(done)
		control := http.NewResponseController(w)
		_ = control.EnableFullDuplex()
		w.Header().Set("Content-Length", "10")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, "the reason")
		_ = control.Flush()
		_, _ = io.Copy(io.Discard, r.Body) // until the client gives up
	}))
	defer server.Close()
	client := transport.New(0)
	defer client.CloseIdleConnections()
	body := &endless{}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, server.URL, body)
	require.NoError(t, err)
	req.ContentLength = 1 << 40
	resp, err := client.Do(req)
	require.NoError(t, err)
	reason, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, "the reason", string(reason))
	require.NoError(t, resp.Body.Close())
	read := body.read
	body.read = 0
	require.Positive(t, read)
	<-done
	require.Zero(t, body.read)
}

func TestConnectionsAreUsedAgain(t *testing.T) {
	var connections atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	client := transport.New(0)
	defer client.CloseIdleConnections()
	for range 20 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, server.URL, bytes.NewReader(make([]byte, 1<<20)))
		require.NoError(t, err)
		resp, err := client.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
	}
	require.EqualValues(t, 1, connections.Load())
}

func TestRedirectsAndMetadataAddressesLeadNowhere(t *testing.T) {
	server := httptest.NewServer(http.RedirectHandler("http://169.254.169.254/", http.StatusFound))
	defer server.Close()
	client := transport.New(0)
	defer client.CloseIdleConnections()
	resp, err := get(t, client, server.URL)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusFound, resp.StatusCode)
	_, err = get(t, client, "http://169.254.169.254/") //nolint:bodyclose // there is no response
	require.ErrorIs(t, err, netguard.ErrBlocked)
}

func TestALimitOfTheConnectionIsNotTakenForTheEndOfTheCallersContext(t *testing.T) {
	for _, err := range []error{context.DeadlineExceeded, context.Canceled} {
		hidden := transport.TimedOut(err)
		require.NotErrorIs(t, hidden, err)
		require.Equal(t, err.Error(), hidden.Error())
		var timeout net.Error
		require.ErrorAs(t, hidden, &timeout)
	}
	other := errors.New("other")
	require.Equal(t, other, transport.TimedOut(other))
}
