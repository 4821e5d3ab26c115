package server

import (
	"context"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/google/uuid"

	"github.com/dataguardian/dataguardian/internal/audit"
	"github.com/dataguardian/dataguardian/internal/auth"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/server/rpc"
)

// anyAccess is what the audit log calls a refused call that is not written down
// when it is let through.
const anyAccess = "api.access"

// writeBegin writes down what a caller is about to do, before it is done. A call
// without a credential, such as a login, is written down at its end.
func (c *call) writeBegin(ctx context.Context) (err error) {
	action := c.guard.rules[c.method].access.Action
	if c.guard.trail == nil || action == "" || c.principal.Role == auth.Nobody {
		return nil
	}
	c.entry = c.described(action)
	c.entry.ID, err = c.guard.trail.Begin(ctx, c.entry)
	return err
}

// writeDown writes what became of a call.
func (c *call) writeDown(err error) {
	trail := c.guard.trail
	if trail == nil {
		return
	}
	outcome := audit.OK
	if err != nil {
		outcome = string(rpc.FromError(rpc.Status(err).Err()).Code)
	}
	action := c.guard.rules[c.method].access.Action
	kind := errs.KindOf(err)
	switch {
	case c.entry.ID != "":
		trail.End(c.ctx, c.entry.ID, outcome, c.made())
	case err == nil && action != "":
		e := c.described(action)
		e.Outcome = outcome
		trail.Done(c.ctx, e)
	case err != nil && (action != "" || kind == errs.Unauthenticated || kind == errs.Denied):
		if action == "" {
			action = anyAccess
		}
		e := c.described(action)
		e.Outcome = outcome
		trail.Refused(c.ctx, e)
	}
}

// described is the entry of a call.
func (c *call) described(action string) audit.Entry {
	thing, _, _ := strings.Cut(action, ".")
	e := audit.Entry{
		Actor: c.principal.Name, Action: action, EntityType: thing, Address: c.origin.Address, RequestID: c.id, Metadata: map[string]any{},
	}
	known := c.principal.Role != auth.Nobody && c.guard.rules[c.method].access.Role != auth.Nobody
	if known {
		e.Metadata["actor_kind"], e.Metadata["actor_id"] = c.principal.Kind(), c.principal.UserID+c.principal.TokenID
	} else if e.Actor = c.origin.Actor; e.Actor != "" {
		e.Metadata["actor_kind"] = "user"
	}
	if message, ok := c.request.(proto.Message); ok {
		describe(&e, message.ProtoReflect(), known)
	}
	return e
}

// settingForm is what the name of a setting looks like; a secret in its place does
// not.
var settingForm = regexp.MustCompile(`^[a-z_]{1,40}$`)

// describe adds what a request says without a secret: the ids it names, choices and
// switches, and for all else only which fields were sent. Names are told when the
// caller is known: without a credential people type passwords into the wrong field.
func describe(e *audit.Entry, m protoreflect.Message, known bool) {
	var fields []string
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		name := string(field.Name())
		switch {
		case name == "id" || strings.HasSuffix(name, "_id"):
			if field.Kind() != protoreflect.StringKind || field.IsList() || uuid.Validate(value.String()) != nil {
				return true
			}
			if name == "id" || name == e.EntityType+"_id" || e.EntityID == "" && name == "execution_id" {
				e.EntityID = value.String()
				return true
			}
			e.Metadata[name] = value.String()
			return true
		case field.IsList() || field.IsMap():
		case field.Kind() == protoreflect.EnumKind:
			if word := field.Enum().Values().ByNumber(value.Enum()); word != nil {
				e.Metadata[name] = string(word.Name())
			}
		case field.Kind() == protoreflect.BoolKind:
			e.Metadata[name] = value.Bool()
		case known && (name == "name" || name == "username"):
			e.Metadata[name] = value.String()
		case field.Kind() == protoreflect.MessageKind:
			if settings, ok := value.Message().Interface().(*structpb.Struct); ok {
				for key := range settings.GetFields() {
					if settingForm.MatchString(key) {
						fields = append(fields, name+"."+key)
					}
				}
				return true
			}
		}
		fields = append(fields, name)
		return true
	})
	if len(fields) > 0 {
		slices.Sort(fields)
		list := make([]any, 0, len(fields))
		for _, name := range fields {
			list = append(list, name)
		}
		e.Metadata["fields"] = list
	}
}

// made is the id of what a call has made, when the request named nothing.
func (c *call) made() string {
	message, ok := c.answer.(proto.Message)
	if !ok || c.entry.EntityID != "" {
		return ""
	}
	m := message.ProtoReflect()
	if field := m.Descriptor().Fields().ByName("id"); m.IsValid() && field != nil && field.Kind() == protoreflect.StringKind {
		return m.Get(field).String()
	}
	return ""
}

// note writes down a login that did not come through an RPC.
func note(ctx context.Context, trail Trail, e audit.Entry, err error) {
	switch {
	case trail == nil:
	case err == nil:
		e.Outcome = audit.OK
		trail.Done(ctx, e)
	default:
		e.Outcome = string(errs.CodeOf(err))
		trail.Refused(ctx, e)
	}
}
