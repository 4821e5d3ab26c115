package secret

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// CodeKeyFile says that the key file is absent, unreadable or unsafe.
const CodeKeyFile errs.Code = "KEY_FILE_UNUSABLE"

// A key file holds a few keys of some hundred bytes each.
const maxKeyFile = 1 << 20

const gcmKeyType = "type.googleapis.com/google.crypto.tink.AesGcmKey"

// Load reads a key file. It must be a plain file that nobody but its owner may
// read or write.
func Load(path string) (*Box, error) {
	handle, file, err := read(path)
	if err != nil {
		return nil, err
	}
	return newBox(path, handle, file)
}

// read returns the keyset of a key file and which version of the file it was.
func read(path string) (*keyset.Handle, stamp, error) {
	file, err := stampOf(path) // before the content: a later change is then seen
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, stamp{}, unreadable(err, path)
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, stamp{}, unusable(err, errs.NotFound, "the key file %s does not exist; without it the stored credentials cannot be read: put it back from a copy", path)
	case err != nil:
		return nil, stamp{}, unreadable(err, path)
	case info.IsDir():
		return nil, stamp{}, unusable(nil, errs.Invalid, "the key file %s is a directory; put the keyset file in its place, or name the file", path)
	case !info.Mode().IsRegular() || info.Size() > maxKeyFile:
		return nil, stamp{}, unusable(nil, errs.Invalid, "the key file %s is not a keyset file; put it back from a copy", path)
	case info.Mode().Perm()&0o077 != 0:
		return nil, stamp{}, unusable(nil, errs.Invalid, "the key file %s is open to other accounts (mode %04o); run chmod 600 on it", path, info.Mode().Perm())
	}
	text, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, stamp{}, unreadable(err, path)
	}
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(text)))
	if err != nil {
		return nil, stamp{}, unusable(err, errs.Invalid, "the key file %s holds no valid keyset; restore it from a copy", path)
	}
	return handle, file, nil
}

// Create makes a key file with one new key, whole or not at all, for its owner
// only. It never replaces a file: an existing one fails with Exists.
func Create(path string) (*Box, error) {
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, unusable(err, errs.Internal, "a new key could not be made")
	}
	text, err := encode(handle)
	if err != nil {
		return nil, err
	}
	switch err := writeNew(path, text); {
	case errors.Is(err, fs.ErrExist):
		return nil, unusable(err, errs.Exists, "the key file %s exists already; it is never replaced", path)
	case err != nil:
		return nil, unusable(err, errs.Invalid, "the key file %s cannot be written; check its directory", path)
	}
	return Load(path)
}

func encode(handle *keyset.Handle) ([]byte, error) {
	var text bytes.Buffer
	if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&text)); err != nil {
		return nil, unusable(err, errs.Internal, "a new key could not be written down")
	}
	return text.Bytes(), nil
}

func newBox(path string, handle *keyset.Handle, file stamp) (*Box, error) {
	k, err := newKeys(path, handle, file)
	if err != nil {
		return nil, err
	}
	b := &Box{path: path}
	b.keys.Store(k)
	return b, nil
}

func newKeys(path string, handle *keyset.Handle, file stamp) (*keys, error) {
	primitive, err := aead.New(handle)
	if err != nil {
		return nil, unusable(err, errs.Invalid, "the key file %s holds no keys for encryption; restore it from a copy", path)
	}
	info := handle.KeysetInfo()
	k := &keys{aead: primitive, primary: info.GetPrimaryKeyId(), file: file}
	for _, key := range info.GetKeyInfo() {
		if key.GetTypeUrl() != gcmKeyType || !strings.EqualFold(key.GetOutputPrefixType().String(), "TINK") {
			return nil, unusable(nil, errs.Invalid, "the key file %s holds a key that is not AES-GCM with a Tink prefix", path)
		}
		k.ids = append(k.ids, key.GetKeyId())
	}
	return k, nil
}

// writeNew makes a file that did not exist, by way of a temporary one.
func writeNew(path string, text []byte) error { return write(path, text, os.Link) }

// replace puts another file in the place of path, whole or not at all.
func replace(path string, text []byte) error { return write(path, text, os.Rename) }

func write(path string, text []byte, place func(from, to string) error) (err error) {
	dir := filepath.Dir(path)
	temp, err := os.CreateTemp(dir, ".keyset-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if gone := os.Remove(temp.Name()); !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}()
	_, err = temp.Write(text)
	if err := errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return err
	}
	if err := place(temp.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // the operator names the directory
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// unreadable says why a file cannot be read, as the system does: that holds no secret.
func unreadable(cause error, path string) error {
	why := cause
	if failed, ok := errors.AsType[*fs.PathError](cause); ok {
		why = failed.Err
	}
	return unusable(cause, errs.Invalid, "the key file %s cannot be read: %s; check its path, its owner and its permissions, also those of its directory", path, why)
}

func unusable(cause error, kind errs.Kind, format string, args ...any) error {
	e := errs.New(kind, CodeKeyFile, format, args...)
	e.Err = cause
	return e
}
