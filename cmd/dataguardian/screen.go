package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

const (
	// window is how many of the last lines stay below the bar.
	window = 12
	// noWrap lets the terminal cut what is too wide, so that a line is one row.
	noWrap, wrap = "\x1b[?7l", "\x1b[?7h"
)

// screen shows lines. On a terminal the last of them stand below a bar; older ones
// move up and away like any output. Elsewhere there is no bar, and lines are plain.
type screen struct {
	out      io.Writer
	terminal *os.File // nil when out is none
	colours  bool

	bar    string
	recent []string // below the bar
	drawn  int      // rows that are redrawn
	broken error    // the first failure to write
}

func newScreen(out io.Writer) *screen {
	s := &screen{out: out}
	if file, ok := out.(*os.File); ok && term.IsTerminal(int(file.Fd())) && os.Getenv("TERM") != "dumb" {
		s.terminal = file
		s.colours = os.Getenv("NO_COLOR") == ""
	}
	return s
}

// colour returns text in a colour, where there are any.
func (s *screen) colour(code, text string) string {
	if !s.colours || code == "" {
		return text
	}
	return code + text + "\x1b[0m"
}

func (s *screen) write(text string) {
	if _, err := io.WriteString(s.out, text); err != nil && s.broken == nil {
		s.broken = err
	}
}

// print adds a line.
func (s *screen) print(text string) {
	if s.bar == "" {
		s.write(text + "\n")
		return
	}
	s.recent = append(s.recent, text)
	over := max(len(s.recent)-s.room(), 0)
	up := s.recent[:over]
	s.recent = s.recent[over:]
	s.draw(up...)
}

// room is how many lines fit below the bar.
func (s *screen) room() int {
	if _, height, err := term.GetSize(int(s.terminal.Fd())); err == nil && height > 0 {
		return min(window, max(height-2, 1))
	}
	return window
}

// show replaces the bar.
func (s *screen) show(bar string) {
	if s.terminal == nil {
		return
	}
	s.bar = bar
	s.draw()
}

// draw writes everything anew, in one piece: lines that leave, the bar, the rest.
func (s *screen) draw(leaving ...string) {
	var b strings.Builder
	s.erase(&b)
	for _, line := range leaving {
		b.WriteString(line + "\n")
	}
	b.WriteString(noWrap + s.bar + "\n")
	for _, line := range s.recent {
		b.WriteString(line + "\n")
	}
	b.WriteString(wrap)
	s.drawn = 1 + len(s.recent)
	s.write(b.String())
}

func (s *screen) erase(b *strings.Builder) {
	if s.drawn > 0 {
		fmt.Fprintf(b, "\x1b[%dA\r\x1b[J", s.drawn)
	}
	s.drawn = 0
}

// close takes the bar away and leaves every line whole.
func (s *screen) close() {
	if s.bar == "" {
		return
	}
	var b strings.Builder
	s.erase(&b)
	for _, line := range s.recent {
		b.WriteString(line + "\n")
	}
	s.bar, s.recent = "", nil
	s.write(b.String())
}
