package netguard_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/dataguardian/dataguardian/internal/netguard"
	"github.com/stretchr/testify/require"
)

func TestMetadataAndLinkLocalAddressesAreRefusedInEveryForm(t *testing.T) {
	for _, addr := range []string{
		"169.254.169.254", "169.254.0.1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "::169.254.169.254",
		"fe80::1", "fe80::1%eth0", "fd00:ec2::254", "fd00:ec2::254%eth0", "fd20:ce::254", "100.100.100.200", "168.63.129.16",
		"192.0.0.192", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "::ffff:0.0.0.0",
	} {
		require.ErrorIs(t, netguard.Policy{}.Check(netip.MustParseAddr(addr)), netguard.ErrBlocked, addr)
	}
}

func TestPrivateAddressesAreAllowedUnlessBlocked(t *testing.T) {
	for _, addr := range []string{"127.0.0.1", "::1", "10.0.0.1", "192.168.1.1", "172.16.0.1", "100.64.0.1", "fd00::1", "::ffff:10.0.0.1"} {
		require.NoError(t, netguard.Policy{}.Check(netip.MustParseAddr(addr)), addr)
		require.ErrorIs(t, netguard.Policy{BlockPrivate: true}.Check(netip.MustParseAddr(addr)), netguard.ErrBlocked, addr)
	}
	for _, addr := range []string{"1.1.1.1", "2606:4700::1111", "64:ff9b::101:101"} {
		require.NoError(t, netguard.Policy{BlockPrivate: true}.Check(netip.MustParseAddr(addr)), addr)
	}
}

func TestTheTransportRefusesAtDialTimeAndAfterARedirect(t *testing.T) {
	server := httptest.NewServer(http.RedirectHandler("http://[fe80::1]:1/", http.StatusFound))
	defer server.Close()
	transport := netguard.Policy{}.Transport()
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	for _, url := range []string{server.URL, "http://169.254.169.254/latest/meta-data/", "http://0.0.0.0:80/"} {
		_, err := client.Get(url) //nolint:bodyclose,noctx // there is no response
		require.ErrorIs(t, err, netguard.ErrBlocked, url)
	}
	_, err := netguard.Policy{BlockPrivate: true}.Dialer().DialContext(t.Context(), "tcp", server.Listener.Addr().String())
	require.ErrorIs(t, err, netguard.ErrBlocked)

	conn, err := netguard.Policy{}.Dialer().DialContext(t.Context(), "tcp", server.Listener.Addr().String())
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	require.ErrorIs(t, netguard.Policy{}.Control("unix", "/run/some.sock", nil), netguard.ErrBlocked)
	require.IsType(t, &net.Dialer{}, netguard.Policy{}.Dialer())
}
