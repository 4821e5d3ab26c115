package query

import (
	"encoding/json"
	"io"
	"math"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
)

func TestNumbersThatAFloatWouldChangeStayText(t *testing.T) {
	for text, want := range map[string]any{
		"0": 0.0, "-1": -1.0, "42": 42.0, "1.10": 1.1, "0.1": 0.1, "-0.000": math.Copysign(0, -1), "9007199254740992": 9007199254740992.0, "100000000000000000": "100000000000000000",
		"9007199254740993": "9007199254740993", "-9223372036854775808": "-9223372036854775808", "18446744073709551615": "18446744073709551615",
		"0.1234567890123456789": "0.1234567890123456789", "1.5e3": 1500.0, "1e400": "1e400", "1E-400": 0.0, "12345678901234.56": "12345678901234.56",
		"NaN": "NaN", "Infinity": "Infinity", "-Infinity": "-Infinity", "": "", "x": "x", "0x10p2": 64.0,
	} {
		if text == "12345678901234.56" {
			want = 12345678901234.56 // sixteen digits, and still the same
		}
		require.Equal(t, want, Number(text), text)
	}
	require.InEpsilon(t, 1e300, Float("1e+300"), 0)
	require.Equal(t, "NaN", Float("NaN"))
	require.Equal(t, "-Infinity", Float("-Infinity"))
}

