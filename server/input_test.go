package server

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/server/rpc"
)

func TestBadInputIsRefusedWithTheStatusOfItsKind(t *testing.T) {
	a := start(t)
	big := `{"name":"` + strings.Repeat("x", 2<<20) + `"}`
	for name, c := range map[string]struct {
		method, path, body string
		headers            []string
		status             int
		code               string
		says               string
	}{
		"malformed JSON":                {"POST", "/api/datasources", `{"name":`, nil, 400, "INVALID_ARGUMENT", "not JSON"},
		"two JSON values":               {"POST", "/api/datasources", `{} {}`, nil, 400, "INVALID_ARGUMENT", "more than one"},
		"a list for an object":          {"POST", "/api/datasources", `[]`, nil, 400, "INVALID_ARGUMENT", "object"},
		"a duplicate key":               {"POST", "/api/backup-jobs/" + someID + "/run", `{"id":"a","id":"b"}`, nil, 400, "INVALID_ARGUMENT", "id"},
		"an unknown field":              {"POST", "/api/datasources", `{"naem":"shop"}`, nil, 400, "INVALID_ARGUMENT", "naem"},
		"a nested unknown field":        {"POST", "/api/backup-jobs", `{"retention_policy":{"max_backup":3}}`, nil, 400, "INVALID_ARGUMENT", "retention_policy.max_backup"},
		"an unknown field in an action": {"POST", "/api/backup-jobs/" + someID + "/run", `{"now":true}`, nil, 400, "INVALID_ARGUMENT", "now"},
		"a bad id":                      {"GET", "/api/executions/42", "", nil, 400, "INVALID_ARGUMENT", "UUID"},
		"a bad id in a stream":          {"GET", "/api/executions/42/logs/stream", "", nil, 400, "INVALID_ARGUMENT", "UUID"},
		"a bad id in a filter":          {"GET", "/api/executions?job_id=42", "", nil, 400, "INVALID_ARGUMENT", "job_id"},
		"limit 0":                       {"GET", "/api/executions?limit=0", "", nil, 422, "VALIDATION_ERROR", "limit"},
		"limit 101":                     {"GET", "/api/executions?limit=101", "", nil, 422, "VALIDATION_ERROR", "limit"},
		"limit that is no number":       {"GET", "/api/executions?limit=many", "", nil, 422, "VALIDATION_ERROR", "limit"},
		"page 0":                        {"GET", "/api/executions?page=0", "", nil, 422, "VALIDATION_ERROR", "page"},
		"an unknown word":               {"GET", "/api/executions?status=done", "", nil, 422, "VALIDATION_ERROR", "queued, running"},
		"a bad time":                    {"GET", "/api/executions?from=yesterday", "", nil, 422, "VALIDATION_ERROR", "from"},
		"a negative after":              {"GET", "/api/executions/" + someID + "/logs/stream?after=-1", "", nil, 422, "VALIDATION_ERROR", "after"},
		"a bad query":                   {"GET", "/api/executions?%zz", "", nil, 400, "INVALID_ARGUMENT", "query"},
		"two values for one":            {"GET", "/api/executions?limit=1&limit=2", "", nil, 400, "INVALID_ARGUMENT", "limit"},
		"2 MiB":                         {"POST", "/api/datasources", big, nil, 413, "PAYLOAD_TOO_LARGE", "larger"},
		"a form":                        {"POST", "/api/datasources", "name=shop", []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "UNSUPPORTED_MEDIA_TYPE", "application/json"},
		"a body without a type":         {"POST", "/api/datasources", "{}", []string{"Content-Type", ""}, 415, "UNSUPPORTED_MEDIA_TYPE", "application/json"},
		"an unknown path":               {"GET", "/api/databases", "", nil, 404, "NOT_FOUND", "/api/databases"},
		"an unknown path outside":       {"GET", "/nothing", "", nil, 404, "NOT_FOUND", "/nothing"},
		"a slash too many":              {"GET", "/api/datasources/", "", nil, 404, "NOT_FOUND", ""},
		"an encoded slash":              {"GET", "/api/datasources/a%2Fb", "", nil, 404, "NOT_FOUND", ""},
		"a wrong method":                {"PATCH", "/api/datasources/" + someID, "", nil, 405, "METHOD_NOT_ALLOWED", "DELETE, GET, PUT"},
		"a wrong method outside":        {"POST", "/health", "", nil, 405, "METHOD_NOT_ALLOWED", "GET"},
		"an absent thing":               {"GET", "/api/executions/" + unknownID, "", nil, 404, "NOT_FOUND", ""},
		"an absent stream":              {"GET", "/api/executions/" + unknownID + "/logs/stream", "", nil, 404, "NOT_FOUND", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := a.call(c.method, c.path, c.body, c.headers...)
			require.Equal(t, c.status, got.status, got.text)
			require.Equal(t, c.code, got.code(t))
			require.Equal(t, "application/json", got.header.Get("Content-Type"))
			require.Contains(t, got.text, c.says)
		})
	}
	require.Equal(t, "DELETE, GET, PUT", a.call("PATCH", "/api/datasources/"+someID, "").header.Get("Allow"))
}

