package server

import (
	"context"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/internal/auth"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/server/rpc"
)

// method is one RPC of the contract with its REST side.
type method struct {
	name       string
	descriptor protoreflect.MethodDescriptor
	verb, path string
	access     pb.Access_Role
}

var pathField = regexp.MustCompile(`\{[^}]*\}`)

// contract lists every RPC, from the descriptors.
func contract(t *testing.T) []method {
	t.Helper()
	var all []method
	protoregistry.GlobalFiles.RangeFilesByPackage("dataguardian.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			service := f.Services().Get(i)
			for j := range service.Methods().Len() {
				m := service.Methods().Get(j)
				rule, ok := proto.GetExtension(m.Options(), annotations.E_Http).(*annotations.HttpRule)
				require.True(t, ok)
				access, ok := proto.GetExtension(m.Options(), pb.E_Access).(pb.Access_Role)
				require.True(t, ok)
				one := method{name: "/" + string(service.FullName()) + "/" + string(m.Name()), descriptor: m, access: access}
				for verb, path := range map[string]string{http.MethodGet: rule.GetGet(), http.MethodPost: rule.GetPost(), http.MethodPut: rule.GetPut(), http.MethodDelete: rule.GetDelete()} {
					if path != "" {
						one.verb, one.path = verb, pathField.ReplaceAllString(path, someID)
					}
				}
				require.NotEmpty(t, one.verb, "%s has no path", one.name)
				all = append(all, one)
			}
		}
		return true
	})
	require.Greater(t, len(all), 50)
	return all
}

// invoke calls any RPC with an empty request and returns its error.
func invoke(ctx context.Context, conn *grpc.ClientConn, m method) error {
	return invokeWith(ctx, conn, m, dynamicpb.NewMessage(m.descriptor.Input()))
}

// invokeWith calls any RPC and returns its error.
func invokeWith(ctx context.Context, conn *grpc.ClientConn, m method, in *dynamicpb.Message) error {
	out := dynamicpb.NewMessage(m.descriptor.Output())
	if !m.descriptor.IsStreamingServer() {
		return conn.Invoke(ctx, m.name, in, out)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, m.name)
	if err != nil {
		return err
	}
	if err := stream.SendMsg(in); err != nil {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	if err = stream.RecvMsg(out); err == io.EOF { //nolint:errorlint // RecvMsg returns it bare
		return nil
	}
	return err
}

func TestEveryRPCDeclaresWhoMayCallIt(t *testing.T) {
	for _, m := range contract(t) {
		require.NotEqual(t, pb.Access_role_unspecified, m.access, m.name)
		access := rpc.AccessOf(m.name)
		require.True(t, access.Declared, m.name)
		require.NotEqual(t, pb.Reach_reach_unspecified, access.Reach, "%s does not say what it means to a caller with a scope", m.name)
		action, _ := proto.GetExtension(m.descriptor.Options(), pb.E_Audit).(string)
		require.NotEmpty(t, action, "%s does not say what the audit log calls it", m.name)
		if m.access == pb.Access_operator || m.verb != http.MethodGet {
			require.NotEqual(t, "none", action, "%s changes something or hands it out, so it is written down", m.name)
		}
	}
}

// What a viewer and who has no credential may change, and what an operator may: a new
// RPC comes in here by decision only.
func TestViewersReadAndOperatorsRunAndRestore(t *testing.T) {
	want := map[pb.Access_Role][]string{
		pb.Access_anyone: {"Login", "SetupFirstUser"},
		pb.Access_viewer: {"ChangePassword", "Logout"}, // of themselves
		pb.Access_operator: {
			"CancelExecution", "DeleteNotification", "MarkAllNotificationsRead", "MarkNotificationRead", "QueryDatasource", // reads in a transaction that cannot write
			"RestoreBackup", "RetryUpload", "RunBackupJob", "TestDatasource", "TestStorageLocation", "VerifyBackup",
		},
	}
	got := map[pb.Access_Role][]string{}
	for _, m := range contract(t) {
		if m.verb != http.MethodGet && m.access != pb.Access_admin {
			got[m.access] = append(got[m.access], string(m.descriptor.Name()))
		}
	}
	for role := range got {
		slices.Sort(got[role])
	}
	require.Equal(t, want, got)
}

func TestAnRPCThatDeclaresNothingIsRefusedForEverybody(t *testing.T) {
	g := &guard{authenticator: tokens{}, rules: map[string]rule{"/x.Y/Z": {}}}
	for _, name := range []string{"/x.Y/Z", "/x.Y/Unknown"} {
		ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("authorization", "Bearer admin"))
		_, err := g.begin(ctx, name).admit(ctx)
		require.Equal(t, errs.Denied, errs.KindOf(err), name)
	}
}

