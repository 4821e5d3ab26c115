package gateway

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/server/rpc"
)

// statusClientClosed is what proxies log for a caller that went away.
const statusClientClosed = 499

// HTTPStatus returns the status of an error by its kind; a few codes that only
// HTTP knows have their own.
func HTTPStatus(e *errs.Error) int {
	switch e.Code {
	case errs.CodeMethodNotAllowed:
		return http.StatusMethodNotAllowed
	case errs.CodePayloadTooLarge:
		return http.StatusRequestEntityTooLarge
	case errs.CodeUnsupportedMediaType:
		return http.StatusUnsupportedMediaType
	case errs.CodeTimeout:
		return http.StatusGatewayTimeout
	default:
		return kindStatus(e.Kind)
	}
}

func kindStatus(kind errs.Kind) int {
	switch kind {
	case errs.Malformed:
		return http.StatusBadRequest
	case errs.Invalid:
		return http.StatusUnprocessableEntity
	case errs.Unauthenticated:
		return http.StatusUnauthorized
	case errs.Denied:
		return http.StatusForbidden
	case errs.NotFound:
		return http.StatusNotFound
	case errs.Exists, errs.Conflict:
		return http.StatusConflict
	case errs.Exhausted:
		return http.StatusTooManyRequests
	case errs.Unavailable:
		return http.StatusServiceUnavailable
	case errs.Unimplemented:
		return http.StatusNotImplemented
	case errs.Cancelled:
		return statusClientClosed
	case errs.Internal:
		return http.StatusInternalServerError
	}
	return http.StatusInternalServerError
}

// errorBody is the body of every answer that is not a success.
type errorBody struct {
	Error   errs.Code      `json:"error"`
	Message string         `json:"message"`
	Details map[string]any `json:"details"` // null when there are none
}

// told reads an error as a gRPC caller would: internal causes are left out.
func told(err error) *errs.Error { return rpc.FromError(rpc.Status(err).Err()) }

func marshalError(e *errs.Error) ([]byte, error) {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	err := enc.Encode(errorBody{Error: e.Code, Message: e.Msg, Details: e.Details})
	return bytes.TrimSuffix(text.Bytes(), []byte("\n")), err
}

// WriteError answers a request with an error: its status, and the error body.
func WriteError(w http.ResponseWriter, err error) {
	e := told(err)
	body, marshalErr := marshalError(e)
	if marshalErr != nil { // details that JSON cannot hold, which a Struct could not either
		body = []byte(`{"error":"INTERNAL_ERROR","message":"the error cannot be shown","details":null}`)
	}
	h := w.Header()
	for _, stale := range []string{"Content-Length", "Content-Disposition", "Transfer-Encoding", "Trailer"} {
		h.Del(stale)
	}
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	status := HTTPStatus(e)
	if status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="dataguardian"`)
	}
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) //nolint:gosec // JSON by its type, with sniffing off; a caller that is gone needs no answer
}

// NoSuchRoute is the error of a path that leads nowhere.
func NoSuchRoute(r *http.Request) error {
	return errs.New(errs.NotFound, errs.CodeNotFound, "there is nothing at %s; /api/docs lists every path", r.URL.Path)
}

// NotAllowed answers a request whose path is known and whose method is not.
func NotAllowed(w http.ResponseWriter, r *http.Request, methods ...string) {
	allowed := strings.Join(methods, ", ")
	w.Header().Set("Allow", allowed)
	WriteError(w, errs.New(errs.Malformed, errs.CodeMethodNotAllowed, "%s does not take %s; it takes %s", r.URL.Path, r.Method, allowed))
}
