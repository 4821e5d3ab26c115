package server

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/internal/auth"
)

// revocable refuses everybody once it is told to.
type revocable struct {
	tokens
	revoked atomic.Bool
}

func (r *revocable) Authenticate(ctx context.Context, bearer string) (auth.Principal, error) {
	if r.revoked.Load() {
		return auth.Principal{}, auth.ErrUnauthenticated
	}
	return r.tokens.Authenticate(ctx, bearer)
}

func TestAnOpenStreamEndsWithItsCredential(t *testing.T) {
	callers := &revocable{}
	a := start(t, func(c *Config) { c.Authenticator = callers })
	a.executions.follow = idle
	stream, err := pb.NewExecutionServiceClient(a.conn).StreamExecutionLogs(as(t.Context(), "viewer"), &pb.StreamExecutionLogsRequest{Id: someID})
	require.NoError(t, err)
	_, err = stream.Header()
	require.NoError(t, err)
	over := make(chan answer)
	begun := a.request("viewer", http.MethodGet, a.stream(), "")
	go func() { over <- a.do(begun) }()
	callers.revoked.Store(true)
	_, err = stream.Recv()
	require.Equal(t, codes.Unauthenticated, status.Code(err))
	require.Contains(t, (<-over).text, "UNAUTHORIZED")
}
