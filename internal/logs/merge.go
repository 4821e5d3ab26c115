package logs

import (
	"cmp"
	"slices"
)

// Merge returns one list, in order and without a gap, of the lines an
// execution's row has and those the hub still has; both are in order, and the
// row is right where they differ. Where lines are missing for good, one line
// says so: "3 lines were lost here (12 to 14)", with the number of the last of
// them. The result is bounded like a stored log.
func Merge(stored, live []Line) []Line {
	lines, cuts := split(stored)
	more, moreCuts := split(live)
	lines = slices.Concat(lines, more)
	cuts = append(cuts, moreCuts...)
	slices.SortStableFunc(lines, func(a, b Line) int { return cmp.Compare(a.Seq, b.Seq) })
	lines = slices.CompactFunc(lines, func(a, b Line) bool { return a.Seq == b.Seq })

	out := make([]Line, 0, len(lines)+len(cuts))
	next := int64(1)
	for _, l := range lines {
		if l.Seq > next {
			out = append(out, fill(cuts, next, l))
		}
		out = append(out, l)
		next = l.Seq + 1
	}
	for _, c := range cuts { // a mark at the very end stays
		if c.line.Seq >= next {
			out = append(out, mark(next, c.line.Seq, c.why, c.line))
			next = c.line.Seq + 1
		}
	}
	return Bound(out)
}

// cutAt is a mark that was found in a list.
type cutAt struct {
	line Line
	from int64
	why  reason
}

// split takes the marks out of a list.
func split(list []Line) (lines []Line, cuts []cutAt) {
	previous := int64(0)
	for _, l := range list {
		if from, why, ok := asMark(l, previous); ok {
			cuts = append(cuts, cutAt{l, from, why})
		} else {
			lines = append(lines, l)
		}
		previous = l.Seq
	}
	return lines, cuts
}

// fill marks the hole before l: as dropped when all of it was dropped on purpose,
// as one that nobody is sure of when some of it was, else as lost.
func fill(cuts []cutAt, from int64, l Line) Line {
	for _, c := range cuts {
		all := c.from <= from && c.line.Seq >= l.Seq-1
		if some := c.from < l.Seq && c.line.Seq >= from; c.why == dropped && all || c.why == unsure && some {
			return mark(from, l.Seq-1, c.why, l)
		}
	}
	return mark(from, l.Seq-1, lost, l)
}
