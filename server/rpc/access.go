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

// Access is the lowest role that may call an RPC, as its proto declares it.
type Access struct {
	// Declared is false when the proto says nothing: then nobody may call it.
	Declared bool
	// Role is auth.Nobody when no credential is needed.
	Role auth.Role
}

// AccessOf returns the declared access of an RPC by its full name
// ("/package.Service/Method").
func AccessOf(method string) Access {
	m, err := Method(method)
	if err != nil {
		return Access{}
	}
	declared, ok := proto.GetExtension(m.Options(), pb.E_Access).(pb.Access_Role)
	if !ok {
		return Access{}
	}
	switch declared {
	case pb.Access_anyone:
		return Access{Declared: true, Role: auth.Nobody}
	case pb.Access_viewer, pb.Access_operator, pb.Access_admin:
		return Access{Declared: true, Role: roleFrom(declared)}
	case pb.Access_role_unspecified:
		return Access{}
	}
	return Access{}
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
