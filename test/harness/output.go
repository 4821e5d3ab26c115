package harness

import (
	"strings"
	"sync"
	"testing"
	"time"
)

// patience bounds every wait of the tests. Nothing takes nearly as long on an
// idle machine.
const patience = 90 * time.Second

// Output collects what a process writes to one stream.
type Output struct {
	mu      sync.Mutex
	text    strings.Builder
	changed chan struct{} // closed and replaced with every write
}

// NewOutput returns an empty one.
func NewOutput() *Output { return &Output{changed: make(chan struct{})} }

// Write implements io.Writer.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Write(p)
	close(o.changed)
	o.changed = make(chan struct{})
	return len(p), nil
}

// String returns everything so far.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// Lines returns the whole lines so far.
func (o *Output) Lines() []string {
	text := o.String()
	end := strings.LastIndexByte(text, '\n')
	if end < 0 {
		return nil
	}
	return strings.Split(text[:end], "\n")
}

// Await returns the first line that holds every one of the words, as soon as it
// is there. It fails the test when the process has ended without it.
func (p *Process) Await(t testing.TB, o *Output, words ...string) string {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for ended := false; ; {
		o.mu.Lock()
		changed := o.changed
		o.mu.Unlock()
		if line, ok := find(o.Lines(), words); ok {
			return line
		}
		if ended {
			t.Fatalf("%s ended without a line with %q\n%s", p.name, words, p.said())
		}
		select {
		case <-changed:
		case <-p.done:
			ended = true
		case <-timer.C:
			t.Fatalf("%s wrote no line with %q\n%s", p.name, words, p.said())
		}
	}
}

func find(lines []string, words []string) (string, bool) {
	for _, line := range lines {
		if containsAll(line, words) {
			return line, true
		}
	}
	return "", false
}

func containsAll(line string, words []string) bool {
	for _, word := range words {
		if !strings.Contains(line, word) {
			return false
		}
	}
	return true
}
