package server

import (
	"net/http"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/metadata"
)

// Whatever the headers of a call hold, it shows one credential or none, an
// Authorization header never lends its exemption to a cookie, and a peer that is not
// trusted is where it is.
func FuzzWhatACallerShows(f *testing.F) {
	f.Add("Bearer dgt_x.y", "dg_session=dgs_a.b", "203.0.113.9", "10.0.0.1:5", true)
	f.Add("", "theme=dark; dg_session=\"dgs_a.b\"; dg_session=two", "[2001:db8::1]:7, unknown", "[::ffff:10.0.0.1]:5", true)
	f.Add("Basic eDp5", "dg_session=a\x00b", ",,", "bufconn", false)
	f.Add("bearer \t", "=;;=", "10.0.0.1,10.0.0.2", "[fe80::1%eth0]:1", false)
	f.Fuzz(func(t *testing.T, authorization, cookie, forwarded, peer string, local bool) {
		md := metadata.MD{}
		md.Append("cookie", cookie)
		session := cookieOf(md)
		c := &call{local: local, shown: credential{certificate: "cn"}}
		without := c.credentialOf(md)
		require.Equal(t, local && session != "", without.bearer != "")
		md.Append("authorization", authorization)
		with := c.credentialOf(md)
		require.Empty(t, with.certificate)
		if with.bearer != "" {
			require.Contains(t, authorization, with.bearer)
		}

		trusted := proxies{netip.MustParsePrefix("10.0.0.0/8")}
		header := http.Header{"X-Forwarded-For": {forwarded}, "X-Forwarded-Proto": {forwarded}}
		got := trusted.arrival(peer, header.Values, false)
		here, ok := parseAddress(peer)
		if !ok || !trusted.trust(here) {
			require.Equal(t, arrival{hostOf(peer), false}, got)
			return
		}
		_, err := netip.ParseAddr(got.address)
		require.NoError(t, err, "an address is one")
	})
}
