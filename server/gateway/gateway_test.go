package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/server/rpc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const someID = "5f0c2a54-1f0a-4b53-9f61-5a3b7c0d9e21"

// downloads streams what a test tells it to.
type downloads struct {
	pb.UnimplementedBackupServiceServer

	send func(send func(*httpbody.HttpBody) error) error
	seen metadata.MD
}

func (d *downloads) DownloadBackup(_ *pb.DownloadBackupRequest, stream grpc.ServerStreamingServer[httpbody.HttpBody]) error {
	if err := stream.SetHeader(metadata.Pairs("content-disposition", `attachment; filename="backup.tar"`, "x-internal", "secret")); err != nil {
		return err
	}
	d.seen, _ = metadata.FromIncomingContext(stream.Context())
	return d.send(stream.Send)
}

func (d *downloads) ListBackupJobs(ctx context.Context, _ *pb.ListBackupJobsRequest) (*pb.ListBackupJobsResponse, error) {
	d.seen, _ = metadata.FromIncomingContext(ctx)
	return &pb.ListBackupJobsResponse{}, nil
}

// serve runs a gateway before d until the test ends.
func serve(t *testing.T, d *downloads) string {
	t.Helper()
	pipe := bufconn.Listen(1 << 20)
	statuses := func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		return rpc.Status(handler(srv, ss)).Err()
	}
	s := grpc.NewServer(grpc.StreamInterceptor(statuses))
	pb.RegisterBackupServiceServer(s, d)
	served := make(chan error, 1)
	go func() { served <- s.Serve(pipe) }()
	conn, err := grpc.NewClient("passthrough:///pipe", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return pipe.DialContext(ctx) }))
	require.NoError(t, err)
	handler, err := New(t.Context(), Config{Conn: conn, Check: func(proto.Message) error { return nil }})
	require.NoError(t, err)
	web := httptest.NewUnstartedServer(handler)
	web.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	web.Start()
	t.Cleanup(func() {
		web.Close()
		require.NoError(t, conn.Close())
		s.Stop()
		require.NoError(t, <-served)
	})
	return web.URL
}

type answer struct {
	status int
	header http.Header
}

func get(t *testing.T, url string) (answer, []byte, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(r)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, resp.Body.Close())
	return answer{status: resp.StatusCode, header: resp.Header}, body, err
}

func download(base string) string { return base + "/api/backups/" + someID + "/download" }

func TestADownloadArrivesByteForByte(t *testing.T) {
	source := rand.NewChaCha8([32]byte{1})
	want := sha256.New()
	d := &downloads{send: func(send func(*httpbody.HttpBody) error) error {
		for range 40 {
			chunk := make([]byte, 64<<10+1)
			_, _ = source.Read(chunk)
			want.Write(chunk)
			if err := send(&httpbody.HttpBody{ContentType: "application/x-tar", Data: chunk}); err != nil {
				return err
			}
		}
		return nil
	}}
	resp, body, err := get(t, download(serve(t, d)))
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.status)
	require.Equal(t, "application/x-tar", resp.header.Get("Content-Type"))
	require.Equal(t, `attachment; filename="backup.tar"`, resp.header.Get("Content-Disposition"))
	require.Empty(t, resp.header.Values("X-Internal"))
	require.Empty(t, resp.header.Values("Grpc-Metadata-X-Internal"))
	got := sha256.Sum256(body)
	require.Equal(t, want.Sum(nil), got[:])
}

func TestADownloadThatFailsMidwayBreaksTheConnection(t *testing.T) {
	d := &downloads{send: func(send func(*httpbody.HttpBody) error) error {
		if err := send(&httpbody.HttpBody{Data: bytes.Repeat([]byte("x"), 1<<20)}); err != nil {
			return err
		}
		return errs.New(errs.Unavailable, errs.CodeStorageUnavailable, "the storage is away")
	}}
	resp, body, err := get(t, download(serve(t, d)))
	require.Equal(t, http.StatusOK, resp.status)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.NotContains(t, string(body), "STORAGE_UNAVAILABLE")
}

func TestADownloadThatFailsAtOnceHasItsStatusAndBody(t *testing.T) {
	d := &downloads{send: func(func(*httpbody.HttpBody) error) error {
		return errs.New(errs.Unavailable, errs.CodeBackupUnavailable, "no storage has it")
	}}
	resp, body, err := get(t, download(serve(t, d)))
	require.NoError(t, err)
	require.Equal(t, http.StatusServiceUnavailable, resp.status)
	require.JSONEq(t, `{"error":"BACKUP_STORAGE_UNAVAILABLE","message":"no storage has it","details":null}`, string(body))
	require.Equal(t, "application/json", resp.header.Get("Content-Type"))
	require.Empty(t, resp.header.Get("Content-Disposition"))
}

