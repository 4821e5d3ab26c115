package logs_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/logs"
)

func TestEscapeMakesOneSafeLine(t *testing.T) {
	for in, want := range map[string]string{
		"":                           "",
		"plain <b>text</b> é 漢 👩‍🚀":  "plain <b>text</b> é 漢 👩‍🚀",
		`C:\temp\n`:                  `C:\temp\n`,
		"a\nb\r\nc\td":               `a\nb\r\nc\td`,
		"\x1b[31mred\x1b]0;title\a":  `\x1b[31mred\x1b]0;title\x07`,
		"\x00\x7f":                   `\x00\x7f`,
		"\u009b31m\u0085":            `\u009b31m\u0085`,
		"abc\u202edcba\u2066\u200f":  `abc\u202edcba\u2066\u200f`,
		"\u2028\u2029\ufeff\u00ad":   `\u2028\u2029\ufeff\u00ad`,
		"\U000e0041":                 `\U000e0041`,
		"\xff\xc3(\xed\xa0\x80":      `\xff\xc3(\xed\xa0\x80`,
		"\ufffd is a character, too": "\ufffd is a character, too",
	} {
		require.Equal(t, want, logs.Escape(in))
	}
}

func TestEscapeBoundsALine(t *testing.T) {
	for _, in := range []string{strings.Repeat("x", 8193), strings.Repeat("é", 5000), strings.Repeat("\x1b", 4000), strings.Repeat("a", 8191) + "\n", strings.Repeat("x", 1<<20)} {
		out := logs.Escape(in)
		require.LessOrEqual(t, len(out), 8<<10)
		require.Greater(t, len(out), 8000)
		require.Regexp(t, ` \[\.\.\. \d+ bytes more\]$`, out)
		require.True(t, utf8.ValidString(out))
	}
	whole := strings.Repeat("x", 8<<10)
	require.Equal(t, whole, logs.Escape(whole))
}

func FuzzEscape(f *testing.F) {
	f.Add("a\n\x1b[0m\u202e\xff")
	f.Add("\u009b\u2066 \U000e0041")
	f.Fuzz(func(t *testing.T, s string) {
		out := logs.Escape(s)
		if len(out) > 8<<10 || !utf8.ValidString(out) {
			t.Fatalf("%d bytes, valid %v", len(out), utf8.ValidString(out))
		}
		for _, r := range out {
			if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || unicode.Is(unicode.Bidi_Control, r) {
				t.Fatalf("%q shows %U", out, r)
			}
		}
		if logs.Escape(out) != out {
			t.Fatalf("%q changes again", out)
		}
	})
}
