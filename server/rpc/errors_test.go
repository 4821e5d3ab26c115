package rpc

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"pgregory.net/rapid"

	"github.com/dataguardian/dataguardian/internal/errs"
)

func TestAnErrorComesBackAsItWent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := &errs.Error{
			Kind: errs.Kind(rapid.IntRange(int(errs.Malformed), int(errs.Cancelled)).Draw(t, "kind")),
			Code: errs.Code(rapid.StringMatching(`[A-Z_]{3,20}`).Draw(t, "code")),
			Msg:  rapid.String().Draw(t, "message"),
		}
		if e.Code == errs.CodeTimeout {
			e.Kind = errs.Unavailable
		}
		details := rapid.MapOfN(rapid.StringMatching(`[a-z_]{1,9}`), rapid.String(), 0, 3).Draw(t, "details")
		for key, value := range details {
			e = e.With(key, value)
		}
		back := FromError(Status(fmt.Errorf("wrapped: %w", e)).Err())
		require.Equal(t, e.Kind, back.Kind)
		require.Equal(t, e.Code, back.Code)
		require.Equal(t, e.Msg, back.Msg)
		require.Len(t, back.Details, len(e.Details))
		for key, value := range e.Details {
			require.Equal(t, value, back.Details[key])
		}
	})
}

func TestBadFieldsBecomeDetails(t *testing.T) {
	e := errs.InvalidFields(errs.CodeValidation, errs.Field{Field: "a", Message: "is bad"}, errs.Field{Field: "b.c", Message: "too"})
	back := FromError(Status(e).Err())
	require.Equal(t, []any{map[string]any{"field": "a", "message": "is bad"}, map[string]any{"field": "b.c", "message": "too"}}, back.Details["fields"])
}

func TestInternalErrorsTellNothing(t *testing.T) {
	for _, err := range []error{errors.New("hunter2"), errs.Wrap(errors.New("hunter2"), errs.Internal, errs.CodeDumpFailed, "hunter2")} {
		st := Status(err)
		require.Equal(t, codes.Internal, st.Code())
		require.NotContains(t, st.Proto().String(), "hunter2")
		require.Equal(t, errs.CodeInternal, FromError(st.Err()).Code)
	}
}

func TestErrorsFromBelowTheDomain(t *testing.T) {
	require.Nil(t, FromError(Status(nil).Err()))
	require.Equal(t, codes.Canceled, Status(fmt.Errorf("query: %w", context.Canceled)).Code())
	require.Equal(t, codes.Canceled, Status(errs.Wrap(context.Canceled, errs.Internal, errs.CodeInternal, "query")).Code())
	require.Equal(t, codes.Unavailable, Status(errs.Wrap(context.Canceled, errs.Unavailable, errs.CodeShuttingDown, "bye")).Code())
	require.Equal(t, codes.DeadlineExceeded, Status(context.DeadlineExceeded).Code())
	require.Equal(t, codes.Aborted, Status(status.Error(codes.Aborted, "as it is")).Code())
	require.Equal(t, errs.CodePayloadTooLarge, FromError(status.Error(codes.ResourceExhausted, "grpc: received message larger than max")).Code)
	for code := codes.OK; code <= codes.Unauthenticated; code++ {
		if code != codes.OK {
			require.NotEmpty(t, FromError(status.Error(code, "x")).Code)
		}
	}
}

func TestDetailsThatJSONCannotHoldAreShownAllTheSame(t *testing.T) {
	back := FromError(Status(errs.New(errs.Conflict, errs.CodeConflict, "m").With("x", math.Inf(1))).Err())
	require.Equal(t, "+Inf", back.Details["x"])
}
