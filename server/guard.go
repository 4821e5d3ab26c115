package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
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

	"github.com/dataguardian/dataguardian/internal/auth"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/server/rpc"
)

// guard stands before every RPC, whichever way it comes: it names the request,
// knows the caller and its role, refuses what is not offered or not acceptable,
// survives a panic, and says every error in one way.
type guard struct {
	authenticator Authenticator
	validator     protovalidate.Validator
	log           *slog.Logger
	pending       map[string]error
	rules         map[string]rule // by full name of the RPC
	stopping      context.Context
}

// rule is what the guard knows of one RPC.
type rule struct {
	access rpc.Access
	live   bool // a stream that goes on until it is told to stop
}

func newGuard(stopping context.Context, c Config) (*guard, error) {
	validator, err := protovalidate.New()
	if err != nil {
		return nil, fmt.Errorf("preparing the validation of requests: %w", err)
	}
	return &guard{
		authenticator: c.Authenticator, validator: validator, log: c.Logger, pending: rpc.Pending(), stopping: stopping,
	}, nil
}

// learn reads the rule of every RPC the server has. gRPC's own services need no
// credential: they tell what is public anyway.
func (g *guard) learn(services map[string]grpc.ServiceInfo) error {
	g.rules = map[string]rule{}
	for service, info := range services {
		for _, m := range info.Methods {
			method := "/" + service + "/" + m.Name
			if public(service) {
				g.rules[method] = rule{access: rpc.Access{Declared: true, Role: auth.Nobody}, live: m.IsServerStream}
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
		if err := g.validateAny(req); err != nil {
			return err
		}
		answer, err = handler(ctx, req)
		return err
	})
	if err != nil {
		return nil, err
	}
	return answer, nil
}

func (g *guard) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	call := g.begin(ss.Context(), info.FullMethod)
	if g.rules[info.FullMethod].live {
		var end context.CancelCauseFunc
		call.ctx, end = context.WithCancelCause(call.ctx)
		defer end(nil)
		defer context.AfterFunc(g.stopping, func() { end(context.Cause(g.stopping)) })()
	}
	return call.run(func(ctx context.Context) error {
		ctx, err := call.admit(ctx)
		if err != nil {
			return err
		}
		return handler(srv, &checkedStream{ServerStream: ss, ctx: ctx, check: g.validateAny})
	})
}

// checkedStream validates what comes in.
type checkedStream struct {
	grpc.ServerStream

	ctx   context.Context
	check func(any) error
}

// Context is the call's, with its caller.
func (s *checkedStream) Context() context.Context { return s.ctx }

// RecvMsg refuses what is not acceptable.
func (s *checkedStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	return s.check(m)
}

// call is one call of an RPC.
type call struct {
	guard   *guard
	ctx     context.Context
	method  string
	id      string
	local   bool // through the gateway, which has its own access log
	caller  string
	started time.Time
}

func (g *guard) begin(ctx context.Context, method string) *call {
	c := &call{guard: g, ctx: ctx, method: method, started: time.Now()}
	if p, ok := peer.FromContext(ctx); ok && p.Addr != nil {
		c.local = p.Addr.Network() == "bufconn"
	}
	md, _ := metadata.FromIncomingContext(ctx)
	c.id = requestID(first(md, requestIDKey))
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
			"caller", c.caller, "request_id", c.id, "peer", peerAddr(c.ctx))
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
	ctx, err := c.authenticate(ctx, access.Role)
	if err != nil {
		return nil, err
	}
	return ctx, c.guard.pending[c.method]
}

func (c *call) authenticate(ctx context.Context, needed auth.Role) (context.Context, error) {
	bearer := bearerOf(ctx)
	if bearer == "" {
		if needed == auth.Nobody {
			return ctx, nil
		}
		return nil, auth.ErrUnauthenticated
	}
	p, err := c.guard.authenticator.Authenticate(ctx, bearer)
	switch {
	case err != nil && needed == auth.Nobody && errs.KindOf(err) == errs.Unauthenticated:
		return ctx, nil
	case err != nil:
		return nil, err
	case p.Role < needed:
		return nil, errs.New(errs.Denied, errs.CodeForbidden, "this needs the role %s; %q has the role %s", needed, p.Name, p.Role)
	}
	c.caller = p.Name
	return rpc.WithPrincipal(ctx, p), nil
}

// bearerOf returns the credential of a call; nothing when there is none or more
// than one.
func bearerOf(ctx context.Context) string {
	md, _ := metadata.FromIncomingContext(ctx)
	values := md.Get("authorization")
	if len(values) != 1 {
		return ""
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "bearer") {
		return ""
	}
	return strings.TrimSpace(token)
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

func (g *guard) validateAny(req any) error {
	message, ok := req.(proto.Message)
	if !ok {
		return errs.New(errs.Internal, errs.CodeInternal, "a request of type %T cannot be checked", req)
	}
	return g.validate(message)
}
