package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// Params of argon2id.
type Params struct {
	MemoryKiB uint32
	Passes    uint32
	Threads   uint8
}

// DefaultParams are those that OWASP recommends: 19 MiB, two passes, one thread.
func DefaultParams() Params { return Params{MemoryKiB: 19 << 10, Passes: 2, Threads: 1} }

const (
	saltBytes = 16
	keyBytes  = 32

	// maxMemoryKiB and maxPasses bound what a stored hash may ask for.
	maxMemoryKiB = 1 << 20
	maxPasses    = 100

	// maxWaiting bounds who waits for a hash; more are turned away.
	maxWaiting = 16
	// maxWait is how long one waits.
	maxWait = 10 * time.Second
	// restShare is how many times as long as a hash computes nobody else may hash: a
	// fifth of one core, and one hash's memory, is all that logins take. While strangers
	// are turned away it is floodShare, half of that: more would serve an attacker only.
	restShare, floodShare = 4, 9
)

// ErrTooManyLogins turns away who comes while too many others log in.
var ErrTooManyLogins = errs.New(errs.Exhausted, errs.CodeRateLimited, "too many people log in at once; try again in a minute")

// Passwords hashes passwords with argon2id, one at a time.
type Passwords struct {
	params  Params
	decoy   string // what the password of nobody is held against
	turns   line
	fastest time.Duration // that a hash of params took; belongs to who has the turn
}

// NewPasswords returns a hasher. It reads hashes of any parameters.
func NewPasswords(p Params) *Passwords {
	hasher := &Passwords{params: p}
	noise := make([]byte, saltBytes+keyBytes)
	_, _ = rand.Read(noise) // never fails
	hasher.decoy = p.encode(noise[:saltBytes], noise[saltBytes:])
	return hasher
}

// Hash returns a password's hash in the PHC format. It fails with CodeRateLimited
// when too many wait for one.
func (p *Passwords) Hash(ctx context.Context, password string) (string, error) {
	salt := make([]byte, saltBytes)
	_, _ = rand.Read(salt) // never fails
	key, err := p.key(ctx, password, salt, p.params, true)
	return p.params.encode(salt, key), err
}

// Check reports whether a password belongs to a hash. An empty hash belongs to no
// password and takes as long. A regular goes before all who are none. It fails as Hash
// does.
func (p *Passwords) Check(ctx context.Context, hash, password string, regular bool) (bool, error) {
	nobody := hash == ""
	if nobody {
		hash = p.decoy
	}
	params, salt, want, err := decodeHash(hash)
	if err != nil {
		return false, err
	}
	got, err := p.key(ctx, password, salt, params, regular)
	return err == nil && subtle.ConstantTimeCompare(got, want) == 1 && !nobody, err
}

// full reports whether one more would be turned away.
func (p *Passwords) full(regular bool) bool { return p.turns.full(regular) }

// key waits for its turn and derives. The next turn begins after a rest.
func (p *Passwords) key(ctx context.Context, password string, salt []byte, params Params, regular bool) ([]byte, error) {
	if err := p.turns.enter(ctx, regular); err != nil {
		return nil, err
	}
	began := time.Now()
	key := argon2.IDKey([]byte(password), salt, params.Passes, params.MemoryKiB, params.Threads, keyBytes)
	time.AfterFunc(p.rest(p.computed(params, time.Since(began))), p.turns.leave)
	return key, nil
}

// rest is how long nobody hashes after a hash.
func (p *Passwords) rest(computed time.Duration) time.Duration {
	if p.full(false) {
		return floodShare * computed
	}
	return restShare * computed
}

// computed is how long a hash has computed, as far as that can be known: on a busy
// machine it took longer, but the rest of the time others computed, and a rest for it
// would only make people wait.
func (p *Passwords) computed(params Params, took time.Duration) time.Duration {
	if params != p.params {
		return took
	}
	if p.fastest == 0 || took < p.fastest {
		p.fastest = took
	}
	return p.fastest
}

func (p Params) encode(salt, key []byte) string {
	text := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, p.MemoryKiB, p.Passes, p.Threads, text(salt), text(key))
}

// decodeHash reads what encode wrote.
func decodeHash(hash string) (p Params, salt, key []byte, err error) {
	fields := strings.Split(hash, "$")
	damaged := errs.New(errs.Internal, errs.CodeInternal, "a stored password cannot be read; set it again")
	if len(fields) != 6 || fields[1] != "argon2id" || fields[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return p, nil, nil, damaged
	}
	if _, err := fmt.Sscanf(fields[3], "m=%d,t=%d,p=%d", &p.MemoryKiB, &p.Passes, &p.Threads); err != nil || p.Passes == 0 || p.Threads == 0 || p.MemoryKiB > maxMemoryKiB || p.Passes > maxPasses {
		return p, nil, nil, damaged
	}
	salt, badSalt := base64.RawStdEncoding.DecodeString(fields[4])
	key, badKey := base64.RawStdEncoding.DecodeString(fields[5])
	if badSalt != nil || badKey != nil || len(key) != keyBytes {
		return p, nil, nil, damaged
	}
	return p, salt, key, nil
}
