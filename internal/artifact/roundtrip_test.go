package artifact_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"filippo.io/age"
	"github.com/dataguardian/dataguardian/internal/artifact"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/storage/local"
	"github.com/dataguardian/dataguardian/storage/storagetest"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestWhatWasWrittenIsReadBackWhateverTheForm(t *testing.T) {
	id := identity(t)
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		d := newMemory()
		c := config(dir, d)
		c.Compression = rapid.SampledFrom([]artifact.Compression{artifact.Zstd, artifact.Gzip, artifact.LZ4, artifact.NoCompression}).Draw(t, "compression")
		c.Spool = rapid.SampledFrom([]artifact.Spool{artifact.SpoolFull, artifact.SpoolBounded}).Draw(t, "spool")
		c.PartSize = int64(rapid.SampledFrom([]int{100, 997, 4096, 1 << 20}).Draw(t, "part size"))
		c.Concurrency = rapid.IntRange(1, 4).Draw(t, "concurrency")
		if rapid.Bool().Draw(t, "encrypted") {
			c.Recipients = []string{id.Recipient().String()}
		}
		var members []member
		for i := range rapid.IntRange(1, 3).Draw(t, "members") {
			n := rapid.SampledFrom([]int{0, 1, 99, 100, 101, 5000, 20_000}).Draw(t, "size")
			data := noise(n)
			if rapid.Bool().Draw(t, "text") {
				data = text(n)
			}
			members = append(members, member{string(rune('a'+i)) + ".sql", data})
		}
		w := newWriter(t, c)
		dump(t, w, rapid.SampledFrom([]int{1 << 20, 1000, 333, 17}).Draw(t, "chunk"), members...)
		r, err := w.Commit(context.Background(), completion())
		require.NoError(t, err)
		requireMembers(t, d, c.Path, members, id)

		require.Len(t, d.keys(), len(r.Parts)+1)
		for _, p := range r.Parts {
			require.LessOrEqual(t, p.Size, c.PartSize)
			require.Equal(t, p.SHA256, storagetest.Digest(d.get(p.Key)))
		}
		report, err := artifact.Verify(context.Background(), d, c.Path, []age.Identity{id}, nil)
		require.NoError(t, err)
		require.True(t, report.Decoded)
		require.Equal(t, r.RawBytes, report.RawBytes)
		var last int64
		stored, err := artifact.VerifyStored(context.Background(), d, c.Path, func(done, _ int64) { last = done })
		require.NoError(t, err)
		require.False(t, stored.Decoded)
		require.Equal(t, []int64{int64(report.Parts), report.StoredBytes, report.StoredBytes}, []int64{int64(stored.Parts), stored.StoredBytes, last})
		require.NoDirExists(t, filepath.Join(dir, execution))
	})
}

func TestEveryLevelOfEveryCompressionRoundTrips(t *testing.T) {
	levels := map[artifact.Compression][2]int{artifact.Zstd: {1, 4}, artifact.Gzip: {1, 9}, artifact.LZ4: {0, 9}, artifact.NoCompression: {0, 0}}
	members := []member{{"backup.dump", append(text(300_000), noise(300_000)...)}}
	for compression, span := range levels {
		require.Error(t, artifact.CheckCompression(compression, new(span[0]-1)))
		require.Error(t, artifact.CheckCompression(compression, new(span[1]+1)))
		for level := span[0]; level <= span[1]; level++ {
			d := newMemory()
			c := config(t.TempDir(), d)
			c.Compression, c.Level, c.PartSize = compression, &level, 1<<20
			store(t, c, members...)
			requireMembers(t, d, c.Path, members)
		}
	}
	require.Error(t, artifact.CheckCompression("rar", nil))
}

