package storagetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/dataguardian/dataguardian/storage"
	"github.com/stretchr/testify/require"
)

// fixture is the driver under test with the questions the suite asks.
type fixture struct {
	storage.Driver
	options Options
}

// Unseekable hides every method but Read, as a pipe does.
type Unseekable struct{ io.Reader }

// Bytes returns n bytes that depend on seed only and do not compress.
func Bytes(seed uint64, n int) []byte {
	b := make([]byte, n)
	var key [32]byte
	key[0], key[1], key[2] = byte(seed), byte(seed>>8), byte(seed>>16)
	_, _ = rand.NewChaCha8(key).Read(b)
	return b
}

// Digest returns the SHA-256 of b in lower-case hex.
func Digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// known are the options of a body whose size and digest are known.
func known(b []byte) storage.PutOptions {
	return storage.PutOptions{Size: int64(len(b)), SHA256: Digest(b)}
}

func (f fixture) put(t *testing.T, key string, b []byte) storage.Object {
	t.Helper()
	o, err := f.Put(t.Context(), key, bytes.NewReader(b), known(b))
	require.NoError(t, err, "put %q", key)
	return o
}

func (f fixture) get(t *testing.T, key string, offset, length int64) []byte {
	t.Helper()
	b, err := f.tryGet(t.Context(), key, offset, length)
	require.NoError(t, err, "get %q from %d, %d bytes", key, offset, length)
	return b
}

func (f fixture) tryGet(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	r, err := f.Open(ctx, key, offset, length)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	return b, errors.Join(err, r.Close())
}

// requireObject proves that key holds exactly b.
func (f fixture) requireObject(t *testing.T, key string, b []byte) {
	t.Helper()
	o, err := f.Stat(t.Context(), key)
	require.NoError(t, err)
	require.Equal(t, key, o.Key)
	require.EqualValues(t, len(b), o.Size)
	if o.SHA256 != "" {
		require.Equal(t, Digest(b), o.SHA256)
	}
	require.True(t, bytes.Equal(b, f.get(t, key, 0, -1)), "%q holds other bytes", key)
}

// requireAbsent proves that nothing is visible under key.
func (f fixture) requireAbsent(t *testing.T, key string) {
	t.Helper()
	_, err := f.Stat(t.Context(), key)
	require.ErrorIs(t, err, storage.ErrNotExist)
	_, err = f.tryGet(t.Context(), key, 0, -1)
	require.ErrorIs(t, err, storage.ErrNotExist)
	require.NotContains(t, f.keys(t, ""), key)
}

func (f fixture) keys(t *testing.T, prefix string) []string {
	t.Helper()
	keys := []string{}
	for o, err := range f.List(t.Context(), prefix) {
		require.NoError(t, err)
		keys = append(keys, o.Key)
	}
	return keys
}

// requireNoLeftovers waits a little: a store may end an aborted write after the
// call that aborted it.
func (f fixture) requireNoLeftovers(t *testing.T) {
	t.Helper()
	if f.options.Leftovers == nil {
		return
	}
	var left []string
	for deadline := time.Now().Add(generous); time.Now().Before(deadline); {
		if left = f.options.Leftovers(t, f.Driver); len(left) == 0 {
			return
		}
		<-time.After(20 * time.Millisecond)
	}
	t.Errorf("left behind: %q", left)
}

// bigSize is a body that spans parts where the driver makes them.
func (f fixture) bigSize() int {
	if f.options.PartSize > 0 {
		return int(2*f.options.PartSize) + 12_345
	}
	return 6 << 20
}
