// Package secret encrypts stored credentials. The key file holds a Tink keyset
// of AES-256-GCM keys: the primary key writes, every key reads, so that a new
// key can be put in use before the old one goes.
package secret

import (
	"encoding/binary"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// A ciphertext begins with Tink's version byte and the id of its key.
const (
	prefixVersion = 1
	prefixLength  = 5
)

// Box seals and opens secrets with the keys of one key file. It follows the file:
// when another process has put a new key in use, the next Seal uses it, and Open
// looks for a key it does not know. It is safe for concurrent use.
type Box struct {
	path string
	keys atomic.Pointer[keys]

	mu     sync.Mutex // one reads or writes the file
	looked look
}

// look is the last one at the file.
type look struct {
	at   time.Time
	file stamp
	keys *keys // nil: see err
	err  error
}

// lookAgain is how long an unchanged file is not read again for keys that are unknown:
// strangers can send ciphertexts, too, and name any key.
const lookAgain = time.Second

// keys are what a key file held when it was read.
type keys struct {
	aead    tink.AEAD
	primary uint32
	ids     []uint32 // in the file's order: the oldest first
	file    stamp
}

func (k *keys) has(id uint32) bool {
	return slices.Contains(k.ids, id)
}

// shares reports whether others hold one of the keys.
func (k *keys) shares(others *keys) bool { return slices.ContainsFunc(k.ids, others.has) }

// stamp tells one version of a file from another.
type stamp struct {
	modified time.Time
	size     int64
}

// Path returns the key file's name.
func (b *Box) Path() string { return b.path }

// Primary returns the id of the key that writes.
func (b *Box) Primary() uint32 { return b.keys.Load().primary }

// Keys returns how many keys can read.
func (b *Box) Keys() int { return len(b.keys.Load().ids) }

// RowAAD returns the place a secret is bound to: it opens there and nowhere else.
func RowAAD(table, column, rowID string) string { return table + "/" + column + "/" + rowID }

// Seal encrypts plain and binds it to aad, see RowAAD. It fails with CodeWrongKey
// when the file was replaced by one that shares no key with the one before.
func (b *Box) Seal(plain []byte, aad string) ([]byte, error) {
	k, err := b.current()
	if err != nil {
		return nil, err
	}
	sealed, err := k.aead.Encrypt(plain, []byte(aad))
	if err != nil {
		return nil, errs.Wrap(err, errs.Internal, errs.CodeInternal, "a secret could not be encrypted")
	}
	return sealed, nil
}

// Refresh reads the file again when another process has replaced it. It fails as
// Seal does.
func (b *Box) Refresh() error {
	_, err := b.current()
	return err
}

// current returns the keys of the file as it is now.
func (b *Box) current() (*keys, error) {
	k := b.keys.Load()
	if now, err := stampOf(b.path); err == nil && now != k.file {
		if k, err = b.reload(0, k.shares); k == nil {
			return nil, errs.Wrap(err, errs.Internal, errs.CodeWrongKey,
				"the key file %s was replaced by one that has none of the keys before; put the right one back, or restart this process", b.path)
		}
	}
	return k, nil
}

// Open decrypts what Seal made for the same aad. It fails with CodeWrongKey when
// no key of the file made it, with CodeKeyFile when no known key did and the file
// cannot be read for others, and with CodeDecryptionFailed when it was changed or moved.
func (b *Box) Open(sealed []byte, aad string) ([]byte, error) {
	k := b.keys.Load()
	if id, ok := KeyID(sealed); ok && !k.has(id) {
		// A file whose key opens this is the right one, whatever it held before.
		opens := func(next *keys) bool {
			if !next.has(id) {
				return false
			}
			_, err := next.aead.Decrypt(sealed, []byte(aad))
			return err == nil
		}
		var err error
		switch k, err = b.reload(lookAgain, opens); {
		case err != nil:
			return nil, unusable(err, errs.Internal, "the stored credentials were encrypted with a key that this process has not read: %s", errs.Message(err))
		case k == nil:
			return nil, errs.New(errs.Internal, errs.CodeWrongKey,
				"the stored credentials were encrypted with another key than those in %s; start with the key file that belongs to this database", b.path)
		}
	}
	plain, err := k.aead.Decrypt(sealed, []byte(aad))
	if err != nil {
		return nil, errs.Wrap(err, errs.Internal, errs.CodeDecryptionFailed,
			"the stored secret %s was damaged or moved from another row; enter it again", aad)
	}
	return plain, nil
}

// reload looks at the file and uses its keys when they are right, else returns nil and
// why the file could not be read, if it could not. While it is gone or cannot be read,
// the keys before stay in use: they are returned when they are right themselves.
func (b *Box) reload(again time.Duration, right func(*keys) bool) (*keys, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	next, err := b.look(again)
	if err != nil {
		next = b.keys.Load()
	}
	if !right(next) {
		return nil, err
	}
	b.keys.Store(next)
	return next, nil
}

// look reads the file, unless it was read less than again ago and has not changed since.
func (b *Box) look(again time.Duration) (*keys, error) {
	now, err := stampOf(b.path)
	if err == nil && now == b.looked.file && time.Since(b.looked.at) < again {
		return b.looked.keys, b.looked.err
	}
	b.looked = look{at: time.Now(), file: now}
	handle, file, err := read(b.path)
	if err == nil {
		b.looked.keys, err = newKeys(b.path, handle, file)
	}
	b.looked.err = err
	return b.looked.keys, err
}

func stampOf(path string) (stamp, error) {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}, err
	}
	return stamp{info.ModTime(), info.Size()}, nil
}

// KeyID returns the id of the key that made a ciphertext; false when it is none
// of Seal's.
func KeyID(sealed []byte) (uint32, bool) {
	if len(sealed) < prefixLength || sealed[0] != prefixVersion {
		return 0, false
	}
	return binary.BigEndian.Uint32(sealed[1:prefixLength]), true
}

// Prefix returns how every ciphertext of the key begins that writes now.
func (b *Box) Prefix() []byte {
	return binary.BigEndian.AppendUint32([]byte{prefixVersion}, b.Primary())
}