func TestConcurrentMembersDoNotMix(t *testing.T) {
	d := newMemory()
	c := config(t.TempDir(), d)
	c.Spool, c.PartSize = artifact.SpoolBounded, 5000
	w := newWriter(t, c)
	var members []member
	var wg sync.WaitGroup
	for i := range 12 {
		m := member{strings.Repeat("m", i+1), storagetest.Bytes(uint64(i), 30_000+i)}
		members = append(members, m)
		wg.Go(func() { require.NoError(t, tryDump(w, 999, m)) })
	}
	wg.Wait()
	r, err := w.Commit(t.Context(), completion())
	require.NoError(t, err)
	require.Equal(t, 12, r.Manifest.Totals.Members)
	requireMembers(t, d, c.Path, members)
}

func TestOneOpenMemberPerGoroutineIsNotNeeded(t *testing.T) {
	d := newMemory()
	c := config(t.TempDir(), d)
	c.Spool, c.Compression = artifact.SpoolBounded, artifact.NoCompression
	w := newWriter(t, c)
	var members []member
	writers := []io.WriteCloser{}
	for i := range 20 {
		m := member{strings.Repeat("m", i+1), noise(5000)}
		mw, err := w.Create(t.Context(), m.name)
		require.NoError(t, err)
		members, writers = append(members, m), append(writers, mw)
	}
	for at := 0; at < 5000; at += 500 {
		for i, mw := range writers {
			_, err := mw.Write(members[i].data[at : at+500])
			require.NoError(t, err)
		}
	}
	for _, mw := range writers {
		require.NoError(t, mw.Close())
	}
	_, err := w.Commit(t.Context(), completion())
	require.NoError(t, err)
	requireMembers(t, d, c.Path, members)
}

func TestAMemberOfOnePartKeepsItsPlainName(t *testing.T) {
	for size, want := range map[int][]string{
		0:    {"backup.dump"},
		1000: {"backup.dump"},
		1001: {"backup.dump.0001", "backup.dump.0002"},
		2000: {"backup.dump.0001", "backup.dump.0002"},
		2001: {"backup.dump.0001", "backup.dump.0002", "backup.dump.0003"},
	} {
		d := newMemory()
		c := config(t.TempDir(), d)
		c.Compression = artifact.NoCompression
		store(t, c, member{"backup.dump", noise(size)})
		keys := []string{}
		for _, name := range want {
			keys = append(keys, c.Path+"/"+name)
		}
		require.Equal(t, append(keys, c.Path+"/manifest.json"), d.keys())
	}
}

func TestPartsOpenWithoutUs(t *testing.T) {
	id := identity(t)
	data := append(text(200_000), noise(10_000)...)
	decoders := map[artifact.Compression]func(io.Reader) (io.Reader, error){
		artifact.Zstd:          func(r io.Reader) (io.Reader, error) { return zstd.NewReader(r, zstd.WithDecoderConcurrency(1)) },
		artifact.Gzip:          func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
		artifact.LZ4:           func(r io.Reader) (io.Reader, error) { return lz4.NewReader(r), nil },
		artifact.NoCompression: func(r io.Reader) (io.Reader, error) { return r, nil },
	}
	for compression, decode := range decoders {
		for _, encrypted := range []bool{false, true} {
			dir := t.TempDir()
			d, err := local.New(local.Config{Path: dir})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, d.Close()) })
			c := config(t.TempDir(), d)
			c.Compression = compression
			if encrypted {
				c.Recipients = []string{id.Recipient().String()}
			}
			r := store(t, c, member{"backup.dump", data})

			names, err := filepath.Glob(filepath.Join(dir, c.Path, "backup.dump*")) // sorted, as the shell does
			require.NoError(t, err)
			require.Len(t, names, len(r.Parts))
			var cat bytes.Buffer
			for _, name := range names {
				b, err := os.ReadFile(name)
				require.NoError(t, err)
				cat.Write(b)
			}
			stream := io.Reader(&cat)
			if encrypted {
				stream, err = age.Decrypt(stream, id)
				require.NoError(t, err)
			}
			stream, err = decode(stream)
			require.NoError(t, err)
			got, err := io.ReadAll(stream)
			require.NoError(t, err)
			require.True(t, bytes.Equal(data, got))
		}
	}
}

