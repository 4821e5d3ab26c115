package vault

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
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

// Download opens a backup: from one location, if it is given and has it, and from
// the others in their order when a copy fails, before or in the middle. The
// manifest is read and checked before anything is given out.
func (v *Vault) Download(ctx context.Context, executionID, locationID string) (*backup.Download, error) {
	b, err := v.catalogue.Get(ctx, executionID)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	r := &reading{vault: v, backup: b, copies: inOrder(b.Copies, locationID)}
	if err := r.next(ctx); err != nil {
		cancel(err)
		return nil, err
	}
	name := path.Base(path.Dir(r.copy.Path)) + "_" + path.Base(r.copy.Path) + ".tar"
	in, w := io.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		// Closing with the error, never cleanly after one: a reader must not take a
		// broken tar for a whole one.
		w.CloseWithError(r.writeTar(ctx, w))
	}()
	return &backup.Download{Name: name, ReadCloser: &pipe{PipeReader: in, end: func() error {
		cancel(context.Canceled)
		<-ended
		return r.close()
	}}}, nil
}

// inOrder puts the wanted copy first and those that were found damaged last.
func inOrder(copies []backup.Copy, wanted string) []backup.Copy {
	var first, available, damaged []backup.Copy
	for _, c := range copies {
		switch {
		case c.Status != backup.CopyAvailable && c.Status != backup.CopyMissing:
		case c.StorageLocationID == wanted:
			first = append(first, c)
		case c.Status == backup.CopyAvailable:
			available = append(available, c)
		default:
			damaged = append(damaged, c)
		}
	}
	return append(append(first, available...), damaged...)
}

// pipe stops its writer when it is closed.
type pipe struct {
	*io.PipeReader
	end func() error
}

// Close implements io.Closer.
func (p *pipe) Close() error { return errors.Join(p.PipeReader.Close(), p.end()) }

// reading is one backup, read from one of its copies at a time.
type reading struct {
	vault  *Vault
	backup backup.Backup
	copies []backup.Copy // that were not tried yet

	copy     backup.Copy
	driver   storage.Driver
	manifest artifact.Manifest
	failures []error
}

// next goes on with the next copy whose manifest is good. Without one it returns
// what was wrong with the first.
func (r *reading) next(ctx context.Context) error {
	for len(r.copies) > 0 {
		if err := r.close(); err != nil {
			r.vault.logger.WarnContext(ctx, "a storage was not closed cleanly", "storage_location_id", r.copy.StorageLocationID, "error", err)
		}
		r.copy, r.copies = r.copies[0], r.copies[1:]
		err := r.open(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
		r.failed(ctx, err)
	}
	if len(r.failures) > 0 {
		return r.failures[0]
	}
	return errs.New(errs.Unavailable, errs.CodeBackupUnavailable, "no such storage has this backup any more; GET /api/backups/datasources/%s shows what is where", r.backup.DatasourceID)
}

func (r *reading) open(ctx context.Context) error {
	_, driver, err := r.vault.Open(ctx, r.copy.StorageLocationID)
	if err != nil {
		return err
	}
	m, err := artifact.OpenManifest(ctx, driver, r.copy.Path)
	switch {
	case err == nil:
		if difference := r.backup.Differs(m.ExecutionID, partsOf(m, r.copy.Path)); difference != "" {
			err = errs.New(errs.Conflict, errs.CodeArtifactCorrupt, "the manifest at %s is not the one that was written: %s", r.copy.Path, difference)
		}
	case errs.KindOf(err) == errs.NotFound:
		err = errs.Wrap(err, errs.Conflict, errs.CodeArtifactCorrupt, "the copy on %q has lost its manifest: use another copy", r.copy.StorageName)
	}
	if err != nil {
		return errors.Join(err, driver.Close())
	}
	r.driver, r.manifest = driver, m
	return nil
}

func partsOf(m artifact.Manifest, prefix string) []backup.Part {
	var parts []backup.Part
	for _, p := range m.AllParts(prefix) {
		parts = append(parts, backup.Part{Number: p.Number, Key: p.Key, Size: p.Size, SHA256: p.SHA256})
	}
	return parts
}

// failed notes what was wrong with a copy. Damage is marked, so that people see
// it and the next reader begins with another copy.
func (r *reading) failed(ctx context.Context, err error) {
	r.failures = append(r.failures, err)
	r.vault.logger.WarnContext(ctx, "a copy of a backup could not be read", "execution_id", r.backup.ExecutionID, "storage", r.copy.StorageName, "error", err)
	if errs.CodeOf(err) != errs.CodeArtifactCorrupt {
		return
	}
	if err := r.vault.catalogue.MarkMissing(ctx, r.copy, errs.Message(err)); err != nil && errs.KindOf(err) != errs.Conflict {
		r.vault.logger.WarnContext(ctx, "a damaged copy could not be marked", "execution_id", r.backup.ExecutionID, "storage", r.copy.StorageName, "error", err)
	}
}

func (r *reading) close() error {
	if r.driver == nil {
		return nil
	}
	driver := r.driver
	r.driver = nil
	return driver.Close()
}

// writeTar writes the parts, each compared with the manifest as it passes, and
// then the manifest, whose presence makes the tar whole.
func (r *reading) writeTar(ctx context.Context, w io.Writer) error {
	out := tar.NewWriter(w)
	m, prefix := r.manifest, r.copy.Path
	for i, part := range m.AllParts(prefix) {
		if err := out.WriteHeader(header(prefix, part.Key, part.Size, m.FinishedAt)); err != nil {
			return err
		}
		if err := r.writePart(ctx, out, i); err != nil {
			return err
		}
	}
	raw, err := r.readManifest(ctx)
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

// readManifest returns the document of a copy that was opened just now, or is
// opened for it.
func (r *reading) readManifest(ctx context.Context) ([]byte, error) {
	for {
		raw, err := readAll(ctx, r.driver, artifact.ManifestKey(r.copy.Path))
		if err == nil || ctx.Err() != nil {
			return raw, err
		}
		r.failed(ctx, err)
		if err := r.next(ctx); err != nil {
			return nil, err
		}
	}
}

func header(prefix, key string, size int64, modified time.Time) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: path.Join(path.Base(prefix), path.Base(key)), Size: size, Mode: 0o600, ModTime: modified, Format: tar.FormatPAX}
}

