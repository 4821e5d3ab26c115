package rpc

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/internal/auth"
)

// Access says who may call an RPC and what else its proto declares of it.
type Access struct {
	// Declared is false when the proto names no role: then nobody may call it.
	Declared bool
	// Role is the lowest one that may call; auth.Nobody when no credential is needed.
	Role auth.Role
	// Reach is what the RPC means to a caller with a scope; 0 when the proto says
	// nothing: then such callers may not call it.
	Reach pb.Reach_Kind
	// Action is what the audit log calls it; empty when it is not written down.
	Action string
}

// unaudited is the declaration of an RPC that is not written down.
const unaudited = "none"

// AccessOf returns what the proto declares of an RPC by its full name
// ("/package.Service/Method").
func AccessOf(method string) Access {
	m, err := Method(method)
	if err != nil {
		return Access{}
	}
	role, _ := proto.GetExtension(m.Options(), pb.E_Access).(pb.Access_Role)
	reach, _ := proto.GetExtension(m.Options(), pb.E_Reach).(pb.Reach_Kind)
	action, _ := proto.GetExtension(m.Options(), pb.E_Audit).(string)
	a := Access{Declared: role == pb.Access_anyone || roleFrom(role) != auth.Nobody, Role: roleFrom(role), Reach: reach, Action: action}
	switch action {
	case "":
		a.Action = string(m.Name()) // nobody forgets an entry by forgetting to declare it
	case unaudited:
		a.Action = ""
	}
	return a
}

// Method returns the descriptor of an RPC by its full name.
func Method(method string) (protoreflect.MethodDescriptor, error) {
	name := strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", ".")
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
	if err != nil {
		return nil, fmt.Errorf("looking up RPC %s: %w", method, err)
	}
	m, ok := d.(protoreflect.MethodDescriptor)
	if !ok {
		return nil, fmt.Errorf("%s is not an RPC", method)
	}
	return m, nil
}

type principalKey struct{}

// WithPrincipal returns a context whose caller is p.
func WithPrincipal(ctx context.Context, p auth.Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// PrincipalOf returns the caller; false when it sent no good credential.
func PrincipalOf(ctx context.Context) (auth.Principal, bool) {
	p, ok := ctx.Value(principalKey{}).(auth.Principal)
	return p, ok
}

type originKey struct{}

// Origin is where a call came from.
type Origin struct {
	// Address is the caller's, without a port.
	Address string
	// Secure says that the caller's connection is encrypted.
	Secure bool
	// Actor, when a handler sets it, is who the audit log should name although the
	// call has no credential: the name somebody logs in with.
	Actor string
}

// WithOrigin returns a context whose call came from o.
func WithOrigin(ctx context.Context, o *Origin) context.Context {
	return context.WithValue(ctx, originKey{}, o)
}

// OriginOf returns where a call came from.
func OriginOf(ctx context.Context) *Origin {
	if o, ok := ctx.Value(originKey{}).(*Origin); ok {
		return o
	}
	return &Origin{}
}
