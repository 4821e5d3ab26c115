package artifact

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"filippo.io/age"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/storage"
)

// Source reads an artifact back. It implements engine.Source. Methods may be
// called concurrently; every open member holds about 4 MiB of read-ahead
// besides its decoder.
type Source struct {
	// Retry says how often a read that fails is tried again where it stopped.
	Retry Retry
	// StallTimeout ends and retries a read that brings no byte for so long.
	StallTimeout time.Duration
	// OnRead is told how many stored bytes were read, from several goroutines.
	OnRead func(n int)

	driver     storage.Driver
	path       string
	manifest   Manifest
	identities []age.Identity
}

var (
	_ engine.Source = (*Source)(nil)
	_ engine.Prover = (*memberReader)(nil)
)

// NewSource returns the artifact at path in d that m describes. identities may
// be empty for artifacts that are not encrypted.
func NewSource(d storage.Driver, path string, m Manifest, identities ...age.Identity) *Source {
	return &Source{
		Retry:        Retry{Attempts: 6},
		StallTimeout: DefaultStallTimeout,
		OnRead:       func(int) {},
		driver:       d, path: path, manifest: m, identities: identities,
	}
}

// Members lists the members in the order they were created.
func (s *Source) Members() []engine.Member {
	all := make([]engine.Member, 0, len(s.manifest.Members))
	for _, m := range s.manifest.Members {
		all = append(all, engine.Member{Name: m.Name, Size: m.RawSize})
	}
	return all
}

// Open streams a member's raw bytes. The stream ends in io.EOF only after every
// part's digest, the raw size and the raw digest were proven; more raw bytes
// than recorded are never given out. Errors, from Open or Read: ARTIFACT_CORRUPT
// names what differs, DECRYPTION_FAILED means that no identity fits,
// STORAGE_UNAVAILABLE and STORAGE_AUTH_FAILED that the storage could not be read.
func (s *Source) Open(ctx context.Context, member string) (io.ReadCloser, error) {
	for _, m := range s.manifest.Members {
		if m.Name == member {
			return s.open(ctx, m)
		}
	}
	return nil, errs.New(errs.NotFound, errs.CodeNotFound, "the backup has no member %q", member)
}

func (s *Source) open(ctx context.Context, m ManifestMember) (io.ReadCloser, error) {
	if m.Encryption == Age && len(s.identities) == 0 {
		return nil, errs.New(errs.Conflict, errs.CodeDecryptionFailed, "the backup is encrypted and no secret key was given: provide one of its recipients' keys")
	}
	f := s.fetch(ctx, m)
	r := &memberReader{member: m, fetch: f, hash: sha256.New(), left: m.RawSize, release: func() {}}
	if err := r.build(s.identities); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// memberReader is fetch, decrypted and decompressed, with the raw bytes counted
// and hashed.
type memberReader struct {
	member  ManifestMember
	fetch   *fetch
	body    io.Reader
	release func()
	hash    hash.Hash
	left    int64
	err     error
}

// build connects the stages.
func (r *memberReader) build(identities []age.Identity) error {
	plain := io.Reader(r.fetch)
	if r.member.Encryption == Age {
		var err error
		if plain, err = age.Decrypt(r.fetch, identities...); err != nil {
			return r.undecipherable(err)
		}
	}
	body, release, err := decode(r.member.Compression, plain)
	if err != nil {
		return r.undecodable(err)
	}
	r.body, r.release = body, release
	return nil
}

// Read never returns more than the recorded bytes.
func (r *memberReader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if r.left < int64(len(p)) {
		p = p[:r.left+1] // one more tells that there are too many
	}
	n, err := r.body.Read(p)
	if int64(n) > r.left {
		return 0, r.fail(corrupt(nil, "%s holds more than the %d bytes it had", r.member.Name, r.member.RawSize))
	}
	r.hash.Write(p[:n])
	r.left -= int64(n)
	switch {
	case errors.Is(err, io.EOF):
		if err := r.fail(r.end()); !errors.Is(err, io.EOF) || n == 0 {
			return n, err
		}
	case err != nil:
		return n, r.fail(r.undecodable(err))
	}
	return n, nil
}

// fail makes err what every later Read returns.
func (r *memberReader) fail(err error) error {
	r.err = err
	return err
}

// end proves what can only be known at the end, and returns io.EOF when all is
// well.
func (r *memberReader) end() error {
	r.release()
	extra, err := io.Copy(io.Discard, r.fetch)
	switch {
	case err != nil:
		return err
	case extra > 0:
		return corrupt(nil, "%s has %d stored bytes too many", r.member.Name, extra)
	case r.left > 0:
		return corrupt(nil, "%s ends %d bytes early", r.member.Name, r.left)
	case hex.EncodeToString(r.hash.Sum(nil)) != r.member.RawSHA256:
		return corrupt(nil, "%s has other bytes than it had", r.member.Name)
	}
	return io.EOF
}

// Prove implements engine.Prover: a part is what is stored as one. Parts that a decoder
// has read ahead count as read.
func (r *memberReader) Prove() error {
	switch {
	case errors.Is(r.err, io.EOF):
		return nil
	case r.err != nil:
		return r.err
	}
	r.release()
	if err := r.fetch.prove(); err != nil {
		return r.fail(err)
	}
	r.err = io.ErrClosedPipe
	return nil
}

// undecodable finds out why a decoder failed: the stored bytes come first. The
// decoder's goroutines are ended before, they read too.
func (r *memberReader) undecodable(err error) error {
	r.release()
	if stored := r.fetch.prove(); stored != nil {
		return stored
	}
	return corrupt(err, "%s cannot be decoded", r.member.Name)
}

func (r *memberReader) undecipherable(err error) error {
	if stored := r.fetch.prove(); stored != nil {
		return stored
	}
	var none *age.NoIdentityMatchError
	if errors.As(err, &none) {
		return errs.Wrap(err, errs.Conflict, errs.CodeDecryptionFailed, "the secret key does not open this backup: provide the key of one of its recipients")
	}
	return corrupt(err, "the encryption header of %s is not acceptable", r.member.Name)
}

// Close ends the reading. It is fine before the end.
func (r *memberReader) Close() error {
	if r.err == nil {
		r.err = fmt.Errorf("%s: %w", r.member.Name, io.ErrClosedPipe)
	}
	err := r.fetch.Close()
	r.release()
	return err
}
