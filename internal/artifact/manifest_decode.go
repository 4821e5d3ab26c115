package artifact

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/storage"
)

// OpenManifest reads the manifest of the artifact at path. It fails with
// NotFound when there is none, ARTIFACT_CORRUPT when it was changed or makes no
// sense, ARTIFACT_TOO_NEW when a newer program wrote it, and STORAGE_UNAVAILABLE or STORAGE_AUTH_FAILED when it cannot be read.
func OpenManifest(ctx context.Context, d storage.Driver, path string) (Manifest, error) {
	if err := checkPath(path); err != nil {
		return Manifest{}, err
	}
	r, err := d.Open(ctx, path+"/"+manifestFile, 0, -1)
	if err != nil {
		return Manifest{}, manifestFailure(ctx, err)
	}
	defer r.Close()
	source := &notedErrors{r: r}
	m, err := DecodeManifest(source)
	if source.err != nil {
		return Manifest{}, manifestFailure(ctx, source.err)
	}
	return m, err
}

// notedErrors remembers what the storage said, apart from the decoder.
type notedErrors struct {
	r   io.Reader
	err error
}

func (n *notedErrors) Read(p []byte) (int, error) {
	k, err := n.r.Read(p)
	if err != nil && err != io.EOF {
		n.err = err
	}
	return k, err
}

func manifestFailure(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ended(context.Cause(ctx))
	case errors.Is(err, storage.ErrNotExist):
		return errs.Wrap(err, errs.NotFound, errs.CodeNotFound, "the storage has no manifest there, so there is no complete backup: choose another copy or another backup")
	}
	return readFailure(err, "reading the manifest")
}

// DecodeManifest reads one document of at most 64 MiB and checks that it is
// whole, of a version this program knows, and consistent: names are what the
// members demand, sums match. The error is ARTIFACT_CORRUPT, or ARTIFACT_TOO_NEW
// for what a newer program wrote, which is nobody's damage.
func DecodeManifest(r io.Reader) (Manifest, error) {
	document, err := readBounded(r, MaxManifest)
	if err != nil {
		return Manifest{}, corrupt(err, "its manifest cannot be read")
	}
	var version struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(document, &version); err != nil {
		return Manifest{}, corrupt(err, "its manifest is not JSON")
	}
	switch {
	case version.Version > manifestVersion:
		return Manifest{}, tooNew(nil, "its manifest has version %d, and this one reads version %d", version.Version, manifestVersion)
	case version.Version < manifestVersion:
		return Manifest{}, corrupt(nil, "its manifest has the version %d, which there never was", version.Version)
	}
	var m Manifest
	if err := json.Unmarshal(document, &m); err != nil {
		return Manifest{}, corrupt(err, "its manifest has a value that is not acceptable")
	}
	if err := checkDigest(document, m.Digest); err != nil {
		return Manifest{}, err
	}
	known := json.NewDecoder(bytes.NewReader(document))
	known.DisallowUnknownFields()
	if err := known.Decode(&m); err != nil {
		return Manifest{}, tooNew(err, "its manifest is whole and says something that this one does not know")
	}
	if err := m.check(); err != nil {
		return Manifest{}, corrupt(err, "its manifest contradicts itself")
	}
	return m, nil
}

func checkDigest(document []byte, want string) error {
	blank := bytes.Clone(document)
	field := digestField(blank)
	if field == nil || string(field) != want {
		return corrupt(nil, "its manifest does not end in its own digest")
	}
	copy(field, noDigest)
	sum := sha256.Sum256(blank)
	if hex.EncodeToString(sum[:]) != want {
		return corrupt(nil, "its manifest was changed after it was written")
	}
	return nil
}

// check refuses anything a writer of this version does not write.
func (m Manifest) check() error {
	if len(m.Members) == 0 {
		return errors.New("there are no members")
	}
	names := map[string]bool{}
	var raw, stored, parts int64
	for _, member := range m.Members {
		if names[member.Name] {
			return fmt.Errorf("the member %q is there twice", member.Name)
		}
		names[member.Name] = true
		if err := member.check(); err != nil {
			return fmt.Errorf("the member %q: %w", member.Name, err)
		}
		if !add(&raw, member.RawSize) || !add(&stored, member.StoredSize) || !add(&parts, int64(len(member.Parts))) {
			return errors.New("the sizes are out of range")
		}
	}
	if parts > MaxParts {
		return fmt.Errorf("there are %d parts", parts)
	}
	if m.Totals != m.sum() {
		return errors.New("the totals are not the sums")
	}
	return nil
}

func (d ManifestMember) check() error {
	if err := checkMember(d.Name); err != nil {
		return err
	}
	if err := CheckCompression(d.Compression, nil); err != nil {
		return err
	}
	if d.Encryption != Age && d.Encryption != NoEncryption {
		return fmt.Errorf("%q is not a known encryption", d.Encryption)
	}
	if d.RawSize < 0 || !isDigest(d.RawSHA256) {
		return errors.New("its raw size or digest is not acceptable")
	}
	if len(d.Parts) == 0 {
		return errors.New("it has no parts")
	}
	var stored int64
	for i, p := range d.Parts {
		if want := partName(d.partBase(), i+1, len(d.Parts) == 1); p.Name != want {
			return fmt.Errorf("part %d is called %q and not %q", i+1, p.Name, want)
		}
		if p.Size < 0 || !isDigest(p.SHA256) || !add(&stored, p.Size) {
			return fmt.Errorf("the size or digest of %q is not acceptable", p.Name)
		}
	}
	if stored != d.StoredSize {
		return errors.New("the stored size is not the sum of its parts")
	}
	return nil
}

// add reports whether sum + n is still in range.
func add(sum *int64, n int64) bool {
	if n < 0 || *sum > math.MaxInt64-n {
		return false
	}
	*sum += n
	return true
}

func isDigest(s string) bool {
	if len(s) != hex.EncodedLen(sha256.Size) {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