func TestABodyOfUnknownLengthIsLimitedToo(t *testing.T) {
	a := start(t)
	r := a.request("admin", http.MethodPost, "/api/datasources", "")
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader(`{"name":"`+strings.Repeat("x", 2<<20))), -1
	r.Header.Set("Content-Type", "application/json")
	got := a.do(r)
	require.Equal(t, http.StatusRequestEntityTooLarge, got.status)
	require.Equal(t, "PAYLOAD_TOO_LARGE", got.code(t))
}

func TestAnActionNeedsNoBodyAndNoContentType(t *testing.T) {
	a := start(t)
	for _, body := range []string{"", "{}", " \n"} {
		got := a.call(http.MethodPost, "/api/backup-jobs/"+someID+"/run", body)
		require.Equal(t, http.StatusAccepted, got.status, got.text)
		require.Equal(t, "queued", got.json(t)["status"])
		require.Equal(t, someID, got.json(t)["job_id"])
	}
}

func TestOneAnswerNamesEveryBadField(t *testing.T) {
	a := start(t)
	for name, c := range map[string]struct {
		path, body string
		code       string
		fields     []string
	}{
		"rules of the proto": {"/api/backup-jobs", `{"name":"","retention_policy":{},"backup_options":{"parallel_jobs":99,"compression_level":77}}`, "VALIDATION_ERROR",
			[]string{"backup_options.compression_level", "backup_options.parallel_jobs", "datasource_id", "name", "retention_policy"}},
		"rules of the proto and settings": {"/api/datasources", `{"name":"","type":"postgres","connection_config":{"host":"a b","colour":"red"}}`, "INVALID_CONNECTION_CONFIG",
			[]string{"connection_config.colour", "connection_config.database", "connection_config.host", "connection_config.password", "connection_config.username", "name"}},
		"settings of a storage": {"/api/storage-locations", `{"name":"","type":"local","config":{}}`, "INVALID_STORAGE_CONFIG", []string{"config.path", "name"}},
		"words and types":       {"/api/datasources", `{"name":5,"type":"oracle","enabled":"yes","tags":"a","connection_config":[]}`, "VALIDATION_ERROR", []string{"connection_config", "enabled", "name", "tags", "type"}},
		"what cannot be decoded and what is refused": {"/api/datasources", `{"name":"","type":"oracle","tags":[1,""],"connection_config":{}}`, "VALIDATION_ERROR",
			[]string{"name", "tags[0]", "type"}},
		"a word that means nothing": {"/api/datasources", `{"name":"a","type":"type_unspecified","connection_config":{"host":"h"}}`, "VALIDATION_ERROR", []string{"type"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := a.call(http.MethodPost, c.path, c.body)
			require.Equal(t, http.StatusUnprocessableEntity, got.status, got.text)
			require.Equal(t, c.code, got.code(t), got.text)
			require.Subset(t, got.fields(t), c.fields, got.text)
		})
	}
}

