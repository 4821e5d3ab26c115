package gateway

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/status"

	"github.com/dataguardian/dataguardian/server/rpc"
)

type responseKey struct{}

// response is the answer to one call. It knows how far it is, so that an error
// before the first byte gets its real status, and one after it cannot pass for
// the end.
type response struct {
	http.ResponseWriter

	route  *route
	events bool // Server-Sent Events, not newline-delimited JSON
	begun  bool // the head is out
	closed bool // the body is complete; drop what comes

	mu      sync.Mutex // of one who writes or flushes
	due     bool       // a flush is on its way
	over    bool       // the handler has returned
	flushed error      // why the last flush failed
}

// responseOf returns what admit put there; every route goes through it.
func responseOf(ctx context.Context) (*response, bool) {
	answer, ok := ctx.Value(responseKey{}).(*response)
	return answer, ok
}

// Unwrap lets http.ResponseController reach Flush.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader sends the head, once.
func (w *response) WriteHeader(status int) {
	if w.begun {
		return
	}
	w.begun = true
	w.closed = status == http.StatusNoContent
	w.ResponseWriter.WriteHeader(status)
}

// Write drops what comes after the end.
func (w *response) Write(b []byte) (int, error) {
	if w.closed {
		return len(b), nil
	}
	w.begun = true
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ResponseWriter.Write(b)
}

// FlushError sends what was written, once the stream has no other message ready: it is
// asked for after each. A goroutine does it, which gets its turn at once when the stream
// waits; of messages that come together all are sent with one write. A failure is told by
// the next call.
func (w *response) FlushError() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.flushed == nil && !w.due {
		w.due = true
		go w.flush()
	}
	return w.flushed
}

func (w *response) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.due = false
	if !w.over {
		w.flushed = http.NewResponseController(w.ResponseWriter).Flush()
	}
}

// end leaves what was not flushed to the server, which does so when the handler returns:
// nobody writes from then on.
func (w *response) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
}

// begin sends the head of a stream as soon as the server says that the stream is
// on, so that a caller need not wait for the first message to learn it.
func (w *response) begin(ctx context.Context) error {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // or proxies hold lines back
	md, _ := runtime.ServerMetadataFromContext(ctx)
	if len(md.HeaderMD.Get(rpc.StreamHeader)) == 0 || w.route.raw {
		return nil
	}
	w.Header().Set("Content-Type", ndjson)
	if w.events {
		w.Header().Set("Content-Type", eventStream)
	}
	w.WriteHeader(http.StatusOK)
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// failStream ends a stream with an error: as an answer of its own while nothing is
// out, as the last message of a stream of messages, and as a broken connection in
// the middle of bytes, which would look complete otherwise.
func failStream(ctx context.Context, err error) *status.Status {
	answer, ok := responseOf(ctx)
	switch {
	case !ok:
	case !answer.begun:
		WriteError(answer, rpc.FromError(err))
		answer.closed = true
	case answer.route.raw:
		panic(http.ErrAbortHandler)
	}
	return status.Convert(err)
}

// wantsEvents reports whether an Accept header prefers Server-Sent Events.
func wantsEvents(accept []string) bool {
	events, lines := 0.0, 0.0
	for _, header := range accept {
		for part := range strings.SplitSeq(header, ",") {
			name, params, _ := strings.Cut(part, ";")
			switch strings.ToLower(strings.TrimSpace(name)) {
			case eventStream:
				events = max(events, quality(params))
			case ndjson:
				lines = max(lines, quality(params))
			}
		}
	}
	return events > 0 && events >= lines
}

// quality reads the q parameter of an Accept part; 1 without a good one.
func quality(params string) float64 {
	for param := range strings.SplitSeq(params, ";") {
		if value, ok := strings.CutPrefix(strings.ReplaceAll(strings.ToLower(param), " ", ""), "q="); ok {
			if q, err := strconv.ParseFloat(value, 64); err == nil {
				return q
			}
		}
	}
	return 1
}