// writePart goes on with another copy where one breaks off. Bytes that were given
// out and turn out wrong at the end of the part cannot be taken back.
func (r *reading) writePart(ctx context.Context, out io.Writer, index int) error {
	p := partCopy{hash: sha256.New(), out: out}
	for {
		part := r.manifest.AllParts(r.copy.Path)[index]
		err := p.from(ctx, r.driver, part)
		switch {
		case err == nil && hex.EncodeToString(p.hash.Sum(nil)) == part.SHA256:
			return nil
		case err == nil:
			err = errs.New(errs.Conflict, errs.CodeArtifactCorrupt, "the part %s has other bytes than it had; download again, which takes another copy", part.Key)
			if p.copies == 1 { // else nobody knows which of them it was
				r.failed(ctx, err)
			}
			return err
		case ctx.Err() != nil || p.stopped:
			return err
		}
		r.failed(ctx, err)
		if err := r.next(ctx); err != nil {
			return err
		}
	}
}

// partCopy is one part on its way out, over as many copies as it takes.
type partCopy struct {
	out     io.Writer
	hash    hash.Hash
	done    int64
	copies  int  // that gave some of it
	stopped bool // nobody takes the bytes any more
}

// from copies what is left of a part.
func (p *partCopy) from(ctx context.Context, d storage.Driver, part artifact.Part) error {
	if p.done == part.Size && p.done > 0 {
		return nil
	}
	in, err := d.Open(ctx, part.Key, p.done, -1)
	if err != nil {
		return explained(err, part)
	}
	defer in.Close()
	n, err := io.Copy(io.MultiWriter(p, p.hash), io.LimitReader(in, part.Size-p.done))
	p.done += n
	if n > 0 {
		p.copies++
	}
	switch {
	case err != nil:
		return explained(err, part)
	case p.done < part.Size:
		return errs.New(errs.Conflict, errs.CodeArtifactCorrupt, "the part %s has %d bytes and had %d", part.Key, p.done, part.Size)
	}
	return nil
}

func explained(err error, part artifact.Part) error {
	if errors.Is(err, storage.ErrNotExist) {
		return errs.Wrap(err, errs.Conflict, errs.CodeArtifactCorrupt, "the part %s is missing", part.Key)
	}
	return storage.Explain(err)
}

// Write implements io.Writer.
func (p *partCopy) Write(b []byte) (int, error) {
	n, err := p.out.Write(b)
	p.stopped = p.stopped || err != nil
	return n, err
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
