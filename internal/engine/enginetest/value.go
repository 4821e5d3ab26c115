package enginetest

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/engine"
)

// LargeValue is a value of so many bytes: more than clients take by default, and far
// more than anything of ours may hold.
const LargeValue = 300 << 20

// frugalLimit is what one dump or restore may allocate in all: far less than the value
// has, as nothing that grows with it may be held.
const frugalLimit = LargeValue / 10

// RunValue carries one value of LargeValue out of a database and into another.
// fill makes a table with it; whole is a statement that fails unless the value is
// there to the byte. It does not belong into a parallel test: it counts what this
// process allocates.
func RunValue(t *testing.T, s Subject, fill, whole string) {
	t.Helper()
	from, to := s.newDatabase(t, fill), s.newDatabase(t, "")
	var kept disk
	kept.dir = t.TempDir()
	frugal(t, "dumping", func() {
		_, err := s.Engine.Dump(t.Context(), s.Server.Conn(from), engine.DumpOptions{TempDir: t.TempDir()}, &kept)
		require.NoError(t, err)
	})
	require.Len(t, kept.members, 1)
	require.Greater(t, kept.members[0].Size, int64(LargeValue))
	s.Server.Drop(t, from)
	frugal(t, "restoring", func() { require.NoError(t, s.restore(t, to, engine.RestoreOptions{Format: s.Format}, &kept)) })
	s.Server.Exec(t, to, whole)
	s.Server.Drop(t, to)
}

// frugal requires that work allocates little in all.
func frugal(t *testing.T, doing string, work func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	work()
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(frugalLimit), "bytes allocated while "+doing)
}

// disk is a sink and a source that keeps its members in files. It is for one user
// at a time.
type disk struct {
	dir     string
	members []engine.Member
}

// Create implements engine.Sink.
func (d *disk) Create(_ context.Context, member string) (engine.MemberWriter, error) {
	f, err := os.OpenFile(filepath.Join(d.dir, member), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	return &diskMember{File: f, of: d}, err
}

// Members implements engine.Source.
func (d *disk) Members() []engine.Member { return d.members }

// Open implements engine.Source.
func (d *disk) Open(_ context.Context, member string) (io.ReadCloser, error) {
	return os.Open(filepath.Join(d.dir, member))
}

type diskMember struct {
	*os.File
	of *disk
}

// Close implements engine.MemberWriter.
func (m *diskMember) Close() error {
	info, err := m.Stat()
	if err != nil {
		return errors.Join(err, m.File.Close())
	}
	m.of.members = append(m.of.members, engine.Member{Name: filepath.Base(m.Name()), Size: info.Size()})
	return m.File.Close()
}

// CloseWithError implements engine.MemberWriter.
func (m *diskMember) CloseWithError(error) error { return m.File.Close() }
