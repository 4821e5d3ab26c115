package server

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
)

const toldNotification = `{"id":"` + someID + `","type":"backup_failed","severity":"critical","entity_type":"entity_type_unspecified","entity_id":null,
	"title":"t","message":"m","metadata":null,"read_at":null,"created_at":"2026-11-24T12:00:00Z"}`

// open begins a stream and returns its lines one by one; it ends with the test.
func (a *api) open(path string, headers ...string) (next func() string) {
	a.t.Helper()
	ctx, cancel := context.WithCancel(a.t.Context())
	resp, err := a.client.Do(a.request("viewer", http.MethodGet, path, "", headers...).WithContext(ctx))
	require.NoError(a.t, err)
	a.t.Cleanup(func() { cancel(); _ = resp.Body.Close() })
	require.Equal(a.t, http.StatusOK, resp.StatusCode)
	scan := bufio.NewScanner(resp.Body)
	return func() string {
		a.t.Helper()
		require.True(a.t, scan.Scan(), "the stream ended: %v", scan.Err())
		return scan.Text()
	}
}

func TestNotificationsAreWatchedInEveryWayAndResumed(t *testing.T) {
	a := start(t)
	a.feed.endless = true
	line := a.open("/api/notifications/stream")
	require.Regexp(t, `"heartbeat":.*"id":"6"`, strings.ReplaceAll(line(), " ", ""))
	require.JSONEq(t, `{"id":"7","notification":`+toldNotification+`}`, line())

	line = a.open("/api/notifications/stream?after=3", "Accept", "text/event-stream", "Last-Event-ID", "40")
	require.Equal(t, []string{"id: 40", "event: heartbeat"}, []string{line(), line()})
	line()
	require.Empty(t, line())
	require.Equal(t, []string{"id: 41", "event: notification"}, []string{line(), line()})

	stream, err := pb.NewNotificationServiceClient(a.conn).WatchNotifications(as(t.Context(), "viewer"), &pb.WatchNotificationsRequest{After: new(int64(0))})
	require.NoError(t, err)
	for _, id := range []string{"0", "1"} {
		event, err := stream.Recv()
		require.NoError(t, err)
		require.Equal(t, id, event.GetId())
	}
	ended := make(chan error, 1)
	go func() {
		_, err := stream.Recv()
		ended <- err
	}()
	require.NoError(t, a.stop())
	require.Equal(t, codes.Unavailable, status.Code(<-ended), "shutdown says so")
}

func TestChannelsAreShownWithoutTheirSecrets(t *testing.T) {
	a := start(t)
	const path = "/api/notification-channels"
	require.JSONEq(t, `{"id":"`+someID+`","name":"ops","type":"webhook","config":{"url":"https://x","secret":{"set":true}},"types":[],"min_severity":"info","enabled":true,
		"pending_count":0,"max_per_hour":0,"last_delivery":{"id":"`+someID+`","notification_id":"`+someID+`","type":"backup_failed","severity":"critical","title":"t","status":"pending",
			"attempts":2,"next_attempt_at":"2026-11-24T12:00:00Z","delivered_at":null,"last_error":"no answer","created_at":"2026-11-24T12:00:00Z"},
		"created_at":"2026-11-24T12:00:00Z","updated_at":"2026-11-24T12:00:00Z"}`, a.call(http.MethodGet, path+"/"+someID, "").text)
	listed := a.call(http.MethodGet, path, "")
	require.Contains(t, listed.text, `"config":null`)
	require.Contains(t, listed.text, `"last_delivery":null`)

	made := a.call(http.MethodPost, path, `{"name":"ops","type":"webhook","config":{"url":"https://x","secret":"hush-hush"},"types":["backup_failed"]}`)
	require.Equal(t, http.StatusCreated, made.status, made.text)
	require.NotContains(t, made.text, "hush-hush")
	require.Contains(t, made.text, `"types":["backup_failed"]`)
	changed := a.call(http.MethodPut, path+"/"+someID, `{"types":["storage_full","backup_failed"]}`)
	require.Equal(t, []any{"storage_full", "backup_failed"}, changed.json(t)["types"])
	for _, types := range []string{`["smoke_signal"]`, `[7]`, `["type_unspecified"]`} {
		refused := a.call(http.MethodPut, path+"/"+someID, `{"types":`+types+`}`)
		require.Equal(t, http.StatusUnprocessableEntity, refused.status, types)
	}
	require.JSONEq(t, `{"status":"error","error":"no answer","error_code":"CHANNEL_UNREACHABLE"}`, a.call(http.MethodPost, path+"/"+someID+"/test", "").text)
	require.JSONEq(t, `{"data":[],"pagination":{"total":0,"page":1,"limit":20,"totalPages":0}}`, a.call(http.MethodGet, path+"/"+someID+"/deliveries?status=failed", "").text)
	require.JSONEq(t, `{"data":[{"name":"webhook","title":"Any program","family":"Webhooks","fields":[
		{"name":"url","kind":"url","required":true,"secret":false,"place":true,"default":"","choices":[],"help":"where to"}]}]}`, a.call(http.MethodGet, "/api/notification-channel-types", "").text)
	require.Equal(t, http.StatusNoContent, a.call(http.MethodDelete, path+"/"+someID, "").status)
}
