// Package netguard keeps connections to addresses that users configure
// (storage endpoints, webhooks) away from the metadata services of clouds and
// from link-local networks, where a request made by the server reaches what
// its user could not. The check is made on the resolved address, right before
// the connection, so that no name or redirect gets around it.
package netguard

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"
)

// ErrBlocked is wrapped by the error of a connection that was refused.
var ErrBlocked = errors.New("connections to this address are not allowed")

// Policy decides which addresses may be reached. The zero value allows all but
// link-local, multicast, unspecified and metadata addresses: databases and
// storages live in private networks.
type Policy struct {
	// BlockPrivate refuses loopback, private and shared (RFC 6598) addresses too.
	BlockPrivate bool
}

// metadata are the addresses of metadata services outside link-local ranges.
var metadata = map[netip.Addr]string{
	netip.MustParseAddr("fd00:ec2::254"):   "Amazon EC2",
	netip.MustParseAddr("fd20:ce::254"):    "Google Compute Engine",
	netip.MustParseAddr("100.100.100.200"): "Alibaba Cloud",
	netip.MustParseAddr("168.63.129.16"):   "Azure",
	netip.MustParseAddr("192.0.0.192"):     "Oracle Cloud",
}

var shared = netip.MustParsePrefix("100.64.0.0/10")

// Check refuses addr, or an IPv4 address that addr carries inside, with an
// error that wraps ErrBlocked.
func (p Policy) Check(addr netip.Addr) error {
	for _, a := range []netip.Addr{addr.WithZone("").Unmap(), embedded(addr)} {
		if a.IsValid() && p.blocks(a) {
			return fmt.Errorf("%w: %s", ErrBlocked, addr)
		}
	}
	return nil
}

func (p Policy) blocks(a netip.Addr) bool {
	if a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified() {
		return true
	}
	if _, ok := metadata[a]; ok {
		return true
	}
	return p.BlockPrivate && (a.IsLoopback() || a.IsPrivate() || shared.Contains(a))
}

var (
	nat64      = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour  = netip.MustParsePrefix("2002::/16")
	compatible = netip.MustParsePrefix("::/96")
)

// embedded returns the IPv4 address that a translation address leads to.
func embedded(addr netip.Addr) netip.Addr {
	b := addr.As16()
	switch {
	case addr.Is4() || addr.Is4In6():
		return netip.Addr{}
	case nat64.Contains(addr.WithZone("")):
		return netip.AddrFrom4([4]byte(b[12:]))
	case sixToFour.Contains(addr.WithZone("")):
		return netip.AddrFrom4([4]byte(b[2:6]))
	case compatible.Contains(addr.WithZone("")) && !addr.IsLoopback() && !addr.IsUnspecified():
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return netip.Addr{}
}

// Control is a net.Dialer's Control function that applies p.
func (p Policy) Control(network, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %s %s", ErrBlocked, network, address)
	}
	return p.Check(ap.Addr())
}

// Dialer returns a dialer that applies p to every address it tries.
func (p Policy) Dialer() *net.Dialer {
	return &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second, Control: p.Control}
}

// Transport returns a new HTTP transport that dials through p. The proxy of
// the environment is used where there is one; it then resolves names itself, so
// only addresses written out in the URL are checked for it.
func (p Policy) Transport() *http.Transport {
	return &http.Transport{
		Proxy:                 p.proxy,
		DialContext:           p.Dialer().DialContext,
		ForceAttemptHTTP2:     true,
		MaxIdleConns:          64,
		MaxIdleConnsPerHost:   32,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ExpectContinueTimeout: time.Second,
	}
}

func (p Policy) proxy(r *http.Request) (*url.URL, error) {
	if addr, err := netip.ParseAddr(r.URL.Hostname()); err == nil {
		if err := p.Check(addr); err != nil {
			return nil, err
		}
	}
	return http.ProxyFromEnvironment(r)
}
