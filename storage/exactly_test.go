package storage_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/dataguardian/dataguardian/storage"
	"github.com/stretchr/testify/require"
)

func TestExactlyGivesWhatWasAskedOrAnUnexpectedEOF(t *testing.T) {
	for _, wrap := range []func(io.Reader) io.Reader{func(r io.Reader) io.Reader { return r }, iotest.OneByteReader, iotest.DataErrReader, iotest.HalfReader} {
		for n, want := range map[int64]string{0: "", 3: "abc", 5: "abcde"} {
			got, err := io.ReadAll(storage.Exactly(io.NopCloser(wrap(strings.NewReader("abcde"))), n))
			require.NoError(t, err)
			require.Equal(t, want, string(got))
		}
		got, err := io.ReadAll(storage.Exactly(io.NopCloser(wrap(strings.NewReader("abcde"))), 6))
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		require.Equal(t, "abcde", string(got))
	}
	broken := errors.New("broken")
	_, err := io.ReadAll(storage.Exactly(io.NopCloser(iotest.ErrReader(broken)), 1))
	require.ErrorIs(t, err, broken)
}
