package vault

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"time"

	"github.com/dataguardian/dataguardian/internal/artifact"
	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/storage"
)

// maxManifestBytes bounds the manifest that is read into memory.
const maxManifestBytes = 256 << 20

// Download opens a backup, from one location or from the first that has it. The
// manifest is read and checked before anything is given out.
func (v *Vault) Download(ctx context.Context, executionID, locationID string) (*backup.Download, error) {
	b, err := v.catalogue.Get(ctx, executionID)
	if err != nil {
		return nil, err
	}
	var first error
	for _, c := range b.Copies {
		if c.Status != backup.CopyAvailable || locationID != "" && c.StorageLocationID != locationID {
			continue
		}
		d, err := v.download(ctx, c)
		if err == nil {
			return d, nil
		}
		if first == nil {
			first = err
		}
	}
	if first != nil {
		return nil, first
	}
	return nil, errs.New(errs.Unavailable, errs.CodeBackupUnavailable, "no such storage has this backup any more; GET /api/backups/datasources/%s shows what is where", b.DatasourceID)
}

func (v *Vault) download(ctx context.Context, c backup.Copy) (*backup.Download, error) {
	_, driver, err := v.Open(ctx, c.StorageLocationID)
	if err != nil {
		return nil, err
	}
	m, err := artifact.OpenManifest(ctx, driver, c.Path)
	if err != nil {
		return nil, errors.Join(err, driver.Close())
	}
	ctx, cancel := context.WithCancelCause(ctx)
	r, w := io.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		// Closing with the error, never cleanly after one: a reader must not take a
		// broken tar for a whole one.
		w.CloseWithError(writeTar(ctx, w, driver, c.Path, m))
	}()
	name := path.Base(path.Dir(c.Path)) + "_" + path.Base(c.Path) + ".tar"
	return &backup.Download{Name: name, ReadCloser: &pipe{PipeReader: r, end: func() error {
		cancel(context.Canceled)
		<-ended
		return driver.Close()
	}}}, nil
}

// pipe stops its writer when it is closed.
type pipe struct {
	*io.PipeReader
	end func() error
}

// Close implements io.Closer.
func (p *pipe) Close() error { return errors.Join(p.PipeReader.Close(), p.end()) }

// writeTar writes the parts, each compared with the manifest as it passes, and
// then the manifest, whose presence makes the tar whole.
func writeTar(ctx context.Context, w io.Writer, d storage.Driver, prefix string, m artifact.Manifest) error {
	out := tar.NewWriter(w)
	for _, part := range m.AllParts(prefix) {
		if err := writePart(ctx, out, d, prefix, part, m.FinishedAt); err != nil {
			return err
		}
	}
	raw, err := readAll(ctx, d, artifact.ManifestKey(prefix))
	if err != nil {
		return err
	}
	if err := out.WriteHeader(header(prefix, artifact.ManifestKey(prefix), int64(len(raw)), m.FinishedAt)); err != nil {
		return err
	}
	if _, err := out.Write(raw); err != nil {
		return err
	}
	return out.Close()
}

func header(prefix, key string, size int64, modified time.Time) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: path.Join(path.Base(prefix), path.Base(key)), Size: size, Mode: 0o600, ModTime: modified, Format: tar.FormatPAX}
}

func writePart(ctx context.Context, out *tar.Writer, d storage.Driver, prefix string, part artifact.Part, modified time.Time) error {
	if err := out.WriteHeader(header(prefix, part.Key, part.Size, modified)); err != nil {
		return err
	}
	r, err := d.Open(ctx, part.Key, 0, -1)
	if err != nil {
		return storage.Explain(err)
	}
	defer r.Close()
	hash := sha256.New()
	n, err := io.Copy(io.MultiWriter(out, hash), io.LimitReader(r, part.Size))
	if err != nil {
		return err
	}
	if n != part.Size || hex.EncodeToString(hash.Sum(nil)) != part.SHA256 {
		return errs.New(errs.Conflict, errs.CodeArtifactCorrupt, "the part %s is not what was written; verify the backup and use another copy", part.Key)
	}
	return nil
}

func readAll(ctx context.Context, d storage.Driver, key string) ([]byte, error) {
	r, err := d.Open(ctx, key, 0, -1)
	if err != nil {
		return nil, storage.Explain(err)
	}
	defer r.Close()
	raw, err := io.ReadAll(io.LimitReader(r, maxManifestBytes+1))
	if err == nil && len(raw) > maxManifestBytes {
		err = fmt.Errorf("the manifest is larger than %d bytes", maxManifestBytes)
	}
	return raw, err
}
