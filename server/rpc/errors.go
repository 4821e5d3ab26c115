// Package rpc answers the RPCs: each converts its request, asks the domain, and
// converts the answer. Proto types stop here.
package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// errorDomain is the ErrorInfo domain of our codes.
const errorDomain = "dataguardian"

// kindKey names the kind in ErrorInfo's metadata: it tells malformed from invalid,
// which are one code in gRPC and two in HTTP.
const kindKey = "kind"

func codeOf(e *errs.Error) codes.Code {
	if e.Code == errs.CodeTimeout {
		return codes.DeadlineExceeded
	}
	switch e.Kind {
	case errs.Malformed, errs.Invalid:
		return codes.InvalidArgument
	case errs.Unauthenticated:
		return codes.Unauthenticated
	case errs.Denied:
		return codes.PermissionDenied
	case errs.NotFound:
		return codes.NotFound
	case errs.Exists:
		return codes.AlreadyExists
	case errs.Conflict:
		return codes.FailedPrecondition
	case errs.Exhausted:
		return codes.ResourceExhausted
	case errs.Unavailable:
		return codes.Unavailable
	case errs.Unimplemented:
		return codes.Unimplemented
	case errs.Cancelled:
		return codes.Canceled
	case errs.Internal:
		return codes.Internal
	}
	return codes.Internal
}

// Status turns the error of a handler into what a caller may know: the gRPC code
// of its kind, its sentence, google.rpc.ErrorInfo with its code as the reason, and
// its details as a Struct. Of internal and unknown errors nothing is told. A gRPC
// status passes as it is; nil is OK.
func Status(err error) *status.Status {
	e := errs.As(err)
	if e == nil || e.Kind == errs.Internal {
		e = foreign(err, e)
	}
	if e == nil {
		return status.Convert(err)
	}
	message := e.Msg
	if e.Kind == errs.Internal {
		message = errs.Message(nil)
	}
	info := &errdetails.ErrorInfo{Reason: string(e.Code), Domain: errorDomain, Metadata: map[string]string{kindKey: e.Kind.String()}}
	plain := status.New(codeOf(e), message)
	var detailed *status.Status
	var detailErr error
	if details := detailsOf(e); details != nil {
		detailed, detailErr = plain.WithDetails(info, details)
	} else {
		detailed, detailErr = plain.WithDetails(info)
	}
	if detailErr != nil { // only a status of OK cannot carry details, and this is none
		return plain
	}
	return detailed
}

// foreign gives an error from below the domain its place; nil when it is a gRPC
// status, or no error.
func foreign(err error, internal *errs.Error) *errs.Error {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return errs.Wrap(err, errs.Unavailable, errs.CodeTimeout, "the call took longer than its deadline allows")
	case errors.Is(err, context.Canceled):
		return errs.Wrap(err, errs.Cancelled, errs.CodeCancelled, "the call was cancelled")
	case internal != nil:
		return &errs.Error{Kind: errs.Internal, Code: errs.CodeInternal, Details: internal.Details, Err: err}
	}
	if _, ok := status.FromError(err); ok {
		return nil
	}
	return &errs.Error{Kind: errs.Internal, Code: errs.CodeInternal, Err: err}
}

// detailsOf joins details and bad fields; nil when there are none.
func detailsOf(e *errs.Error) *structpb.Struct {
	if len(e.Details) == 0 && len(e.Fields) == 0 {
		return nil
	}
	all := map[string]any{}
	for key, value := range e.Details {
		all[key] = value
	}
	if len(e.Fields) > 0 {
		fields := make([]any, 0, len(e.Fields))
		for _, f := range e.Fields {
			fields = append(fields, map[string]any{"field": f.Field, "message": f.Message})
		}
		all["fields"] = fields
	}
	s, err := toStruct(all)
	if err != nil { // a detail no JSON can hold: show it as Go does
		s = &structpb.Struct{Fields: map[string]*structpb.Value{}}
		for key, value := range all {
			s.Fields[key] = structpb.NewStringValue(fmt.Sprint(value))
		}
	}
	return s
}

// FromError is the inverse of Status for clients and the REST side: it reads a
// gRPC error back into the error the handler returned, as far as it was told. An
// error without our ErrorInfo gets the kind and code of its gRPC code.
func FromError(err error) *errs.Error {
	if err == nil {
		return nil
	}
	st := status.Convert(err)
	e := &errs.Error{Msg: st.Message()}
	e.Kind, e.Code = ofCode(st.Code())
	if e.Kind == errs.Internal {
		e.Msg = errs.Message(nil)
	}
	for _, detail := range st.Details() {
		switch d := detail.(type) {
		case *errdetails.ErrorInfo:
			if d.GetDomain() == errorDomain {
				e.Code = errs.Code(d.GetReason())
				e.Kind = kindOf(d.GetMetadata()[kindKey], e.Kind)
				e.Msg = st.Message()
			}
		case *structpb.Struct:
			e.Details = d.AsMap()
		}
	}
	return e
}

func kindOf(name string, otherwise errs.Kind) errs.Kind {
	for k := errs.Internal; k <= errs.Cancelled; k++ {
		if k.String() == name {
			return k
		}
	}
	return otherwise
}

func ofCode(code codes.Code) (errs.Kind, errs.Code) {
	switch code {
	case codes.InvalidArgument, codes.OutOfRange:
		return errs.Malformed, errs.CodeInvalidArgument
	case codes.Unauthenticated:
		return errs.Unauthenticated, errs.CodeUnauthorized
	case codes.PermissionDenied:
		return errs.Denied, errs.CodeForbidden
	case codes.NotFound:
		return errs.NotFound, errs.CodeNotFound
	case codes.AlreadyExists:
		return errs.Exists, errs.CodeConflict
	case codes.FailedPrecondition, codes.Aborted:
		return errs.Conflict, errs.CodeConflict
	case codes.ResourceExhausted:
		return errs.Exhausted, errs.CodePayloadTooLarge
	case codes.Unavailable:
		return errs.Unavailable, errs.CodeShuttingDown
	case codes.DeadlineExceeded:
		return errs.Unavailable, errs.CodeTimeout
	case codes.Unimplemented:
		return errs.Unimplemented, errs.CodeNotImplemented
	case codes.Canceled:
		return errs.Cancelled, errs.CodeCancelled
	case codes.OK, codes.Unknown, codes.Internal, codes.DataLoss:
		return errs.Internal, errs.CodeInternal
	}
	return errs.Internal, errs.CodeInternal
}

// toStruct makes a Struct of anything JSON can hold.
func toStruct(m map[string]any) (*structpb.Struct, error) {
	if m == nil {
		return nil, nil
	}
	text, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("settings that JSON cannot hold: %w", err)
	}
	s := &structpb.Struct{}
	if err := s.UnmarshalJSON(text); err != nil {
		return nil, fmt.Errorf("settings that a Struct cannot hold: %w", err)
	}
	return s, nil
}
