package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthsrv "google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/test/bufconn"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/server/gateway"
	"github.com/dataguardian/dataguardian/server/rpc"
)

// Limits of both listeners.
const (
	maxRequest        = 4 << 20  // bytes of a gRPC request
	maxAnswer         = 64 << 20 // bytes of a message the gateway takes: a page of executions with long logs is large
	maxHeader         = 32 << 10 // bytes of the head of an HTTP request, and of gRPC metadata
	handshakeTimeout  = 10 * time.Second
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 2 * time.Minute
	pipeBuffer        = 1 << 20
)

// errShuttingDown ends the streams that would keep a server from stopping.
var errShuttingDown = errs.New(errs.Unavailable, errs.CodeShuttingDown, "this server is shutting down; connect again")

// Server answers gRPC and REST. The REST side reaches the gRPC server through a
// pipe, so that every interceptor counts for both.
type Server struct {
	config Config
	grpc   *grpc.Server
	http   *http.Server
	health *healthsrv.Server

	grpcListener, httpListener net.Listener
	pipe                       *bufconn.Listener
	loop                       *grpc.ClientConn

	tls      *tls.Config
	guard    *guard
	stopping context.Context
	stop     context.CancelCauseFunc // ends open streams
}

// New binds both addresses and builds the server; Run serves. A server that is
// not run must be closed.
func New(c Config) (*Server, error) {
	c = c.complete()
	s := &Server{
		config: c, health: healthsrv.NewServer(), pipe: bufconn.Listen(pipeBuffer),
		httpListener: c.HTTPListener, grpcListener: c.GRPCListener,
	}
	stopping, stop := context.WithCancelCause(context.Background())
	s.stopping, s.stop = stopping, stop
	built := false
	defer func() {
		if !built {
			s.Close()
		}
	}()

	var err error
	if s.tls, err = c.tls(); err != nil {
		return nil, err
	}
	if err := s.listen(); err != nil {
		return nil, err
	}
	guard, err := newGuard(c)
	if err != nil {
		return nil, err
	}
	s.guard = guard
	s.grpc = newGRPC(c, guard, s.health, s.tls)
	if err := guard.learn(s.grpc.GetServiceInfo()); err != nil {
		return nil, err
	}
	if s.loop, err = dialPipe(c, s.pipe); err != nil {
		return nil, err
	}
	rest, err := gateway.New(stopping, gateway.Config{Conn: s.loop, Check: guard.validate})
	if err != nil {
		return nil, err
	}
	handler, err := newHandler(c, rest)
	if err != nil {
		return nil, err
	}
	s.http = &http.Server{
		Handler: handler, ReadHeaderTimeout: readHeaderTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		TLSConfig: s.tls,
		// What net/http complains about is clients.
		ErrorLog: slog.NewLogLogger(c.Logger.Handler(), slog.LevelDebug),
		// No WriteTimeout: it would cut streams and downloads.
	}
	built = true
	return s, nil
}

// listen binds the addresses for which there is no listener yet.
func (s *Server) listen() (err error) {
	if s.grpcListener == nil {
		if s.grpcListener, err = net.Listen("tcp", s.config.GRPCAddr); err != nil {
			return fmt.Errorf("listening for gRPC: %w", err)
		}
	}
	if s.httpListener == nil {
		if s.httpListener, err = net.Listen("tcp", s.config.HTTPAddr); err != nil {
			return fmt.Errorf("listening for HTTP: %w", err)
		}
	}
	return nil
}

func newGRPC(c Config, g *guard, health healthpb.HealthServer, encryption *tls.Config) *grpc.Server {
	options := []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(g.unary),
		grpc.ChainStreamInterceptor(g.stream),
		grpc.MaxRecvMsgSize(maxRequest),
		grpc.MaxHeaderListSize(maxHeader),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 20 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Minute, Timeout: 20 * time.Second}),
	}
	if c.Trace != nil {
		options = append(options, c.Trace.Server)
	}
	if encryption != nil {
		options = append(options, grpc.Creds(encrypted{credentials.NewTLS(encryption)}))
	}
	s := grpc.NewServer(options...)
	rpc.Register(s, c.Services)
	healthpb.RegisterHealthServer(s, health)
	if c.Reflection {
		reflection.Register(s)
	}
	return s
}

