package secret_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"pgregory.net/rapid"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/secret"
)

func create(t *testing.T) *secret.Box {
	t.Helper()
	box, err := secret.Create(filepath.Join(t.TempDir(), "keyset.json"))
	require.NoError(t, err)
	return box
}

func TestWhatWasSealedOpensInItsRowAndNowhereElse(t *testing.T) {
	box := create(t)
	rapid.Check(t, func(t *rapid.T) {
		plain := rapid.SliceOf(rapid.Byte()).Draw(t, "plain")
		here := rapid.String().Draw(t, "here")
		there := rapid.String().Filter(func(s string) bool { return s != here }).Draw(t, "there")
		sealed, err := box.Seal(plain, here)
		require.NoError(t, err)
		opened, err := box.Open(sealed, here)
		require.NoError(t, err)
		require.Equal(t, string(plain), string(opened))
		_, err = box.Open(sealed, there)
		require.Equal(t, errs.CodeDecryptionFailed, errs.CodeOf(err))
		id, ok := secret.KeyID(sealed)
		require.True(t, ok)
		require.Equal(t, box.Primary(), id)
	})
}

func TestAChangedCiphertextDoesNotOpen(t *testing.T) {
	box := create(t)
	sealed, err := box.Seal([]byte("s3cret"), "t/c/1")
	require.NoError(t, err)
	for i := range sealed {
		broken := append([]byte(nil), sealed...)
		broken[i] ^= 0x40
		_, err := box.Open(broken, "t/c/1")
		require.Error(t, err, "byte %d", i)
	}
	for n := range sealed {
		_, err := box.Open(sealed[:n], "t/c/1")
		require.Error(t, err, "%d bytes", n)
	}
}

func TestAnotherKeyFileIsNamedInTheError(t *testing.T) {
	sealed, err := create(t).Seal([]byte("s3cret"), "t/c/1")
	require.NoError(t, err)
	other := create(t)
	_, err = other.Open(sealed, "t/c/1")
	require.Equal(t, errs.CodeWrongKey, errs.CodeOf(err))
	require.Contains(t, errs.Message(err), other.Path())
}

func TestAKeyFileIsPrivateAndReadBack(t *testing.T) {
	box := create(t)
	info, err := os.Stat(box.Path())
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
	sealed, err := box.Seal([]byte("s3cret"), "t/c/1")
	require.NoError(t, err)
	again, err := secret.Load(box.Path())
	require.NoError(t, err)
	opened, err := again.Open(sealed, "t/c/1")
	require.NoError(t, err)
	require.Equal(t, "s3cret", string(opened))
	entries, err := os.ReadDir(filepath.Dir(box.Path()))
	require.NoError(t, err)
	require.Len(t, entries, 1, "nothing is left beside the key file")
}

func TestAKeyFileIsNeverReplaced(t *testing.T) {
	box := create(t)
	before, err := os.ReadFile(box.Path())
	require.NoError(t, err)
	_, err = secret.Create(box.Path())
	require.Equal(t, errs.Exists, errs.KindOf(err))
	after, err := os.ReadFile(box.Path())
	require.NoError(t, err)
	require.Equal(t, before, after)
}

func TestUnusableKeyFilesAreRefusedWithASentence(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), mode))
		require.NoError(t, os.Chmod(path, mode))
		return path
	}
	good, err := os.ReadFile(create(t).Path())
	require.NoError(t, err)
	loop := filepath.Join(dir, "loop")
	require.NoError(t, os.Symlink(loop, loop))
	for name, c := range map[string]struct{ path, says string }{
		"absent":         {filepath.Join(dir, "absent"), "does not exist"},
		"a directory":    {dir, "is a directory"},
		"below a file":   {filepath.Join(write("file", "", 0o600), "keyset.json"), "not a directory; check"},
		"a loop":         {loop, "too many levels of symbolic links; check"},
		"group-readable": {write("group", string(good), 0o640), "chmod 600"},
		"world-readable": {write("world", string(good), 0o604), "chmod 600"},
		"empty":          {write("empty", "", 0o600), "no valid keyset"},
		"no JSON":        {write("text", "hello", 0o600), "no valid keyset"},
		"cut short":      {write("short", string(good[:len(good)/2]), 0o600), "no valid keyset"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := secret.Load(c.path)
			require.Equal(t, secret.CodeKeyFile, errs.CodeOf(err))
			require.Contains(t, errs.Message(err), c.says)
			require.Contains(t, errs.Message(err), c.path)
		})
	}
}

func TestASecondKeyWritesWhileTheFirstStillReads(t *testing.T) {
	old := create(t)
	sealed, err := old.Seal([]byte("s3cret"), "t/c/1")
	require.NoError(t, err)

	rotated := rotate(t, old.Path())
	require.NotEqual(t, old.Primary(), rotated.Primary())
	opened, err := rotated.Open(sealed, "t/c/1")
	require.NoError(t, err)
	require.Equal(t, "s3cret", string(opened))

	fresh, err := rotated.Seal([]byte("s3cret"), "t/c/1")
	require.NoError(t, err)
	id, _ := secret.KeyID(fresh)
	require.Equal(t, rotated.Primary(), id)
	_, err = old.Open(fresh, "t/c/1")
	require.Equal(t, errs.CodeWrongKey, errs.CodeOf(err))
}

