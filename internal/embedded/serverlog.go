package embedded

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"

	"github.com/dataguardian/dataguardian/internal/errs"
)

const (
	serverLogMax  = 8 << 20 // bytes; one older file is kept beside it
	serverLogTail = 12      // lines kept for an error
)

// serverLog is the server's own log: a file of bounded size, its last lines in
// memory, and what is serious for the operator's log.
type serverLog struct {
	path   string
	max    int64
	logger *slog.Logger

	mu   sync.Mutex
	file *os.File // nil when it could not be opened again
	size int64
	tail []string
	lost bool // the disk took no line, and that was said
}

func openServerLog(path string, limit int64, logger *slog.Logger) (*serverLog, error) {
	l := &serverLog{path: path, max: limit, logger: logger}
	if err := l.open(); err != nil {
		return nil, errs.Wrap(err, errs.Unavailable, CodeDataDir, "the log %q of the private PostgreSQL cannot be opened; check the rights and the disk", path)
	}
	return l, nil
}

func (l *serverLog) open() error {
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	l.file, l.size = f, info.Size()
	return nil
}

// write takes one line. A disk that does not take it costs the line, never the
// server, which would wait for us; the operator hears of it once.
func (l *serverLog) write(line []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := string(bytes.TrimRight(line, "\r\n"))
	l.tail = append(l.tail, text)
	if len(l.tail) > serverLogTail {
		l.tail = l.tail[1:]
	}
	l.forward(text)
	err := l.rotate(int64(len(line)))
	if err == nil {
		var n int
		n, err = l.file.Write(line)
		l.size += int64(n)
	}
	if err != nil && !l.lost {
		l.logger.Error("the log of the private PostgreSQL cannot be written; its lines are dropped", "file", l.path, "error", err)
	}
	l.lost = err != nil
}

func (l *serverLog) rotate(more int64) error {
	if l.file == nil {
		return l.open()
	}
	if l.size == 0 || l.size+more <= l.max {
		return nil
	}
	err := errors.Join(l.file.Close(), os.Rename(l.path, l.path+".1"))
	l.file = nil
	return errors.Join(err, l.open())
}

// forward passes on what ends the server. What ends one session (FATAL) is told
// to its client, who may have expected it, such as while the server starts.
func (l *serverLog) forward(text string) {
	level := slog.LevelDebug
	if strings.Contains(text, "] PANIC: ") {
		level = slog.LevelError
	}
	l.logger.Log(context.Background(), level, "private PostgreSQL", "line", text) // a line belongs to no request
}

// begin forgets the lines of an earlier server.
func (l *serverLog) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tail = nil
}

// last returns the newest lines.
func (l *serverLog) last() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.tail, "\n")
}

func (l *serverLog) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	if err := l.file.Close(); !errors.Is(err, fs.ErrClosed) {
		return err
	}
	return nil
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
