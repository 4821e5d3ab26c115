package netguard_test

import (
	"context"
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

// rebinding is a name server that says something harmless first, and then where it
// wants to lead.
func rebinding(t *testing.T, answers ...[4]byte) *net.Resolver {
	t.Helper()
	server, err := net.ListenPacket("udp", "127.0.0.1:0") //nolint:noctx // it ends with the test
	require.NoError(t, err)
	ended := make(chan struct{})
	t.Cleanup(func() {
		require.NoError(t, server.Close())
		<-ended
	})
	go func() {
		defer close(ended)
		packet := make([]byte, 512)
		for asked := 0; ; {
			n, from, err := server.ReadFrom(packet)
			if err != nil {
				return
			}
			end := 12
			for packet[end] != 0 { // the labels of the name
				end += 1 + int(packet[end])
			}
			question := packet[12 : end+5]
			answer := append([]byte{packet[0], packet[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, question...)
			if n > end && packet[end+2] == 1 { // an IPv4 address is asked for
				answer[7] = 1
				address := answers[min(asked, len(answers)-1)]
				asked++
				answer = append(answer, append([]byte{0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4}, address[:]...)...)
			}
			if _, err := server.WriteTo(answer, from); err != nil {
				return
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", server.LocalAddr().String())
	}}
}

func TestANameThatLeadsElsewhereTheSecondTimeIsCheckedEachTime(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it ends with the test
	require.NoError(t, err)
	defer func() { require.NoError(t, listener.Close()) }()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	require.NoError(t, err)
	dialer := netguard.Policy{}.Dialer()
	dialer.Resolver = rebinding(t, [4]byte{127, 0, 0, 1}, [4]byte{169, 254, 169, 254})
	conn, err := dialer.DialContext(t.Context(), "tcp4", net.JoinHostPort("storage.example.", port))
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	_, err = dialer.DialContext(t.Context(), "tcp4", net.JoinHostPort("storage.example.", port))
	require.ErrorIs(t, err, netguard.ErrBlocked)
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

// However an address is written, the policy says the same of it, and never lets
// through what carries a metadata address inside.
func FuzzAnAddressIsJudgedWhateverItsForm(f *testing.F) {
	for _, text := range []string{"169.254.169.254:80", "[::ffff:169.254.169.254]:80", "[64:ff9b::a9fe:a9fe]:443", "[2002:a9fe:a9fe::1]:1", "[fe80::1%eth0]:1", "10.0.0.1:5", "[::]:0", "name:80", "1.2.3.4"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		err := netguard.Policy{}.Control("tcp", text, nil)
		parsed, bad := netip.ParseAddrPort(text)
		if bad != nil {
			require.ErrorIs(t, err, netguard.ErrBlocked)
			return
		}
		address := parsed.Addr().WithZone("").Unmap()
		if address.IsLinkLocalUnicast() || address.IsUnspecified() || address.IsMulticast() {
			require.ErrorIs(t, err, netguard.ErrBlocked)
		}
		if address.Is4() {
			for _, prefix := range []string{"64:ff9b::", "::ffff:"} {
				inside := netip.AddrPortFrom(netip.MustParseAddr(prefix+address.String()), parsed.Port())
				require.Equal(t, err == nil, netguard.Policy{}.Control("tcp", inside.String(), nil) == nil, inside.String())
			}
		}
	})
}
