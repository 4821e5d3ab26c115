package server

import (
	"context"
	"crypto/subtle"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/dataguardian/dataguardian/internal/auth"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/server/gateway"
)

// newHandler joins the REST gateway and the few paths beside it.
func newHandler(c Config, rest http.Handler) (http.Handler, error) {
	page, err := newDocs(c.OpenAPI, c.Version)
	if err != nil {
		return nil, err
	}
	if c.Trace != nil {
		rest = c.Trace.HTTP(rest)
	}
	mux := http.NewServeMux()
	mux.Handle("/api/", introduced(fromHere(c.door(rest))))
	if c.OIDC != nil {
		mux.Handle("/api/auth/oidc/login", reads(http.HandlerFunc(c.oidcLogin)))
		mux.Handle("/api/auth/oidc/callback", reads(http.HandlerFunc(c.oidcCallback)))
	}
	mux.Handle("/api/openapi.json", reads(content("application/json", c.OpenAPI)))
	mux.Handle("/api/docs", reads(page))
	mux.Handle("/health", reads(content("application/json", []byte(`{"status":"ok"}`+"\n"))))
	if c.Metrics != nil {
		mux.Handle("/metrics", reads(withToken(c.MetricsToken, c.Metrics)))
	}
	mux.Handle("/{$}", reads(http.RedirectHandler("/api/docs", http.StatusFound)))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { gateway.WriteError(w, gateway.NoSuchRoute(r)) })
	return arrived(c.TrustedProxies, observed(c.Logger, secured(mux))), nil
}

// fromHere refuses what a foreign web page makes a browser send. Only requests
// without an Authorization header can carry a cookie's authority alone; a page
// cannot add that header to a foreign request.
func fromHere(next http.Handler) http.Handler {
	protection := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "" {
			if err := protection.Check(r); err != nil {
				gateway.WriteError(w, errs.Wrap(err, errs.Denied, errs.CodeForbidden, "a request from a page of another site is refused"))
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// reads lets GET and HEAD through.
func reads(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			gateway.NotAllowed(w, r, http.MethodGet, http.MethodHead)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func content(media string, body []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", media)
		_, _ = w.Write(body) // a reader that is gone needs no answer
	})
}

// withToken asks for a bearer token; an empty one asks for nothing.
func withToken(token string, next http.Handler) http.Handler {
	if token == "" {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok || subtle.ConstantTimeCompare([]byte(sent), []byte(token)) != 1 {
			gateway.WriteError(w, auth.ErrUnauthenticated)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// secured sets the headers that keep a browser from doing anything clever with an
// answer.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		if strings.HasPrefix(r.URL.Path, "/api/") {
			h.Set("Cache-Control", "no-store")
		}
		next.ServeHTTP(w, r)
	})
}

// observed names every request, writes it down without its body or query, and
// survives its panic.
func observed(logger *slog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := requestID(r.Header.Get(gateway.RequestIDHeader))
		r.Header.Set(gateway.RequestIDHeader, id)
		w.Header().Set(gateway.RequestIDHeader, id)
		seen := &observer{ResponseWriter: w}
		ctx, started := r.Context(), time.Now()
		defer func() {
			aborted := seen.survive(ctx, recover(), logger, id)
			level := slog.LevelDebug // what goes well is not news
			if seen.status >= http.StatusBadRequest && seen.status != http.StatusServiceUnavailable {
				level = slog.LevelInfo
			}
			logger.Log(ctx, level, "request", "method", r.Method, "path", r.URL.Path, "status", seen.status, "bytes", seen.bytes,
				"duration", time.Since(started), "remote", r.RemoteAddr, "address", arrivalOf(r).address, "request_id", id, "aborted", aborted)
			if aborted {
				panic(http.ErrAbortHandler) // net/http breaks the connection, so that nobody takes the answer for whole
			}
		}()
		next.ServeHTTP(seen, r)
	})
}

// observer sees what is answered.
type observer struct {
	http.ResponseWriter

	status int
	bytes  int64
}

// Unwrap lets http.ResponseController reach the connection.
func (o *observer) Unwrap() http.ResponseWriter { return o.ResponseWriter }

// WriteHeader notes the status.
func (o *observer) WriteHeader(status int) {
	if o.status == 0 {
		o.status = status
	}
	o.ResponseWriter.WriteHeader(status)
}

// Write counts the bytes.
func (o *observer) Write(b []byte) (int, error) {
	if o.status == 0 {
		o.status = http.StatusOK
	}
	n, err := o.ResponseWriter.Write(b)
	o.bytes += int64(n)
	return n, err
}

// survive answers a panic while nothing is out, and reports whether the
// connection must be broken instead.
func (o *observer) survive(ctx context.Context, p any, logger *slog.Logger, id string) (abort bool) {
	if p == nil {
		return false
	}
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		return true
	}
	logger.ErrorContext(ctx, "a handler panicked", "request_id", id, "panic", p, "stack", string(debug.Stack()))
	if o.status != 0 {
		return true
	}
	gateway.WriteError(o, errs.New(errs.Internal, errs.CodeInternal, "panic").With("request_id", id))
	return false
}
