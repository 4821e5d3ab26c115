package auth

import (
	"context"
	"math"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// limits bound how often a password may be tried. An address has fewer tries than
// an account, so that one attacker alone cannot lock somebody out. Each process counts
// for itself, which costs nothing; what it lets through is counted for all of them.
type limits struct {
	addresses, accounts *limiter
	visits              *limiter // of an address that begins to log in with the OpenID provider
	shared              TryStore // nil: this process is the only one
	regulars            *regulars
}

func newLimits(shared TryStore) limits {
	return limits{
		addresses: newLimiter(10, 6*time.Second), accounts: newLimiter(30, 2*time.Second), visits: newLimiter(60, time.Second),
		shared: shared, regulars: &regulars{known: map[string]struct{}{}},
	}
}

// try takes one try of an address and one of an account, in this process; an empty
// account counts for none.
func (l limits) try(address, account string) error {
	wait, ok := l.addresses.take(network(address))
	if ok && account != "" {
		wait, ok = l.accounts.take(strings.ToLower(account))
	}
	if ok {
		return nil
	}
	return tooMany(wait)
}

// tryAll takes them in all processes.
func (l limits) tryAll(ctx context.Context, address, account string) error {
	for _, b := range l.buckets(address, account) {
		wait, err := l.shared.Take(ctx, b.key[:], int(b.size), b.every)
		if err != nil {
			return err
		}
		if wait > 0 {
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
func (l limits) good(ctx context.Context, address, account string) error {
	l.addresses.giveBack(network(address))
	if account != "" {
		l.accounts.giveBack(strings.ToLower(account))
	}
	for _, b := range l.buckets(address, account) {
		if err := l.shared.GiveBack(ctx, b.key[:], int(b.size)); err != nil {
			return err
		}
	}
	return nil
}

// sharedBucket is a bucket of all processes. What people type is known by its digest:
// some type their password in place of their name.
type sharedBucket struct {
	*limiter
	key digest
}

func (l limits) buckets(address, account string) []sharedBucket {
	if l.shared == nil {
		return nil
	}
	all := []sharedBucket{{l.addresses, hashOf("address " + network(address))}}
	if account != "" {
		all = append(all, sharedBucket{l.accounts, hashOf("account " + strings.ToLower(account))})
	}
	return all
}

// regulars are those who have logged in before, from where they did. They do not wait
// behind a flood of strangers.
type regulars struct {
	mu    sync.Mutex
	known map[string]struct{}
}

func regular(address, account string) string {
	return network(address) + " " + strings.ToLower(account)
}

func (r *regulars) add(address, account string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.known) >= maxBuckets {
		clear(r.known)
	}
	r.known[regular(address, account)] = struct{}{}
}

func (r *regulars) has(address, account string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.known[regular(address, account)]
	return ok
}

// network is what one attacker surely has: an IPv4 address, or an IPv6 network.
func network(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil || ip.Unmap().Is4() {
		return address
	}
	prefix, err := ip.Prefix(64)
	if err != nil {
		return address
	}
	return prefix.String()
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
