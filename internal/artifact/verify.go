package artifact

import (
	"context"
	"errors"
	"io"
	"sync"

	"filippo.io/age"
	"golang.org/x/sync/errgroup"

	"github.com/dataguardian/dataguardian/storage"
)

// Report says what Verify proved.
type Report struct {
	Manifest    Manifest
	Members     int
	Parts       int
	StoredBytes int64
	RawBytes    int64 // 0 when not decoded
	// Decoded says that every member was also decrypted, decompressed and compared
	// with its raw digest; false for encrypted ones without identities.
	Decoded bool
}

// Verify reads every stored byte of the artifact at path again and proves it
// against the manifest, and what is inside of it; see Source.Open for errors.
// progress, which may be nil, gets the stored bytes read so far and in all, one call
// at a time.
func Verify(ctx context.Context, d storage.Driver, path string, identities []age.Identity, progress func(done, total int64)) (Report, error) {
	return verify(ctx, d, path, identities, progress, func(m ManifestMember) bool {
		return m.Encryption == NoEncryption || len(identities) > 0
	})
}

// VerifyStored is Verify without a look inside, for who reads the members right
// after, which proves what is inside.
func VerifyStored(ctx context.Context, d storage.Driver, path string, progress func(done, total int64)) (Report, error) {
	return verify(ctx, d, path, nil, progress, func(ManifestMember) bool { return false })
}

func verify(ctx context.Context, d storage.Driver, path string, identities []age.Identity, progress func(done, total int64), decodes func(ManifestMember) bool) (Report, error) {
	m, err := OpenManifest(ctx, d, path)
	if err != nil {
		return Report{}, err
	}
	s := NewSource(d, path, m, identities...)
	if progress != nil {
		var mu sync.Mutex
		var done int64
		s.OnRead = func(n int) {
			mu.Lock()
			defer mu.Unlock()
			done += int64(n)
			progress(done, m.Totals.StoredSize)
		}
	}
	r := Report{Manifest: m, Decoded: true}
	for _, member := range m.Members {
		decoded := decodes(member)
		if err := s.prove(ctx, member, decoded); err != nil {
			return r, err
		}
		r.Members++
		r.Parts += len(member.Parts)
		r.StoredBytes += member.StoredSize
		if decoded {
			r.RawBytes += member.RawSize
		}
		r.Decoded = r.Decoded && decoded
	}
	return r, nil
}

// prove reads one member to its end, raw or as stored.
func (s *Source) prove(ctx context.Context, m ManifestMember, decoded bool) error {
	if !decoded {
		return s.proveStored(ctx, m)
	}
	r, err := s.open(ctx, m)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, make([]byte, chunkSize))
	return err
}

// partsAtOnce is how many parts are read at once by a proof that needs no order.
const partsAtOnce = 3

// proveStored reads a member's parts as they are.
func (s *Source) proveStored(ctx context.Context, m ManifestMember) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(partsAtOnce)
	for _, p := range m.Parts {
		g.Go(func() error {
			f := s.fetch(ctx, ManifestMember{Parts: []ManifestPart{p}})
			defer f.Close() //nolint:errcheck // only read; what went wrong is in f.err
			for f.advance() == nil {
				continue
			}
			if !errors.Is(f.err, io.EOF) {
				return f.err
			}
			return nil
		})
	}
	return g.Wait() //nolint:wrapcheck // they are typed
}
