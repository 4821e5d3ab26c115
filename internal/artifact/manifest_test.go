package artifact_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/dataguardian/dataguardian/internal/artifact"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/storage"
	"github.com/dataguardian/dataguardian/storage/storagetest"
	"github.com/stretchr/testify/require"
)

// document is the manifest of a small artifact of two members.
func document(t testing.TB) []byte {
	d := newMemory()
	c := config(t.TempDir(), d)
	c.Compression, c.PartSize = artifact.NoCompression, 100
	store(t, c, member{"a", noise(250)}, member{"b", noise(10)})
	return d.get(c.Path + "/manifest.json")
}

func TestTheManifestSaysAllThereIsToKnow(t *testing.T) {
	id := identity(t)
	d := newMemory()
	c := config(t.TempDir(), d)
	c.Recipients = []string{" " + id.Recipient().String() + "\n"}
	r := store(t, c, member{"backup.dump", noise(2500)})
	m, err := artifact.OpenManifest(t.Context(), d, c.Path)
	require.NoError(t, err)

	want := r.Manifest
	want.Digest, want.Warnings = m.Digest, []string{}
	require.Equal(t, want, m)
	require.Equal(t, execution, m.ExecutionID)
	require.Equal(t, "Nightly", m.JobName)
	require.Equal(t, engine.Postgres, m.Engine)
	require.Equal(t, "15.18", m.ServerVersion)
	require.Equal(t, "pg_dump-custom", m.DumpFormat)
	require.Equal(t, []string{id.Recipient().String()}, m.Recipients)
	require.True(t, m.Encrypted())
	require.Equal(t, int64(3), *m.Tables[0].Rows)
	require.Nil(t, m.Tables[1].Rows)
	require.Equal(t, completion().Dump.Tables, m.DumpedTables())
	require.Equal(t, completion().Dump.SchemaDigest, m.SchemaDigest)
	require.Equal(t, artifact.Age, m.Members[0].Encryption)
	require.Equal(t, int64(2500), m.Totals.RawSize)
	require.Equal(t, r.StoredBytes, m.Totals.StoredSize)
	require.Equal(t, r.Parts, m.AllParts(c.Path))
	require.Contains(t, string(d.get(c.Path+"/manifest.json")), `a<b> \"ü\"`, "it is written to be read")
	require.NotContains(t, string(d.get(c.Path+"/manifest.json")), "null,\n  \"", "lists are never null")
}

func TestAnEditedManifestIsRefused(t *testing.T) {
	original := string(document(t))
	_, err := artifact.DecodeManifest(strings.NewReader(original))
	require.NoError(t, err)
	for _, edit := range [][2]string{
		{`"job_name": "Nightly"`, `"job_name": "Nightlx"`},
		{`"raw_size": 250`, `"raw_size": 251`},
		{"\n", "\n "},
		{`"database"`, `"Database"`},
	} {
		require.Contains(t, original, edit[0])
		_, err := artifact.DecodeManifest(strings.NewReader(strings.Replace(original, edit[0], edit[1], 1)))
		requireCode(t, errs.CodeArtifactCorrupt, err)
	}
}

func TestAManifestThatContradictsItselfIsRefusedEvenWithARightDigest(t *testing.T) {
	original := string(document(t))
	for name, edit := range map[string][2]string{
		"older version":      {`"version": 1`, `"version": 0`},
		"part name":          {`"a.0002"`, `"a.0003"`},
		"separator":          {`"a.0002"`, `"../a02"`},
		"duplicate part":     {`"a.0002"`, `"a.0001"`},
		"duplicate member":   {`"name": "b"`, `"name": "a"`},
		"member name":        {`"name": "b"`, `"name": "/"`},
		"negative part":      {`"size": 50,`, `"size": -5,`},
		"part size":          {`"size": 50,`, `"size": 51,`},
		"raw size":           {`"raw_size": 250,`, `"raw_size": 251,`},
		"negative raw size":  {`"raw_size": 250,`, `"raw_size": -50,`},
		"overflow":           {`"raw_size": 250,`, `"raw_size": 9223372036854775807,`},
		"more than a number": {`"raw_size": 250,`, `"raw_size": 9223372036854775808,`},
		"totals":             {`"parts": 4`, `"parts": 5`},
		"compression":        {`"compression": "none"`, `"compression": "rar"`},
		"wrong compression":  {`"compression": "none"`, `"compression": "zstd"`},
		"encryption":         {`"encryption": "none"`, `"encryption": "rot13"`},
		"digest form":        {`"sha256": "`, `"sha256": "X`},
	} {
		t.Run(name, func(t *testing.T) {
			require.Contains(t, original, edit[0])
			changed := redigest([]byte(strings.Replace(original, edit[0], edit[1], 1)))
			_, err := artifact.DecodeManifest(bytes.NewReader(changed))
			requireCode(t, errs.CodeArtifactCorrupt, err)
		})
	}
}

// What only a newer program can have written is not damaged: nobody may mark it, or
// count on another copy instead.
func TestAManifestOfANewerProgramIsNotDamage(t *testing.T) {
	original := string(document(t))
	for name, edit := range map[string][2]string{
		"its version":                        {`"version": 1`, `"version": 2`},
		"a field that is not known":          {`"job_id"`, `"job_idd"`},
		"a field of parts that is not known": {`"size": 50,`, `"size": 50, "colour": "red",`},
	} {
		require.Contains(t, original, edit[0])
		_, err := artifact.DecodeManifest(bytes.NewReader(redigest([]byte(strings.Replace(original, edit[0], edit[1], 1)))))
		require.Equal(t, errs.CodeArtifactTooNew, errs.CodeOf(err), "%s: %v", name, err)
		require.Contains(t, errs.Message(err), "upgrade DataGuardian")
	}
}

