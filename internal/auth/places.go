package auth

import "sync"

// Who comes back from the OpenID provider costs a call of it, which lasts as long as the
// provider likes, and longest for codes that somebody has made up. So only so many are
// served at once, few of them from one network, and some places are for networks from
// where somebody has logged in before: no stranger takes those.
const (
	placesInAll       = 16
	placesOfStrangers = 12
	placesOfSite      = 8 // see site
	placesOfNetwork   = 4 // see network
)

// places counts who is served, by network and site.
type places struct {
	mu    sync.Mutex
	taken int
	by    map[string]int
}

func newPlaces() *places { return &places{by: map[string]int{}} }

// take takes a place until leave is called; false: there is none for this address.
// regular tells that somebody has logged in from there before.
func (p *places) take(address string, regular bool) (leave func(), ok bool) {
	network, site := network(address), site(address)
	limit := placesOfStrangers
	if regular {
		limit = placesInAll
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.taken >= limit || p.by[network] >= placesOfNetwork || p.by[site] >= placesOfSite {
		return nil, false
	}
	p.add(network, site, 1)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.add(network, site, -1)
	}, true
}

// add counts a place more or less; of IPv4 there are no sites.
func (p *places) add(network, site string, n int) {
	p.taken += n
	for _, key := range []string{network, site} {
		if p.by[key] += n; p.by[key] == 0 || key == "" {
			delete(p.by, key)
		}
	}
}
