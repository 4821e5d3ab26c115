package query

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
)

// maxExact is the largest integer below which a float64 has all of them.
const maxExact = 1 << 53

// exactDigits is how many decimal digits every float64 keeps.
const exactDigits = 15

// Number returns a decimal number as a float64, or as its text when that would
// change it.
func Number(text string) any {
	f, err := strconv.ParseFloat(text, 64)
	switch {
	case err != nil, math.IsNaN(f), math.IsInf(f, 0), math.Abs(f) > maxExact:
		return Text(text)
	case digits(text) <= exactDigits, plain(text) == plain(strconv.FormatFloat(f, 'f', -1, 64)):
		return f
	}
	return text
}

// digits counts the significant digits of a decimal number.
func digits(text string) int {
	mantissa, _, _ := strings.Cut(strings.ToLower(text), "e")
	mantissa = strings.ReplaceAll(strings.TrimLeft(mantissa, "+-"), ".", "")
	return len(strings.Trim(mantissa, "0"))
}

// plain writes a decimal number without what does not count.
func plain(text string) string {
	text = strings.TrimPrefix(text, "+")
	if strings.Contains(text, ".") {
		text = strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
	}
	return text
}

// Float returns what is a floating-point number on the server, too: as a float64,
// or as text when it is none that JSON has.
func Float(text string) any {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		return Text(text)
	}
	return f
}

// maxDepth is how deep JSON may be nested to be shown as such.
const maxDepth = 100

// JSON returns a JSON text as what it says; numbers as Number does. What is not
// JSON or nested too deeply is returned as text.
func JSON(text []byte) any {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var value any
	if err := d.Decode(&value); err != nil {
		return Text(string(text))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Text(string(text))
	}
	shown, ok := numbers(value, maxDepth)
	if !ok {
		return Text(string(text))
	}
	return shown
}

func numbers(value any, depth int) (any, bool) {
	if depth == 0 {
		return nil, false
	}
	var ok bool
	switch v := value.(type) {
	case json.Number:
		return Number(string(v)), true
	case []any:
		for i := range v {
			if v[i], ok = numbers(v[i], depth-1); !ok {
				return nil, false
			}
		}
	case map[string]any:
		for key := range v {
			if v[key], ok = numbers(v[key], depth-1); !ok {
				return nil, false
			}
		}
	}
	return value, true
}

// instants are the ways servers write a moment with its offset.
var instants = []string{"2006-01-02 15:04:05.999999999Z07", "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999Z07:00:00"}

// Instant returns a moment with an offset as RFC 3339; what it cannot hold, such
// as infinity, as its text.
func Instant(text string) string {
	for _, layout := range instants {
		at, err := time.Parse(layout, text)
		if err != nil {
			continue
		}
		if _, offset := at.Zone(); offset%60 != 0 {
			at = at.UTC()
		}
		return at.Format(time.RFC3339Nano)
	}
	return Text(text)
}

// LocalTime returns a date with a time, of no time zone, in the form of RFC 3339
// without an offset; what it cannot hold, as its text.
func LocalTime(text string) string {
	if _, err := time.Parse("2006-01-02 15:04:05.999999999", text); err != nil {
		return Text(text)
	}
	return strings.Replace(text, " ", "T", 1)
}