func TestWhatIsNoManifestIsRefused(t *testing.T) {
	original := document(t)
	for name, b := range map[string][]byte{
		"nothing":      {},
		"not JSON":     []byte("x"),
		"null":         []byte("null"),
		"empty object": []byte("{}"),
		"no digest":    []byte(`{"version": 1, "members": []}`),
		"no members":   redigest([]byte(`{"version": 1, "members": [], "manifest_sha256": "` + strings.Repeat("0", 64) + `"}`)),
		"short digest": []byte(`{"version": 1, "manifest_sha256": "0"}`),
		"deep":         []byte(strings.Repeat("[", 1<<20)),
		"twice":        append(bytes.Clone(original), original...),
	} {
		_, err := artifact.DecodeManifest(bytes.NewReader(b))
		require.Equal(t, errs.CodeArtifactCorrupt, errs.CodeOf(err), name)
	}
	_, err := artifact.DecodeManifest(endless{})
	requireCode(t, errs.CodeArtifactCorrupt, err)
}

// endless is a document without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestAManifestThatCannotBeReadIsNotCalledDamaged(t *testing.T) {
	d := newMemory()
	c := config(t.TempDir(), d)
	store(t, c, member{"m", nil})
	for err, code := range map[error]errs.Code{
		errWeather: errs.CodeStorageUnavailable, storage.ErrPermission: errs.CodeStorageAuth, storage.ErrNotExist: errs.CodeNotFound,
	} {
		for _, after := range []int64{0, 50} {
			f := storagetest.NewFaulty(d, storagetest.Fault{Method: storagetest.Open, Err: err, AfterBytes: after})
			_, got := artifact.OpenManifest(t.Context(), f, c.Path)
			requireCode(t, code, got)
		}
	}
	_, err := artifact.OpenManifest(t.Context(), d, "")
	requireCode(t, errs.CodeValidation, err)
}

func FuzzManifest(f *testing.F) {
	original := document(f)
	f.Add(original)
	f.Add([]byte("{}"))
	f.Add([]byte(`{"version":2}`))
	f.Add([]byte(`{"version":1,"members":[{"name":"a"}],"manifest_sha256": "` + strings.Repeat("0", 64) + `"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if bytes.Contains(b, []byte(`"manifest_sha256": "`)) && bytes.LastIndex(b, []byte(`"manifest_sha256": "`)) < len(b)-84 {
			b = redigest(bytes.Clone(b)) // past the first gate
		}
		m, err := artifact.DecodeManifest(bytes.NewReader(b))
		if err != nil {
			require.Contains(t, []errs.Code{errs.CodeArtifactCorrupt, errs.CodeArtifactTooNew}, errs.CodeOf(err))
			return
		}
		seen := map[string]bool{"x/manifest.json": true}
		var total int64
		for _, p := range m.AllParts("x") {
			require.False(t, seen[p.Key])
			seen[p.Key] = true
			require.Equal(t, 1, strings.Count(p.Key, "/"))
			require.NoError(t, storage.CheckKey(p.Key))
			require.GreaterOrEqual(t, p.Size, int64(0))
			total += p.Size
		}
		require.Equal(t, m.Totals.StoredSize, total)
	})
}

func FuzzDecoding(f *testing.F) {
	id := identity(f)
	for _, compression := range []artifact.Compression{artifact.Zstd, artifact.Gzip, artifact.LZ4, artifact.NoCompression} {
		d := newMemory()
		c := config(f.TempDir(), d)
		c.Compression = compression
		r := store(f, c, member{"m", text(300)})
		f.Add(string(compression), d.get(r.Parts[0].Key), int64(300))
		f.Add(string(compression), d.get(r.Parts[0].Key), int64(10))
	}
	f.Fuzz(func(t *testing.T, compression string, stored []byte, raw int64) {
		c := artifact.Compression(compression)
		suffix := map[artifact.Compression]string{artifact.Zstd: ".zst", artifact.Gzip: ".gz", artifact.LZ4: ".lz4", artifact.NoCompression: ""}
		if _, known := suffix[c]; !known || raw < 0 || raw > 1<<20 {
			return
		}
		d := newMemory()
		name := "m" + suffix[c]
		d.set("p/"+name, stored)
		m := artifact.Manifest{Members: []artifact.ManifestMember{{
			Name: "m", Compression: c, Encryption: artifact.NoEncryption, RawSize: raw, RawSHA256: strings.Repeat("0", 64), StoredSize: int64(len(stored)),
			Parts: []artifact.ManifestPart{{Name: name, Size: int64(len(stored)), SHA256: storagetest.Digest(stored)}},
		}}}
		r, err := artifact.NewSource(d, "p", m, id).Open(t.Context(), "m")
		if err == nil {
			defer r.Close()
			var b bytes.Buffer
			_, err = b.ReadFrom(r)
			require.LessOrEqual(t, int64(b.Len()), raw)
		}
		requireCode(t, errs.CodeArtifactCorrupt, err)
	})
}
