package server

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// arrival is where a request came from.
type arrival struct {
	address string // without a port
	secure  bool   // the caller's connection is encrypted
}

type arrivalKey struct{}

// arrived notes where requests came from, as far as trusted proxies tell it.
func arrived(trusted proxies, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := trusted.arrival(r.RemoteAddr, r.Header.Values, r.TLS != nil)
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), arrivalKey{}, a)))
	})
}

// arrivalOf returns where a request came from.
func arrivalOf(r *http.Request) arrival {
	if a, ok := r.Context().Value(arrivalKey{}).(arrival); ok {
		return a
	}
	return arrival{hostOf(r.RemoteAddr), r.TLS != nil}
}

// proxies are the networks whose word is taken for whom they speak for.
type proxies []netip.Prefix

func (p proxies) trust(a netip.Addr) bool {
	return slices.ContainsFunc(p, func(network netip.Prefix) bool { return network.Contains(a) })
}

// arrival tells where a request came from that peer (host:port) has sent. Anybody can
// send headers: they count only when a trusted proxy does, and of the list of
// addresses only what trusted proxies have added at its end.
func (p proxies) arrival(peer string, header func(name string) []string, secure bool) arrival {
	here, ok := parseAddress(peer)
	if !ok || !p.trust(here) {
		return arrival{hostOf(peer), secure}
	}
	hops := strings.Split(strings.Join(header("X-Forwarded-For"), ","), ",")
	steps := 0
	for _, hop := range slices.Backward(hops) {
		before, ok := parseAddress(strings.TrimSpace(hop))
		if !ok {
			break
		}
		here = before
		steps++
		if !p.trust(here) {
			break
		}
	}
	schemes := strings.Split(strings.Join(header("X-Forwarded-Proto"), ","), ",")
	// The proxy that wrote down the address wrote down the scheme, too, unless those
	// after it keep one scheme only.
	first := strings.TrimSpace(schemes[max(len(schemes)-max(steps, 1), 0)])
	return arrival{here.String(), secure || strings.EqualFold(first, "https")}
}

// parseAddress reads an address with or without a port.
func parseAddress(text string) (netip.Addr, bool) {
	if both, err := netip.ParseAddrPort(text); err == nil {
		return both.Addr().WithZone("").Unmap(), true
	}
	a, err := netip.ParseAddr(strings.Trim(text, "[]"))
	return a.WithZone("").Unmap(), err == nil
}

func hostOf(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return host
}
