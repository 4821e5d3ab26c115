package logs_test

import (
	"bufio"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/logs"
)

func TestATerminalShowsLevelsInColours(t *testing.T) {
	screen, keyboard := pseudoTerminal(t)
	terminal := logs.NewTerminal(keyboard)
	read := bufio.NewReader(screen)
	for level, want := range map[engine.Level]string{
		engine.LevelError:   "\x1b[31m[BACKUP] nightly: x\x1b[0m\r\n",
		engine.LevelWarn:    "\x1b[33m[BACKUP] nightly: x\x1b[0m\r\n",
		engine.LevelSuccess: "\x1b[32m[BACKUP] nightly: x\x1b[0m\r\n",
		engine.LevelDebug:   "\x1b[2m[BACKUP] nightly: x\x1b[0m\r\n",
		engine.LevelInfo:    "[BACKUP] nightly: x\r\n",
	} {
		require.NoError(t, terminal.Print("BACKUP", "nightly", level, "x"))
		got, err := read.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

// pseudoTerminal returns the two ends of one: what is written to the second
// shows on the first.
func pseudoTerminal(t *testing.T) (screen, program *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, screen.Close()) })
	require.NoError(t, unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, program.Close()) })
	return screen, program
}
