package artifact_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/dataguardian/dataguardian/internal/artifact"
	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/storage"
	"github.com/dataguardian/dataguardian/storage/storagetest"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	actAsVictim()
	goleak.VerifyTestMain(m)
}

const execution = "0198a7c2-1111-7000-8000-00000000abcd"

var started = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

var errWeather = fmt.Errorf("the network is down")

// memory is a storage in memory. It remembers how many bytes were sent per key.
type memory struct {
	mu      sync.Mutex
	objects map[string][]byte
	sent    map[string]int
	bare    bool // knows no digests
}

func newMemory() *memory { return &memory{objects: map[string][]byte{}, sent: map[string]int{}} }

func (m *memory) describe(key string, b []byte) storage.Object {
	o := storage.Object{Key: key, Size: int64(len(b)), Modified: started, SHA256: storagetest.Digest(b)}
	if m.bare {
		o.SHA256 = ""
	}
	return o
}

func (m *memory) Put(ctx context.Context, key string, r io.Reader, o storage.PutOptions) (storage.Object, error) {
	b, err := io.ReadAll(r)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sent[key] += len(b)
	_, taken := m.objects[key]
	switch {
	case err != nil:
		return storage.Object{}, err
	case ctx.Err() != nil:
		return storage.Object{}, ctx.Err()
	case taken && o.IfAbsent:
		return storage.Object{}, storage.ErrExist
	case o.Size >= 0 && o.Size != int64(len(b)), o.SHA256 != "" && o.SHA256 != storagetest.Digest(b):
		return storage.Object{}, storage.ErrChecksum
	}
	m.objects[key] = b
	return m.describe(key, b), nil
}

func (m *memory) Open(_ context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.objects[key]
	if !ok {
		return nil, storage.ErrNotExist
	}
	if offset > int64(len(b)) {
		return nil, io.ErrUnexpectedEOF
	}
	b = b[offset:]
	if length < 0 {
		length = int64(len(b))
	}
	return storage.Exactly(io.NopCloser(bytes.NewReader(b)), length), nil
}

func (m *memory) Stat(_ context.Context, key string) (storage.Object, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.objects[key]
	if !ok {
		return storage.Object{}, storage.ErrNotExist
	}
	return m.describe(key, b), nil
}

func (m *memory) Delete(_ context.Context, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.objects, key)
	return nil
}

func (m *memory) List(_ context.Context, prefix string) iter.Seq2[storage.Object, error] {
	return func(yield func(storage.Object, error) bool) {
		for _, key := range m.keys() {
			if strings.HasPrefix(key, prefix) && !yield(m.describe(key, m.get(key)), nil) {
				return
			}
		}
	}
}

func (m *memory) Close() error { return nil }

func (m *memory) keys() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.objects))
}

func (m *memory) get(key string) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.objects[key]
}

func (m *memory) set(key string, b []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.objects[key] = b
}

// forget makes sent count from now.
func (m *memory) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.sent)
}

// partBytesSent sums what was sent besides the manifest.
func (m *memory) partBytesSent() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	total := 0
	for key, n := range m.sent {
		if !strings.HasSuffix(key, "manifest.json") {
			total += n
		}
	}
	return total
}

// tester is what *testing.T, *testing.B and *rapid.T have in common.
type tester interface {
	require.TestingT
	Helper()
}

// config of a small artifact whose retries do not wait.
func config(dir string, targets ...storage.Driver) artifact.Config {
	c := artifact.Config{
		Header: artifact.Header{
			ExecutionID: execution, JobID: "job", JobName: "Nightly", DatasourceID: "ds", DatasourceName: "Shop",
			Database: "shop", Engine: engine.Postgres, CreatedAt: started, StartedAt: started,
		},
		Path:         artifact.Path("shop", started, execution),
		PartSize:     1000,
		SpoolDir:     dir,
		SpoolReserve: 1,
		Retry: artifact.Retry{Attempts: 4, Sleep: func(ctx context.Context, _ time.Duration) error {
			return context.Cause(ctx)
		}},
	}
	for i, d := range targets {
		c.Targets = append(c.Targets, artifact.Target{ID: fmt.Sprintf("t%d", i+1), Name: fmt.Sprintf("Target %d", i+1), Driver: d})
	}
	return c
}