func TestGRPCCallersGetTheSameRefusals(t *testing.T) {
	a := start(t)
	ctx := as(t.Context(), "admin")
	_, err := pb.NewExecutionServiceClient(a.conn).GetExecution(ctx, &pb.GetExecutionRequest{Id: "42"})
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	require.Equal(t, errs.CodeInvalidArgument, rpc.FromError(err).Code)
	require.Equal(t, errs.Malformed, rpc.FromError(err).Kind)

	_, err = pb.NewExecutionServiceClient(a.conn).ListExecutions(ctx, &pb.ListExecutionsRequest{Limit: proto.Int32(0)})
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	require.Equal(t, errs.CodeValidation, rpc.FromError(err).Code)
	require.Equal(t, errs.Invalid, rpc.FromError(err).Kind)

	stream, err := pb.NewExecutionServiceClient(a.conn).StreamExecutionLogs(ctx, &pb.StreamExecutionLogsRequest{Id: "42"})
	require.NoError(t, err)
	_, err = stream.Recv()
	require.Equal(t, codes.InvalidArgument, status.Code(err))
}

func TestAnUpdateKnowsWhatWasSent(t *testing.T) {
	a := start(t)
	path := "/api/datasources/" + someID
	require.Equal(t, http.StatusOK, a.call(http.MethodPut, path, `{"connection_config":{"port":null,"host":"db2"},"tags":[]}`).status)
	require.Equal(t, map[string]any{"port": nil, "host": "db2"}, a.datasources.patch.Config)
	require.Equal(t, []string{}, *a.datasources.patch.Tags)
	require.Nil(t, a.datasources.patch.Name)
	require.Nil(t, a.datasources.patch.Enabled)

	require.Equal(t, http.StatusOK, a.call(http.MethodPut, path, `{"enabled":false,"id":"`+unknownID+`","name":null}`).status)
	require.Nil(t, a.datasources.patch.Config)
	require.Nil(t, a.datasources.patch.Tags)
	require.Nil(t, a.datasources.patch.Name)
	require.False(t, *a.datasources.patch.Enabled)

	got := a.call(http.MethodPut, path, `{"tags":["a",5]}`)
	require.Equal(t, http.StatusUnprocessableEntity, got.status)
	require.Equal(t, []string{"tags[1]"}, got.fields(t))

	require.Equal(t, http.StatusOK, a.call(http.MethodPut, "/api/backup-jobs/"+someID, `{"schedule_cron":"","retention_policy":{"keep_daily":7}}`).status)
	require.Empty(t, *a.backups.patch.ScheduleCron)
	require.Nil(t, a.backups.patch.Options)
	require.Equal(t, 7, *a.backups.patch.Retention.KeepDaily)
	require.True(t, a.backups.patch.Retention.AutoDelete)
}

func TestFiltersAndPagesReachTheDomain(t *testing.T) {
	a := start(t)
	got := a.call(http.MethodGet, "/api/datasources?type=postgres&status=healthy&enabled=false&tag=eu&page=2&limit=10&unknown=1&tag=", "")
	require.Equal(t, http.StatusOK, got.status, got.text)
	require.EqualValues(t, "postgres", a.datasources.filter.Type)
	require.EqualValues(t, "healthy", a.datasources.filter.Status)
	require.False(t, *a.datasources.filter.Enabled)
	require.Equal(t, "eu", a.datasources.filter.Tag)
	require.Equal(t, map[string]any{"total": 41.0, "page": 2.0, "limit": 10.0, "totalPages": 5.0}, got.json(t)["pagination"])

	require.Equal(t, map[string]any{"total": 41.0, "page": 1.0, "limit": 20.0, "totalPages": 3.0}, a.call(http.MethodGet, "/api/datasources?status=", "").json(t)["pagination"])
	require.Nil(t, a.datasources.filter.Enabled)
}
