package test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/testkit"
	"github.com/dataguardian/dataguardian/test/harness"
)

// hook is a receiver of webhooks.
type hook struct {
	*httptest.Server
	mu   sync.Mutex
	got  []hooked
	more chan struct{} // after each
}

type hooked struct {
	delivery, event, timestamp, signature string
	body                                  string
	status                                int
}

// newHook answers each request, in order of arrival from 0, with what answer says;
// what answer returns counts as the status.
func newHook(t *testing.T, answer func(n int) int) *hook {
	t.Helper()
	h := &hook{more: make(chan struct{}, 100)}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the sender was killed
		}
		h.mu.Lock()
		n := len(h.got)
		h.got = append(h.got, hooked{r.Header.Get("X-DataGuardian-Delivery"), r.Header.Get("X-DataGuardian-Event"),
			r.Header.Get("X-DataGuardian-Timestamp"), r.Header.Get("X-DataGuardian-Signature"), string(body), 0})
		h.mu.Unlock()
		h.more <- struct{}{}
		w.WriteHeader(answer(n))
	}))
	t.Cleanup(h.Close)
	return h
}

// await waits until n requests have come and returns them.
func (h *hook) await(t *testing.T, n int) []hooked {
	t.Helper()
	for timer := time.After(2 * time.Minute); ; {
		h.mu.Lock()
		got := append([]hooked{}, h.got...)
		h.mu.Unlock()
		if len(got) >= n {
			return got
		}
		select {
		case <-h.more:
		case <-timer:
			t.Fatalf("%d of %d requests came", len(got), n)
		}
	}
}

// addChannel creates a channel and returns its path.
func addChannel(t *testing.T, s *harness.Server, name string, settings config, more config) string {
	t.Helper()
	body := config{"name": name, "type": "webhook", "config": settings}
	for key, value := range more {
		body[key] = value
	}
	return "/api/notification-channels/" + s.Post(t, "/api/notification-channels", body, http.StatusCreated).Text("id")
}

// awaitDelivery waits until the last delivery of a channel has a status.
func awaitDelivery(t *testing.T, s *harness.Server, channel, status string) harness.JSON {
	t.Helper()
	var c harness.JSON
	require.Eventually(t, func() bool {
		c = s.Get(t, channel)
		return !c.Null("last_delivery") && c.Text("last_delivery.status") == status
	}, 2*time.Minute, 50*time.Millisecond, "%s", c)
	return c
}

