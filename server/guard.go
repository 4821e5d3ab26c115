package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"buf.build/go/protovalidate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/protobuf/proto"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/internal/audit"
	"github.com/dataguardian/dataguardian/internal/auth"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/server/rpc"
)

// guard stands before every RPC, whichever way it comes: it names the request,
// knows the caller, its role and its scope, refuses what is not offered or not
// acceptable, writes down who did what, survives a panic, and says every error in
// one way.
type guard struct {
	authenticator Authenticator
	scopes        auth.ScopeStore
	trail         Trail
	byCertificate bool
	proxies       proxies
	validator     protovalidate.Validator
	log           *slog.Logger
	rules         map[string]rule // by full name of the RPC
	watch         *watch
}

// rule is what the guard knows of one RPC.
type rule struct {
	access rpc.Access
	live   bool // a stream that goes on until it is told to stop
}

func newGuard(c Config) (*guard, error) {
	validator, err := protovalidate.New()
	if err != nil {
		return nil, fmt.Errorf("preparing the validation of requests: %w", err)
	}
	g := &guard{
		authenticator: c.Authenticator, scopes: c.Scopes, trail: c.Trail, byCertificate: c.CertificateUsers, proxies: c.TrustedProxies,
		validator: validator, log: c.Logger,
	}
	g.watch = newWatch(g.still)
	return g, nil
}

// learn reads the rule of every RPC the server has. gRPC's own services need no
// credential: they tell what is public anyway.
func (g *guard) learn(services map[string]grpc.ServiceInfo) error {
	g.rules = map[string]rule{}
	for service, info := range services {
		for _, m := range info.Methods {
			method := "/" + service + "/" + m.Name
			if public(service) {
				g.rules[method] = rule{access: rpc.Access{Declared: true, Role: auth.Nobody, Reach: pb.Reach_shared}, live: m.IsServerStream}
				continue
			}
			d, err := rpc.Method(method)
			if err != nil {
				return err
			}
			bytes := d.Output().FullName() == "google.api.HttpBody"
			g.rules[method] = rule{access: rpc.AccessOf(method), live: d.IsStreamingServer() && !bytes}
		}
	}
	return nil
}

func public(service string) bool {
	switch service {
	case healthpb.Health_ServiceDesc.ServiceName, reflectionv1.ServerReflection_ServiceDesc.ServiceName, reflectionv1alpha.ServerReflection_ServiceDesc.ServiceName:
		return true
	}
	return false
}

func (g *guard) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (answer any, err error) {
	call := g.begin(ctx, info.FullMethod)
	err = call.run(func(ctx context.Context) error {
		ctx, err := call.admit(ctx)
		if err != nil {
			return err
		}
		if err := call.take(ctx, req); err != nil {
			return err
		}
		answer, err = handler(ctx, req)
		call.answer = answer
		return err
	})
	if err != nil {
		return nil, err
	}
	return answer, nil
}

func (g *guard) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	call := g.begin(ss.Context(), info.FullMethod)
	var end context.CancelCauseFunc
	call.ctx, end = context.WithCancelCause(call.ctx)
	defer end(nil)
	return call.run(func(ctx context.Context) error {
		ctx, err := call.admit(ctx)
		if err != nil {
			return err
		}
		defer g.watch.over(call, watched{end, g.rules[info.FullMethod].live})()
		return handler(srv, &checkedStream{ServerStream: ss, ctx: ctx, take: func(req any) error { return call.take(ctx, req) }})
	})
}

// checkedStream takes only what is acceptable.
type checkedStream struct {
	grpc.ServerStream

	ctx  context.Context
	take func(any) error
}

// Context is the call's, with its caller.
func (s *checkedStream) Context() context.Context { return s.ctx }

// RecvMsg refuses what is not acceptable.
func (s *checkedStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	return s.take(m)
}

// call is one call of an RPC.
type call struct {
	guard     *guard
	ctx       context.Context
	method    string
	id        string
	local     bool // through the gateway, which has its own access log
	origin    *rpc.Origin
	shown     credential
	principal auth.Principal
	entry     audit.Entry // what is written down of it
	request   any
	answer    any
	started   time.Time
}

