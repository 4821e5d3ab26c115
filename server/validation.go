package server

import (
	"errors"
	"fmt"
	"slices"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/server/rpc"
)

// validate holds a request against the rules of its proto and, when it breaks one,
// adds what the domain would say of its settings: one answer names every bad
// field. A malformed id makes the request malformed; an id that is missing does not.
func (g *guard) validate(req proto.Message) error {
	err := g.validator.Validate(req)
	if err == nil {
		return nil
	}
	violated, ok := errors.AsType[*protovalidate.ValidationError](err)
	if !ok {
		return fmt.Errorf("checking %T: %w", req, err)
	}
	refusal := &errs.Error{Kind: errs.Invalid, Code: errs.CodeValidation}
	for _, v := range violated.Violations {
		field := errs.Field{Field: protovalidate.FieldPathString(v.Proto.GetField()), Message: v.Proto.GetMessage()}
		switch v.Proto.GetRuleId() {
		case "string.uuid":
			refusal.Kind, refusal.Code = errs.Malformed, errs.CodeInvalidArgument
		case "string.uuid_empty":
			field.Message = "is required"
		}
		refusal.Fields = append(refusal.Fields, field)
	}
	if settings := errs.As(rpc.CheckSettings(req)); settings != nil {
		refusal.Fields = slices.Concat(refusal.Fields, settings.Fields)
		if refusal.Kind == errs.Invalid {
			refusal.Code = settings.Code
		}
	}
	refusal.Msg = errs.InvalidFields(refusal.Code, refusal.Fields...).Msg
	return refusal
}
