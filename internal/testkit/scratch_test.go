package testkit

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOnlyMemoryWithRoomThatRunsProgramsServes(t *testing.T) {
	good := syscall.Statfs_t{Type: memoryMagic, Bsize: 4096, Bavail: memoryWanted / 4096}
	require.True(t, serves(&good))
	for name, spoil := range map[string]func(*syscall.Statfs_t){
		"a disk":         func(fs *syscall.Statfs_t) { fs.Type = 0xef53 },
		"too full":       func(fs *syscall.Statfs_t) { fs.Bavail-- },
		"mounted noexec": func(fs *syscall.Statfs_t) { fs.Flags |= syscall.MS_NOEXEC },
	} {
		fs := good
		spoil(&fs)
		require.False(t, serves(&fs), name)
	}
}