func TestWithoutACredentialEveryRPCIsRefusedOnBothListeners(t *testing.T) {
	a := start(t)
	for _, m := range contract(t) {
		if m.access == pb.Access_anyone {
			require.NotEqual(t, codes.Unauthenticated, status.Code(invoke(t.Context(), a.conn, m)), m.name)
			require.NotEqual(t, http.StatusUnauthorized, a.do(a.request("", m.verb, m.path, "")).status, m.name)
			continue
		}
		err := invoke(t.Context(), a.conn, m)
		require.Equal(t, codes.Unauthenticated, status.Code(err), "%s: %v", m.name, err)
		require.Equal(t, errs.CodeUnauthorized, rpc.FromError(err).Code, m.name)
		got := a.do(a.request("", m.verb, m.path, ""))
		require.Equal(t, http.StatusUnauthorized, got.status, m.name)
		require.Equal(t, "UNAUTHORIZED", got.code(t), m.name)
		require.Contains(t, got.header.Get("WWW-Authenticate"), "Bearer", m.name)
		require.Equal(t, http.StatusUnauthorized, a.do(a.request("wrong", m.verb, m.path, "")).status, m.name)
	}
}

func TestARoleThatIsTooLowIsRefusedAndTheRightOneIsNot(t *testing.T) {
	a := start(t)
	names := map[auth.Role]string{auth.Viewer: "viewer", auth.Operator: "operator", auth.Admin: "admin"}
	for _, m := range contract(t) {
		needed := rpc.AccessOf(m.name).Role
		for role, token := range names {
			err := invoke(as(t.Context(), token), a.conn, m)
			got := a.do(a.request(token, m.verb, m.path, ""))
			if role < needed {
				require.Equal(t, codes.PermissionDenied, status.Code(err), "%s as %s: %v", m.name, token, err)
				require.Equal(t, http.StatusForbidden, got.status, "%s as %s", m.name, token)
				require.Equal(t, "FORBIDDEN", got.code(t))
				continue
			}
			require.NotContains(t, []codes.Code{codes.PermissionDenied, codes.Unauthenticated}, status.Code(err), "%s as %s", m.name, token)
			require.NotContains(t, []int{http.StatusUnauthorized, http.StatusForbidden}, got.status, "%s as %s", m.name, token)
		}
	}
}

func TestEveryRPCOfTheContractIsOffered(t *testing.T) {
	a := start(t)
	for _, m := range contract(t) {
		err := invoke(as(t.Context(), "admin"), a.conn, m)
		got := a.call(m.verb, m.path, "")
		require.NotEqual(t, codes.Unimplemented, status.Code(err), m.name)
		require.NotEqual(t, http.StatusNotImplemented, got.status, m.name)
	}
}

func TestCredentialsCannotBeSmuggled(t *testing.T) {
	a := start(t)
	path := "/api/datasources"
	for _, headers := range [][]string{
		{"Grpc-Metadata-Authorization", "Bearer admin"},
		{"Grpcgateway-Authorization", "Bearer admin"},
		{"X-Authorization", "Bearer admin"},
		{"Authorization", "Basic admin"},
		{"Authorization", "Bearer"},
		{"Authorization", "admin"},
		{"Cookie", "authorization=Bearer admin"},
	} {
		require.Equal(t, http.StatusUnauthorized, a.do(a.request("", http.MethodGet, path, "", headers...)).status, "%v", headers)
	}
	twice := a.request("viewer", http.MethodGet, path, "")
	twice.Header.Add("Authorization", "Bearer admin")
	require.Equal(t, http.StatusUnauthorized, a.do(twice).status)

	require.Equal(t, http.StatusForbidden, a.do(a.request("viewer", http.MethodPost, path, "{}", "Grpc-Metadata-Authorization", "Bearer admin")).status)
	twoTokens := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer viewer", "authorization", "Bearer admin")
	_, err := pb.NewDatasourceServiceClient(a.conn).ListDatasources(twoTokens, &pb.ListDatasourcesRequest{})
	require.Equal(t, codes.Unauthenticated, status.Code(err))
}

func TestTheMethodCannotBeOverridden(t *testing.T) {
	a := start(t)
	got := a.call(http.MethodPost, "/api/datasources/"+someID, "", "X-HTTP-Method-Override", "DELETE", "Content-Type", "application/x-www-form-urlencoded")
	require.Equal(t, http.StatusMethodNotAllowed, got.status)
}

func TestGetAuthStatusAndGetMeKnowTheCaller(t *testing.T) {
	a := start(t)
	require.Equal(t, false, a.do(a.request("", http.MethodGet, "/api/auth/status", "")).json(t)["authenticated"])
	require.Equal(t, false, a.do(a.request("wrong", http.MethodGet, "/api/auth/status", "")).json(t)["authenticated"])
	require.Equal(t, map[string]any{"has_user": true, "authenticated": true, "user": nil, "oidc": false}, a.call(http.MethodGet, "/api/auth/status", "").json(t))
	require.Equal(t, map[string]any{"user": map[string]any{"username": "operator", "role": "operator"}},
		a.do(a.request("operator", http.MethodGet, "/api/auth/me", "")).json(t))
}

func TestGRPCHealthAndReflectionNeedNoCredential(t *testing.T) {
	a := start(t)
	got, err := healthpb.NewHealthClient(a.conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
	require.NoError(t, err)
	require.Equal(t, healthpb.HealthCheckResponse_SERVING, got.GetStatus())
	for name := range a.serviceInfo() {
		require.False(t, strings.HasPrefix(name, "dataguardian") && public(name), name)
	}
}

func (a *api) serviceInfo() map[string]grpc.ServiceInfo {
	s := grpc.NewServer()
	rpc.Register(s, rpc.Services{})
	defer s.Stop()
	return s.GetServiceInfo()
}
