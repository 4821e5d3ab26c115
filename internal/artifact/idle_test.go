package artifact

import (
	"runtime"
	"testing"
	"weak"

	"github.com/stretchr/testify/require"
)

func TestWhatWasPutAsideIsTakenAgain(t *testing.T) {
	var i idle[int]
	_, ok := i.take()
	require.False(t, ok)
	i.put(1)
	i.put(2)
	for _, want := range []int{2, 1} {
		one, ok := i.take()
		require.True(t, ok)
		require.Equal(t, want, one)
	}
	_, ok = i.take()
	require.False(t, ok)
}

func TestTheBuffersOfAnArtifactGoWithIt(t *testing.T) {
	buffer := func() weak.Pointer[byte] {
		var of belts
		b := of.take()
		of.put(b)
		return weak.Make(&b[:1][0])
	}()
	runtime.GC()
	require.Nil(t, buffer.Value())
}
