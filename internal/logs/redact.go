package logs

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

const (
	mask        = "***" // shorter than any secret that is looked for everywhere
	shortSecret = 4     // bytes; below, a secret is only masked as a whole word
	cutPrefix   = 6     // bytes of a secret at the end of a line that was cut there
)

// Redactor masks secrets in text: as they are, percent-encoded in whatever way,
// in base64 (standard and URL alphabet, also inside a longer encoded text), in
// hexadecimal, and escaped as in JSON, Go and SQL literals. A secret of several
// lines is also masked line by line, and one that a line breaks off after
// at least 6 bytes is masked there.
//
// A secret of 1 to 3 bytes is only masked where it stands as a word of its own:
// anywhere else it would eat ordinary text, and be betrayed by that.
//
// A Redactor never changes and is safe for concurrent use.
type Redactor struct {
	raw    []string  // secrets
	coded  []pattern // their other forms
	short  []string
	widest int // no form is longer, in bytes
}

// pattern is a form of a secret to look for. Around the middle of a base64
// text, one character on each side holds bits of the secret, too.
type pattern struct {
	text   string
	base64 bool
}

// NewRedactor returns a redactor for the given secrets. Empty ones are ignored.
func NewRedactor(secrets ...string) *Redactor {
	r := &Redactor{}
	seen := map[string]bool{}
	for _, secret := range secrets {
		for _, s := range piecesOf(secret) {
			if s == "" || seen[s] {
				continue
			}
			seen[s] = true
			r.add(s)
		}
	}
	// Longer forms first changes nothing in what is masked; it makes the order of
	// the work independent of the order of the secrets.
	slices.SortFunc(r.raw, func(a, b string) int { return len(b) - len(a) })
	return r
}

// piecesOf returns a secret, without the space around it too, and each of its
// lines that is long enough to be one, but not the frame of a PEM block.
func piecesOf(secret string) []string {
	pieces := []string{secret, strings.TrimSpace(secret)}
	if !strings.ContainsAny(secret, "\r\n") {
		return pieces
	}
	for line := range strings.FieldsFuncSeq(secret, func(r rune) bool { return r == '\n' || r == '\r' }) {
		line = strings.TrimSpace(line)
		if len(line) >= shortSecret && !strings.HasPrefix(line, "-----") {
			pieces = append(pieces, line)
		}
	}
	return pieces
}

func (r *Redactor) add(s string) {
	if len(s) < shortSecret {
		if strings.Trim(s, "*") != "" { // asterisks are masked already
			r.short = append(r.short, s)
		}
		return
	}
	r.raw = append(r.raw, s)
	r.widest = max(r.widest, 3*len(s)) // percent-encoded
	for _, p := range formsOf(s) {
		if p.text != s && len(p.text) >= shortSecret && !slices.Contains(r.coded, p) {
			r.coded = append(r.coded, p)
			r.widest = max(r.widest, len(p.text)+4)
		}
	}
}

