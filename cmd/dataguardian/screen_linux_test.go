package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	pb "github.com/dataguardian/dataguardian/gen/dataguardian/v1"
	"github.com/dataguardian/dataguardian/internal/testkit"
)

// glass is what a terminal shows: as much of its language as a screen speaks.
type glass struct {
	rows []string
	at   int
}

var controls = regexp.MustCompile("\x1b\\[(\\??)(\\d*)([A-Za-z])|\r\n|[^\x1b\r]+|\r")

func (g *glass) take(t *testing.T, text string) {
	t.Helper()
	for _, m := range controls.FindAllStringSubmatch(text, -1) {
		switch {
		case m[0] == "\r\n":
			g.at++
		case m[0] == "\r" || m[1] == "?" || m[3] == "m":
		case m[3] == "A":
			n, err := strconv.Atoi(m[2])
			require.NoError(t, err)
			g.at -= n
			require.GreaterOrEqual(t, g.at, 0)
		case m[3] == "J":
			g.rows = g.rows[:min(g.at, len(g.rows))]
		case m[3] != "":
			t.Fatalf("unknown control %q", m[0])
		default:
			for len(g.rows) <= g.at {
				g.rows = append(g.rows, "")
			}
			g.rows[g.at] += m[0]
		}
	}
}

// onTerminal lets work use a screen on a terminal, with a look at what it shows.
func onTerminal(t *testing.T, work func(s *screen, look func() []string)) string {
	t.Helper()
	master, program := testkit.Terminal(t)
	s := newScreen(program)
	g := &glass{}
	var all strings.Builder
	look := func() []string {
		const mark = "\x1b[9m"
		s.write(mark)
		var got []byte
		for !bytes.HasSuffix(got, []byte(mark)) {
			one := make([]byte, 4096)
			n, err := master.Read(one)
			require.NoError(t, err)
			got = append(got, one[:n]...)
		}
		all.Write(got)
		g.take(t, string(got))
		return g.rows
	}
	work(s, look)
	look()
	require.NoError(t, s.broken)
	return all.String()
}

func TestTheBarStandsAboveTheLastLinesAndEveryLineStays(t *testing.T) {
	t.Setenv("NO_COLOR", "")
	t.Setenv("TERM", "xterm")
	onTerminal(t, func(s *screen, look func() []string) {
		s.print("before there is a bar")
		s.show("bar 1")
		var lines []string
		for i := range 40 {
			lines = append(lines, fmt.Sprintf("line %d", i))
			s.print(lines[i])
			if i%10 == 0 {
				s.show(fmt.Sprintf("bar %d", i))
				rows := look()
				below := min(i+1, window)
				require.Equal(t, fmt.Sprintf("bar %d", i), rows[len(rows)-below-1])
				require.Equal(t, lines[len(lines)-below:], rows[len(rows)-below:])
			}
		}
		s.close()
		require.Equal(t, append([]string{"before there is a bar"}, lines...), look())
		s.close()
		s.print("after")
		require.Equal(t, "after", look()[41])
	})
}

func TestALineHasTheColourOfItsLevelUnlessNobodyWantsColours(t *testing.T) {
	line := &pb.LogLine{Level: pb.LogLine_error, Message: "it broke"}
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	write := func(s *screen, _ func() []string) { s.print(s.line("", line)) }
	require.Contains(t, onTerminal(t, write), "it broke\x1b[0m")
	t.Setenv("NO_COLOR", "1")
	require.NotContains(t, onTerminal(t, write), "\x1b[31m")
	t.Setenv("NO_COLOR", "")
	t.Setenv("TERM", "dumb")
	require.NotContains(t, onTerminal(t, write), "\x1b[31m")
}

func TestAPipeGetsPlainLinesAndNoBar(t *testing.T) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	s := newScreen(w)
	s.show("bar")
	s.print(s.colour("\x1b[31m", "line"))
	s.close()
	require.NoError(t, w.Close())
	text, err := io.ReadAll(r)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	require.Equal(t, "line\n", string(text))
}
