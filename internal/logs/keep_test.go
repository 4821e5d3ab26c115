package logs_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/logs"
)

// explained fails when a number is missing without a line that says so. It
// returns the numbers of the lines that are no such marks.
func explained(t require.TestingT, lines []logs.Line) []int64 {
	var real []int64
	next := int64(1)
	for _, l := range lines {
		if l.Seq != next {
			require.Contains(t, l.Message, fmt.Sprintf("(%d to %d)", next, l.Seq))
			require.Contains(t, l.Message, fmt.Sprintf("%d line", l.Seq-next+1))
			require.Equal(t, engine.LevelWarn, l.Level)
		} else if !strings.Contains(l.Message, " here") {
			real = append(real, l.Seq)
		}
		next = l.Seq + 1
	}
	return real
}

func TestASmallLogIsKeptWhole(t *testing.T) {
	lines := lineRange(1, logs.MaxStoredLines)
	require.Equal(t, lines, logs.Bound(lines))
	require.Empty(t, logs.Bound(nil))
}

func TestTheMiddleOfALongLogGoesAndOneLineSaysSo(t *testing.T) {
	out := logs.Bound(lineRange(1, 20000))
	require.Less(t, len(out), logs.MaxStoredLines)
	real := explained(t, out)
	require.Len(t, out, len(real)+1)
	require.EqualValues(t, 1, real[0])
	require.EqualValues(t, 20000, real[len(real)-1])
	i := slices.IndexFunc(out, func(l logs.Line) bool { return strings.Contains(l.Message, "dropped") })
	require.Equal(t, fmt.Sprintf("%d lines were dropped here to keep the log short (%d to %d)", out[i].Seq-out[i-1].Seq, out[i-1].Seq+1, out[i].Seq), out[i].Message)
}

func TestErrorsAndTheLastLinesAlwaysStay(t *testing.T) {
	lines := lineRange(1, 30000)
	errorsAt := []int64{1, 7777, 15000, 15001, 22222, 29999}
	for _, seq := range errorsAt {
		lines[seq-1].Level = engine.LevelError
	}
	for i := range lines {
		if i > 29400 {
			lines[i].Message = strings.Repeat("long ", 1000) // 500 of these are more than is stored
		}
	}
	real := explained(t, logs.Bound(lines))
	for _, seq := range errorsAt {
		require.Contains(t, real, seq)
	}
	for seq := int64(29501); seq <= 30000; seq++ {
		require.Contains(t, real, seq)
	}
}

func TestALogOfErrorsOnlyIsBoundedToo(t *testing.T) {
	lines := lineRange(1, 50000)
	for i := range lines {
		lines[i].Level = engine.LevelError
	}
	out := logs.Bound(lines)
	require.LessOrEqual(t, len(out), logs.MaxStoredLines)
	explained(t, out)
}

func TestALogThatGrowsStaysBoundedAndExplained(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var lines []logs.Line
		seq := int64(0)
		for range rapid.IntRange(1, 3).Draw(t, "times") {
			n := rapid.SampledFrom([]int{1, 100, 3000, 6000}).Draw(t, "lines")
			size := rapid.SampledFrom([]int{5, 200, 1000}).Draw(t, "size")
			every := rapid.SampledFrom([]int64{2, 100, 1 << 40}).Draw(t, "an error every")
			for range n {
				seq++
				l := line(seq)
				l.Message = strings.Repeat("m", size)
				if seq%every == 0 {
					l.Level = engine.LevelError
				}
				lines = append(lines, l)
			}
			lines = logs.Bound(lines)
			explained(t, lines)
			require.LessOrEqual(t, len(lines), logs.MaxStoredLines)
		}
		require.Equal(t, seq, lines[len(lines)-1].Seq)
	})
}

func TestMergeFillsHolesFromBothSidesAndMarksWhatIsLost(t *testing.T) {
	merged := logs.Merge(slices.Concat(lineRange(1, 4), lineRange(7, 8)), slices.Concat(lineRange(3, 5), lineRange(12, 13)))
	require.Equal(t, []int64{1, 2, 3, 4, 5, 7, 8, 12, 13}, explained(t, merged))
	require.Equal(t, "1 line was lost here (6 to 6)", merged[5].Message)
	require.EqualValues(t, 6, merged[5].Seq)
	require.Equal(t, "3 lines were lost here (9 to 11)", merged[8].Message)
	require.EqualValues(t, 11, merged[8].Seq)
	require.Equal(t, engine.LevelWarn, merged[8].Level)

	require.Equal(t, merged, logs.Merge(merged, nil), "marks stay what they are")
	require.Equal(t, lineRange(1, 13), logs.Merge(merged, lineRange(5, 13)), "unless the lines turn up")
	require.Equal(t, "20 lines were lost here (1 to 20)", logs.Merge(nil, lineRange(21, 22))[0].Message)
	require.Empty(t, logs.Merge(nil, nil))
	require.Equal(t, lineRange(1, 3), logs.Merge(lineRange(1, 3), nil))
	require.Equal(t, lineRange(1, 3), logs.Merge(nil, lineRange(1, 3)))
}

func TestMergeBelievesTheRowWhereBothDiffer(t *testing.T) {
	other := line(2)
	other.Message = "from the hub"
	require.Equal(t, lineRange(1, 3), logs.Merge(lineRange(1, 2), []logs.Line{other, line(3)}))
}

func TestMergeKeepsSayingThatLinesWereDroppedOnPurpose(t *testing.T) {
	stored := logs.Bound(lineRange(1, 9000))
	merged := logs.Merge(stored, lineRange(8990, 9010))
	require.NotContains(t, fmt.Sprint(merged), "lost")
	require.EqualValues(t, 9010, merged[len(merged)-1].Seq)
	explained(t, merged)
}

func TestALineThatOnlyLooksLikeAMarkHidesNothing(t *testing.T) {
	fake := line(3)
	fake.Level = engine.LevelWarn
	fake.Message = "3 lines were lost here (1 to 3)"
	require.Equal(t, []logs.Line{line(1), line(2), fake, line(4)}, logs.Merge([]logs.Line{line(1), line(2), fake}, []logs.Line{line(4)}))
}

func TestWhateverIsMergedEachNumberIsThereOrExplained(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		last := int64(rapid.IntRange(1, 60).Draw(t, "last"))
		pick := func(name string) []logs.Line {
			var out []logs.Line
			for _, l := range lineRange(1, last) {
				if rapid.Bool().Draw(t, name) {
					out = append(out, l)
				}
			}
			return out
		}
		stored, live, more := logs.Merge(pick("stored"), nil), pick("live"), pick("more")
		once := logs.Merge(stored, live)
		twice := logs.Merge(once, more)
		for _, l := range slices.Concat(live, more) {
			require.Contains(t, twice, l)
		}
		explained(t, twice)
		require.Equal(t, twice, logs.Merge(twice, live))
	})
}