func completion() artifact.Completion {
	return artifact.Completion{
		Dump: engine.DumpResult{
			Server:       engine.ServerInfo{Version: "15.18", VersionNum: 150018, Flavor: engine.Postgres},
			Tools:        map[string]string{"pg_dump": "15.18"},
			Format:       "pg_dump-custom",
			Tables:       []engine.Table{{Schema: "public", Name: "a<b> \"ü\"", Rows: 3}, {Schema: "public", Name: "uncounted", Rows: -1, Root: &engine.TableName{Schema: "public", Name: "top"}}},
			SchemaDigest: "pg_dump15/server15:" + engine.SchemaDigest(strings.Repeat("0", 64)),
		},
		Proof: "the archive was read to its end", FinishedAt: started.Add(time.Minute),
	}
}

func newWriter(t tester, c artifact.Config) *artifact.Writer {
	t.Helper()
	w, err := artifact.NewWriter(context.Background(), c)
	require.NoError(t, err)
	return w
}

// dump writes members in chunks of the given size.
func dump(t tester, w *artifact.Writer, chunk int, members ...member) {
	t.Helper()
	for _, m := range members {
		require.NoError(t, tryDump(w, chunk, m))
	}
}

type member struct {
	name string
	data []byte
}

func tryDump(w *artifact.Writer, chunk int, m member) error {
	mw, err := w.Create(context.Background(), m.name)
	if err != nil {
		return err
	}
	for c := range slices.Chunk(m.data, chunk) {
		if _, err := mw.Write(c); err != nil {
			_ = mw.CloseWithError(err)
			return err
		}
	}
	return mw.Close()
}

// store makes a committed artifact.
func store(t tester, c artifact.Config, members ...member) artifact.Result {
	t.Helper()
	w := newWriter(t, c)
	dump(t, w, 700, members...)
	r, err := w.Commit(context.Background(), completion())
	require.NoError(t, err)
	return r
}

// read returns the raw bytes of a member, up to the first error.
func read(d storage.Driver, path, name string, ids ...age.Identity) ([]byte, error) {
	m, err := artifact.OpenManifest(context.Background(), d, path)
	if err != nil {
		return nil, err
	}
	return readMember(d, path, m, name, ids...)
}

func readMember(d storage.Driver, path string, m artifact.Manifest, name string, ids ...age.Identity) ([]byte, error) {
	s := artifact.NewSource(d, path, m, ids...)
	s.Retry = config("").Retry
	r, err := s.Open(context.Background(), name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func requireMembers(t tester, d storage.Driver, path string, members []member, ids ...age.Identity) {
	t.Helper()
	for _, m := range members {
		b, err := read(d, path, m.name, ids...)
		require.NoError(t, err)
		require.Equal(t, storagetest.Digest(m.data), storagetest.Digest(b))
	}
}

func requireCode(t tester, code errs.Code, err error) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, code, errs.CodeOf(err), "%v", err)
}

// noise does not compress, text does.
func noise(n int) []byte { return storagetest.Bytes(7, n) }

func text(n int) []byte { return bytes.Repeat([]byte("INSERT INTO t VALUES (1);\n"), n/26+1)[:n] }

func identity(t tester) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	require.NoError(t, err)
	return id
}

// redigest completes an edited manifest as the format says.
func redigest(document []byte) []byte {
	const field = `"manifest_sha256": "`
	at := bytes.LastIndex(document, []byte(field)) + len(field)
	copy(document[at:], strings.Repeat("0", 64))
	sum := sha256.Sum256(document)
	hex.Encode(document[at:], sum[:])
	return document
}
