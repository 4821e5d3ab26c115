package app

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"filippo.io/age"

	"github.com/dataguardian/dataguardian/internal/artifact"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// defaultIdentity is the file that opens encrypted backups when a restore names
// no other.
const defaultIdentity = "default"

// identities are age identity files in a directory of the worker's machine. A
// reference is the name of a file; what is in it never leaves the worker.
type identities struct{ dir string }

// Load implements restore.Identities.
func (i identities) Load(reference string) ([]age.Identity, error) {
	if reference == "" {
		reference = defaultIdentity
	}
	root, err := os.OpenRoot(i.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, i.missing(reference)
	}
	if err != nil {
		return nil, err
	}
	defer root.Close() //nolint:errcheck // opened for reading
	text, err := root.ReadFile(reference)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, i.missing(reference)
	case err != nil:
		return nil, errs.Wrap(err, errs.Invalid, errs.CodeDecryptionFailed, "the identity %q cannot be read on the worker; check the file %s", reference, filepath.Join(i.dir, filepath.Base(reference)))
	}
	return artifact.ParseIdentities(string(text))
}

func (i identities) missing(reference string) error {
	return errs.New(errs.Conflict, errs.CodeDecryptionFailed,
		"the backup is encrypted and the worker has no identity %q: put the age identity file at %s", reference, filepath.Join(i.dir, filepath.Base(reference)))
}
