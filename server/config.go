// Package server is the API: a gRPC listener, and a REST listener whose gateway
// calls the same gRPC server, behind one set of interceptors.
package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"google.golang.org/grpc"

	"github.com/dataguardian/dataguardian/internal/audit"
	"github.com/dataguardian/dataguardian/internal/auth"
	"github.com/dataguardian/dataguardian/server/rpc"
)

// Authenticator says who the bearer of a credential is. A bad credential is an
// error of kind Unauthenticated.
type Authenticator interface {
	Authenticate(ctx context.Context, bearer string) (auth.Principal, error)
	// AuthenticateCertificate says who a verified client certificate names.
	AuthenticateCertificate(ctx context.Context, commonName string) (auth.Principal, error)
}

// Trail writes down what callers do; *audit.Trail is one.
type Trail interface {
	Begin(ctx context.Context, e audit.Entry) (id string, err error)
	End(ctx context.Context, id, outcome, entityID string)
	Done(ctx context.Context, e audit.Entry)
	Refused(ctx context.Context, e audit.Entry)
}

// Config is what a Server stands on.
type Config struct {
	// HTTPAddr and GRPCAddr are host:port; port 0 picks a free one.
	HTTPAddr, GRPCAddr string
	// HTTPListener and GRPCListener, when set, are taken over in place of the
	// addresses; the server closes them.
	HTTPListener, GRPCListener net.Listener
	// CertFile and KeyFile (PEM) turn on TLS for both listeners.
	CertFile, KeyFile string
	// ClientCAFile (PEM), when set, lets only clients with a certificate of one of its
	// authorities connect.
	ClientCAFile string
	// CertificateUsers takes the common name of a client's certificate as the name of a
	// user, for calls without another credential.
	CertificateUsers bool
	// TrustedProxies are the networks of reverse proxies whose X-Forwarded-For and
	// X-Forwarded-Proto tell where a call came from; none: nobody is believed.
	TrustedProxies []netip.Prefix

	Services      rpc.Services
	Authenticator Authenticator
	// Scopes knows what lies in the scope of a caller. Nil: callers with a scope reach
	// nothing.
	Scopes auth.ScopeStore
	// Trail is the audit log; nil: nothing is written down.
	Trail Trail
	// OIDC logs people in with an OpenID provider; nil: only passwords do.
	OIDC   OIDC
	Logger *slog.Logger

	// Version is shown on the page of the API.
	Version string
	// OpenAPI is the OpenAPI 3 document (JSON) of the API.
	OpenAPI []byte
	// Metrics answers GET /metrics; nil leaves it out. MetricsToken, when set, is the
	// bearer token it asks for.
	Metrics      http.Handler
	MetricsToken string
	// Trace, when set, makes spans of calls.
	Trace *Trace
	// Reflection lets gRPC clients ask for the schema.
	Reflection bool
	// ShutdownTimeout bounds how long calls under way may take to end, default 10 s.
	ShutdownTimeout time.Duration
}

// Trace is how calls become spans.
type Trace struct {
	HTTP   func(next http.Handler) http.Handler // of requests to REST
	Client grpc.DialOption                      // of the gateway's calls
	Server grpc.ServerOption                    // of calls that are answered
}

const defaultShutdownTimeout = 10 * time.Second

func (c Config) complete() Config {
	if c.ShutdownTimeout <= 0 {
		c.ShutdownTimeout = defaultShutdownTimeout
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// tls returns nil when no certificate is configured.
func (c Config) tls() (*tls.Config, error) {
	if c.CertFile == "" && c.KeyFile == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("loading the TLS certificate %s with key %s: %w", c.CertFile, c.KeyFile, err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if c.ClientCAFile == "" {
		return config, nil
	}
	authorities, err := os.ReadFile(c.ClientCAFile)
	if err != nil {
		return nil, fmt.Errorf("loading the authorities of client certificates: %w", err)
	}
	config.ClientCAs, config.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
	if !config.ClientCAs.AppendCertsFromPEM(authorities) {
		return nil, fmt.Errorf("loading the authorities of client certificates: %s holds no PEM certificate", c.ClientCAFile)
	}
	return config, nil
}
