package server

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/internal/audit"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/server/rpc"
)

func TestWhatIsChangedOrHandedOutIsWrittenDownWhateverBecomesOfIt(t *testing.T) {
	a := start(t)
	for _, m := range contract(t) {
		access := rpc.AccessOf(m.name)
		before := len(a.trail.all())
		got := a.call(m.verb, m.path, "")
		written := a.trail.all()[before:]
		if access.Action == "" {
			require.Empty(t, written, m.name)
			continue
		}
		require.Len(t, written, 1, m.name)
		e := written[0]
		require.Equal(t, access.Action, e.Action)
		require.Equal(t, "127.0.0.1", e.Address, m.name)
		require.Equal(t, got.header.Get("X-Request-Id"), e.RequestID, m.name)
		if got.status < http.StatusBadRequest {
			require.Equal(t, audit.OK, e.Outcome, m.name)
		} else {
			require.Equal(t, got.code(t), e.Outcome, m.name)
		}
		if access.Role != 0 {
			require.Equal(t, "admin", e.Actor, m.name)
			require.Equal(t, "token", e.Metadata["actor_kind"])
		}
	}
}

func TestRefusedCallsAreWrittenDownToo(t *testing.T) {
	a := start(t)
	last := func() audit.Entry {
		all := a.trail.all()
		return all[len(all)-1]
	}
	a.do(a.request("", http.MethodPost, "/api/auth/login", `{"username":"hunter2-in-the-wrong-field","password":"hunter2"}`))
	require.Equal(t, "session.login", last().Action)
	require.Equal(t, "UNAUTHORIZED", last().Outcome)
	require.Empty(t, last().Actor, "nobody has this name")
	a.do(a.request("", http.MethodPost, "/api/auth/login", goodLogin))
	require.Equal(t, "ada", last().Actor)
	require.Equal(t, audit.OK, last().Outcome)
	a.do(a.request("viewer", http.MethodDelete, "/api/datasources/"+someID, ""))
	require.Equal(t, []string{"viewer", "datasource.delete", "FORBIDDEN"}, []string{last().Actor, last().Action, last().Outcome})
	a.do(a.request("wrong", http.MethodGet, "/api/datasources", ""))
	require.Equal(t, []string{"", "api.access", "UNAUTHORIZED"}, []string{last().Actor, last().Action, last().Outcome})
	_, err := pb.NewExecutionServiceClient(a.conn).CancelExecution(as(t.Context(), "operator"), &pb.CancelExecutionRequest{Id: someID})
	require.NoError(t, err)
	require.Equal(t, someID, last().EntityID)
	require.NotContains(t, fmt.Sprint(a.trail.all()), "hunter2")
}

func TestTheAuditLogSaysWhichFieldsWereSentAndNeverWhatIsSecret(t *testing.T) {
	a := start(t)
	const planted = "hunter2-s3cret"
	for path, body := range map[string]string{
		"/api/datasources":                      `{"name":"shop","type":"postgres","protected":true,"connection_config":{"host":"db","database":"d","username":"u","password":"` + planted + `","` + strings.ToUpper(planted) + `":1}}`,
		"/api/storage-locations":                `{"name":"s3","type":"s3","config":{"bucket":"b","region":"r","secret_access_key":"` + planted + `"}}`,
		"/api/auth/tokens":                      `{"name":"ci","role":"operator"}`,
		"/api/auth/users":                       `{"username":"bob","password":"` + planted + `","role":"viewer"}`,
		"/api/auth/password":                    `{"current_password":"` + planted + `","new_password":"` + planted + `2"}`,
		"/api/auth/login":                       `{"username":"` + planted + `","password":"` + planted + `"}`,
		"/api/datasources/" + someID + "/query": `{"sql":"SELECT '` + planted + `'"}`,
	} {
		a.call(http.MethodPost, path, body)
	}
	all := fmt.Sprint(a.trail.all())
	require.NotContains(t, strings.ToLower(all), planted)
	require.NotContains(t, all, "dgt_once")
	for _, e := range a.trail.all() {
		switch e.Action {
		case "token.create":
			require.Equal(t, map[string]any{"actor_kind": "token", "actor_id": someID, "name": "ci", "role": "operator", "fields": []any{"name", "role"}}, e.Metadata)
			require.Equal(t, someID, e.EntityID, "what was made")
		case "user.create":
			require.Equal(t, "bob", e.Metadata["username"])
		case "storage_location.create":
			require.Contains(t, e.Metadata["fields"], "config.secret_access_key")
		}
	}
}

// away is an audit log that cannot be written.
type away struct{ fakeTrail }

func (*away) Begin(context.Context, audit.Entry) (string, error) {
	return "", errs.New(errs.Unavailable, errs.CodeDatabaseUnavailable, "away")
}

func TestNothingIsDoneThatCannotBeWrittenDown(t *testing.T) {
	a := start(t, func(c *Config) { c.Trail = &away{} })
	require.Equal(t, "DATABASE_UNAVAILABLE", a.call(http.MethodPut, "/api/datasources/"+someID, `{"name":"x"}`).code(t))
	require.Nil(t, a.datasources.patch.Name)
	stream, err := pb.NewBackupServiceClient(a.conn).DownloadBackup(as(t.Context(), "operator"), &pb.DownloadBackupRequest{ExecutionId: someID}, grpc.WaitForReady(true))
	require.NoError(t, err)
	_, err = stream.Recv()
	require.Equal(t, errs.CodeDatabaseUnavailable, rpc.FromError(err).Code)
	require.Equal(t, http.StatusOK, a.call(http.MethodGet, "/api/datasources", "").status)
}
