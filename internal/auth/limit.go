package auth

import (
	"context"
	"math"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// limits bound how often a password may be tried. An address has fewer tries than
// an account, so that one attacker alone cannot lock somebody out; many cannot lock out
// a regular, whose tries only his own address bounds. Each process counts
// for itself, which costs nothing; what it lets through is counted for all of them.
type limits struct {
	addresses, accounts *limiter
	sites               *limiter // of IPv6: who has one network often has thousands
	visits              *limiter // of an address that begins to log in with the OpenID provider
	lookups             *limiter // of who has a session
	returns             *places  // of who comes back from the OpenID provider
	shared              TryStore // nil: this process is the only one
	regulars            *regulars
}

func newLimits(shared TryStore) limits {
	return limits{
		addresses: newLimiter(10, 6*time.Second), accounts: newLimiter(30, 2*time.Second), sites: newLimiter(40, time.Second),
		visits: newLimiter(60, time.Second), lookups: newLimiter(20, 100*time.Millisecond), returns: newPlaces(), shared: shared, regulars: newRegulars(),
	}
}

// visitor is who tries to log in.
type visitor struct {
	address string
	account string // empty: counts for none
	regular bool   // has logged in with this account from there
}

// counter is a bucket that a try is taken from.
type counter struct {
	*limiter

	kind, of string
}

// key names the bucket for all processes. What people type is known by its digest: some
// type their password in place of their name.
func (c counter) key() digest { return hashOf(c.kind + " " + c.of) }

func (l limits) counters(v visitor) []counter {
	all := []counter{{l.addresses, "address", network(v.address)}}
	if v.regular {
		return all
	}
	if site := site(v.address); site != "" {
		all = append(all, counter{l.sites, "site", site})
	}
	if v.account != "" {
		all = append(all, counter{l.accounts, "account", strings.ToLower(v.account)})
	}
	return all
}

// take takes one try from each bucket: of this process, and then of all.
func (l limits) take(ctx context.Context, v visitor) error {
	if err := l.try(v); err != nil {
		return err
	}
	return l.tryAll(ctx, v)
}

// try takes one try from each bucket of this process. A refusal costs none.
func (l limits) try(v visitor) error {
	all := l.counters(v)
	for i, c := range all {
		if wait, ok := c.take(c.of); !ok {
			for _, taken := range all[:i] {
				taken.giveBack(taken.of)
			}
			return tooMany(wait)
		}
	}
	return nil
}

// tryAll takes them in all processes, after try. A refusal costs a try of the bucket
// that refuses, in this process: it refuses by itself then.
func (l limits) tryAll(ctx context.Context, v visitor) error {
	if l.shared == nil {
		return nil
	}
	all := l.counters(v)
	for i, c := range all {
		key := c.key()
		wait, err := l.shared.Take(ctx, key[:], int(c.size), c.every)
		if err != nil {
			return err
		}
		if wait > 0 {
			for _, other := range slices.Delete(slices.Clone(all), i, i+1) {
				other.giveBack(other.of)
			}
			if err := l.giveBackAll(ctx, all[:i]); err != nil {
				return err
			}
			return tooMany(wait)
		}
	}
	return nil
}

// refuses returns the refusal that a try of an address is sure to meet in this process,
// whatever the account; nil: it has to be looked at. It takes nothing. regulars tells
// that some have logged in from there, whom the site does not bound.
func (l limits) refuses(address string, regulars bool) error {
	if wait := l.addresses.wait(network(address)); wait > 0 {
		return tooMany(wait)
	}
	if site := site(address); site != "" && !regulars {
		if wait := l.sites.wait(site); wait > 0 {
			return tooMany(wait)
		}
	}
	return nil
}

func tooMany(wait time.Duration) error {
	seconds := int(math.Ceil(wait.Seconds()))
	return errs.New(errs.Exhausted, errs.CodeRateLimited, "too many attempts to log in; try again in %d seconds", seconds).With("retry_after_seconds", seconds)
}

// good gives the tries of a good login back.
func (l limits) good(ctx context.Context, v visitor) error {
	all := l.counters(v)
	for _, c := range all {
		c.giveBack(c.of)
	}
	return l.giveBackAll(ctx, all)
}

// giveBackAll gives tries back in all processes.
func (l limits) giveBackAll(ctx context.Context, all []counter) error {
	if l.shared == nil {
		return nil
	}
	for _, c := range all {
		key := c.key()
		if err := l.shared.GiveBack(ctx, key[:], int(c.size)); err != nil {
			return err
		}
	}
	return nil
}

// regulars are those who have logged in before, from where they did. They do not wait
// behind a flood of strangers.
type regulars struct {
	mu     sync.Mutex
	known  map[string]int      // how many of their attempts go on
	places map[string]struct{} // networks of those who are known
}

func newRegulars() *regulars {
	return &regulars{known: map[string]int{}, places: map[string]struct{}{}}
}

// maxAhead is how many attempts of one regular at once go before strangers: one who has
// an account must not keep all others out.
const maxAhead = 4

func regular(address, account string) string {
	return network(address) + " " + strings.ToLower(account)
}

func (r *regulars) add(address, account string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.known) >= maxBuckets {
		clear(r.known)
		clear(r.places)
	}
	key := regular(address, account)
	if _, ok := r.known[key]; !ok {
		r.known[key] = 0
		r.places[network(address)] = struct{}{}
	}
}

