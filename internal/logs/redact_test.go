package logs_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/dataguardian/dataguardian/internal/logs"
)

// forms are the ways in which tools print a secret.
var forms = map[string]func(string) string{
	"raw":           func(s string) string { return s },
	"query":         url.QueryEscape,
	"path":          url.PathEscape,
	"userinfo":      func(s string) string { return url.UserPassword("u", s).String() },
	"each byte":     func(s string) string { return percent(s, "%%%02x") },
	"each byte, up": func(s string) string { return percent(s, "%%%02X") },
	"base64":        func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
	"base64 raw":    func(s string) string { return base64.RawStdEncoding.EncodeToString([]byte(s)) },
	"base64 url":    func(s string) string { return base64.URLEncoding.EncodeToString([]byte(s)) },
	"base64 url raw": func(s string) string {
		return base64.RawURLEncoding.EncodeToString([]byte(s))
	},
	"hex":    func(s string) string { return hex.EncodeToString([]byte(s)) },
	"HEX":    func(s string) string { return strings.ToUpper(hex.EncodeToString([]byte(s))) },
	"json":   func(s string) string { b, _ := json.Marshal(s); return string(b) },
	"go":     strconv.Quote,
	"sql":    func(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" },
	"escape": logs.Escape,
}

func percent(s, format string) string {
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, format, s[i])
	}
	return b.String()
}

func TestASecretIsMaskedInEveryForm(t *testing.T) {
	for _, secret := range []string{"hunter2!", "p@ss/w+rd %41", `quo"te'd\back`, "pässwörd", "abcd", "a\x00b\nc\td\xff", "with space", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"} {
		r := logs.NewRedactor("", secret)
		for name, form := range forms {
			text := r.Redact("before " + form(secret) + " after")
			require.True(t, strings.HasPrefix(text, "before ") && strings.HasSuffix(text, " after"), "%q as %s: %q", secret, name, text)
			requireNoSecret(t, text, secret, name)
		}
	}
}

func TestASecretInsideALongerBase64TextIsMaskedWithItsEdges(t *testing.T) {
	r := logs.NewRedactor("correct horse")
	for _, alphabet := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		for before := range 4 {
			for after := range 4 {
				plain := strings.Repeat("u", before) + "correct horse" + strings.Repeat("v", after)
				text := r.Redact("Basic " + alphabet.EncodeToString([]byte(plain)))
				require.Contains(t, text, "***")
				rest := strings.TrimPrefix(text, "Basic ")
				require.LessOrEqual(t, len(rest), len("***")+(before*8+5)/6+(after*8+5)/6+2, rest)
			}
		}
	}
}

// requireNoSecret fails when text holds more of a secret than chance explains.
func requireNoSecret(t require.TestingT, text, secret, what string) {
	for name, form := range forms {
		coded := form(secret)
		require.NotContains(t, text, coded, "%s shows %s", what, name)
	}
	decoded, err := url.QueryUnescape(text)
	if err == nil {
		require.NotContains(t, decoded, secret, what)
	}
}

func TestNoSecretOfFourBytesOrMoreSurvivesWhateverSurroundsIt(t *testing.T) {
	names := make([]string, 0, len(forms))
	for name := range forms {
		names = append(names, name)
	}
	rapid.Check(t, func(t *rapid.T) {
		secrets := rapid.SliceOfN(rapid.StringMatching(`[a-c%+/=' "\\*é]{4,12}`), 1, 4).Draw(t, "secrets")
		secrets = append(secrets, rapid.SliceOfN(rapid.StringN(4, 30, 60), 0, 2).Draw(t, "odd ones")...)
		r := logs.NewRedactor(secrets...)
		var text strings.Builder
		for range rapid.IntRange(1, 5).Draw(t, "parts") {
			text.WriteString(rapid.StringMatching(`[a-c%+/=' "\\*]{0,5}`).Draw(t, "filler"))
			name := rapid.SampledFrom(names).Draw(t, "form")
			text.WriteString(forms[name](rapid.SampledFrom(secrets).Draw(t, "which")))
		}
		out := r.Redact(text.String())
		for _, secret := range secrets {
			require.NotContains(t, out, secret)
			for _, name := range []string{"base64", "base64 url", "hex", "HEX", "each byte"} {
				if coded := strings.TrimRight(forms[name](secret), "="); len(coded) > 6 {
					require.NotContains(t, out, coded[:len(coded)-1], name)
				}
			}
		}
		require.Equal(t, out, r.Redact(out), "once is enough")
	})
}

