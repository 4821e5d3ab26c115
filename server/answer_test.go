package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/server/rpc"
)

func TestEveryKindOfErrorHasItsCodeAndStatus(t *testing.T) {
	a := start(t)
	for _, c := range []struct {
		err    error
		code   codes.Code
		status int
		reason string
	}{
		{errs.New(errs.Malformed, errs.CodeInvalidArgument, "m"), codes.InvalidArgument, 400, "INVALID_ARGUMENT"},
		{errs.InvalidFields(errs.CodeValidation, errs.Field{Field: "a", Message: "m"}), codes.InvalidArgument, 422, "VALIDATION_ERROR"},
		{errs.New(errs.Invalid, errs.CodeQueryFailed, "m"), codes.InvalidArgument, 422, "QUERY_EXECUTION_FAILED"},
		{errs.New(errs.Unauthenticated, errs.CodeUnauthorized, "m"), codes.Unauthenticated, 401, "UNAUTHORIZED"},
		{errs.New(errs.Denied, errs.CodeForbidden, "m"), codes.PermissionDenied, 403, "FORBIDDEN"},
		{fmt.Errorf("store: %w", errs.New(errs.NotFound, errs.CodeNotFound, "m")), codes.NotFound, 404, "NOT_FOUND"},
		{errs.New(errs.Exists, errs.CodeConflict, "m"), codes.AlreadyExists, 409, "CONFLICT"},
		{errs.New(errs.Conflict, errs.CodeExecutionRunning, "m").With("execution_id", someID), codes.FailedPrecondition, 409, "EXECUTION_ALREADY_RUNNING"},
		{errs.New(errs.Exhausted, errs.CodeRateLimited, "m"), codes.ResourceExhausted, 429, "RATE_LIMITED"},
		{errs.New(errs.Unavailable, errs.CodeRedisUnavailable, "m"), codes.Unavailable, 503, "REDIS_UNAVAILABLE"},
		{errs.New(errs.Unimplemented, errs.CodeNotImplemented, "m"), codes.Unimplemented, 501, "NOT_IMPLEMENTED"},
		{errs.New(errs.Cancelled, errs.CodeCancelled, "m"), codes.Canceled, 499, "CANCELLED"},
		{fmt.Errorf("query: %w", context.DeadlineExceeded), codes.DeadlineExceeded, 504, "TIMEOUT"},
		{errors.New("password=hunter2"), codes.Internal, 500, "INTERNAL_ERROR"},
		{errs.Wrap(errors.New("hunter2"), errs.Internal, errs.CodeStorageAuth, "hunter2"), codes.Internal, 500, "INTERNAL_ERROR"},
	} {
		t.Run(c.reason, func(t *testing.T) {
			a.executions.err = c.err
			for _, path := range []string{"/api/executions/" + someID, a.stream()} {
				got := a.call(http.MethodGet, path, "")
				require.Equal(t, c.status, got.status, got.text)
				require.Equal(t, c.reason, got.code(t))
				require.Equal(t, "application/json", got.header.Get("Content-Type"))
				require.NotContains(t, got.text, "hunter2")
			}
			_, err := pb.NewExecutionServiceClient(a.conn).GetExecution(as(t.Context(), "viewer"), &pb.GetExecutionRequest{Id: someID})
			require.Equal(t, c.code, status.Code(err))
			require.EqualValues(t, c.reason, rpc.FromError(err).Code)
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
	a.executions.err = errs.New(errs.Conflict, errs.CodeConflict, "m").With("execution_id", someID).With("count", 2)
	require.JSONEq(t, `{"error":"CONFLICT","message":"m","details":{"execution_id":"`+someID+`","count":2}}`, a.call(http.MethodGet, "/api/executions/"+someID, "").text)
	a.executions.err = errs.New(errs.Conflict, errs.CodeConflict, "m")
	require.JSONEq(t, `{"error":"CONFLICT","message":"m","details":null}`, a.call(http.MethodGet, "/api/executions/"+someID, "").text)
}

func TestAPanicIsAnInternalErrorThatTellsNothing(t *testing.T) {
	a := start(t)
	a.executions.panics = true
	for _, path := range []string{"/api/executions/" + someID, a.stream()} {
		got := a.call(http.MethodGet, path, "", "X-Request-Id", "trace-me")
		require.Equal(t, http.StatusInternalServerError, got.status)
		require.Equal(t, "INTERNAL_ERROR", got.code(t))
		require.NotContains(t, got.text, "hunter2")
		require.Contains(t, got.text, "trace-me")
	}
	_, err := pb.NewExecutionServiceClient(a.conn).GetExecution(as(t.Context(), "viewer"), &pb.GetExecutionRequest{Id: someID})
	require.Equal(t, codes.Internal, status.Code(err))
	require.Contains(t, a.log.String(), "fixture_test.go", "the log has the stack")
	a.executions.panics = false
	require.Equal(t, http.StatusOK, a.call(http.MethodGet, "/api/executions/"+someID, "").status)
}

func TestAbsentValuesAreNullAndListsAreNot(t *testing.T) {
	a := start(t)
	for path, want := range map[string]string{
		"/api/datasources": `{"data":[{"id":"` + someID + `","name":"shop","type":"postgres","status":"unknown","enabled":true,"tags":[],"protected":false,
			"connection_config":null,"last_health_check_at":null,"created_at":"2026-11-24T12:00:00Z","updated_at":"2026-11-24T12:00:00Z"}],
			"pagination":{"total":41,"page":1,"limit":20,"totalPages":3}}`,
		"/api/datasources/" + someID: `{"id":"` + someID + `","name":"shop","type":"postgres","status":"unknown","enabled":true,"tags":[],"protected":false,
			"connection_config":{"host":"db","port":5432,"database":"shop","username":"u","password":{"set":true},"ssl_mode":""},
			"last_health_check_at":null,"created_at":"2026-11-24T12:00:00Z","updated_at":"2026-11-24T12:00:00Z"}`,
		"/api/executions/" + someID: `{"id":"` + someID + `","job_id":"` + someID + `","datasource_id":"` + someID + `","storage_location_id":"` + someID + `",
			"operation":"backup","status":"queued","backup_type":"full","trigger":"manual","started_at":null,"finished_at":null,"duration_seconds":null,
			"size_bytes":null,"compressed_size_bytes":null,"backup_path":null,"files_count":null,"error_code":null,"error_message":null,"attempt":0,
			"metadata":{"operation":"backup","phase":null,"progress":{"phase":null,"bytes_done":0,"bytes_total":null,"percent":null,"rate_bytes_per_s":0,"eta_seconds":null},
				"storage_results":[],"upload_retry":null,"tools":{},"server_version":null,"execution_logs":[]},
			"created_at":"2026-11-24T12:00:00Z","job":{"name":"","schedule_cron":""},"datasource":{"name":"","type":"postgres"},
			"storage_location":{"name":"","type":"local"},"chunks":[],"scheduled_for":null}`,
		"/api/dashboard/overview": `{"generated_at":"2026-11-24T12:00:00Z",
			"stats":{"datasources_total":3,"datasources_healthy":0,"jobs_total":0,"jobs_enabled":0,"storages_total":0,"storages_healthy":0,
				"executions_today":2,"executions_failed_today":0,"success_rate_24h":null,"executions_24h_total":0},
			"services":{"database":"ok","redis":"ok","workers":{"backup":"stopped","restore":"stopped","scheduler":"stopped","health":"stopped","cleanup":"stopped","outbox":"stopped"}},
			"recent_executions":[{"id":"` + someID + `","datasource_name":"","datasource_type":"postgres","job_name":"","operation":"backup","status":"queued",
				"size_bytes":null,"compressed_size_bytes":null,"duration_seconds":null,"started_at":null,"finished_at":null,"created_at":"2026-11-24T12:00:00Z"}],
			"upcoming_jobs":[{"id":"` + someID + `","name":"nightly","schedule_cron":"","schedule_timezone":"","next_execution_at":"2026-11-24T12:00:00Z","enabled":true,
				"datasource_name":"","datasource_type":"postgres"}],
			"datasource_health":[{"id":"` + someID + `","name":"shop","status":"unknown","latency_ms":null,"health_status":null,"last_health_check_at":null}],
			"executions_by_day":[{"date":"2026-11-24","total":2,"completed":0,"failed":0,"cancelled":0,"running":0,"queued":2}],
			"performance":{"machine":{"hostname":"h","platform":"","release":"","arch":"","cpu_cores":2,"total_memory_bytes":"0","process_uptime_seconds":"0","go_version":""},
				"current":{"ts":"2026-11-24T12:00:00Z","cpu_percent":12.5,"memory_usage_percent":0,"process_cpu_percent":0,"process_memory_rss_bytes":"0","goroutines":0},"history":[]}}`,
		"/api/backup-jobs":                          `{"data":[],"pagination":{"total":0,"page":1,"limit":20,"totalPages":0}}`,
		"/api/backups/datasources":                  `{"data":[]}`,
		"/api/notifications":                        `{"data":[],"pagination":{"total":0,"page":1,"limit":20,"totalPages":0},"unread_count":7}`,
		"/api/executions/" + someID + "/logs":       `{"execution_id":"` + someID + `","status":"queued","started_at":null,"finished_at":null,"logs":[]}`,
		"/api/backup-jobs/" + someID + "/retention": `{"job_id":"` + someID + `","policy":{"max_backups":3,"keep_daily":null,"keep_weekly":null,"keep_monthly":null,"auto_delete":false},"keep":[],"delete":[],"halted":null}`,
		"/api/backup-jobs/" + someID: `{"id":"` + someID + `","name":"nightly","datasource_id":"` + someID + `","storage_location_id":"` + someID + `","schedule_cron":"","schedule_timezone":"UTC","enabled":false,
			"retention_policy":{"max_backups":3,"keep_daily":null,"keep_weekly":null,"keep_monthly":null,"auto_delete":false},
			"backup_options":{"compression":"zstd","compression_level":null,"parallel_jobs":1,"include_tables":[],"exclude_tables":[],"exclude_table_data":[],"max_file_size_mb":128,
				"encryption":null,"storage_strategy":"fallback","storage_targets":[],"spool":"full","timeout_minutes":null,"verification":null,"missed_run":"run_once"},
			"last_execution_at":null,"next_execution_at":null,"created_at":"2026-11-24T12:00:00Z","updated_at":"2026-11-24T12:00:00Z",
			"datasource":{"id":"` + someID + `","name":"","type":"postgres"},"storage_location":{"id":"` + someID + `","name":"","type":"local"},"last_execution":null}`,
	} {
		require.JSONEq(t, want, a.call(http.MethodGet, path, "").text, path)
	}
}

func TestSuccessesHaveTheirStatus(t *testing.T) {
	a := start(t)
	created := a.call(http.MethodPost, "/api/datasources", `{"name":"shop","type":"postgres","connection_config":{"host":"db","database":"shop","username":"u","password":"hush-hush"}}`)
	require.Equal(t, http.StatusCreated, created.status, created.text)
	require.NotContains(t, created.text, "hush-hush")
	require.Equal(t, http.StatusCreated, a.call(http.MethodPost, "/api/auth/tokens", `{"name":"ci","role":"viewer","expires_at":"2030-01-01T00:00:00Z"}`).status)

	restored := a.call(http.MethodPost, "/api/backups/"+someID+"/restore", "")
	require.Equal(t, http.StatusAccepted, restored.status, restored.text)
	require.Equal(t, "queued", restored.json(t)["status"])
	require.Nil(t, restored.json(t)["started_at"])
	download := a.call(http.MethodGet, "/api/backups/"+someID+"/download", "")
	require.Equal(t, http.StatusOK, download.status)
	require.Equal(t, "tar", download.text)
	require.Equal(t, `attachment; filename="backup.tar"`, download.header.Get("Content-Disposition"))

	deleted := a.call(http.MethodDelete, "/api/datasources/"+someID, "")
	require.Equal(t, http.StatusNoContent, deleted.status)
	require.Empty(t, deleted.text)
	require.Empty(t, deleted.header.Get("Content-Type"))

	tested := a.call(http.MethodPost, "/api/datasources/"+someID+"/test", "")
	require.Equal(t, http.StatusOK, tested.status, "a database that cannot be reached is an answer")
	require.JSONEq(t, `{"status":"error","latency_ms":12,"server_version":null,"error":"nothing answers at db:5432","error_code":"DATASOURCE_UNREACHABLE"}`, tested.text)
	require.JSONEq(t, `{"status":"ok","latency_ms":1,"available_space_gb":5,"error":null,"error_code":null,"warnings":[]}`, a.call(http.MethodPost, "/api/storage-locations/"+someID+"/test", "").text)
	require.JSONEq(t, `{"id":"`+someID+`","status":"cancelled","message":"the execution was cancelled before a worker took it"}`, a.call(http.MethodPost, "/api/executions/"+someID+"/cancel", "").text)
}

func TestHealthIs503WithTheSameBodyWhenDegraded(t *testing.T) {
	a := start(t)
	good := a.call(http.MethodGet, "/api/health", "")
	require.Equal(t, http.StatusOK, good.status)
	a.health.degraded = true
	bad := a.call(http.MethodGet, "/api/health", "")
	require.Equal(t, http.StatusServiceUnavailable, bad.status)
	require.Equal(t, "degraded", bad.json(t)["status"])
	require.Equal(t, keys(good.json(t)), keys(bad.json(t)))
	services, ok := bad.json(t)["services"].(map[string]any)
	require.True(t, ok)
	require.Equal(t, "error", services["redis"])
	require.Equal(t, map[string]any{"backup": "stopped", "restore": "stopped", "scheduler": "stopped", "health": "stopped", "cleanup": "stopped", "outbox": "stopped"}, services["workers"])
}

func keys(m map[string]any) map[string]bool {
	set := map[string]bool{}
	for k := range m {
		set[k] = true
	}
	return set
}

func TestRequestIDsAreKeptWhenTheyAreHarmless(t *testing.T) {
	a := start(t)
	require.Equal(t, "abc-1.2_3", a.call(http.MethodGet, "/health", "", "X-Request-Id", "abc-1.2_3").header.Get("X-Request-Id"))
	made := a.call(http.MethodGet, "/health", "", "X-Request-Id", "a b\"").header.Get("X-Request-Id")
	require.Regexp(t, `^[0-9a-f-]{36}$`, made)

	var header metadata.MD
	ctx := metadata.AppendToOutgoingContext(as(t.Context(), "viewer"), "x-request-id", "from-grpc")
	_, err := pb.NewAuthServiceClient(a.conn).GetMe(ctx, &pb.GetMeRequest{}, grpc.Header(&header))
	require.NoError(t, err)
	require.Equal(t, []string{"from-grpc"}, header.Get("x-request-id"))
}

func TestTheLogHasEveryRequestAndNoSecret(t *testing.T) {
	a := start(t)
	a.call(http.MethodPost, "/api/datasources?token=hunter2", `{"name":"s","type":"postgres","connection_config":{"password":"hunter2"}}`)
	_, err := pb.NewAuthServiceClient(a.conn).GetMe(as(t.Context(), "viewer"), &pb.GetMeRequest{})
	require.NoError(t, err)
	log := a.log.String()
	require.Contains(t, log, "path=/api/datasources status=422")
	require.Contains(t, log, "method=/dataguardian.v1.AuthService/GetMe code=OK")
	require.Contains(t, log, "caller=viewer")
	require.NotContains(t, log, "hunter2")
	require.NotContains(t, log, "Bearer")
}

func TestPathsBesideTheRPCs(t *testing.T) {
	a := start(t, func(c *Config) {
		c.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("up 1\n")) })
		c.MetricsToken = "scrape"
	})
	require.JSONEq(t, `{"status":"ok"}`, a.do(a.request("", http.MethodGet, "/health", "")).text)
	require.Equal(t, http.StatusUnauthorized, a.do(a.request("admin", http.MethodGet, "/metrics", "")).status)
	require.Equal(t, "up 1\n", a.do(a.request("scrape", http.MethodGet, "/metrics", "")).text)

	root := a.do(a.request("", http.MethodGet, "/", ""))
	require.Equal(t, http.StatusFound, root.status)
	require.Equal(t, "/api/docs", root.header.Get("Location"))

	spec := a.do(a.request("", http.MethodGet, "/api/openapi.json", ""))
	require.Equal(t, http.StatusOK, spec.status)
	require.Contains(t, spec.json(t), "openapi")
	for header, value := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "Content-Security-Policy": "default-src 'none'"} {
		require.Contains(t, spec.header.Get(header), value)
	}
}

