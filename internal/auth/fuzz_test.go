package auth

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// A credential names the id it was made with and no text names another's: there is
// one way to write it.
func FuzzACredentialIsWrittenOneWay(f *testing.F) {
	id, bearer := newCredential(tokenPrefix)
	got, ok := parse(bearer)
	require.True(f, ok)
	require.Equal(f, credential{tokenPrefix, id}, got)
	for _, text := range []string{bearer, "dgs_", "dgs_.", "dgt_AAAA.x", "dgt_" + strings.Repeat("A", 22) + ".", strings.Replace(bearer, "_", "_\n", 1), "dgs_" + bearer} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, ok := parse(text)
		if !ok {
			return
		}
		raw := uuid.MustParse(c.id)
		rest := strings.TrimPrefix(text, c.prefix)
		encoded, _, _ := strings.Cut(rest, ".")
		require.Equal(t, base64.RawURLEncoding.EncodeToString(raw[:]), encoded)
	})
}

// What a damaged row holds is an error, never a panic or a hash that takes the
// machine's memory.
func FuzzAStoredHash(f *testing.F) {
	p := DefaultParams()
	f.Add(p.encode(make([]byte, saltBytes), make([]byte, keyBytes)))
	f.Add("$argon2id$v=19$m=4294967295,t=4294967295,p=255$$" + base64.RawStdEncoding.EncodeToString(make([]byte, keyBytes)))
	f.Add("$argon2id$v=19$m=0,t=1,p=1$AA$AA")
	f.Fuzz(func(t *testing.T, text string) {
		got, salt, key, err := decodeHash(text)
		if err != nil {
			return
		}
		require.Len(t, key, keyBytes)
		require.NotZero(t, got.Passes)
		require.NotZero(t, got.Threads)
		require.LessOrEqual(t, got.MemoryKiB, uint32(maxMemoryKiB))
		require.LessOrEqual(t, got.Passes, uint32(maxPasses))
		again, sameSalt, sameKey, err := decodeHash(got.encode(salt, key))
		require.NoError(t, err)
		require.Equal(t, got, again)
		require.Equal(t, salt, sameSalt)
		require.Equal(t, key, sameKey)
	})
}

func TestNobodysPasswordCostsAsMuchAsSomebodys(t *testing.T) {
	p := NewPasswords(DefaultParams())
	decoy, salt, _, err := decodeHash(p.decoy)
	require.NoError(t, err)
	require.Equal(t, DefaultParams(), decoy)
	require.Len(t, salt, saltBytes)
	hash, err := p.Hash(t.Context(), "correct horse battery")
	require.NoError(t, err)
	somebodys, _, _, err := decodeHash(hash)
	require.NoError(t, err)
	require.Equal(t, somebodys, decoy, "an unknown name takes the same work")
}