func TestTheOrderOfSecretsDoesNotMatterAndOverlapsAreMaskedWhole(t *testing.T) {
	for _, secrets := range [][]string{{"abcdef", "cdefgh"}, {"cdefgh", "abcdef"}, {"abcd", "abcdefgh"}, {"efgh", "abcdefgh"}} {
		require.Equal(t, "x*** y", logs.NewRedactor(secrets...).Redact("xabcdefgh y"), secrets)
	}
	require.Equal(t, "***", logs.NewRedactor("aaaa").Redact("aaaaaa"))
}

func TestAMaskThatCompletesAnotherSecretIsMaskedToo(t *testing.T) {
	require.NotContains(t, logs.NewRedactor("a***", "secret").Redact("asecret"), "a***")
}

func TestAShortSecretIsMaskedAsAWordOnly(t *testing.T) {
	r := logs.NewRedactor("ab", "7", "*", "")
	require.Equal(t, "table cabs: password=***, port 57 and *** *", r.Redact("table cabs: password=ab, port 57 and 7 *"))
}

func TestTheLinesOfAMultiLineSecretAreMaskedOneByOne(t *testing.T) {
	key := "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEF\nAASCBKcwggSjAgEAAoIBAQC7VJTU\n-----END PRIVATE KEY-----\n"
	r := logs.NewRedactor(key)
	require.Equal(t, "key: ***", r.Redact("key: "+key[:len(key)-1]))
	require.Equal(t, "read ***", r.Redact("read MIIEvQIBADANBgkqhkiG9w0BAQEF"))
	require.Equal(t, "-----BEGIN PRIVATE KEY-----", r.Redact("-----BEGIN PRIVATE KEY-----"))
}

func TestASecretThatALineBreaksOffIsMaskedThere(t *testing.T) {
	r := logs.NewRedactor("correct horse battery")
	require.Equal(t, "the password is ***", r.Redact("the password is correct ho"))
	require.Equal(t, "the password is *** [...]", r.Redact("the password is correct ho [...]"))
	require.Equal(t, "that is correct", logs.NewRedactor("ectoplasm").Redact("that is correct"), "a few letters are no secret")
}

func TestLinesAreRedactedHoweverTheyAreWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		secret := rapid.SampledFrom([]string{"hunter2!", "p@ss w0rd/+", "correct horse battery staple"}).Draw(t, "secret")
		r := logs.NewRedactor(secret)
		filler := strings.Repeat("x", rapid.SampledFrom([]int{0, 1, 100, 65530, 65536, 70000, 131072}).Draw(t, "filler"))
		var text string
		for name := range rapid.IntRange(1, 3).Draw(t, "lines") {
			form := rapid.SampledFrom([]string{"raw", "query", "hex", "base64", "each byte"}).Draw(t, strconv.Itoa(name))
			text += filler + " " + forms[form](secret) + rapid.SampledFrom([]string{"\n", "\r\n", " and more\n", ""}).Draw(t, "end")
		}
		var lines []string
		w := r.Lines(func(line string) { lines = append(lines, line) })
		for rest := []byte(text); len(rest) > 0; {
			n := min(len(rest), rapid.SampledFrom([]int{1, 3, 17, 4096, 50000, 200000}).Draw(t, "write"))
			if len(filler) > 200 {
				n = min(len(rest), max(n, 4096))
			}
			written, err := w.Write(rest[:n])
			require.NoError(t, err)
			require.Equal(t, n, written)
			rest = rest[n:]
		}
		require.NoError(t, w.Close())
		all := strings.Join(lines, "")
		requireNoSecret(t, all, secret, "a line")
		require.Equal(t, strings.Count(text, "x"), strings.Count(all, "x"), "nothing else is lost")
		for _, line := range lines {
			require.NotContains(t, line, "\n")
			require.LessOrEqual(t, len(line), 70000)
		}
	})
}

func FuzzRedact(f *testing.F) {
	f.Add("hunter2!", "password=hunter2! aHVudGVyMiE= %68unter2!")
	f.Add("a***", "a a***a***")
	f.Add("a** ", "a*a***a%**") // without its space it is a word
	f.Add("%41%41", "%2541%2541 AA%%41")
	f.Add("\xff\x00\r\n", "\xff\x00\r\n")
	f.Fuzz(func(t *testing.T, secret, text string) {
		r := logs.NewRedactor(secret)
		for _, form := range forms {
			out := r.Redact(text + form(secret) + text)
			if len(secret) >= 4 && strings.Contains(out, secret) {
				t.Fatalf("%q shows %q", out, secret)
			}
			if len(secret) >= 4 && r.Redact(out) != out {
				t.Fatalf("%q changes again", out)
			}
		}
	})
}
