package secret

import (
	"fmt"
	"slices"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// Prepare adds a new key to the file that only reads, and returns its id. One that
// was prepared before and not put in use is returned again.
func (b *Box) Prepare() (id uint32, err error) {
	err = b.change(func(k *keys, m *keyset.Manager) error {
		if newest := k.ids[len(k.ids)-1]; newest != k.primary {
			id = newest
			return errUnchanged
		}
		id, err = m.Add(aead.AES256GCMKeyTemplate())
		return err
	})
	return id, err
}

// Promote lets a key write.
func (b *Box) Promote(id uint32) error {
	return b.change(func(_ *keys, m *keyset.Manager) error { return m.SetPrimary(id) })
}

// DropOld removes every key that is older than the one that writes, and keeps a copy
// of the file as it was, whose path it returns: empty when there was nothing to drop.
func (b *Box) DropOld() (copied string, err error) {
	err = b.change(func(k *keys, m *keyset.Manager) error {
		old := k.ids[:slices.Index(k.ids, k.primary)]
		if len(old) == 0 {
			return errUnchanged
		}
		handle, err := m.Handle()
		if err != nil {
			return err
		}
		text, err := encode(handle)
		if err != nil {
			return err
		}
		copied = fmt.Sprintf("%s.before-%s", b.path, time.Now().UTC().Format("20060102-150405"))
		if err := writeNew(copied, text); err != nil {
			return err
		}
		for _, id := range old {
			if err := m.Delete(id); err != nil {
				return err
			}
		}
		return nil
	})
	return copied, err
}

// errUnchanged ends a change that is none.
var errUnchanged = fmt.Errorf("nothing to change")

// change reads the file, changes the keyset and replaces the file. Callers see to it
// that one process at a time does so.
func (b *Box) change(how func(k *keys, m *keyset.Manager) error) error {
	k, err := b.reload(0, b.keys.Load().shares)
	if k == nil {
		return unusable(err, errs.Conflict, "the key file %s was replaced by one that has none of the keys before; put the right one back", b.path)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	handle, _, err := read(b.path)
	if err != nil {
		return err
	}
	manager := keyset.NewManagerFromHandle(handle)
	switch err := how(k, manager); {
	case err == errUnchanged: //nolint:errorlint // it is never wrapped
		return nil
	case err != nil:
		return unusable(err, errs.Internal, "the keyset in %s could not be changed", b.path)
	}
	if handle, err = manager.Handle(); err != nil {
		return unusable(err, errs.Internal, "the keyset in %s could not be changed", b.path)
	}
	text, err := encode(handle)
	if err != nil {
		return err
	}
	if err := replace(b.path, text); err != nil {
		return unusable(err, errs.Unavailable, "the key file %s cannot be replaced; let the server write to its directory for the time of the rotation", b.path)
	}
	if k, err = b.look(0); err == nil {
		b.keys.Store(k)
	}
	return err
}