func TestAFailedBackupIsToldToASignedWebhookOnceAndABrokenChannelChangesNothing(t *testing.T) {
	t.Parallel()
	p := harness.NewPlane(t)
	s := p.Serve(t, "server")
	h := newHook(t, func(n int) int {
		if n == 0 {
			return http.StatusInternalServerError
		}
		return http.StatusNoContent
	})
	only := config{"types": []string{"backup_failed"}, "min_severity": "critical"}
	good := addChannel(t, s, "good", config{"url": h.URL + "/hook", "secret": p.Secret}, only)
	broken := addChannel(t, s, "broken", config{"url": "http://127.0.0.1:" + itoa(testkit.FreePort(t)) + "/" + p.Secret},
		config{"type": "slack", "types": []string{"backup_failed"}})
	deaf := addChannel(t, s, "deaf", config{"url": h.URL}, config{"types": []string{"storage_full"}})
	require.True(t, s.Get(t, good).True("config.secret.set"))

	watch := s.Stream(t, "/api/notifications/stream")
	first, ok := watch.Line()
	require.True(t, ok)
	require.True(t, harness.ParseJSON(t, first).Has("heartbeat"), first)
	source := p.NewSource(t, 1)
	connection := source.Config()
	connection["database"] = "absent"
	job := s.AddJob(t, s.AddDatasource(t, connection), s.AddStorage(t, s.StorageDir(t)))
	e := s.Await(t, s.Run(t, job))
	require.Equal(t, "failed", e.Text("status"))

	got := h.await(t, 2)
	require.Equal(t, got[0].delivery, got[1].delivery, "a retry is the same delivery")
	require.Equal(t, got[0].body, got[1].body)
	for _, g := range got {
		mac := hmac.New(sha256.New, []byte(p.Secret))
		mac.Write([]byte(g.timestamp + "." + g.body))
		require.Equal(t, "sha256="+hex.EncodeToString(mac.Sum(nil)), g.signature)
		require.Equal(t, "backup_failed", g.event)
		message := harness.ParseJSON(t, g.body)
		require.Equal(t, job, message.Text("entity_id"))
		require.Equal(t, e.Text("id"), message.Text("metadata.execution_id"))
	}
	last := awaitDelivery(t, s, good, "delivered").At("last_delivery")
	require.EqualValues(t, 2, last.Int("attempts"))
	require.Len(t, h.await(t, 2), 2)

	require.Eventually(t, func() bool { // not while it is being tried first
		c := s.Get(t, broken)
		return !c.Null("last_delivery") && !c.Null("last_delivery.last_error")
	}, 2*time.Minute, 50*time.Millisecond)
	require.Eventually(t, func() bool {
		health := harness.ParseJSON(t, s.Do(t, http.MethodGet, "/api/health", nil).Text)
		return health.Text("services.workers.outbox") == "running" &&
			strings.Contains(fmt.Sprint(health.At("worker_details.outbox.last_error").Value), `the channel "broken"`)
	}, 2*time.Minute, 200*time.Millisecond, "the health does not name the channel that takes nothing")
	waiting := awaitDelivery(t, s, broken, "pending")
	require.EqualValues(t, 1, waiting.Int("pending_count"))
	require.Contains(t, waiting.Text("last_delivery.last_error"), "cannot be reached")
	require.True(t, s.Get(t, deaf).Null("last_delivery"))
	require.Equal(t, e.Text("error_code"), s.Get(t, "/api/executions/"+e.Text("id")).Text("error_code"))

	for { // the same event comes to those who watch
		line, ok := watch.Line()
		require.True(t, ok)
		if n := harness.ParseJSON(t, line); n.Has("notification") && n.Text("notification.type") == "backup_failed" {
			require.Equal(t, job, n.Text("notification.entity_id"))
			break
		}
	}

	require.Contains(t, s.Do(t, http.MethodPut, good, config{"config": config{"url": "https://evil.example"}}).
		Refused(t, http.StatusUnprocessableEntity, "INVALID_CHANNEL_CONFIG"), "secret")
	metadata := addChannel(t, s, "metadata", config{"url": "http://169.254.169.254/latest"}, only)
	tested := s.Post(t, metadata+"/test", nil, http.StatusOK)
	require.Equal(t, []string{"error", "CHANNEL_BLOCKED"}, []string{tested.Text("status"), tested.Text("error_code")})
	require.Equal(t, "ok", s.Post(t, good+"/test", nil, http.StatusOK).Text("status"))
}

// The worker is killed when the receiver has the message and has not answered.
func TestANotificationWhoseSenderIsKilledIsSentAgainByAnother(t *testing.T) {
	t.Parallel()
	p := harness.NewSharedRedisPlane(t)
	s := p.Serve(t, "server", "--roles", "api,backup,cleanup")
	killed := make(chan struct{})
	h := newHook(t, func(n int) int {
		if n == 0 {
			<-killed
		}
		return http.StatusOK
	})
	channel := addChannel(t, s, "hook", config{"url": h.URL}, config{"types": []string{"backup_failed"}})
	source := p.NewSource(t, 1)
	connection := source.Config()
	connection["database"] = "absent"
	job := s.AddJob(t, s.AddDatasource(t, connection), s.AddStorage(t, s.StorageDir(t)))
	require.Equal(t, "failed", s.Await(t, s.Run(t, job)).Text("status"))
	require.EqualValues(t, 1, s.Get(t, channel).Int("pending_count"), "nobody sends yet")
	h0 := s.Do(t, http.MethodGet, "/api/health", nil).Expect(t, http.StatusServiceUnavailable)
	require.Equal(t, "stopped", h0.Text("services.workers.outbox"))
	require.EqualValues(t, 1, h0.Int("stats.notifications_pending"))

	victim := p.StartWorker(t, "victim", "--roles", "health", "--lease", shortLease)
	first := h.await(t, 1)
	victim.Kill(t)
	close(killed)
	p.Worker(t, "rescuer", "--roles", "scheduler", "--lease", shortLease)
	got := h.await(t, 2)
	require.Equal(t, first[0].delivery, got[1].delivery)
	c := awaitDelivery(t, s, channel, "delivered")
	require.GreaterOrEqual(t, c.Int("last_delivery.attempts"), int64(2))
	require.Zero(t, c.Int("pending_count"))
}
