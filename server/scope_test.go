package server

import (
	"context"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/internal/auth"
	"github.com/dataguardian/dataguardian/server/rpc"
)

// scoped knows two more tokens, "mine" and "theirs": operators with such a scope.
type scoped struct{ tokens }

func (s scoped) Authenticate(ctx context.Context, bearer string) (auth.Principal, error) {
	if bearer == "mine" || bearer == "theirs" {
		return auth.Principal{TokenID: someID, Name: bearer, Role: auth.Operator, Scope: []string{bearer}}, nil
	}
	return s.tokens.Authenticate(ctx, bearer)
}

// only is a scope that holds what has someID; see visible, too.
type only struct{}

func (only) InScope(_ context.Context, _ auth.Thing, id string, tags []string) (bool, error) {
	return id == someID && tags[0] == "mine", nil
}

// withIDs is a request whose every id is one.
func withIDs(m method, id string) *dynamicpb.Message {
	in := dynamicpb.NewMessage(m.descriptor.Input())
	for i := range m.descriptor.Input().Fields().Len() {
		f := m.descriptor.Input().Fields().Get(i)
		if _, is := named[f.Name()]; (is || f.Name() == "id") && f.Kind() == protoreflect.StringKind && !f.IsList() {
			in.Set(f, protoreflect.ValueOfString(id))
		}
		if f.Name() == "sql" {
			in.Set(f, protoreflect.ValueOfString("SELECT 1"))
		}
	}
	return in
}

func TestACallerWithAScopeReachesNothingBeyondIt(t *testing.T) {
	a := start(t, func(c *Config) { c.Authenticator, c.Scopes = scoped{}, only{} })
	callAs := func(who string, m method, id string) codes.Code {
		return status.Code(invokeWith(as(t.Context(), who), a.conn, m, withIDs(m, id)))
	}
	call := func(m method, id string) codes.Code { return callAs("mine", m, id) }
	byID := []string{"/dataguardian.v1.ExecutionService/GetExecution", "/dataguardian.v1.ExecutionService/GetExecutionLogs"} // by execution.Store.GetInScope
	checked := map[pb.Reach_Kind]int{}
	for _, m := range contract(t) {
		access := rpc.AccessOf(m.name)
		if access.Role > auth.Operator {
			continue
		}
		checked[access.Reach]++
		switch access.Reach {
		case pb.Reach_whole:
			require.Equal(t, codes.PermissionDenied, call(m, someID), m.name)
		case pb.Reach_by_datasource, pb.Reach_by_job, pb.Reach_by_execution, pb.Reach_by_notification:
			require.Equal(t, codes.NotFound, call(m, unknownID), m.name)
			require.Equal(t, codes.NotFound, callAs("theirs", m, someID), m.name)
			require.NotContains(t, []codes.Code{codes.NotFound, codes.PermissionDenied, codes.Unauthenticated}, call(m, someID), m.name)
		default:
			require.NotContains(t, []codes.Code{codes.PermissionDenied, codes.Unauthenticated}, call(m, someID), m.name)
			if access.Reach == pb.Reach_filtered && m.descriptor.Input().Fields().ByName("id") != nil {
				require.Contains(t, byID, m.name, "does its store know the scope? then add it here")
				require.Equal(t, codes.NotFound, call(m, unknownID), m.name)
				require.Equal(t, codes.NotFound, callAs("theirs", m, someID), m.name)
			}
		}
	}
	for _, kind := range []pb.Reach_Kind{pb.Reach_whole, pb.Reach_filtered, pb.Reach_by_datasource, pb.Reach_by_job, pb.Reach_by_execution, pb.Reach_by_notification} {
		require.NotZero(t, checked[kind], kind)
	}

	restore := func(target string) answer {
		return a.do(a.request("mine", http.MethodPost, "/api/backups/"+someID+"/restore", `{"target_datasource_id":"`+target+`"}`))
	}
	require.Equal(t, http.StatusAccepted, restore(someID).status)
	require.Equal(t, http.StatusNotFound, restore(unknownID).status, "nor does a restore go beyond it")
}
