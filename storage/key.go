package storage

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxKeyBytes is the longest key every supported store accepts.
const MaxKeyBytes = 1024

// maxSegmentBytes is the longest file name of the usual file systems.
const maxSegmentBytes = 255

// CheckKey accepts relative, slash-separated, valid UTF-8 keys of at most
// MaxKeyBytes without empty, "." or ".." segments, backslashes or control
// characters: names that mean the same object in every store. The error wraps
// ErrBadKey.
func CheckKey(key string) error {
	switch {
	case key == "":
		return fmt.Errorf("%w: it is empty", ErrBadKey)
	case len(key) > MaxKeyBytes:
		return fmt.Errorf("%w: %d bytes are more than %d", ErrBadKey, len(key), MaxKeyBytes)
	case !utf8.ValidString(key):
		return fmt.Errorf("%w: it is not valid UTF-8", ErrBadKey)
	case strings.ContainsFunc(key, unicode.IsControl):
		return fmt.Errorf("%w: %q has control characters", ErrBadKey, key)
	case strings.Contains(key, `\`):
		return fmt.Errorf("%w: %q has a backslash", ErrBadKey, key)
	}
	for segment := range strings.SplitSeq(key, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return fmt.Errorf("%w: %q has an empty, \".\" or \"..\" segment", ErrBadKey, key)
		}
		if len(segment) > maxSegmentBytes {
			return fmt.Errorf("%w: a segment is longer than %d bytes", ErrBadKey, maxSegmentBytes)
		}
	}
	return nil
}

// CheckPrefix accepts what CheckKey accepts, the empty string, and one
// trailing slash.
func CheckPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	return CheckKey(strings.TrimSuffix(prefix, "/"))
}

const hexDigits = "0123456789ABCDEF"

// maxNameBytes is where Segment starts to shorten, which leaves callers room
// for a suffix.
const maxNameBytes = 200

// Segment turns any name into one key segment of at most 200 bytes that is safe
// in every store: letters, digits, "-", "_" and non-leading "." stay, every
// other byte is percent-encoded. Long names are cut and end in a digest, so
// that different names give different segments.
func Segment(name string) string {
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		plain := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.' && i > 0
		if plain {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hexDigits[c>>4])
		b.WriteByte(hexDigits[c&15])
	}
	s := b.String()
	if s == "" {
		return "~"
	}
	if len(s) > maxNameBytes {
		sum := sha256.Sum256([]byte(name))
		s = s[:maxNameBytes-18] + "~" + hex.EncodeToString(sum[:8])
	}
	return s
}
