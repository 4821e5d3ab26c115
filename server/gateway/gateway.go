// Package gateway speaks REST for the gRPC server: JSON, newline-delimited JSON,
// Server-Sent Events and raw downloads, with the statuses and the error body of
// the public contract. It calls the server through a connection, never in
// process, so that every interceptor counts.
package gateway

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/server/rpc"
)

// RequestIDHeader carries a request's id in both directions, in lower case over gRPC.
const RequestIDHeader = "X-Request-Id"

// MaxBody is the largest body a request may have, in bytes.
const MaxBody = 1 << 20

// Config is what the gateway stands on.
type Config struct {
	// Conn leads to the gRPC server.
	Conn *grpc.ClientConn
	// Check says what the server would refuse in a message, as the server itself
	// says it. It completes the answer to a body that cannot even be decoded.
	Check func(proto.Message) error
}

type gateway struct {
	Config
	routes routes
}

// New returns the handler of everything under /api/.
func New(ctx context.Context, c Config) (http.Handler, error) {
	table, err := readRoutes()
	if err != nil {
		return nil, err
	}
	g := &gateway{Config: c, routes: table}
	mux := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, newLines()),
		runtime.WithMarshalerOption(eventStream, newEvents()),
		runtime.WithMiddlewares(g.admit),
		runtime.WithForwardResponseOption(setStatus),
		runtime.WithErrorHandler(g.fail),
		runtime.WithStreamErrorHandler(failStream),
		runtime.WithRoutingErrorHandler(g.refuse),
		runtime.WithIncomingHeaderMatcher(incoming),
		runtime.WithOutgoingHeaderMatcher(outgoing),
		runtime.WithOutgoingTrailerMatcher(func(string) (string, bool) { return "", false }),
		runtime.WithDisableHTTPMethodOverride(),
		runtime.WithDisablePathLengthFallback(),
		runtime.WithDisableChunkedEncoding(),
		runtime.WithWriteContentLength(),
	)
	for _, register := range []func(context.Context, *runtime.ServeMux, *grpc.ClientConn) error{
		pb.RegisterDatasourceServiceHandler, pb.RegisterStorageLocationServiceHandler, pb.RegisterBackupServiceHandler,
		pb.RegisterExecutionServiceHandler, pb.RegisterNotificationServiceHandler, pb.RegisterHealthServiceHandler,
		pb.RegisterDashboardServiceHandler, pb.RegisterAuthServiceHandler, pb.RegisterAuditServiceHandler,
	} {
		if err := register(ctx, mux, c.Conn); err != nil {
			return nil, fmt.Errorf("registering REST routes: %w", err)
		}
	}
	return mux, nil
}

// incoming names the request headers that handlers may see. Authorization comes
// through by itself; nothing else a client sends reaches the server as metadata.
func incoming(header string) (string, bool) {
	switch header {
	case "Cookie":
		return "cookie", true
	case RequestIDHeader, "X-Dataguardian-Address", "X-Dataguardian-Secure", "X-Dataguardian-Certificate":
		return strings.ToLower(header), true // the server sets them, whatever a client sends
	}
	return "", false
}

// outgoing names the metadata that becomes a response header.
func outgoing(key string) (string, bool) {
	switch key {
	case "set-cookie":
		return "Set-Cookie", true
	case "content-disposition":
		return "Content-Disposition", true
	}
	return "", false
}

// admit lets a request through to its RPC when its form is good: body size and
// type, JSON that fits the message, query parameters of the right type.
func (g *gateway) admit(next runtime.HandlerFunc) runtime.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request, params map[string]string) {
		called, err := g.routes.of(r)
		for _, value := range params {
			if value == "" { // "/api/datasources/" names no datasource
				err = NoSuchRoute(r)
			}
		}
		if err != nil {
			WriteError(w, err)
			return
		}
		answer := &response{ResponseWriter: w, route: called, events: called.stream && wantsEvents(r.Header.Values("Accept"))}
		if err := g.prepare(w, r, answer); err != nil {
			WriteError(w, err)
			return
		}
		defer answer.end()
		next(answer, r.WithContext(context.WithValue(r.Context(), responseKey{}, answer)), params)
	}
}

func (g *gateway) prepare(w http.ResponseWriter, r *http.Request, answer *response) error {
	r.Header.Del("Grpc-Timeout") // deadlines of REST calls are the server's matter
	r.Header.Del("Accept")
	if answer.events {
		r.Header.Set("Accept", eventStream)
	}
	if err := checkQuery(r, answer.route, answer.events); err != nil {
		return err
	}
	if !answer.route.body {
		r.Body = http.NoBody
		return nil
	}
	return g.readBody(w, r, answer.route)
}

// setStatus gives a good answer its HTTP status, and sends the head of a stream
// that has begun. A stream calls it with nil first.
func setStatus(ctx context.Context, w http.ResponseWriter, message proto.Message) error {
	answer, ok := responseOf(ctx)
	if !ok {
		return errs.New(errs.Internal, errs.CodeInternal, "an answer without a route")
	}
	if answer.route.stream {
		if message == nil {
			return answer.begin(ctx)
		}
		return nil
	}
	status := SuccessStatus(answer.route.name)
	if health, ok := message.(*pb.Health); ok && health.GetStatus() != pb.Health_ok {
		status = http.StatusServiceUnavailable
	}
	if status == http.StatusNoContent {
		w.Header().Del("Content-Type")
		w.Header().Del("Content-Length")
	}
	if status != http.StatusOK {
		w.WriteHeader(status)
	}
	return nil
}

func (g *gateway) fail(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, _ *http.Request, err error) {
	WriteError(w, rpc.FromError(err))
}

// refuse answers a path or method that leads nowhere.
func (g *gateway) refuse(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, status int) {
	switch status {
	case http.StatusNotFound:
		WriteError(w, NoSuchRoute(r))
	case http.StatusMethodNotAllowed:
		NotAllowed(w, r, g.routes.methods(r.URL.Path)...)
	default:
		WriteError(w, errs.New(errs.Malformed, errs.CodeInvalidArgument, "the path %q cannot be understood", r.URL.Path))
	}
}
