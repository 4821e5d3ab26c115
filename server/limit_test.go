package server

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
)

func TestBothListenersBoundWhatAClientMaySendAndHowLongItMayTake(t *testing.T) {
	a := start(t)
	client := pb.NewDatasourceServiceClient(a.conn)
	_, err := client.CreateDatasource(as(t.Context(), "admin"), &pb.CreateDatasourceRequest{Name: strings.Repeat("x", maxRequest)})
	require.Equal(t, codes.ResourceExhausted, status.Code(err), "%v", err)
	_, err = client.ListDatasources(metadata.AppendToOutgoingContext(as(t.Context(), "admin"), "x-large", strings.Repeat("x", maxHeader)), &pb.ListDatasourcesRequest{})
	require.Error(t, err)
	_, err = client.ListDatasources(as(t.Context(), "admin"), &pb.ListDatasourcesRequest{Limit: new(int32(101))})
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	got := a.call(http.MethodGet, "/api/datasources", "", "X-Large", strings.Repeat("x", maxHeader+8<<10))
	require.Equal(t, http.StatusRequestHeaderFieldsTooLarge, got.status)
	require.Equal(t, http.StatusOK, a.call(http.MethodGet, "/api/datasources", "").status, "it goes on")

	s, err := New(Config{HTTPAddr: "127.0.0.1:0", GRPCAddr: "127.0.0.1:0"})
	require.NoError(t, err)
	defer s.Close()
	require.Positive(t, s.http.ReadHeaderTimeout, "a head that never ends is not waited for")
	require.Positive(t, s.http.IdleTimeout)
	require.Zero(t, s.http.WriteTimeout, "it would cut streams")
	require.Zero(t, s.http.ReadTimeout)
}

// frame of HTTP/2.
func frame(kind byte, payload []byte) []byte {
	head := binary.BigEndian.AppendUint32(nil, uint32(len(payload))<<8|uint32(kind))
	return append(append(head, 0, 0, 0, 0, 0), payload...)
}

func TestAClientThatPingsTooOftenIsSentAway(t *testing.T) {
	a := start(t)
	conn, err := net.Dial("tcp", a.conn.Target()) //nolint:noctx // it ends with the test
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	const settings, ping, goAway, enhanceYourCalm = 4, 6, 7, 11
	_, err = fmt.Fprintf(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n%s", frame(settings, nil))
	require.NoError(t, err)
	for range 10 {
		if _, err = conn.Write(frame(ping, make([]byte, 8))); err != nil {
			break // it is gone already
		}
	}
	for {
		head := make([]byte, 9)
		_, err := io.ReadFull(conn, head)
		require.NoError(t, err, "the connection ends with a reason")
		payload := make([]byte, binary.BigEndian.Uint32(head)>>8)
		_, err = io.ReadFull(conn, payload)
		require.NoError(t, err)
		if head[3] == goAway {
			require.EqualValues(t, enhanceYourCalm, binary.BigEndian.Uint32(payload[4:8]))
			return
		}
	}
}
