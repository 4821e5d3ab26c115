// Package query holds what the engines share to show the result of a statement:
// whether it may run, how much of it is shown, and how values become JSON.
package query

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/dataguardian/dataguardian/internal/engine"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// MaxRow is the longest row that is taken from a server, in bytes.
const MaxRow = 8 << 20

// Failed is the error of a statement that a server refused. code and said are the
// server's own.
func Failed(cause error, code, said string) *errs.Error {
	return errs.Wrap(cause, errs.Invalid, errs.CodeQueryFailed, "the database refused the statement: %s (%s)", Words(said), code).With("code", code)
}

// TimedOut is the error of a statement that was ended by its time limit.
func TimedOut(cause error, code string, limit time.Duration) *errs.Error {
	return errs.Wrap(cause, errs.Invalid, errs.CodeQueryFailed,
		"the statement was ended after %s, the limit; ask for less, or use the database's own client", limit).With("code", code)
}

// TooLarge is the error of a result whose first row is more than is shown.
func TooLarge(limit int64) *errs.Error {
	return errs.New(errs.Invalid, errs.CodeQueryFailed,
		"the first row alone is larger than %s, the limit; select fewer columns, or only the beginning of long values", size(limit)).With("code", nil)
}

// Words makes the text of a server fit for a sentence: one line without control
// characters, of bounded length.
func Words(said string) string {
	const longest = 2000
	said = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(said, "\uFFFD"))
	if len(said) > longest {
		said = strings.ToValidUTF8(said[:longest], "") + " [...]"
	}
	return said
}

func size(bytes int64) string {
	if bytes >= 1<<20 {
		return fmt.Sprintf("%d MiB", bytes>>20)
	}
	return fmt.Sprintf("%d KiB", bytes>>10)
}

// Rows collects the rows of one result within limits.
type Rows struct {
	limits engine.QueryLimits
	result engine.QueryResult
	bytes  int64
}

// NewRows begins a result.
func NewRows(columns []string, l engine.QueryLimits) *Rows {
	for i, name := range columns {
		columns[i] = Text(name)
	}
	return &Rows{limits: l, result: engine.QueryResult{Columns: columns, Rows: [][]any{}}}
}

// valueBytes is what a value counts besides its text.
const valueBytes = 4

// Full reports whether a row of so many bytes in so many values is one too many.
// Then the result says so, and no further row may be added.
func (r *Rows) Full(bytes int64, values int) bool {
	bytes += int64(values) * valueBytes
	switch {
	case len(r.result.Rows) >= r.limits.Rows:
		r.result.Message = fmt.Sprintf("there are more rows; only the first %d are shown, use LIMIT and OFFSET for others", len(r.result.Rows))
	case r.bytes+bytes > r.limits.Bytes:
		r.CutShort()
	default:
		r.bytes += bytes
		return false
	}
	return true
}

// CutShort notes that the next row would be too large.
func (r *Rows) CutShort() {
	r.result.Message = fmt.Sprintf("there are more rows; only the first %d are shown, as an answer holds at most %s", len(r.result.Rows), size(r.limits.Bytes))
}

// Add takes a row for which Full was false.
func (r *Rows) Add(row []any) { r.result.Rows = append(r.result.Rows, row) }

// Result returns what was collected, or TooLarge when a first row was too large.
func (r *Rows) Result(took time.Duration) (engine.QueryResult, error) {
	if len(r.result.Rows) == 0 && r.result.Message != "" && r.limits.Rows > 0 {
		return engine.QueryResult{}, TooLarge(r.limits.Bytes)
	}
	r.result.Took = took
	return r.result, nil
}

// Text returns text as valid UTF-8.
func Text(text string) string {
	if utf8.ValidString(text) {
		return text
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}
