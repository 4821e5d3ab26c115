package test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/dataguardian/dataguardian/test/harness"
)

// spans is a collector of traces.
type spans struct {
	mu    sync.Mutex
	names []string // of spans of the trace that is asked for
	trace []byte
}

// ServeHTTP takes what an exporter sends.
func (s *spans) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(r.Body)
	var sent collector.ExportTraceServiceRequest
	if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(raw, &sent) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, resource := range sent.GetResourceSpans() {
		for _, scope := range resource.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				if slices.Equal(span.GetTraceId(), s.trace) {
					s.names = append(s.names, span.GetName())
				}
			}
		}
	}
}

func (s *spans) seen() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.names)
}

func TestABackupIsOneTraceFromTheRequestToTheWorker(t *testing.T) {
	t.Parallel()
	trace := []byte{0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6, 0xa3, 0xce, 0x92, 0x9d, 0x0e, 0x0e, 0x47, 0x36}
	collected := &spans{trace: trace}
	endpoint := httptest.NewServer(collected)
	t.Cleanup(endpoint.Close)
	p := harness.NewSharedRedisPlane(t)
	p.Env = []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + endpoint.URL, "OTEL_BSP_SCHEDULE_DELAY=200"}
	s := p.Serve(t, "server", "--roles", withoutBackups)
	p.Worker(t, "worker", "--roles", "backup")
	job, _ := s.NewJob(t, p.NewSource(t, 10))

	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.HTTP+"/api/backup-jobs/"+job+"/run", http.NoBody)
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+s.Token)
	r.Header.Set("Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusAccepted, answer.StatusCode, "%s", body)
	require.Equal(t, "completed", s.Await(t, harness.ParseJSON(t, string(body)).Text("execution_id")).Text("status"))

	require.EventuallyWithT(t, func(c *assert.CollectT) {
		names := collected.seen()
		for _, name := range []string{"POST", "dataguardian.v1.BackupService/RunBackupJob", "backup", "claim", "connecting", "dumping", "finalizing"} {
			assert.Contains(c, names, name)
		}
	}, time.Minute, 50*time.Millisecond)
}