func TestThreeThousandPartsRoundTripInBothSpools(t *testing.T) {
	for _, spool := range []artifact.Spool{artifact.SpoolFull, artifact.SpoolBounded} {
		d := newMemory()
		c := config(t.TempDir(), d)
		c.PartSize, c.Compression, c.Spool = 1024, artifact.NoCompression, spool
		members := []member{{"backup.dump", noise(3000*1024 - 5)}}
		r := store(t, c, members...)
		require.Len(t, r.Parts, 3000)
		require.Equal(t, c.Path+"/backup.dump.3000", r.Parts[2999].Key)
		requireMembers(t, d, c.Path, members)
	}
}

func TestAMemberIsReadInAnyBufferSize(t *testing.T) {
	d := newMemory()
	c := config(t.TempDir(), d)
	data := text(3000)
	store(t, c, member{"m", data})
	m, err := artifact.OpenManifest(t.Context(), d, c.Path)
	require.NoError(t, err)
	s := artifact.NewSource(d, c.Path, m)
	require.Equal(t, int64(3000), s.Members()[0].Size)
	for _, wrap := range []func(io.Reader) io.Reader{iotest.OneByteReader, iotest.HalfReader, iotest.DataErrReader} {
		r, err := s.Open(t.Context(), "m")
		require.NoError(t, err)
		got, err := io.ReadAll(wrap(r))
		require.NoError(t, err)
		require.True(t, bytes.Equal(data, got))
		require.NoError(t, r.Close())
	}
	_, err = s.Open(t.Context(), "other")
	requireCode(t, errs.CodeNotFound, err)
}

func TestAReaderMayLeaveEarly(t *testing.T) {
	d := newMemory()
	c := config(t.TempDir(), d)
	c.PartSize = 1 << 20
	store(t, c, member{"m", noise(20 << 20)})
	m, err := artifact.OpenManifest(t.Context(), d, c.Path)
	require.NoError(t, err)
	r, err := artifact.NewSource(d, c.Path, m).Open(t.Context(), "m")
	require.NoError(t, err)
	_, err = io.CopyN(io.Discard, r, 1<<20)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	_, err = io.ReadAll(r)
	require.Error(t, err)
}

func TestOnlyARecipientReadsAnEncryptedArtifact(t *testing.T) {
	id, other := identity(t), identity(t)
	hybrid, err := age.GenerateHybridIdentity()
	require.NoError(t, err)
	d := newMemory()
	c := config(t.TempDir(), d)
	members := []member{{"m", noise(3000)}}
	for _, reader := range []age.Identity{id, hybrid} {
		c.Recipients = []string{id.Recipient().String()}
		if reader == hybrid {
			c.Recipients = []string{hybrid.Recipient().String()}
		}
		store(t, c, members...)
		requireMembers(t, d, c.Path, members, reader)
		_, err = read(d, c.Path, "m", other)
		requireCode(t, errs.CodeDecryptionFailed, err)
		_, err = read(d, c.Path, "m")
		requireCode(t, errs.CodeDecryptionFailed, err)

		report, err := artifact.Verify(t.Context(), d, c.Path, nil, nil)
		require.NoError(t, err)
		require.False(t, report.Decoded)
		require.Zero(t, report.RawBytes)
		_, err = artifact.Verify(t.Context(), d, c.Path, []age.Identity{other}, nil)
		requireCode(t, errs.CodeDecryptionFailed, err)
		require.NoError(t, artifact.Delete(t.Context(), d, c.Path))
	}
	parsed, err := artifact.ParseIdentities("# a comment\n" + id.String() + "\n")
	require.NoError(t, err)
	require.Len(t, parsed, 1)
	_, err = artifact.ParseIdentities("AGE-SECRET-KEY-1BROKEN")
	require.Error(t, err)
	require.NotContains(t, err.Error(), "BROKEN")
	require.Error(t, artifact.CheckRecipients([]string{"ssh-ed25519 AAAA"}))
}