// encrypted speaks TLS with everybody but the gateway, whose pipe stays in this
// process.
type encrypted struct {
	credentials.TransportCredentials
}

// ServerHandshake implements credentials.TransportCredentials.
func (e encrypted) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if conn.LocalAddr().Network() == pipeNetwork {
		return insecure.NewCredentials().ServerHandshake(conn)
	}
	return e.TransportCredentials.ServerHandshake(conn)
}

// Clone implements credentials.TransportCredentials.
func (e encrypted) Clone() credentials.TransportCredentials {
	return encrypted{e.TransportCredentials.Clone()}
}

// pipeNetwork is the network of the gateway's pipe.
const pipeNetwork = "bufconn"

func dialPipe(c Config, pipe *bufconn.Listener) (*grpc.ClientConn, error) {
	options := []grpc.DialOption{
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return pipe.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)),
	}
	if c.Trace != nil {
		options = append(options, c.Trace.Client)
	}
	conn, err := grpc.NewClient("passthrough:///pipe", options...)
	if err != nil {
		return nil, fmt.Errorf("connecting REST to gRPC: %w", err)
	}
	return conn, nil
}

// Addrs returns where the server listens.
func (s *Server) Addrs() (http, grpc net.Addr) { return s.httpListener.Addr(), s.grpcListener.Addr() }

// Run serves until ctx is done, then lets calls under way end within the shutdown
// timeout. It returns early, with the error, when a listener fails.
func (s *Server) Run(ctx context.Context) error {
	defer s.Close()
	ended := make(chan error, 3)
	go s.guard.watch.run(s.stopping) //nolint:contextcheck // it ends with the server
	go func() { ended <- s.grpc.Serve(s.pipe) }()
	go func() { ended <- s.grpc.Serve(s.grpcListener) }()
	go func() { ended <- s.serveHTTP() }()

	var failed error
	running := cap(ended)
	select {
	case <-ctx.Done():
	case failed = <-ended:
		running--
		failed = fmt.Errorf("a listener ended by itself: %w", failed)
	}
	s.shutdown(context.WithoutCancel(ctx))
	for range running {
		if err := <-ended; err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, grpc.ErrServerStopped) {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

func (s *Server) serveHTTP() error {
	if s.tls != nil {
		return s.http.ServeTLS(s.httpListener, "", "")
	}
	return s.http.Serve(s.httpListener)
}

// shutdown tells load balancers first, then ends the open streams, which would
// never end by themselves, and waits for the rest: REST before gRPC, which carries
// it. What takes too long is cut off.
func (s *Server) shutdown(ctx context.Context) {
	s.health.Shutdown()
	s.stop(errShuttingDown)
	ctx, cancel := context.WithTimeout(ctx, s.config.ShutdownTimeout)
	defer cancel()
	if err := s.http.Shutdown(ctx); err != nil {
		s.config.Logger.Warn("some HTTP requests did not end in time and were cut off", "timeout", s.config.ShutdownTimeout)
		_ = s.http.Close() // its listener is closed already, and that is all it could complain about
	}
	_ = s.loop.Close() // no REST call is left to miss it
	graceful := make(chan struct{})
	go func() { s.grpc.GracefulStop(); close(graceful) }()
	select {
	case <-graceful:
	case <-ctx.Done():
		s.config.Logger.Warn("some gRPC calls did not end in time and were cut off", "timeout", s.config.ShutdownTimeout)
		s.grpc.Stop()
		<-graceful
	}
}

// Close frees the listeners of a server that is not run. Closing again is fine.
func (s *Server) Close() {
	s.stop(errShuttingDown)
	if s.http != nil {
		_ = s.http.Close() // closing twice has nothing to add
	}
	if s.loop != nil {
		_ = s.loop.Close()
	}
	for _, l := range []net.Listener{s.httpListener, s.grpcListener} {
		if l != nil {
			_ = l.Close()
		}
	}
	_ = s.pipe.Close()
}