func TestThePageOfTheAPIAllowsNothingButItself(t *testing.T) {
	a := start(t)
	got := a.do(a.request("", http.MethodGet, "/api/docs", ""))
	require.Equal(t, http.StatusOK, got.status)
	policy := got.header.Get("Content-Security-Policy")
	for tag, directive := range map[string]string{"style": "style-src", "script": "script-src"} {
		source := between(t, got.text, "<"+tag+">", "</"+tag+">")
		require.Contains(t, policy, fmt.Sprintf("%s '%s'", directive, sourceHash(source)))
	}
	require.NotRegexp(t, `(?i)(src|href)="(https?:)?//`, got.text, "nothing comes from elsewhere")
	require.NotContains(t, got.text, "ZgotmplZ")
	for _, m := range contract(t) {
		require.Contains(t, got.text, fmt.Sprintf(`<article id="%s"`, m.descriptor.Name()))
	}
	var doc struct {
		Components struct{ Schemas map[string]any }
	}
	require.NoError(t, json.Unmarshal([]byte(a.do(a.request("", http.MethodGet, "/api/openapi.json", "")).text), &doc))
	for name := range doc.Components.Schemas {
		require.Contains(t, got.text, `id="schema-`+name+`"`)
	}
	for _, link := range regexp.MustCompile(`href="#([^"]+)"`).FindAllStringSubmatch(got.text, -1) {
		require.Contains(t, got.text, `id="`+link[1]+`"`, "a link leads nowhere")
	}
}

func between(t *testing.T, text, from, to string) string {
	t.Helper()
	_, rest, ok := strings.Cut(text, from)
	require.True(t, ok)
	inside, _, ok := strings.Cut(rest, to)
	require.True(t, ok)
	return inside
}

func TestAForeignPageCannotUseABrowsersCookie(t *testing.T) {
	a := start(t)
	path := "/api/backup-jobs/" + someID + "/run"
	foreign := []string{"Cookie", "dg_session=x", "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}
	got := a.do(a.request("", http.MethodPost, path, "", foreign...))
	require.Equal(t, http.StatusForbidden, got.status)
	require.Equal(t, "FORBIDDEN", got.code(t))
	require.Equal(t, http.StatusUnauthorized, a.do(a.request("", http.MethodPost, path, "", "Cookie", "dg_session=x", "Sec-Fetch-Site", "same-origin")).status)
	require.Equal(t, http.StatusAccepted, a.do(a.request("operator", http.MethodPost, path, "", foreign...)).status)
	require.Empty(t, a.do(a.request("", http.MethodOptions, path, "", foreign...)).header.Get("Access-Control-Allow-Origin"))
}