func TestANumberIsTheSameOrText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?`).Draw(t, "number")
		switch v := Number(text).(type) {
		case string:
			require.Equal(t, text, v)
		case float64:
			if len(strings.Trim(strings.Map(digit, text), "0")) > exactDigits {
				require.Equal(t, plain(text), plain(strconv.FormatFloat(v, 'f', -1, 64)))
			} else {
				require.Equal(t, plain(text), plain(strconv.FormatFloat(v, 'f', -1, 64)), "15 digits are kept")
			}
		}
	})
}

func digit(r rune) rune {
	if r < '0' || r > '9' {
		return -1
	}
	return r
}

func TestJSONIsShownAsWhatItSays(t *testing.T) {
	for text, want := range map[string]any{
		`{"a":[1,2.5,null,true,"x"],"n":12345678901234567890}`: map[string]any{"a": []any{1.0, 2.5, nil, true, "x"}, "n": "12345678901234567890"},
		`"text"`: "text", `null`: nil, `{`: "{", `1 2`: "1 2", ``: "", `[1e1000000000]`: []any{"1e1000000000"},
	} {
		require.Equal(t, want, JSON([]byte(text)), text)
	}
	deep := strings.Repeat("[", 200) + strings.Repeat("]", 200)
	require.Equal(t, deep, JSON([]byte(deep)))
	require.IsType(t, []any{}, JSON([]byte(strings.Repeat("[", 50)+strings.Repeat("]", 50))))
}

func TestTimesAreRFC3339(t *testing.T) {
	for text, want := range map[string]string{
		"2026-01-02 03:04:05+00": "2026-01-02T03:04:05Z", "2026-01-02 03:04:05.12+05:30": "2026-01-02T03:04:05.12+05:30",
		"1890-01-02 03:04:05+00:19:32": "1890-01-02T02:44:33Z", "infinity": "infinity", "0044-03-15 00:00:00+00 BC": "0044-03-15 00:00:00+00 BC",
		"12026-01-02 03:04:05+00": "12026-01-02 03:04:05+00",
	} {
		require.Equal(t, want, Instant(text))
	}
	require.Equal(t, "2026-01-02T03:04:05.5", LocalTime("2026-01-02 03:04:05.5"))
	require.Equal(t, "0000-00-00 00:00:00", LocalTime("0000-00-00 00:00:00"))
	require.Equal(t, "-infinity", LocalTime("-infinity"))
}

func TestTextIsValid(t *testing.T) {
	require.Equal(t, "a\uFFFDb", Text("a\xffb"))
	require.Equal(t, "a b c", Words("a\x1bb\nc"))
	require.LessOrEqual(t, len(Words(strings.Repeat("é", 5000))), 2010)
}

func TestOnlyStatementsThatBeginWithAWordThatReadsPass(t *testing.T) {
	d := Dialect{Reads: []string{"SELECT", "WITH"}, Refused: "25006", NestedComments: true, HashComments: true, CodeComments: true}
	for _, sql := range []string{
		"select 1", " \t\n SELECT 1", "((select 1))", "-- x\nselect 1", "# x\r\nselect 1", "/* a */ ( /* b */ select 1)", "/* /* DELETE */ */ select 1", "WITH a AS (SELECT 1) SELECT 1", "select(1)", "select*from t",
	} {
		require.NoError(t, d.Check(sql), sql)
	}
	for _, sql := range []string{
		"", ";", "delete from t", "/* select */ delete from t", "/* /* */ select */ delete from t", "-- select 1", "#select 1", "/* select 1", "/*!50000 delete from t */", "/*! select 1 */", "/*M! select 1 */",
		"selects", "copy t to program 'x'", "commit", "\"select\"", "'select'", "ſelect 1", "select_ 1", ";select 1",
	} {
		err := d.Check(sql)
		require.Equal(t, errs.CodeQueryFailed, errs.CodeOf(err), sql)
		require.Equal(t, "25006", errs.As(err).Details["code"])
	}
	require.Equal(t, errs.CodeValidation, errs.CodeOf(d.Check("select 1\x00; x")))
	require.Error(t, Dialect{Reads: []string{"SELECT"}}.Check("# x\nselect 1"))
	require.Error(t, Dialect{Reads: []string{"SELECT"}}.Check("/* /* */ */ select 1"), "comments are not nested here")
}

func TestRowsStopAtTheirLimits(t *testing.T) {
	rows := NewRows([]string{"a"}, engine.QueryLimits{Rows: 2, Bytes: 1000})
	for range 2 {
		require.False(t, rows.Full(10, 1))
		rows.Add([]any{"0123456789"})
	}
	require.True(t, rows.Full(10, 1))
	r, err := rows.Result(time.Second)
	require.NoError(t, err)
	require.Len(t, r.Rows, 2)
	require.Contains(t, r.Message, "only the first 2 are shown")

	rows = NewRows([]string{"a"}, engine.QueryLimits{Rows: 100, Bytes: 2 << 10})
	require.False(t, rows.Full(1500, 1))
	rows.Add([]any{"x"})
	require.True(t, rows.Full(1500, 1))
	r, err = rows.Result(0)
	require.NoError(t, err)
	require.Contains(t, r.Message, "at most 2 KiB")

	rows = NewRows(nil, engine.QueryLimits{Rows: 100, Bytes: 1 << 20})
	require.True(t, rows.Full(2<<20, 1))
	_, err = rows.Result(0)
	require.Equal(t, errs.CodeQueryFailed, errs.CodeOf(err))
	require.Contains(t, err.Error(), "1 MiB")

	r, err = NewRows([]string{"a\xff"}, engine.QueryLimits{Rows: 1, Bytes: 1}).Result(0)
	require.NoError(t, err)
	require.Equal(t, engine.QueryResult{Columns: []string{"a\uFFFD"}, Rows: [][]any{}}, r)
	_, err = json.Marshal(r)
	require.NoError(t, err)
}

func TestABoundedConnectionTakesSoMuchAndNoMore(t *testing.T) {
	near, far := net.Pipe()
	go func() { _, _ = far.Write(make([]byte, 1<<20)); _ = far.Close() }()
	b := Bound(near, 1000)
	n, err := io.Copy(io.Discard, b)
	require.ErrorIs(t, err, errTooMuch)
	require.True(t, b.Exceeded())
	require.Less(t, n, int64(100_000))
	require.NoError(t, b.Close())
}
