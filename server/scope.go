package server

import (
	"context"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/internal/auth"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// named are the fields of requests that name a thing with a scope, whatever the
// request is about, such as the target of a restore.
var named = map[protoreflect.Name]auth.Thing{
	"datasource_id": auth.Datasources, "target_datasource_id": auth.Datasources, "job_id": auth.Jobs, "execution_id": auth.Executions,
}

// subjects are what an RPC with a reach is about: the field "id" names one.
var subjects = map[pb.Reach_Kind]auth.Thing{
	pb.Reach_by_datasource: auth.Datasources, pb.Reach_by_job: auth.Jobs, pb.Reach_by_execution: auth.Executions, pb.Reach_by_notification: auth.Notifications,
}

// inScope refuses a request that names what lies outside of the caller's scope, as
// if it were not there. RPCs with the reach "filtered" see to it themselves, in the
// statement that reads what they answer: see auth.WithScope.
func (c *call) inScope(ctx context.Context, req proto.Message) error {
	subject, about := subjects[c.guard.rules[c.method].access.Reach]
	if len(c.principal.Scope) == 0 || !about {
		return nil
	}
	var failed error
	asked := false
	req.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		thing, is := named[field.Name()]
		if field.Name() == "id" {
			thing, is = subject, true
		}
		if !is || field.Kind() != protoreflect.StringKind || field.IsList() {
			return true
		}
		asked = asked || thing == subject
		failed = c.holds(ctx, thing, value.String())
		return failed == nil
	})
	if failed == nil && !asked {
		return errs.New(errs.Denied, errs.CodeForbidden, "%s names nothing in the scope of %q", c.method, c.principal.Name)
	}
	return failed
}

// holds fails as the handler would for what does not exist.
func (c *call) holds(ctx context.Context, thing auth.Thing, id string) error {
	if c.guard.scopes != nil {
		in, err := c.guard.scopes.InScope(ctx, thing, id, c.principal.Scope)
		if in || err != nil {
			return err
		}
	}
	return errs.New(errs.NotFound, errs.CodeNotFound, "no %s has the id %q", strings.TrimSuffix(string(thing), "s"), id)
}
