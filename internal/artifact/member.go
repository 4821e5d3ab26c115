package artifact

import (
	"context"
	"encoding/hex"
	"hash"
	"io"
	"regexp"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// numbered is how the names of parts end; members must not look like them.
var numbered = regexp.MustCompile(`\.[0-9]{4,}$`)

// memberForm is what storage.Segment makes of any name.
var memberForm = regexp.MustCompile(`^[-_~%0-9A-Za-z][-_~%.0-9A-Za-z]*$`)

// checkMember accepts names that are one plain key segment and can never be
// taken for another member's part or for the manifest. storage.Segment makes
// such names, but for a digit suffix.
func checkMember(name string) error {
	if !memberForm.MatchString(name) || len(name) > maxMemberBytes || numbered.MatchString(name) || name == manifestFile {
		return errs.New(errs.Invalid, errs.CodeValidation, "%q cannot name a member of a backup", name)
	}
	return nil
}

const maxMemberBytes = 230

// memberWriter is one member on its way: raw bytes are hashed, compressed,
// encrypted and cut. All after the hash runs beside the caller.
type memberWriter struct {
	ctx    context.Context
	w      *Writer
	name   string
	hash   hash.Hash
	raw    int64
	stages []io.Closer // in the order they are closed
	in     io.Writer   // the first stage
	split  *splitter
	closed bool
	done   bool // closed without an error; guarded by w.mu
}

// build connects the stages.
func (m *memberWriter) build() error {
	sealed, err := encrypt(m.split, m.w.recipients)
	if err != nil {
		return err
	}
	packed, err := m.w.compressor.encode(sealed)
	if err != nil {
		return err
	}
	handed := newBelt(packed, &m.w.belts)
	m.in, m.stages = handed, []io.Closer{handed, packed, sealed, m.split}
	return nil
}

// Write fails as soon as anything of the artifact has failed.
func (m *memberWriter) Write(p []byte) (int, error) {
	if err := m.usable(); err != nil {
		return 0, err
	}
	n, err := m.in.Write(p)
	m.hash.Write(p[:n])
	m.raw += int64(n)
	m.w.counters.raw.Add(int64(n))
	m.w.counters.changed()
	if err != nil {
		return n, m.w.fail(err)
	}
	return n, nil
}

func (m *memberWriter) usable() error {
	switch {
	case m.closed:
		return errs.New(errs.Internal, errs.CodeInternal, "the member %q was used after it was closed", m.name)
	case m.w.ctx.Err() != nil:
		return m.w.cause()
	case m.ctx.Err() != nil:
		return m.w.fail(context.Cause(m.ctx))
	}
	return nil
}

// Close ends the member. Its last part is in the spool when it returns nil.
func (m *memberWriter) Close() error {
	if err := m.usable(); err != nil {
		if !m.closed {
			m.abandon()
		}
		return err
	}
	for i, stage := range m.stages {
		if err := stage.Close(); err != nil {
			m.stages = m.stages[i+1:]
			err = m.w.fail(err)
			m.abandon()
			return err
		}
	}
	m.closed = true
	m.release()
	m.w.complete(m)
	return nil
}

// CloseWithError ends the member, and with it the whole artifact, as failed.
func (m *memberWriter) CloseWithError(err error) error {
	if m.closed {
		return nil
	}
	if err == nil {
		err = errs.New(errs.Internal, errs.CodeDumpIncomplete, "the member %q of the dump was given up", m.name)
	}
	m.w.fail(err) //nolint:errcheck,gosec // it returns what it was given, or what failed before
	m.abandon()
	return nil
}

// abandon ends the goroutines of the stages; the artifact has failed already,
// so that no part is handed on.
func (m *memberWriter) abandon() {
	m.closed = true
	for _, stage := range m.stages {
		if stage != io.Closer(m.split) {
			stage.Close() //nolint:errcheck,gosec // the artifact has failed; this only ends goroutines
		}
	}
	m.split.discard()
	m.release()
}

// release lets go of the buffers of the stages: the artifact keeps its members to
// the end, and there may be very many.
func (m *memberWriter) release() {
	m.in, m.stages, m.split.out = nil, nil, nil
}

func (m *memberWriter) describe() ManifestMember {
	d := ManifestMember{
		Name:        m.name,
		Compression: m.w.cfg.Compression,
		Encryption:  m.w.encryption(),
		RawSize:     m.raw,
		RawSHA256:   hex.EncodeToString(m.hash.Sum(nil)),
	}
	for _, p := range m.split.parts {
		d.StoredSize += p.size
		d.Parts = append(d.Parts, ManifestPart{Name: p.name, Size: p.size, SHA256: p.sha256})
	}
	return d
}
