package logs_test

import (
	"bufio"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/logs"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

func TestATerminalShowsLevelsInColours(t *testing.T) {
	t.Setenv("NO_COLOR", "")
	screen, keyboard := testkit.Terminal(t)
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

	t.Setenv("NO_COLOR", "1")
	require.NoError(t, logs.NewTerminal(keyboard).Print("BACKUP", "nightly", engine.LevelError, "x"))
	got, err := read.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "[BACKUP] nightly: x\r\n", got)
}
