package logs

import (
	"io"
	"os"
	"sync"

	"golang.org/x/term"

	"github.com/dataguardian/dataguardian/internal/engine"
)

// Terminal prints lines of executions, one write each, whole lines only. It is
// safe for concurrent use.
type Terminal struct {
	colors bool

	mu sync.Mutex
	w  io.Writer
}

// NewTerminal prints to w, with a colour for each level when w is a terminal and
// NO_COLOR is not set.
func NewTerminal(w io.Writer) *Terminal {
	file, ok := w.(*os.File)
	return &Terminal{w: w, colors: ok && term.IsTerminal(int(file.Fd())) && os.Getenv("NO_COLOR") == ""}
}

// Print writes "[LABEL] job: message". The message is printed as it is: escape
// it before.
func (t *Terminal) Print(label, job string, level engine.Level, message string) error {
	text := make([]byte, 0, len(label)+len(job)+len(message)+24)
	color := t.color(level)
	text = append(text, color...)
	text = append(text, '[')
	text = append(text, label...)
	text = append(text, "] "...)
	if job != "" {
		text = append(text, job...)
		text = append(text, ": "...)
	}
	text = append(text, message...)
	if color != "" {
		text = append(text, "\x1b[0m"...)
	}
	text = append(text, '\n')
	t.mu.Lock()
	defer t.mu.Unlock()
	_, err := t.w.Write(text)
	return err
}

func (t *Terminal) color(level engine.Level) string {
	if !t.colors {
		return ""
	}
	switch level {
	case engine.LevelDebug:
		return "\x1b[2m"
	case engine.LevelWarn:
		return "\x1b[33m"
	case engine.LevelError:
		return "\x1b[31m"
	case engine.LevelSuccess:
		return "\x1b[32m"
	default:
		return ""
	}
}
