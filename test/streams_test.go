package test

import (
	"cmp"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/test/harness"
)

// ear is a stream that is open.
type ear struct {
	name string
	next func() string // its next message
}

// streamsAreBoundedByScope asks every streaming RPC of the descriptors, over gRPC and both
// formats of REST, with a token that reaches one of two datasources, while things happen
// to both. A stream that tells nothing of its own scope fails, too: it may be dead.
func streamsAreBoundedByScope(t *testing.T, s *harness.Server) {
	mine, theirs := newOwned(t, s, "streamed"), newOwned(t, s, "not streamed")
	token := s.Post(t, "/api/auth/tokens", config{"name": "streams", "role": "operator", "scope": []string{"streamed"}}, http.StatusCreated).Text("token")
	scoped := s.With(token)
	var ears []ear
	for _, m := range rpcs(t) {
		if !m.IsStreamingServer() {
			continue
		}
		reach, _ := proto.GetExtension(m.Options(), pb.E_Reach).(pb.Reach_Kind)
		ours, others := dynamicpb.NewMessage(m.Input()), dynamicpb.NewMessage(m.Input())
		mine.fill(ours, reach)
		theirs.fill(others, reach)
		name := string(m.Name())
		switch reach {
		case pb.Reach_by_datasource, pb.Reach_by_job, pb.Reach_by_execution, pb.Reach_by_notification:
			_, err := ask(t, s.Conn, token, m, others)
			require.Equal(t, codes.NotFound, status.Code(err), "%s: %v", name, err)
			scoped.Do(t, http.MethodGet, path(m, others), nil).Refused(t, http.StatusNotFound, "NOT_FOUND")
			require.Equal(t, http.StatusOK, scoped.Do(t, http.MethodGet, path(m, ours), nil).Status, name)
			answer, err := ask(t, s.Conn, token, m, ours)
			require.NoError(t, err, name)
			require.NotEmpty(t, answer, name)
		case pb.Reach_filtered:
			all := dynamicpb.NewMessage(m.Input()) // by no id
			ears = append(ears, ear{name + " over gRPC", nextMessage(t, s.Conn, token, m, all)})
			for _, format := range []string{"application/x-ndjson", "text/event-stream"} {
				ears = append(ears, ear{name + " as " + format, nextLine(scoped.Stream(t, path(m, all), "Accept", format))})
			}
		case pb.Reach_whole:
			_, err := ask(t, s.Conn, token, m, ours)
			require.Equal(t, codes.PermissionDenied, status.Code(err), "%s: %v", name, err)
			scoped.Do(t, http.MethodGet, path(m, ours), nil).Refused(t, http.StatusForbidden, "FORBIDDEN")
		default:
			t.Errorf("%s streams and declares the reach %s: say here what it may tell a caller with a scope", name, reach)
		}
	}
	require.GreaterOrEqual(t, len(ears), 2*3, "executions and notifications")

	secret := []string{theirs.datasource, theirs.job, theirs.execution, theirs.notification, "tagged not streamed"}
	secret = append(secret, s.Backup(t, theirs.job).Text("id"))
	s.Backup(t, mine.job) // who hears of it would have heard of the other before
	for _, e := range ears {
		for heard := ""; !strings.Contains(heard, mine.job); {
			heard = e.next()
			require.NotEmpty(t, heard, "%s has ended and told nothing of its own", e.name)
			for _, id := range secret {
				require.NotContains(t, heard, id, e.name)
			}
		}
	}
}

// path is where REST has an RPC that is a GET.
func path(m protoreflect.MethodDescriptor, in *dynamicpb.Message) string {
	rule, _ := proto.GetExtension(m.Options(), annotations.E_Http).(*annotations.HttpRule)
	path := rule.GetGet()
	for _, name := range []protoreflect.Name{"id", "execution_id"} {
		if f := m.Input().Fields().ByName(name); f != nil {
			path = strings.ReplaceAll(path, "{"+string(name)+"}", cmp.Or(in.Get(f).String(), unknownID))
		}
	}
	return path
}

// nextMessage opens a stream and returns what reads it; "" once it has ended.
func nextMessage(t *testing.T, conn *grpc.ClientConn, token string, m protoreflect.MethodDescriptor, in *dynamicpb.Message) func() string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/"+string(m.Parent().FullName())+"/"+string(m.Name()))
	require.NoError(t, err)
	require.NoError(t, stream.SendMsg(in))
	require.NoError(t, stream.CloseSend())
	_, err = stream.Header() // it is on
	require.NoError(t, err)
	return func() string {
		out := dynamicpb.NewMessage(m.Output())
		if err := stream.RecvMsg(out); err != nil {
			return ""
		}
		return out.String() + " " // a message may be empty
	}
}

// nextLine returns what reads a stream's lines; "" once it has ended.
func nextLine(s *harness.Stream) func() string {
	return func() string {
		line, ok := s.Line()
		if !ok {
			return ""
		}
		return line + " "
	}
}