func TestStrangersWithUnknownKeysLetTheFileBeReadOnceASecondAndRotatedKeysAreFoundBeside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box := create(t)
		rotated := rotate(t, box.Path())
		fresh, err := rotated.Seal([]byte("s3cret"), "t/c/1")
		require.NoError(t, err)
		forged, err := create(t).Seal([]byte("x"), "t/c/1")
		require.NoError(t, err)
		refused := func(sealed []byte, code errs.Code, why string) {
			t.Helper()
			_, err := box.Open(sealed, "t/c/1")
			require.Equal(t, code, errs.CodeOf(err))
			require.Contains(t, errs.Message(err), why)
		}

		refused(forged, errs.CodeWrongKey, "another key than those")
		require.NoError(t, os.Rename(rotated.Path(), box.Path()))
		require.NoError(t, os.Chmod(box.Path(), 0o640))
		refused(forged, secret.CodeKeyFile, "run chmod 600")
		require.NoError(t, os.Chmod(box.Path(), 0o600)) // neither its size nor its time changes
		refused(fresh, secret.CodeKeyFile, "run chmod 600")
		<-time.After(time.Second)
		refused(forged, errs.CodeWrongKey, "another key than those")
		opened, err := box.Open(fresh, "t/c/1") // without a further look
		require.NoError(t, err)
		require.Equal(t, "s3cret", string(opened))

		again := rotate(t, box.Path())
		fresh, err = again.Seal([]byte("s3cret"), "t/c/1")
		require.NoError(t, err)
		require.NoError(t, os.Rename(again.Path(), box.Path()))
		_, err = box.Open(fresh, "t/c/1")
		require.NoError(t, err, "a file that has changed is read at once")
	})
}

func TestAKeyFileThatBecameUnreadableIsToldAsWhatItIs(t *testing.T) {
	for name, c := range map[string]struct {
		become func(path string) error
		says   string
	}{
		"deleted":           {os.Remove, "does not exist"},
		"a directory":       {func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) }, "is a directory"},
		"a loop of links":   {func(path string) error { return errors.Join(os.Remove(path), os.Symlink(path, path)) }, "cannot be read: too many levels of symbolic links"},
		"open to everybody": {func(path string) error { return os.Chmod(path, 0o644) }, "run chmod 600"},
		"overwritten":       {func(path string) error { return os.WriteFile(path, []byte("hello"), 0o600) }, "no valid keyset"},
		"without a way to it": {func(path string) error {
			dir := filepath.Dir(path)
			return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600))
		}, "cannot be read: not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "keys", "keyset.json")
			require.NoError(t, os.Mkdir(filepath.Dir(path), 0o700))
			box, err := secret.Create(path)
			require.NoError(t, err)
			known, err := box.Seal([]byte("s3cret"), "t/c/1")
			require.NoError(t, err)
			fresh, err := rotate(t, path).Seal([]byte("s3cret"), "t/c/1") // by a process that read the file in time
			require.NoError(t, err)
			require.NoError(t, c.become(path))

			_, err = box.Open(fresh, "t/c/1")
			require.Equal(t, secret.CodeKeyFile, errs.CodeOf(err))
			require.Equal(t, errs.Internal, errs.KindOf(err), "strangers are not told")
			require.Contains(t, errs.Message(err), path)
			require.Contains(t, errs.Message(err), c.says)
			require.NotContains(t, err.Error(), "another key")
			opened, err := box.Open(known, "t/c/1")
			require.NoError(t, err, "the keys before stay in use")
			require.Equal(t, "s3cret", string(opened))
			_, err = box.Seal([]byte("s3cret"), "t/c/1")
			require.NoError(t, err)
		})
	}
}

// rotate writes a key file that has a new primary key beside those of path.
func rotate(t *testing.T, path string) *secret.Box {
	t.Helper()
	file, err := os.Open(path)
	require.NoError(t, err)
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(file))
	require.NoError(t, err)
	require.NoError(t, file.Close())
	manager := keyset.NewManagerFromHandle(handle)
	id, err := manager.Add(aead.AES256GCMKeyTemplate())
	require.NoError(t, err)
	require.NoError(t, manager.SetPrimary(id))
	handle, err = manager.Handle()
	require.NoError(t, err)
	next := filepath.Join(t.TempDir(), "keyset.json")
	file, err = os.OpenFile(next, os.O_CREATE|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	require.NoError(t, insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(file)))
	require.NoError(t, file.Close())
	box, err := secret.Load(next)
	require.NoError(t, err)
	return box
}
