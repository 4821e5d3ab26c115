package server

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/logs"
	"github.com/dataguardian/dataguardian/server/rpc"
)

const soon = time.Minute

func (a *api) stream() string { return "/api/executions/" + someID + "/logs/stream" }

// story yields one event of each kind, with lines after a sequence number.
func story(_ context.Context, after int64, yield func(execution.Event, error) bool) {
	code, sentence := "DUMP_FAILED", "the dump failed"
	ended := execution.Execution{Status: execution.Failed, ErrorCode: &code, ErrorMessage: &sentence}
	all := []execution.Event{
		{Line: &logs.Line{Seq: 1, Time: noon, Level: engine.LevelInfo, Message: "one"}},
		{Gap: &logs.Gap{From: 2, To: 3}},
		{Line: &logs.Line{Seq: 4, Time: noon, Level: engine.LevelError, Message: "four <&> \u2028 ü"}},
		{Progress: &execution.Progress{Phase: execution.Dumping, BytesDone: 5, Rate: 2.5}},
		{Idle: true},
		{End: &ended},
	}
	for _, e := range all {
		if e.Line != nil && e.Line.Seq <= after || e.Gap != nil && e.Gap.To <= after {
			continue
		}
		if !yield(e, nil) {
			return
		}
	}
}

// idle tells nothing until it is told to stop.
func idle(ctx context.Context, _ int64, yield func(execution.Event, error) bool) {
	<-ctx.Done()
	yield(execution.Event{}, context.Cause(ctx))
}

func TestAStreamIsOneJSONObjectALine(t *testing.T) {
	a := start(t)
	a.executions.follow = story
	got := a.call(http.MethodGet, a.stream(), "")
	require.Equal(t, http.StatusOK, got.status)
	require.Equal(t, "application/x-ndjson", got.header.Get("Content-Type"))
	var kinds []string
	for line := range strings.Lines(got.text) {
		var event map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &event))
		require.Len(t, event, 1)
		for kind := range event {
			kinds = append(kinds, kind)
		}
	}
	require.Equal(t, []string{"line", "gap", "line", "progress", "heartbeat", "end"}, kinds)
	var first map[string]any
	require.NoError(t, json.Unmarshal([]byte(strings.SplitN(got.text, "\n", 2)[0]), &first))
	require.Equal(t, map[string]any{"line": map[string]any{"seq": "1", "ts": "2026-11-24T12:00:00Z", "level": "info", "message": "one"}}, first)
}

// sse is one Server-Sent Event.
type sse struct{ id, name, data string }

func parseSSE(t *testing.T, text string) []sse {
	t.Helper()
	var events []sse
	for block := range strings.SplitSeq(strings.TrimSuffix(text, "\n\n"), "\n\n") {
		var e sse
		for line := range strings.SplitSeq(block, "\n") {
			key, value, ok := strings.Cut(line, ": ")
			require.True(t, ok, "line %q", line)
			switch key {
			case "id":
				e.id = value
			case "event":
				e.name = value
			case "data":
				e.data = value
			}
		}
		events = append(events, e)
	}
	return events
}

func TestAStreamIsServerSentEventsOnRequest(t *testing.T) {
	a := start(t)
	a.executions.follow = story
	for _, accept := range []string{"text/event-stream", "text/event-stream, */*", "text/html;q=0.5, Text/Event-Stream;q=0.9"} {
		got := a.call(http.MethodGet, a.stream(), "", "Accept", accept)
		require.Equal(t, http.StatusOK, got.status, accept)
		require.Equal(t, "text/event-stream", got.header.Get("Content-Type"), accept)
		events := parseSSE(t, got.text)
		var names, ids []string
		for _, e := range events {
			names, ids = append(names, e.name), append(ids, e.id)
			var data map[string]any
			require.NoError(t, json.Unmarshal([]byte(e.data), &data))
			require.Contains(t, data, e.name)
		}
		require.Equal(t, []string{"line", "gap", "line", "progress", "heartbeat", "end"}, names)
		require.Equal(t, []string{"1", "3", "4", "", "", ""}, ids)
	}
	for _, accept := range []string{"*/*", "application/json", "text/event-stream;q=0", "application/x-ndjson, text/event-stream;q=0.5"} {
		require.Equal(t, "application/x-ndjson", a.call(http.MethodGet, a.stream(), "", "Accept", accept).header.Get("Content-Type"), accept)
	}
	require.Equal(t, "application/json", a.call(http.MethodGet, "/api/executions", "", "Accept", "text/event-stream").header.Get("Content-Type"))
}

