package server

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"time"
)

// NewMetrics returns what serves GET /metrics and GET /health alone, for processes
// without the API: call it once, it works until ctx ends. Of c it takes HTTPListener,
// which it closes, the certificate, the authorities of clients, the logger, Metrics and MetricsToken.
func NewMetrics(c Config) (run func(ctx context.Context) error, err error) {
	c = c.complete()
	certificate, err := c.tls()
	if err != nil {
		return nil, err
	}
	listener := c.HTTPListener
	if certificate != nil {
		listener = tls.NewListener(listener, certificate)
	}
	mux := http.NewServeMux()
	mux.Handle("/health", reads(content("application/json", []byte(`{"status":"ok"}`+"\n"))))
	mux.Handle("/metrics", reads(withToken(c.MetricsToken, c.Metrics)))
	page := &http.Server{Handler: observed(c.Logger, secured(mux)), ReadHeaderTimeout: readHeaderTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader, WriteTimeout: time.Minute}
	return func(ctx context.Context) error {
		ended := make(chan error, 1)
		go func() { ended <- page.Serve(listener) }()
		select {
		case err := <-ended:
			return err
		case <-ctx.Done():
		}
		limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.ShutdownTimeout)
		defer cancel()
		if err := page.Shutdown(limit); err != nil {
			return errors.Join(err, page.Close())
		}
		return nil
	}, nil
}
