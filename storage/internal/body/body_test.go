package body_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/dataguardian/dataguardian/storage"
	"github.com/dataguardian/dataguardian/storage/internal/body"
	"github.com/dataguardian/dataguardian/storage/storagetest"
	"github.com/stretchr/testify/require"
)

const text = "the whole body"

func check(r io.Reader, opts storage.PutOptions) *body.Checked {
	return body.Check(context.Background(), r, opts)
}

func TestAProvenBodyIsReadWhole(t *testing.T) {
	digest := storagetest.Digest([]byte(text))
	for _, opts := range []storage.PutOptions{
		{Size: -1}, {Size: int64(len(text))}, {Size: -1, SHA256: digest}, {Size: int64(len(text)), SHA256: digest},
	} {
		for _, wrap := range []func(io.Reader) io.Reader{iotest.OneByteReader, iotest.DataErrReader, iotest.HalfReader} {
			b := check(wrap(strings.NewReader(text)), opts)
			require.NoError(t, iotest.TestReader(b, []byte(text)))
			require.True(t, b.Proven())
			size, sum := b.Sum()
			require.EqualValues(t, len(text), size)
			require.Equal(t, digest, sum)
		}
	}
}

func TestTheEndOfABodyThatDoesNotMatchIsHeldBack(t *testing.T) {
	n := int64(len(text))
	for name, c := range map[string]struct {
		r    *strings.Reader
		opts storage.PutOptions
	}{
		"too short": {strings.NewReader(text), storage.PutOptions{Size: n + 1}},
		"too long":  {strings.NewReader(text), storage.PutOptions{Size: n - 1}},
		"altered":   {strings.NewReader(text), storage.PutOptions{Size: n, SHA256: storagetest.Digest(nil)}},
	} {
		for _, wrap := range []func(io.Reader) io.Reader{iotest.OneByteReader, iotest.DataErrReader, func(r io.Reader) io.Reader { return r }} {
			b := check(wrap(c.r), c.opts)
			got, err := io.ReadAll(b)
			require.ErrorIs(t, err, storage.ErrChecksum, name)
			require.Less(t, int64(len(got)), c.opts.Size, name)
			require.ErrorIs(t, b.Err(), storage.ErrChecksum)
			require.False(t, b.Proven())
			_, err = c.r.Seek(0, io.SeekStart)
			require.NoError(t, err)
		}
	}
	broken := errors.New("broken after the last byte")
	got, err := io.ReadAll(check(io.MultiReader(strings.NewReader(text), iotest.ErrReader(broken)), storage.PutOptions{Size: n}))
	require.ErrorIs(t, err, broken)
	require.Less(t, int64(len(got)), n)
}

func TestABodyCanBeReadAgainFromWhereItBegan(t *testing.T) {
	r := bytes.NewReader([]byte("skip" + text))
	_, err := r.Seek(4, io.SeekStart)
	require.NoError(t, err)
	b := check(r, storage.PutOptions{Size: int64(len(text)), SHA256: storagetest.Digest([]byte(text))})
	s, ok := b.Seekable().(io.ReadSeeker)
	require.True(t, ok)
	for _, part := range []int64{0, 3, int64(len(text))} {
		_, err = io.CopyN(io.Discard, s, part)
		require.NoError(t, err)
		end, err := s.Seek(0, io.SeekEnd)
		require.NoError(t, err)
		require.EqualValues(t, len(text), end)
		_, err = s.Seek(0, io.SeekStart)
		require.NoError(t, err)
		got, err := io.ReadAll(s)
		require.NoError(t, err)
		require.Equal(t, text, string(got))
		_, err = s.Seek(0, io.SeekStart)
		require.NoError(t, err)
	}
	_, err = s.Seek(5, io.SeekStart)
	require.Error(t, err)
	_, ok = check(storagetest.Unseekable{Reader: r}, storage.PutOptions{Size: 1}).Seekable().(io.Seeker)
	require.False(t, ok)
}

func TestAStoppedBodyIsNotReadAnyMore(t *testing.T) {
	r := strings.NewReader(text)
	b := check(r, storage.PutOptions{Size: -1})
	b.Stop()
	_, err := b.Read(make([]byte, 1))
	require.Error(t, err)
	require.Equal(t, len(text), r.Len())

	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = io.ReadAll(body.Check(ctx, r, storage.PutOptions{Size: -1}))
	require.ErrorIs(t, err, context.Canceled)
}
