package server

import (
	"net/http"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/audit"
)

func TestWhoTriesTooOftenIsTurnedAwayAtTheDoorAndWrittenDown(t *testing.T) {
	a := start(t, func(c *Config) { c.TrustedProxies = proxies{netip.MustParsePrefix("127.0.0.0/8")} })
	from := func(address, method, path, body string) answer {
		return a.do(a.request("", method, path, body, "X-Forwarded-For", address))
	}
	got := from(turnedAway, http.MethodPost, loginPath, goodLogin)
	require.Equal(t, http.StatusTooManyRequests, got.status)
	require.Equal(t, "RATE_LIMITED", got.code(t))
	require.Empty(t, got.header.Get("Set-Cookie"))
	entries := a.trail.all()
	require.Len(t, entries, 1)
	require.Equal(t, audit.Entry{
		ID: entries[0].ID, Action: "session.login", EntityType: "session", Address: turnedAway, Outcome: "RATE_LIMITED",
		RequestID: got.header.Get("X-Request-Id"), Metadata: map[string]any{},
	}, entries[0])
	require.Equal(t, http.StatusTooManyRequests, from(turnedAway, http.MethodPost, loginPath, "no JSON").status, "nothing of it is read")
	require.Equal(t, http.StatusOK, from("198.51.100.67", http.MethodPost, loginPath, goodLogin).status)
	require.Equal(t, http.StatusMethodNotAllowed, from(turnedAway, http.MethodGet, loginPath, "").status)
	require.Equal(t, http.StatusOK, from(turnedAway, http.MethodGet, "/api/auth/status", "").status, "it is about logins only")
	foreign := a.do(a.request("", http.MethodPost, loginPath, goodLogin, "X-Forwarded-For", turnedAway, "Sec-Fetch-Site", "cross-site"))
	require.Equal(t, http.StatusForbidden, foreign.status, "and a page of another site uses up nobody's tries")
}
