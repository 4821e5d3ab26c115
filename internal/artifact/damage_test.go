package artifact_test

import (
	"bytes"
	"context"
	"io"
	"strconv"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/dataguardian/dataguardian/internal/artifact"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/storage"
	"github.com/dataguardian/dataguardian/storage/storagetest"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
)

// forms are artifacts of every compression, encrypted and not.
func forms(t *testing.T, check func(t *testing.T, d *memory, c artifact.Config, members []member, id age.Identity)) {
	id := identity(t)
	for _, compression := range []artifact.Compression{artifact.Zstd, artifact.Gzip, artifact.LZ4, artifact.NoCompression} {
		for _, encrypted := range []bool{false, true} {
			name := string(compression)
			if encrypted {
				name += " encrypted"
			}
			t.Run(name, func(t *testing.T) {
				d := newMemory()
				c := config(t.TempDir(), d)
				c.Compression, c.PartSize = compression, 100
				if encrypted {
					c.Recipients = []string{id.Recipient().String()}
				}
				members := []member{{"a", noise(130)}, {"b", nil}}
				store(t, c, members...)
				check(t, d, c, members, id)
			})
		}
	}
}

func readAll(d storage.Driver, path string, members []member, id age.Identity) error {
	m, err := artifact.OpenManifest(context.Background(), d, path)
	if err != nil {
		return err
	}
	for _, member := range members {
		if _, err := readMember(d, path, m, member.name, id); err != nil {
			return err
		}
	}
	return nil
}

func TestEveryFlippedBitIsRefusedBeforeTheEnd(t *testing.T) {
	forms(t, func(t *testing.T, d *memory, c artifact.Config, members []member, id age.Identity) {
		for _, key := range d.keys() {
			object := d.get(key)
			step := 1
			if raceDetector {
				step = 11 // enough to see races
			}
			if !isPart(key) {
				step = 19 // it is large, and its digest sees every bit alike
			}
			for bit := 0; bit < len(object)*8; bit += step {
				damaged := bytes.Clone(object)
				damaged[bit/8] ^= 1 << (bit % 8)
				d.set(key, damaged)
				requireCode(t, errs.CodeArtifactCorrupt, readAll(d, c.Path, members, id))
			}
			d.set(key, object)
		}
		require.NoError(t, readAll(d, c.Path, members, id))
	})
}

func TestEveryTruncationAndExtensionIsRefused(t *testing.T) {
	forms(t, func(t *testing.T, d *memory, c artifact.Config, members []member, id age.Identity) {
		for _, key := range d.keys() {
			object := d.get(key)
			for n := range len(object) {
				d.set(key, object[:n])
				requireCode(t, errs.CodeArtifactCorrupt, readAll(d, c.Path, members, id))
			}
			if len(object) > 0 {
				_, err := artifact.VerifyStored(t.Context(), d, c.Path, nil)
				requireCode(t, errs.CodeArtifactCorrupt, err)
			}
			d.set(key, append(bytes.Clone(object), 'x'))
			requireCode(t, errs.CodeArtifactCorrupt, readAll(d, c.Path, members, id))
			_, err := artifact.VerifyStored(t.Context(), d, c.Path, nil)
			requireCode(t, errs.CodeArtifactCorrupt, err)
			require.NoError(t, d.Delete(t.Context(), key))
			if err := readAll(d, c.Path, members, id); strings.HasSuffix(key, "manifest.json") {
				requireCode(t, errs.CodeNotFound, err)
			} else {
				requireCode(t, errs.CodeArtifactCorrupt, err)
				require.Contains(t, errs.Message(err), key[len(c.Path)+1:])
			}
			d.set(key, object)
		}
	})
}

// What was read may be proven without the rest.
func TestWhatWasReadOfAMemberIsProvenToTheEndOfItsPart(t *testing.T) {
	const part = 1 << 20 // several chunks, of which the last alone waits for the proof
	id := identity(t)
	for name, form := range map[string]struct {
		compression artifact.Compression
		recipients  []string
	}{
		"as it is":              {artifact.NoCompression, nil},
		"compressed":            {artifact.Zstd, nil},
		"compressed, encrypted": {artifact.Zstd, []string{id.Recipient().String()}},
	} {
		t.Run(name, func(t *testing.T) {
			d := newMemory()
			c := config(t.TempDir(), d)
			c.Compression, c.Recipients, c.PartSize = form.compression, form.recipients, part
			store(t, c, member{"m", noise(9 * part)})
			m, err := artifact.OpenManifest(t.Context(), d, c.Path)
			require.NoError(t, err)
			parts := m.Members[0].Parts
			prove := func(n int64) error {
				s := artifact.NewSource(d, c.Path, m, id)
				s.Retry = c.Retry
				r, err := s.Open(t.Context(), "m")
				require.NoError(t, err)
				defer r.Close()
				_, err = io.CopyN(io.Discard, r, n)
				require.NoError(t, err)
				prover, ok := r.(engine.Prover)
				require.True(t, ok)
				err = prover.Prove()
				_, ended := r.Read(make([]byte, 1))
				require.Error(t, ended)
				require.NotErrorIs(t, ended, io.EOF)
				return err
			}
			damage := func(n int) (mend func()) {
				key := c.Path + "/" + parts[n].Name
				object := d.get(key)
				damaged := bytes.Clone(object)
				damaged[len(damaged)-1] ^= 1
				d.set(key, damaged)
				return func() { d.set(key, object) }
			}
			require.NoError(t, prove(100))
			for n, read := range map[int]int64{0: 100, 3: 3*part + 500} {
				mend := damage(n)
				requireCode(t, errs.CodeArtifactCorrupt, prove(read))
				mend()
				mend = damage(7)
				require.NoError(t, prove(read), "which does not come from there")
				mend()
			}
		})
	}
}

