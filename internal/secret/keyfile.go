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
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, unusable(err, errs.NotFound, "the key file %s does not exist; without it the stored credentials cannot be read", path)
	case err != nil:
		return nil, unusable(err, errs.Invalid, "the key file %s cannot be read; check its path and permissions", path)
	case !info.Mode().IsRegular() || info.Size() > maxKeyFile:
		return nil, unusable(nil, errs.Invalid, "the key file %s is not a keyset file", path)
	case info.Mode().Perm()&0o077 != 0:
		return nil, unusable(nil, errs.Invalid, "the key file %s is open to other accounts (mode %04o); run chmod 600 on it", path, info.Mode().Perm())
	}
	text, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, unusable(err, errs.Invalid, "the key file %s cannot be read; check its permissions", path)
	}
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(text)))
	if err != nil {
		return nil, unusable(err, errs.Invalid, "the key file %s holds no valid keyset; restore it from a copy", path)
	}
	return newBox(path, handle)
}

// Create makes a key file with one new key, whole or not at all, for its owner
// only. It never replaces a file: an existing one fails with Exists.
func Create(path string) (*Box, error) {
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, unusable(err, errs.Internal, "a new key could not be made")
	}
	var text bytes.Buffer
	if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&text)); err != nil {
		return nil, unusable(err, errs.Internal, "a new key could not be written down")
	}
	switch err := writeNew(path, text.Bytes()); {
	case errors.Is(err, fs.ErrExist):
		return nil, unusable(err, errs.Exists, "the key file %s exists already; it is never replaced", path)
	case err != nil:
		return nil, unusable(err, errs.Invalid, "the key file %s cannot be written; check its directory", path)
	}
	return newBox(path, handle)
}

func newBox(path string, handle *keyset.Handle) (*Box, error) {
	primitive, err := aead.New(handle)
	if err != nil {
		return nil, unusable(err, errs.Invalid, "the key file %s holds no keys for encryption; restore it from a copy", path)
	}
	info := handle.KeysetInfo()
	b := &Box{path: path, aead: primitive, primary: info.GetPrimaryKeyId(), keys: map[uint32]bool{}}
	for _, key := range info.GetKeyInfo() {
		if key.GetTypeUrl() != gcmKeyType || !strings.EqualFold(key.GetOutputPrefixType().String(), "TINK") {
			return nil, unusable(nil, errs.Invalid, "the key file %s holds a key that is not AES-GCM with a Tink prefix", path)
		}
		b.keys[key.GetKeyId()] = true
	}
	return b, nil
}

// writeNew makes a file that did not exist, by way of a temporary one.
func writeNew(path string, text []byte) (err error) {
	dir := filepath.Dir(path)
	temp, err := os.CreateTemp(dir, ".keyset-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(temp.Name())) }()
	_, err = temp.Write(text)
	if err := errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return err
	}
	if err := os.Link(temp.Name(), path); err != nil {
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

func unusable(cause error, kind errs.Kind, format string, args ...any) error {
	e := errs.New(kind, CodeKeyFile, format, args...)
	e.Err = cause
	return e
}