func (g *guard) begin(ctx context.Context, method string) *call {
	c := &call{guard: g, method: method, started: time.Now(), origin: &rpc.Origin{}}
	md, _ := metadata.FromIncomingContext(ctx)
	if p, ok := peer.FromContext(ctx); ok && p.Addr != nil {
		c.local = p.Addr.Network() == pipeNetwork
		c.cameFrom(p, md)
	}
	c.shown = c.credentialOf(md)
	c.id = requestID(first(md, requestIDKey))
	c.ctx = rpc.WithOrigin(ctx, c.origin)
	if !c.local {
		// The header only repeats the id; a call that is over already needs none.
		_ = grpc.SetHeader(ctx, metadata.Pairs(requestIDKey, c.id))
	}
	return c
}

// run does the call, survives its panic, writes it down, and returns its error as
// a status.
func (c *call) run(work func(context.Context) error) error {
	err := survive(c.ctx, work)
	if errors.Is(err, context.Canceled) && errs.As(context.Cause(c.ctx)) != nil {
		err = context.Cause(c.ctx) // the server ended it, not the caller
	}
	c.writeDown(err)
	code := rpc.Status(err).Code()
	if code == codes.Internal || code == codes.Unknown {
		c.guard.log.ErrorContext(c.ctx, "a call failed", "method", c.method, "request_id", c.id, "error", err)
		err = errs.Wrap(err, errs.Internal, errs.CodeInternal, "internal").With("request_id", c.id)
	}
	if !c.local {
		level := slog.LevelDebug // what goes well is not news
		if code != codes.OK && code != codes.Canceled {
			level = slog.LevelInfo
		}
		c.guard.log.Log(c.ctx, level, "call", "method", c.method, "code", code.String(), "duration", time.Since(c.started),
			"caller", c.principal.Name, "request_id", c.id, "peer", peerAddr(c.ctx))
	}
	return rpc.Status(err).Err()
}

func survive(ctx context.Context, work func(context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errs.Wrap(fmt.Errorf("panic: %v\n%s", p, debug.Stack()), errs.Internal, errs.CodeInternal, "the handler panicked")
		}
	}()
	return work(ctx)
}

// admit returns the context of an allowed call, with its caller.
func (c *call) admit(ctx context.Context) (context.Context, error) {
	access := c.guard.rules[c.method].access
	if !access.Declared {
		return nil, errs.New(errs.Denied, errs.CodeForbidden, "%s says nothing about who may call it, so nobody may", c.method)
	}
	return c.authenticate(ctx, access)
}

func (c *call) authenticate(ctx context.Context, access rpc.Access) (context.Context, error) {
	p, err := c.guard.who(ctx, c.shown)
	switch {
	case errs.KindOf(err) == errs.Unauthenticated && err != nil:
		if access.Role == auth.Nobody {
			return ctx, nil
		}
		return nil, err
	case err != nil:
		return nil, err
	}
	c.principal = p
	switch {
	case p.Role < access.Role:
		return nil, errs.New(errs.Denied, errs.CodeForbidden, "this needs the role %s; %q has the role %s", access.Role, p.Name, p.Role)
	case len(p.Scope) > 0 && (access.Reach == pb.Reach_whole || access.Reach == pb.Reach_reach_unspecified):
		return nil, errs.New(errs.Denied, errs.CodeForbidden, "this reaches beyond the datasources with the tags %q, which are all that %q may reach", p.Scope, p.Name)
	}
	return auth.WithScope(rpc.WithPrincipal(ctx, p), p.Scope), nil
}

// take lets a request through to its handler: it is acceptable, what it names lies
// in the caller's scope, and it is written down.
func (c *call) take(ctx context.Context, req any) error {
	message, ok := req.(proto.Message)
	if !ok {
		return errs.New(errs.Internal, errs.CodeInternal, "a request of type %T cannot be checked", req)
	}
	c.request = req
	if err := c.guard.validate(message); err != nil {
		return err
	}
	if err := c.inScope(ctx, message); err != nil {
		return err
	}
	return c.writeBegin(ctx)
}

func first(md metadata.MD, key string) string {
	if values := md.Get(key); len(values) > 0 {
		return values[0]
	}
	return ""
}

func peerAddr(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok && p.Addr != nil {
		return p.Addr.String()
	}
	return ""
}
