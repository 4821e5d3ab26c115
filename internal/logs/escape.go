package logs

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxLine bounds an escaped line, in bytes.
const maxLine = 8 << 10

const zeroWidthNonJoiner, zeroWidthJoiner = 0x200c, 0x200d

// Escape makes one line of s that is safe to print: control characters, line
// and paragraph separators, invisible and direction-changing characters and
// bytes that are not UTF-8 become visible escapes such as \n, \x1b or \u202e.
// The result is at most 8 KiB; a longer one ends with a mark that says how many
// bytes of it were cut. Escaping twice changes nothing more.
func Escape(s string) string {
	if len(s) <= maxLine && isSafe(s) {
		return s
	}
	var b strings.Builder
	b.Grow(min(len(s), maxLine) + 16)
	fits := 0 // the length at which the mark still fits
	for i := 0; i < len(s); {
		r, width := utf8.DecodeRuneInString(s[i:])
		writeSafe(&b, s[i:i+width], r)
		i += width
		if b.Len() <= maxLine-markRoom {
			fits = b.Len()
		}
		if b.Len() > maxLine {
			return cut(b.String()[:fits], len(s)-i+b.Len()-fits)
		}
	}
	return b.String()
}

const markRoom = 40

func cut(s string, bytes int) string { return fmt.Sprintf("%s [... %d bytes more]", s, bytes) }

func isSafe(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c == 0x7f {
			return false
		} else if c >= utf8.RuneSelf {
			return isSafeText(s[i:])
		}
	}
	return true
}

func isSafeText(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !isVisible(r) {
			return false
		}
	}
	return true
}

// isVisible says that a character neither moves the cursor nor hides: not a
// control character (C0, DEL, C1), a separator of lines, or a format character
// such as a bidirectional override. The two joiners are part of some scripts.
func isVisible(r rune) bool {
	if r == zeroWidthJoiner || r == zeroWidthNonJoiner {
		return true
	}
	return !unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}

func writeSafe(b *strings.Builder, raw string, r rune) {
	switch {
	case r == utf8.RuneError && len(raw) == 1:
		fmt.Fprintf(b, `\x%02x`, raw[0])
	case isVisible(r):
		b.WriteString(raw)
	case r == '\n':
		b.WriteString(`\n`)
	case r == '\r':
		b.WriteString(`\r`)
	case r == '\t':
		b.WriteString(`\t`)
	case r < utf8.RuneSelf:
		fmt.Fprintf(b, `\x%02x`, r)
	case r <= 0xffff:
		fmt.Fprintf(b, `\u%04x`, r)
	default:
		fmt.Fprintf(b, `\U%08x`, r)
	}
}