func TestSwappedPartsAreRefused(t *testing.T) {
	forms(t, func(t *testing.T, d *memory, c artifact.Config, members []member, id age.Identity) {
		keys := d.keys()
		for i, a := range keys {
			for _, b := range keys[:i] {
				x, y := d.get(a), d.get(b)
				d.set(a, y)
				d.set(b, x)
				requireCode(t, errs.CodeArtifactCorrupt, readAll(d, c.Path, members, id))
				_, err := artifact.VerifyStored(t.Context(), d, c.Path, nil)
				requireCode(t, errs.CodeArtifactCorrupt, err)
				_, err = artifact.Verify(t.Context(), d, c.Path, []age.Identity{id}, nil)
				requireCode(t, errs.CodeArtifactCorrupt, err)
				d.set(a, x)
				d.set(b, y)
			}
		}
	})
}

func TestAReadGoesOnAfterABrokenConnection(t *testing.T) {
	d := newMemory()
	c := config(t.TempDir(), d)
	c.Compression, c.PartSize = artifact.NoCompression, 1<<20
	members := []member{{"m", noise(3<<20 + 5)}}
	store(t, c, members...)
	f := storagetest.NewFaulty(d,
		storagetest.Fault{Method: storagetest.Open, Skip: 2, Times: 3, Err: errWeather, AfterBytes: 300 << 10},
		storagetest.Fault{Method: storagetest.Open, Skip: 4, Times: 2, Err: errWeather})
	requireMembers(t, f, c.Path, members)

	f.Inject(storagetest.Fault{Method: storagetest.Open, Key: isPart, Err: errWeather, AfterBytes: 1})
	f.Inject(storagetest.Fault{Method: storagetest.Open, Key: isPart, Err: errWeather})
	f.Heal()
	f.Inject(storagetest.Fault{Method: storagetest.Open, Key: isPart, Err: errWeather})
	_, err := read(f, c.Path, "m")
	requireCode(t, errs.CodeStorageUnavailable, err)
	f.Heal()
	f.Inject(storagetest.Fault{Method: storagetest.Open, Err: storage.ErrPermission})
	_, err = read(f, c.Path, "m")
	requireCode(t, errs.CodeStorageAuth, err)
}

func isPart(key string) bool { return !strings.HasSuffix(key, "manifest.json") }

func TestABombStopsAtTheRecordedSize(t *testing.T) {
	d := newMemory()
	c := config(t.TempDir(), d)
	c.PartSize = 1 << 20
	store(t, c, member{"m", []byte("small")})

	var bomb bytes.Buffer
	z, err := zstd.NewWriter(&bomb)
	require.NoError(t, err)
	for range 50 {
		_, err = z.Write(make([]byte, 1<<20))
		require.NoError(t, err)
	}
	require.NoError(t, z.Close())
	key := c.Path + "/m.zst"
	document := string(d.get(c.Path + "/manifest.json"))
	document = strings.ReplaceAll(document, storagetest.Digest(d.get(key)), storagetest.Digest(bomb.Bytes()))
	document = strings.ReplaceAll(document, `size": `+strconv.Itoa(len(d.get(key)))+",", `size": `+strconv.Itoa(bomb.Len())+",")
	document = strings.ReplaceAll(document, `stored_size": `+strconv.Itoa(len(d.get(key)))+"\n", `stored_size": `+strconv.Itoa(bomb.Len())+"\n")
	d.set(key, bomb.Bytes())
	d.set(c.Path+"/manifest.json", redigest([]byte(document)))

	got, err := read(d, c.Path, "m")
	requireCode(t, errs.CodeArtifactCorrupt, err)
	require.LessOrEqual(t, len(got), 5)
}

func TestVerifyStopsWithItsContextAndTellsProgress(t *testing.T) {
	d := newMemory()
	c := config(t.TempDir(), d)
	r := store(t, c, member{"m", noise(5000)})
	var last, total int64
	_, err := artifact.Verify(t.Context(), d, c.Path, nil, func(done, all int64) { last, total = done, all })
	require.NoError(t, err)
	require.Equal(t, r.StoredBytes, last)
	require.Equal(t, r.StoredBytes, total)

	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		_, err = artifact.Verify(ctx, d, c.Path, nil, func(int64, int64) { cancel() })
		requireCode(t, errs.CodeCancelled, err)
	}
}
