// Package secret encrypts stored credentials. The key file holds a Tink keyset
// of AES-256-GCM keys: the primary key writes, every key reads, so that a new
// key can be put in use before the old one goes.
package secret

import (
	"encoding/binary"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// A ciphertext begins with Tink's version byte and the id of its key.
const (
	prefixVersion = 1
	prefixLength  = 5
)

// Box seals and opens secrets with the keys of one key file. It is safe for
// concurrent use.
type Box struct {
	path    string
	aead    tink.AEAD
	primary uint32
	keys    map[uint32]bool
}

// Path returns the key file's name.
func (b *Box) Path() string { return b.path }

// Primary returns the id of the key that writes.
func (b *Box) Primary() uint32 { return b.primary }

// RowAAD returns the place a secret is bound to: it opens there and nowhere else.
func RowAAD(table, column, rowID string) string { return table + "/" + column + "/" + rowID }

// Seal encrypts plain and binds it to aad, see RowAAD.
func (b *Box) Seal(plain []byte, aad string) ([]byte, error) {
	sealed, err := b.aead.Encrypt(plain, []byte(aad))
	if err != nil {
		return nil, errs.Wrap(err, errs.Internal, errs.CodeInternal, "a secret could not be encrypted")
	}
	return sealed, nil
}

// Open decrypts what Seal made for the same aad. It fails with CodeWrongKey when
// no key of the file made it, and with CodeDecryptionFailed when it was changed
// or moved.
func (b *Box) Open(sealed []byte, aad string) ([]byte, error) {
	id, ok := KeyID(sealed)
	if ok && !b.keys[id] {
		return nil, errs.New(errs.Internal, errs.CodeWrongKey,
			"the stored credentials were encrypted with another key than those in %s; start with the key file that belongs to this database", b.path)
	}
	plain, err := b.aead.Decrypt(sealed, []byte(aad))
	if err != nil {
		return nil, errs.Wrap(err, errs.Internal, errs.CodeDecryptionFailed,
			"the stored secret %s was damaged or moved from another row; enter it again", aad)
	}
	return plain, nil
}

// KeyID returns the id of the key that made a ciphertext; false when it is none
// of Seal's.
func KeyID(sealed []byte) (uint32, bool) {
	if len(sealed) < prefixLength || sealed[0] != prefixVersion {
		return 0, false
	}
	return binary.BigEndian.Uint32(sealed[1:prefixLength]), true
}
