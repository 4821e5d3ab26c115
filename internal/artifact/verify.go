package artifact

import (
	"context"
	"io"
	"sync/atomic"

	"filippo.io/age"
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
// against the manifest; see Source.Open for errors. progress, which may be nil,
// gets the stored bytes read so far and in all.
func Verify(ctx context.Context, d storage.Driver, path string, identities []age.Identity, progress func(done, total int64)) (Report, error) {
	m, err := OpenManifest(ctx, d, path)
	if err != nil {
		return Report{}, err
	}
	s := NewSource(d, path, m, identities...)
	var done atomic.Int64
	if progress != nil {
		s.OnRead = func(n int) { progress(done.Add(int64(n)), m.Totals.StoredSize) }
	}
	r := Report{Manifest: m, Decoded: true}
	for _, member := range m.Members {
		decoded := member.Encryption == NoEncryption || len(identities) > 0
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
	open := s.open
	if !decoded {
		open = s.stored
	}
	r, err := open(ctx, m)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(io.Discard, r)
	return err
}

// stored streams a member's parts as they are.
func (s *Source) stored(ctx context.Context, m ManifestMember) (io.ReadCloser, error) {
	return s.fetch(ctx, m), nil
}
