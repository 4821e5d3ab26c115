package auth

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPlacesAreFewForOneNetworkAndSomeAreNoStrangers(t *testing.T) {
	const many = 100
	fill := func(p *places, regular bool, address func(n int) string) (leave []func()) {
		for n := range many {
			if l, ok := p.take(address(n), regular); ok {
				leave = append(leave, l)
			}
		}
		return leave
	}
	here := func(int) string { return "192.0.2.1" }
	network := func(n int) string { return fmt.Sprintf("2001:db8:7:1::%x", n+1) }
	site := func(n int) string { return fmt.Sprintf("2001:db8:8:%x::1", n+1) }
	everywhere := func(n int) string { return fmt.Sprint("198.51.100.", n) }
	for _, c := range []struct {
		what    string
		from    func(int) string
		regular bool
		want    int
	}{
		{"an address", here, true, 4}, {"a network of IPv6", network, true, 4}, {"a site of IPv6", site, true, 8},
		{"strangers", everywhere, false, 12}, {"regulars", everywhere, true, 16},
	} {
		p := newPlaces()
		for range 2 {
			leave := fill(p, c.regular, c.from)
			require.Len(t, leave, c.want, c.what)
			for _, l := range leave {
				l()
			}
			require.Empty(t, p.by, "nobody is remembered")
			require.Zero(t, p.taken)
		}
	}
	p := newPlaces()
	fill(p, false, everywhere)
	require.Len(t, fill(p, true, here), 4, "strangers leave some")
}
