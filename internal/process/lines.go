package process

import (
	"bytes"
	"cmp"
	"io"
	"strings"
	"sync"
)

// cutMark ends a line that was longer than the limit.
const cutMark = " [...]"

// lines turns a stream into lines of bounded length and keeps the last few.
type lines struct {
	on      func(string)
	maxLine int
	keep    int

	line []byte
	cut  bool

	mu   sync.Mutex
	last []string
}

func newLines(s Spec) *lines {
	return &lines{
		on:      s.OnStderr,
		maxLine: cmp.Or(s.MaxLine, defaultMaxLine),
		keep:    cmp.Or(s.TailLines, defaultTail),
	}
}

// read returns at the end of r, whatever ends it.
func (l *lines) read(r io.Reader) {
	buf := make([]byte, 8<<10)
	for {
		n, err := r.Read(buf)
		l.feed(buf[:n])
		if err != nil {
			l.flush()
			return
		}
	}
}

func (l *lines) feed(b []byte) {
	for len(b) > 0 {
		head, rest, found := bytes.Cut(b, []byte{'\n'})
		if room := l.maxLine - len(l.line); len(head) > room {
			head, l.cut = head[:room], true
		}
		l.line = append(l.line, head...)
		if found {
			l.emit()
		}
		b = rest
	}
}

func (l *lines) flush() {
	if len(l.line) > 0 {
		l.emit()
	}
}

func (l *lines) emit() {
	line := strings.ToValidUTF8(string(bytes.TrimRight(l.line, "\r")), "?")
	if l.cut {
		line += cutMark
	}
	l.line, l.cut = l.line[:0], false

	l.mu.Lock()
	l.last = append(l.last, line)
	if len(l.last) > l.keep {
		l.last = append(l.last[:0], l.last[len(l.last)-l.keep:]...)
	}
	l.mu.Unlock()
	if l.on != nil {
		l.on(line)
	}
}

func (l *lines) tail() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.last...)
}