func formsOf(s string) []pattern {
	forms := []pattern{
		{text: strings.ReplaceAll(s, "'", "''")},
		{text: strings.ReplaceAll(s, `"`, `""`)},
		{text: strings.ReplaceAll(s, `\`, `\\`)},
		{text: strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s)},
		{text: strings.Trim(strconv.Quote(s), `"`)},
		{text: strings.Trim(strconv.QuoteToASCII(s), `"`)},
		{text: Escape(s)},
		{text: hex.EncodeToString([]byte(s))},
		{text: strings.ToUpper(hex.EncodeToString([]byte(s)))},
	}
	if text, err := json.Marshal(s); err == nil {
		forms = append(forms, pattern{text: string(text[1 : len(text)-1])})
	}
	for _, alphabet := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for offset := range 3 {
			forms = append(forms, pattern{text: base64Core(alphabet, s, offset), base64: true})
		}
	}
	return forms
}

// base64Core returns the characters that s alone decides when it begins at
// offset in a group of three bytes.
func base64Core(alphabet *base64.Encoding, s string, offset int) string {
	text := alphabet.EncodeToString([]byte(strings.Repeat("\x00", offset) + s))
	head := []int{0, 2, 3}[offset]
	if (offset+len(s))%3 != 0 {
		text = text[:len(text)-1]
	}
	return text[head:]
}

// Redact returns s with every secret replaced by three asterisks.
func (r *Redactor) Redact(s string) string {
	for { // what grows together may be a secret again; the text is shorter each time, or has more asterisks
		next := r.cutOff(replace(s, r.find(s)))
		if next == s {
			for _, word := range r.short {
				next = maskWord(next, word)
			}
		}
		if next == s {
			return s
		}
		s = next
	}
}

// span is a part of a text, from inclusive to exclusive.
type span struct{ from, to int }

// find returns where secrets are, in order and apart from each other.
func (r *Redactor) find(s string) []span {
	var spans []span
	for _, secret := range r.raw {
		spans = occurrences(spans, s, secret)
	}
	for _, p := range r.coded {
		first := len(spans)
		spans = occurrences(spans, s, p.text)
		for i := first; p.base64 && i < len(spans); i++ {
			spans[i] = widen(s, spans[i])
		}
	}
	if strings.ContainsAny(s, "%+") {
		spans = r.findPercent(spans, s)
	}
	return union(spans)
}

func occurrences(spans []span, s, text string) []span {
	for from := 0; ; {
		i := strings.Index(s[from:], text)
		if i < 0 {
			return spans
		}
		spans = append(spans, span{from + i, from + i + len(text)})
		from += i + 1
	}
}

// findPercent looks for secrets in the decoded text, once with a plus as it is
// and once as a space, so that it does not matter which bytes were encoded.
func (r *Redactor) findPercent(spans []span, s string) []span {
	for _, plus := range []byte{'+', ' '} {
		text, at := decodePercent(s, plus)
		for _, secret := range r.raw {
			for _, found := range occurrences(nil, text, secret) {
				spans = append(spans, span{at[found.from], at[found.to]})
			}
		}
	}
	return spans
}

// decodePercent also returns where in s each decoded byte begins, and the end.
func decodePercent(s string, plus byte) (string, []int) {
	text := make([]byte, 0, len(s))
	at := make([]int, 0, len(s)+1)
	for i := 0; i < len(s); i++ {
		at = append(at, i)
		c := s[i]
		switch {
		case c == '+':
			c = plus
		case c == '%' && i+2 < len(s):
			if b, err := hex.DecodeString(s[i+1 : i+3]); err == nil {
				c = b[0]
				i += 2
			}
		}
		text = append(text, c)
	}
	return string(text), append(at, len(s))
}

// widen takes in the neighbours that hold bits of the secret, and the padding.
func widen(s string, w span) span {
	if w.from > 0 && isBase64(s[w.from-1]) {
		w.from--
	}
	if w.to < len(s) && isBase64(s[w.to]) {
		w.to++
	}
	for w.to < len(s) && s[w.to] == '=' {
		w.to++
	}
	return w
}

func isBase64(c byte) bool {
	return isWord(c) || c == '+' || c == '/' || c == '-'
}

func isWord(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c == '_' || c >= 0x80
}

func union(spans []span) []span {
	slices.SortFunc(spans, func(a, b span) int { return a.from - b.from })
	var out []span
	for _, s := range spans {
		if n := len(out); n > 0 && s.from <= out[n-1].to {
			out[n-1].to = max(out[n-1].to, s.to)
		} else {
			out = append(out, s)
		}
	}
	return out
}

func replace(s string, spans []span) string {
	if len(spans) == 0 {
		return s
	}
	var b strings.Builder
	end := 0
	for _, found := range spans {
		b.WriteString(s[end:found.from])
		b.WriteString(mask)
		end = found.to
	}
	b.WriteString(s[end:])
	return b.String()
}

// cutOff masks the beginning of a secret at the end of a line, or before the
// mark " [" of a line that was cut.
func (r *Redactor) cutOff(s string) string {
	body, rest := s, ""
	if i := strings.LastIndex(s, " [..."); i >= 0 {
		body, rest = s[:i], s[i:]
	}
	longest := 0
	for _, secret := range r.raw {
		if strings.ContainsAny(secret, "\r\n") { // its lines are secrets of their own
			continue
		}
		for n := min(len(secret)-1, len(body)); n >= cutPrefix && n > longest; n-- {
			if strings.HasSuffix(body, secret[:n]) {
				longest = n
			}
		}
	}
	if longest == 0 {
		return s
	}
	return body[:len(body)-longest] + mask + rest
}

// maskWord masks a word that is not part of a longer one.
func maskWord(s, word string) string {
	var spans []span
	for _, found := range occurrences(nil, s, word) {
		if (found.from == 0 || !isWord(s[found.from-1])) && (found.to == len(s) || !isWord(s[found.to])) {
			spans = append(spans, found)
		}
	}
	return replace(s, union(spans))
}