func TestAStreamResumes(t *testing.T) {
	a := start(t)
	a.executions.follow = story
	ids := func(path string, headers ...string) []string {
		got := a.call(http.MethodGet, path, "", headers...)
		require.Equal(t, http.StatusOK, got.status)
		var ids []string
		for _, e := range parseSSE(t, got.text) {
			if e.id != "" {
				ids = append(ids, e.id)
			}
		}
		return ids
	}
	events := []string{"Accept", "text/event-stream"}
	require.Equal(t, []string{"3", "4"}, ids(a.stream()+"?after=1", events...))
	require.Equal(t, []string{"4"}, ids(a.stream()+"?after=1", append(events, "Last-Event-ID", "3")...))
	require.Equal(t, []string{"1", "3", "4"}, ids(a.stream(), append(events, "Last-Event-ID", "junk")...))
	require.Contains(t, a.call(http.MethodGet, a.stream(), "", "Last-Event-ID", "3").text, `"one"`, "only Server-Sent Events resume by header")
}

func TestTheHeadOfAStreamComesBeforeItsFirstMessage(t *testing.T) {
	a := start(t)
	a.executions.follow = idle
	for _, accept := range []string{"", "text/event-stream"} {
		ctx, cancel := context.WithCancel(t.Context())
		resp, err := a.client.Do(a.request("viewer", http.MethodGet, a.stream(), "", "Accept", accept).WithContext(ctx))
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, resp.StatusCode)
		require.Equal(t, "no-store", resp.Header.Get("Cache-Control"))
		cancel()
		_ = resp.Body.Close()
	}
	stream, err := pb.NewExecutionServiceClient(a.conn).StreamExecutionLogs(as(t.Context(), "viewer"), &pb.StreamExecutionLogsRequest{Id: someID})
	require.NoError(t, err)
	header, err := stream.Header()
	require.NoError(t, err)
	require.NotEmpty(t, header.Get(rpc.StreamHeader))
	require.NotEmpty(t, header.Get("x-request-id"))
}

func TestAStreamThatFailsMidwayEndsWithItsError(t *testing.T) {
	a := start(t)
	a.executions.follow = func(_ context.Context, _ int64, yield func(execution.Event, error) bool) {
		if yield(execution.Event{Idle: true}, nil) {
			yield(execution.Event{}, errs.New(errs.Unavailable, errs.CodeDatabaseUnavailable, "the database is away").With("since", "noon"))
		}
	}
	lines := strings.Split(strings.TrimSpace(a.call(http.MethodGet, a.stream(), "").text), "\n")
	require.Len(t, lines, 2)
	want := `{"error":"DATABASE_UNAVAILABLE","message":"the database is away","details":{"since":"noon"}}`
	require.JSONEq(t, want, lines[1])
	events := parseSSE(t, a.call(http.MethodGet, a.stream(), "", "Accept", "text/event-stream").text)
	require.Equal(t, "error", events[1].name)
	require.JSONEq(t, want, events[1].data)
}