// from reports whether there is a regular of any account there.
func (r *regulars) from(address string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.places[network(address)]
	return ok
}

func (r *regulars) has(address, account string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.known[regular(address, account)]
	return ok
}

// begin reports whether an attempt goes before those of strangers, until end is called.
func (r *regulars) begin(address, account string) (ahead bool, end func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := regular(address, account)
	if going, ok := r.known[key]; !ok || going >= maxAhead {
		return false, func() {}
	}
	r.known[key]++
	return true, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.known[key] > 0 { // it may have been forgotten meanwhile
			r.known[key]--
		}
	}
}

// network is what one attacker surely has: an IPv4 address, or an IPv6 network.
func network(address string) string {
	if prefix, ok := ipv6Network(address, 64); ok {
		return prefix
	}
	return address
}

// site is what one attacker may well have of IPv6; empty for IPv4.
func site(address string) string {
	prefix, _ := ipv6Network(address, 48)
	return prefix
}

func ipv6Network(address string, bits int) (string, bool) {
	ip, err := netip.ParseAddr(address)
	if err != nil || ip.Unmap().Is4() {
		return "", false
	}
	prefix, err := ip.Prefix(bits)
	return prefix.String(), err == nil
}

// maxBuckets bounds the memory of a limiter.
const maxBuckets = 10_000

// limiter is a bucket of tries for each key; one comes back every so often.
type limiter struct {
	size  float64
	every time.Duration

	mu      sync.Mutex
	buckets map[string]*bucket
}

type bucket struct {
	tries float64
	at    time.Time
}

func newLimiter(size int, every time.Duration) *limiter {
	return &limiter{size: float64(size), every: every, buckets: map[string]*bucket{}}
}

// take reports whether there was a try, and when there will be one.
func (l *limiter) take(key string) (time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.of(key)
	if b.tries < 1 {
		return time.Duration((1 - b.tries) * float64(l.every)), false
	}
	b.tries--
	return 0, true
}

// wait is how long there will be no try; 0: there is one. It takes nothing, and
// remembers nobody.
func (l *limiter) wait(key string) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.buckets[key]; !ok {
		return 0
	}
	return max(0, time.Duration((1-l.of(key).tries)*float64(l.every)))
}

func (l *limiter) giveBack(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.of(key)
	b.tries = min(b.tries+1, l.size)
}

func (l *limiter) of(key string) *bucket {
	now := time.Now()
	b, ok := l.buckets[key]
	if !ok {
		l.makeRoom(now)
		b = &bucket{tries: l.size, at: now}
		l.buckets[key] = b
	}
	b.tries = min(b.tries+float64(now.Sub(b.at))/float64(l.every), l.size)
	b.at = now
	return b
}

// makeRoom forgets full buckets; should none be, all are.
func (l *limiter) makeRoom(now time.Time) {
	if len(l.buckets) < maxBuckets {
		return
	}
	for key, b := range l.buckets {
		if b.tries+float64(now.Sub(b.at))/float64(l.every) >= l.size {
			delete(l.buckets, key)
		}
	}
	if len(l.buckets) >= maxBuckets {
		clear(l.buckets)
	}
}
