package logs

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dataguardian/dataguardian/internal/engine"
)

// How much of a log is stored with its execution. Over either limit the middle
// goes. What must stay may exceed them: the last lines, and the errors, of which
// the first and the last 500 stay.
const (
	MaxStoredLines = 5000
	MaxStoredBytes = 1 << 20
	keptLast       = 500
	keptErrors     = 500
)

// Bound returns lines, or, when they are too many to store, a shorter list in
// which lines say what was dropped where. lines are in order of Seq. The result
// is well below the limits, so that adding to it does not mean to cut each time.
func Bound(lines []Line) []Line {
	bytes := 0
	for i := range lines {
		bytes += size(&lines[i])
	}
	if len(lines) <= MaxStoredLines && bytes <= MaxStoredBytes {
		return lines
	}
	keep := chosen(lines)
	out := make([]Line, 0, len(lines))
	next := int64(1) // the number that must follow in out
	for i, l := range lines {
		if !keep[i] {
			continue
		}
		if l.Seq > next {
			out = append(out, mark(next, l.Seq-1, reasonIn(lines, next, l.Seq), l))
		}
		out = append(out, l)
		next = l.Seq + 1
	}
	if last := lines[len(lines)-1]; last.Seq >= next { // the list ends with a mark
		out = append(out, mark(next, last.Seq, reasonIn(lines, next, last.Seq+1), last))
	}
	return out
}

// chosen says which lines stay: those that must, then the oldest and the newest
// of the others to equal parts, up to three quarters of the limits. Marks of
// earlier cuts are made anew.
func chosen(lines []Line) []bool {
	keep := make([]bool, len(lines))
	room := budget{lines: MaxStoredLines * 3 / 4, bytes: MaxStoredBytes * 3 / 4}
	marks := marksIn(lines)
	must := func(i int) {
		if !keep[i] && !marks[i] {
			keep[i] = true
			room.take(&lines[i])
		}
	}
	for i := max(0, len(lines)-keptLast); i < len(lines); i++ {
		must(i)
	}
	var failures []int
	for i := range lines {
		if lines[i].Level == engine.LevelError {
			failures = append(failures, i)
		}
	}
	for n, i := range failures {
		if n < keptErrors || n >= len(failures)-keptErrors {
			must(i)
		}
	}
	head := budget{lines: room.lines / 2, bytes: room.bytes / 2}
	for i := 0; i < len(lines) && head.fits(&lines[i]); i++ {
		if !keep[i] && !marks[i] {
			keep[i] = true
			head.take(&lines[i])
			room.take(&lines[i])
		}
	}
	for i := len(lines) - 1; i >= 0 && room.fits(&lines[i]); i-- {
		must(i)
	}
	return keep
}

type budget struct{ lines, bytes int }

func (b *budget) fits(l *Line) bool { return b.lines > 0 && b.bytes >= size(l) }

func (b *budget) take(l *Line) {
	b.lines--
	b.bytes -= size(l)
}

// reason says why lines are missing.
type reason string

const (
	dropped reason = "dropped here to keep the log short"
	lost    reason = "lost here"
	unsure  reason = "lines may have been lost here" // nobody knows whether, and how many
)

// unsureNumbers is how many numbers a mark of lines that may be lost takes: more
// than there can have been, so that none is given out twice.
const unsureNumbers = 1000

// Unsure is a line that says that the lines from a number on may be lost: their
// writer is gone, and so is what carried them. The log goes on behind its number.
func Unsure(from int64, at time.Time) Line {
	return mark(from, from+unsureNumbers-1, unsure, Line{Time: at})
}

// mark stands for the missing lines from..to. It carries the number of the last
// of them and the time of the line that follows.
func mark(from, to int64, why reason, next Line) Line {
	noun := fmt.Sprintf("%d lines were ", to-from+1)
	switch {
	case why == unsure:
		noun = ""
	case from == to:
		noun = "1 line was "
	}
	return Line{
		Seq: to, Time: next.Time, Level: engine.LevelWarn,
		Message: fmt.Sprintf("%s%s (%d to %d)", noun, why, from, to),
	}
}

// asMark reads a mark back. previous is the number before it: a line that only
// looks like a mark does not fill the hole before it, or there is none.
func asMark(l Line, previous int64) (from int64, why reason, ok bool) {
	open := strings.LastIndexByte(l.Message, '(')
	if l.Level != engine.LevelWarn || open < 0 {
		return 0, "", false
	}
	text, _, _ := strings.Cut(l.Message[open+1:], " to ")
	from, err := strconv.ParseInt(text, 10, 64)
	if err != nil || from != previous+1 {
		return 0, "", false
	}
	for _, why := range []reason{dropped, lost, unsure} {
		if l.Message == mark(from, l.Seq, why, l).Message {
			return from, why, true
		}
	}
	return 0, "", false
}

// marksIn says which of the lines are marks.
func marksIn(lines []Line) []bool {
	marks := make([]bool, len(lines))
	previous := int64(0)
	for i, l := range lines {
		_, _, marks[i] = asMark(l, previous)
		previous = l.Seq
	}
	return marks
}

// reasonIn says why from..before-1 is missing, when all of it is to be marked as
// one: something was dropped now, unless there was nothing but a hole before.
func reasonIn(lines []Line, from, before int64) reason {
	i, _ := slices.BinarySearchFunc(lines, from, func(l Line, seq int64) int { return int(l.Seq - seq) })
	previous := from - 1
	for ; i < len(lines) && lines[i].Seq < before; i++ {
		if _, why, ok := asMark(lines[i], previous); !ok || why == dropped {
			return dropped
		}
		previous = lines[i].Seq
	}
	return lost
}