func TestShutdownEndsOpenStreamsWithinMoments(t *testing.T) {
	a := start(t, func(c *Config) { c.ShutdownTimeout = time.Hour })
	a.executions.follow = idle

	type ended struct {
		name string
		err  error
		last string
	}
	done := make(chan ended, 3)
	for _, accept := range []string{"application/x-ndjson", "text/event-stream"} {
		resp, err := a.client.Do(a.request("viewer", http.MethodGet, a.stream(), "", "Accept", accept)) //nolint:bodyclose // closed by who reads it, below
		require.NoError(t, err)
		go func() {
			var text strings.Builder
			scan := bufio.NewScanner(resp.Body)
			for scan.Scan() {
				fmt.Fprintln(&text, scan.Text())
			}
			done <- ended{accept, scan.Err(), text.String()}
			_ = resp.Body.Close()
		}()
	}
	stream, err := pb.NewExecutionServiceClient(a.conn).StreamExecutionLogs(as(t.Context(), "viewer"), &pb.StreamExecutionLogsRequest{Id: someID})
	require.NoError(t, err)
	_, err = stream.Header()
	require.NoError(t, err)
	go func() {
		_, err := stream.Recv()
		done <- ended{"grpc", err, ""}
	}()

	began := time.Now()
	stopped := make(chan error, 1)
	go func() { stopped <- a.stop() }()
	var names []string
	for range 3 {
		select {
		case e := <-done:
			names = append(names, e.name)
			if e.name == "grpc" {
				require.Equal(t, codes.Unavailable, status.Code(e.err))
				require.Equal(t, errs.CodeShuttingDown, rpc.FromError(e.err).Code)
				continue
			}
			require.NoError(t, e.err, "the stream must end with its last message, not with a broken connection")
			require.Contains(t, e.last, "SHUTTING_DOWN", e.name)
		case <-time.After(soon):
			t.Fatalf("streams still open: ended only %v", names)
		}
	}
	require.NoError(t, <-stopped)
	require.Less(t, time.Since(began), soon)
	slices.Sort(names)
	require.Equal(t, []string{"application/x-ndjson", "grpc", "text/event-stream"}, names)
}

func TestACallerThatLeavesEndsItsTail(t *testing.T) {
	a := start(t)
	left := make(chan error, 1)
	a.executions.follow = func(ctx context.Context, _ int64, _ func(execution.Event, error) bool) {
		<-ctx.Done()
		left <- context.Cause(ctx)
	}
	ctx, cancel := context.WithCancel(t.Context())
	resp, err := a.client.Do(a.request("viewer", http.MethodGet, a.stream(), "").WithContext(ctx))
	require.NoError(t, err)
	cancel()
	_ = resp.Body.Close()
	select {
	case cause := <-left:
		require.ErrorIs(t, cause, context.Canceled)
	case <-time.After(soon):
		t.Fatal("the tail goes on without its reader")
	}
}

const eventsPath = "/api/events"

// saga yields one event of each kind of all executions.
func saga(_ context.Context, _ execution.WatchRequest, yield func(execution.WatchEvent, error) bool) {
	code, sentence := "DUMP_FAILED", "the dump <b>failed</b>"
	running := execution.Execution{ID: someID, JobID: someID, JobName: "nightly", DatasourceID: someID, DatasourceName: "shop", Operation: execution.Backup, Status: execution.Running}
	failed := running
	failed.Status, failed.ErrorCode, failed.ErrorMessage = execution.Failed, &code, &sentence
	for i, e := range []execution.WatchEvent{
		{Idle: true},
		{Execution: running},
		{Execution: running, Progress: &execution.Progress{Phase: execution.Dumping, BytesDone: 5}},
		{Execution: running, Line: &logs.Line{Seq: 1, Time: noon, Level: engine.LevelInfo, Message: "one"}},
		{Execution: running, Gap: &logs.Gap{From: 2, To: 3}},
		{Execution: failed},
	} {
		e.ID = fmt.Sprintf("id%d", i)
		if !yield(e, nil) {
			return
		}
	}
}