func TestNothingAClientSendsReachesTheServerButWhatItMay(t *testing.T) {
	d := &downloads{}
	base := serve(t, d)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/api/backup-jobs", nil)
	require.NoError(t, err)
	for header, value := range map[string]string{
		"Authorization": "Bearer a", "Cookie": "dg_session=s", "X-Request-Id": "r", "Grpc-Metadata-X-Evil": "1", "Grpc-Metadata-Authorization": "Bearer b",
		"Grpc-Timeout": "1n", "X-Evil": "1", "Grpc-Encoding": "gzip", "Grpc-Metadata-X-Forwarded-For": "1.1.1.1",
	} {
		r.Header.Set(header, value)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(r)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, []string{"Bearer a"}, d.seen.Get("authorization"))
	require.Equal(t, []string{"dg_session=s"}, d.seen.Get("cookie"))
	require.Equal(t, []string{"r"}, d.seen.Get("x-request-id"))
	require.Equal(t, []string{"127.0.0.1"}, d.seen.Get("x-forwarded-for"))
	for key := range d.seen {
		require.NotContains(t, key, "evil")
	}
}

func TestAcceptIsReadWithItsQualities(t *testing.T) {
	for accept, want := range map[string]bool{
		"": false, "*/*": false, "application/json": false, "text/event-stream": true, "TEXT/EVENT-STREAM": true, "text/event-stream, */*": true,
		"text/event-stream;q=0": false, "text/event-stream; q=0.0": false, "text/event-stream;q=0.3, application/x-ndjson": false,
		"application/x-ndjson;q=0.2,text/event-stream ; charset=utf-8; q=0.9": true, "text/event-stream;q=x": true, ",;,": false,
	} {
		require.Equal(t, want, wantsEvents([]string{accept}), accept)
	}
}

func FuzzBodiesAreRefusedOrFitTheirMessage(f *testing.F) {
	for _, seed := range []string{`{}`, `{"name":"a","retention_policy":{"max_backups":"3"},"backup_options":{"storage_targets":[{"order":1e3}],"compression":"zstd"}}`,
		`{"retention_policy":null}`, `{"enabled":5}`, `[1]`, `{"a":{"b":[null]}}`, `"x"`, `{"backup_options":{"include_tables":["a",null]}}`, "{\"name\":\"\xff\"}"} {
		f.Add([]byte(seed))
	}
	g := &gateway{Config: Config{Check: func(proto.Message) error { return nil }}}
	table, err := readRoutes()
	require.NoError(f, err)
	called := table["POST /api/backup-jobs"]
	f.Fuzz(func(t *testing.T, text []byte) {
		err := g.checkBody(text, called)
		message := called.input.New().Interface()
		decodeErr := newLines().NewDecoder(bytes.NewReader(text)).Decode(message)
		switch {
		case err != nil:
			require.Contains(t, []errs.Kind{errs.Malformed, errs.Invalid}, errs.KindOf(err), "%q", text)
		case decodeErr != nil:
			// Only protojson notices duplicates and bytes that are no UTF-8.
			require.NotContains(t, decodeErr.Error(), "unknown field", "%q", text)
			require.NotErrorIs(t, decodeErr, io.EOF, "%q", text)
		}
	})
}

// Whatever the query of a list holds, it is refused with the fields it names or is one
// that the gateway can fill a request with.
func FuzzQueriesAreRefusedOrHoldWhatTheirFieldsTake(f *testing.F) {
	for _, seed := range []string{"page=1&limit=20", "status=done", "from=2026-11-24T03:00:00Z&to=x", "limit=9223372036854775808", "jobId=a&job_id=b", "%zz", "a=%00&&=;", "after=-1", "page.x=1"} {
		f.Add(seed, "7")
	}
	table, err := readRoutes()
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, query, last string) {
		for _, name := range []string{"GET /api/executions", "GET /api/executions/{id=*}/logs/stream", "GET /api/events", "GET /api/audit-logs"} {
			r := &http.Request{URL: &url.URL{RawQuery: query}, Header: http.Header{"Last-Event-Id": {last}}}
			if err := checkQuery(r, table[name], true); err != nil {
				require.Contains(t, []errs.Kind{errs.Malformed, errs.Invalid}, errs.KindOf(err), query)
				continue
			}
			values, err := url.ParseQuery(r.URL.RawQuery)
			require.NoError(t, err)
			for field, all := range values {
				require.NotContains(t, all, "", field)
			}
		}
	})
}
