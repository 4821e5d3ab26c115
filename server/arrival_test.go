package server

import (
	"net/http"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/metadata"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
)

func TestOnlyATrustedProxySaysWhomItSpeaksFor(t *testing.T) {
	trusted := proxies{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}
	for _, c := range []struct {
		name, peer, forwarded, proto string
		want                         arrival
	}{
		{"nobody in between", "198.51.100.1:5", "", "", arrival{"198.51.100.1", false}},
		{"a stranger who claims to be a proxy", "198.51.100.1:5", "203.0.113.9", "https", arrival{"198.51.100.1", false}},
		{"a proxy", "10.1.2.3:5", "203.0.113.9", "https", arrival{"203.0.113.9", true}},
		{"a proxy that was told a lie", "10.1.2.3:5", "127.0.0.1, 203.0.113.9", "https, http", arrival{"203.0.113.9", false}},
		{"two proxies", "10.1.2.3:5", "127.0.0.1, 203.0.113.9,10.9.9.9", "", arrival{"203.0.113.9", false}},
		{"two proxies, the first one with TLS", "10.1.2.3:5", "203.0.113.9, 10.9.9.9", "https, http", arrival{"203.0.113.9", true}},
		{"two proxies, one scheme", "10.1.2.3:5", "203.0.113.9, 10.9.9.9", "https", arrival{"203.0.113.9", true}},
		{"two proxies that were told a lie", "10.1.2.3:5", "127.0.0.1, 203.0.113.9, 10.9.9.9", "https, http, https", arrival{"203.0.113.9", false}},
		{"a proxy for itself", "10.1.2.3:5", "", "", arrival{"10.1.2.3", false}},
		{"nothing but proxies", "10.1.2.3:5", "10.0.0.7", "", arrival{"10.0.0.7", false}},
		{"garbage", "10.1.2.3:5", "203.0.113.9, unknown", "HTTPS", arrival{"10.1.2.3", true}},
		{"a port, and IPv4 in IPv6", "[::ffff:10.1.2.3]:5", "[2001:db9::1]:77", "", arrival{"2001:db9::1", false}},
		{"a pipe", "bufconn", "203.0.113.9", "https", arrival{"bufconn", false}},
	} {
		header := http.Header{"X-Forwarded-For": {c.forwarded}, "X-Forwarded-Proto": {c.proto}}
		require.Equal(t, c.want, trusted.arrival(c.peer, header.Values, false), c.name)
	}
	split := http.Header{"X-Forwarded-For": {"203.0.113.9", "10.9.9.9"}}
	require.Equal(t, "203.0.113.9", trusted.arrival("10.1.2.3:5", split.Values, false).address)
}

func TestBothListenersWriteDownWhomAProxySpeaksFor(t *testing.T) {
	for _, c := range []struct {
		trusted proxies
		want    string
		secure  bool
	}{{nil, "127.0.0.1", false}, {proxies{netip.MustParsePrefix("127.0.0.0/8")}, "203.0.113.9", true}} {
		a := start(t, func(config *Config) { config.TrustedProxies = c.trusted })
		headers := []string{"X-Forwarded-For", "192.0.2.200, 203.0.113.9", "X-Forwarded-Proto", "https", "X-Dataguardian-Address", "192.0.2.201", "Grpc-Metadata-X-Dataguardian-Address", "192.0.2.202"}
		got := a.do(a.request("", http.MethodPost, "/api/auth/login", goodLogin, headers...))
		require.Equal(t, http.StatusOK, got.status)
		require.Equal(t, c.secure, (&http.Response{Header: got.header}).Cookies()[0].Secure)
		ctx := metadata.AppendToOutgoingContext(t.Context(), "x-forwarded-for", "192.0.2.200, 203.0.113.9", "x-dataguardian-address", "192.0.2.201")
		_, err := pb.NewAuthServiceClient(a.conn).Login(ctx, &pb.LoginRequest{Username: "ada", Password: "correct horse"})
		require.NoError(t, err)
		entries := a.trail.all()
		require.Len(t, entries, 2)
		for _, e := range entries {
			require.Equal(t, "session.login", e.Action)
			require.Equal(t, c.want, e.Address)
		}
	}
}