func TestEventsOfAllExecutionsAreLinesOrServerSentEventsWithIds(t *testing.T) {
	a := start(t)
	a.watches.watch = saga
	got := a.call(http.MethodGet, eventsPath, "")
	require.Equal(t, http.StatusOK, got.status)
	require.Equal(t, "application/x-ndjson", got.header.Get("Content-Type"))
	lines := strings.Split(strings.TrimSpace(got.text), "\n")
	require.Len(t, lines, 6)
	var last map[string]any
	require.NoError(t, json.Unmarshal([]byte(lines[5]), &last))
	require.NotEmpty(t, last["ts"])
	delete(last, "ts")
	require.Equal(t, map[string]any{
		"id": "id5", "execution_id": someID, "job_id": someID, "job_name": "nightly", "datasource_id": someID, "datasource_name": "shop",
		"operation": "backup", "status": "failed", "error_code": "DUMP_FAILED", "error_message": "the dump <b>failed</b>",
	}, last)

	got = a.call(http.MethodGet, eventsPath, "", "Accept", "text/event-stream")
	require.Equal(t, "text/event-stream", got.header.Get("Content-Type"))
	var names, ids []string
	for _, e := range parseSSE(t, got.text) {
		names, ids = append(names, e.name), append(ids, e.id)
	}
	require.Equal(t, []string{"heartbeat", "state", "progress", "line", "gap", "state"}, names)
	require.Equal(t, []string{"id0", "id1", "id2", "id3", "id4", "id5"}, ids)
}

func TestEventsAreAskedForWithFiltersAndGoOnAfterAnId(t *testing.T) {
	a := start(t)
	asked := make(chan execution.WatchRequest, 1)
	a.watches.watch = func(_ context.Context, r execution.WatchRequest, _ func(execution.WatchEvent, error) bool) {
		asked <- r
	}
	a.call(http.MethodGet, eventsPath+"?job_id="+someID+"&datasource_id="+unknownID+"&operation=restore&include_logs=true&after=x", "")
	require.Equal(t, execution.WatchRequest{JobID: someID, DatasourceID: unknownID, Operation: execution.Restore, Lines: true, After: "x"}, <-asked)
	a.call(http.MethodGet, eventsPath+"?after=x", "", "Accept", "text/event-stream", "Last-Event-ID", "AQAC")
	require.Equal(t, "AQAC", (<-asked).After, "a browser goes on where it was")
	a.call(http.MethodGet, eventsPath, "", "Accept", "text/event-stream", "Last-Event-ID", strings.Repeat("x", 5000))
	require.Empty(t, (<-asked).After)
	refused := a.call(http.MethodGet, eventsPath+"?after="+strings.Repeat("x", 5000), "")
	require.Equal(t, http.StatusUnprocessableEntity, refused.status)
	require.Equal(t, []string{"after"}, refused.fields(t))
}

func TestEventsThatCannotBeReadAreAnErrorOfTheirOwn(t *testing.T) {
	a := start(t)
	a.watches.watch = func(_ context.Context, _ execution.WatchRequest, yield func(execution.WatchEvent, error) bool) {
		yield(execution.WatchEvent{}, errs.New(errs.Unavailable, errs.CodeDatabaseUnavailable, "the database is away"))
	}
	got := a.call(http.MethodGet, eventsPath, "")
	require.Equal(t, http.StatusServiceUnavailable, got.status)
	require.Equal(t, "DATABASE_UNAVAILABLE", got.code(t))
}

func TestShutdownEndsAWatchWithItsMessage(t *testing.T) {
	a := start(t)
	a.watches.watch = func(ctx context.Context, _ execution.WatchRequest, yield func(execution.WatchEvent, error) bool) {
		if yield(execution.WatchEvent{Idle: true, ID: "first"}, nil) {
			<-ctx.Done()
			yield(execution.WatchEvent{}, context.Cause(ctx))
		}
	}
	resp, err := a.client.Do(a.request("viewer", http.MethodGet, eventsPath, "", "Accept", "text/event-stream"))
	require.NoError(t, err)
	defer func() { require.NoError(t, resp.Body.Close()) }()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	stopped := make(chan error, 1)
	go func() { stopped <- a.stop() }()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, <-stopped)
	events := parseSSE(t, string(text))
	require.Equal(t, "heartbeat", events[0].name, "the head and a first event come at once")
	require.Contains(t, events[len(events)-1].data, "SHUTTING_DOWN")
}
