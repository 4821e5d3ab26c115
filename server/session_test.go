package server

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
)

const goodLogin = `{"username":"ada","password":"correct horse"}`

func TestALoginSetsACookieThatNoPageCanReadOrBorrow(t *testing.T) {
	a := start(t)
	got := a.do(a.request("", http.MethodPost, "/api/auth/login", goodLogin))
	require.Equal(t, http.StatusOK, got.status, got.text)
	require.Equal(t, map[string]any{"message": "you are logged in", "user": map[string]any{"username": "ada", "role": "admin"}}, got.json(t))
	cookie := got.header.Get("Set-Cookie")
	require.Equal(t, "dg_session=admin; Path=/; HttpOnly; SameSite=Strict", cookie)
	require.NotContains(t, got.text, "dg_session")

	with := func(verb, path, body string, headers ...string) answer {
		return a.do(a.request("", verb, path, body, append([]string{"Cookie", "theme=dark; dg_session=admin"}, headers...)...))
	}
	require.Equal(t, http.StatusOK, with(http.MethodGet, "/api/auth/me", "").status)
	require.Equal(t, http.StatusOK, with(http.MethodPost, "/api/auth/logout", "{}").status)
	for name, headers := range map[string][]string{
		"another origin":    {"Origin", "https://evil.example"},
		"another site":      {"Sec-Fetch-Site", "cross-site"},
		"another subdomain": {"Sec-Fetch-Site", "same-site"},
	} {
		require.Equal(t, http.StatusForbidden, with(http.MethodPost, "/api/datasources", "{}", headers...).status, name)
		require.Equal(t, http.StatusForbidden, with(http.MethodDelete, "/api/datasources/"+someID, "", headers...).status, name)
		require.Equal(t, http.StatusForbidden, a.do(a.request("", http.MethodPost, "/api/auth/login", goodLogin, headers...)).status, name)
	}
	for _, beside := range []string{"Basic eDp5", "Bearer ", "Bearer wrong"} {
		got := with(http.MethodPost, "/api/auth/logout", "{}", "Authorization", beside, "Origin", "https://evil.example")
		require.Equal(t, http.StatusUnauthorized, got.status, "%q does not lend a cookie its authority", beside)
	}
	native := metadata.AppendToOutgoingContext(t.Context(), "cookie", "dg_session=admin", "x-dataguardian-certificate", "admin")
	_, err := pb.NewAuthServiceClient(a.conn).GetMe(native, &pb.GetMeRequest{})
	require.Equal(t, codes.Unauthenticated, status.Code(err), "a browser's cookie is for REST, which looks at origins")

	require.Equal(t, http.StatusUnauthorized, a.do(a.request("", http.MethodPost, "/api/auth/login", `{"username":"ada","password":"wrong"}`)).status)
	require.Equal(t, "SETUP_ALREADY_DONE", a.do(a.request("", http.MethodPost, "/api/auth/setup", `{"username":"eve","password":"correct horse"}`)).code(t))
}

func TestUsersAreKeptOverREST(t *testing.T) {
	a := start(t)
	got := a.call(http.MethodPost, "/api/auth/users", `{"username":"ada","password":"correct horse","role":"admin"}`)
	require.Equal(t, http.StatusCreated, got.status, got.text)
	require.NotContains(t, got.text, "password")
	require.Equal(t, http.StatusOK, a.call(http.MethodGet, "/api/auth/users", "").status)
	require.Equal(t, http.StatusOK, a.call(http.MethodPut, "/api/auth/users/"+someID, `{"role":"viewer"}`).status)
	require.Equal(t, http.StatusNoContent, a.call(http.MethodDelete, "/api/auth/users/"+someID, "").status)
	require.Equal(t, http.StatusNotFound, a.call(http.MethodDelete, "/api/auth/users/"+unknownID, "").status)
	require.Equal(t, []string{"password"}, a.call(http.MethodPost, "/api/auth/users", `{"username":"ada","password":"short","role":"admin"}`).fields(t))
	require.Equal(t, http.StatusOK, a.call(http.MethodPost, "/api/auth/key/rotate", `{"prepare_only":true}`).status)
}
