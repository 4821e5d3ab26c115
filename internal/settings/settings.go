// Package settings reads free-form settings (the connection_config and config of
// the API) into typed fields and collects every complaint on the way.
package settings

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// Reader reads one settings object. Each key must be read once; Fields then also
// complains about keys that nobody asked for.
type Reader struct {
	prefix string
	values map[string]any
	asked  map[string]bool
	fields []errs.Field
}

// NewReader reads values; prefix is the JSON path of the object.
func NewReader(prefix string, values map[string]any) *Reader {
	return &Reader{prefix: prefix, values: values, asked: map[string]bool{}}
}

// Complain notes a bad field by its key.
func (r *Reader) Complain(key, message string) {
	r.fields = append(r.fields, errs.Field{Field: r.prefix + "." + key, Message: message})
}

// Fields returns every complaint, unknown keys included, in a stable order.
func (r *Reader) Fields() []errs.Field {
	fields := slices.Clone(r.fields)
	for key := range r.values {
		if !r.asked[key] {
			fields = append(fields, errs.Field{Field: r.prefix + "." + key, Message: "is not a known setting"})
		}
	}
	slices.SortFunc(fields, func(a, b errs.Field) int { return strings.Compare(a.Field, b.Field) })
	return fields
}

// Has reports whether key is there and not null, and counts as asking for it.
func (r *Reader) Has(key string) bool {
	r.asked[key] = true
	return r.values[key] != nil
}

// String reads an optional text of at most limit bytes, without NUL bytes.
func (r *Reader) String(key string, limit int) string {
	r.asked[key] = true
	switch v := r.values[key].(type) {
	case nil:
		return ""
	case string:
		if len(v) > limit {
			r.Complain(key, "is too long")
		}
		if strings.ContainsRune(v, 0) {
			r.Complain(key, "must not hold a NUL byte")
		}
		return v
	default:
		r.Complain(key, "must be a string")
		return ""
	}
}

// Required reads a text that must not be empty.
func (r *Reader) Required(key string, limit int) string {
	before := len(r.fields)
	v := r.String(key, limit)
	if v == "" && len(r.fields) == before {
		r.Complain(key, "is required")
	}
	return v
}

// RequiredLine reads a text that must be there, without control characters.
func (r *Reader) RequiredLine(key string, limit int) string {
	before := len(r.fields)
	v := r.Line(key, limit)
	if v == "" && len(r.fields) == before {
		r.Complain(key, "is required")
	}
	return v
}

// Line reads an optional text without control characters.
func (r *Reader) Line(key string, limit int) string {
	before := len(r.fields)
	v := r.String(key, limit)
	if len(r.fields) == before && strings.ContainsFunc(v, unicode.IsControl) {
		r.Complain(key, "must not hold control characters")
	}
	return v
}

// Choice reads an optional text that must be one of choices.
func (r *Reader) Choice(key string, choices ...string) string {
	v := r.String(key, 100)
	if v != "" && !slices.Contains(choices, v) {
		r.Complain(key, "must be one of "+strings.Join(choices, ", "))
	}
	return v
}

// Int reads an optional whole number between low and high; 0 when absent.
func (r *Reader) Int(key string, low, high int) int {
	r.asked[key] = true
	switch v := r.values[key].(type) {
	case nil:
		return 0
	case float64:
		if v != math.Trunc(v) || v < float64(low) || v > float64(high) {
			break
		}
		return int(v)
	case int:
		if v < low || v > high {
			break
		}
		return v
	}
	r.Complain(key, "must be a whole number between "+strconv.Itoa(low)+" and "+strconv.Itoa(high))
	return 0
}

// Number reads an optional positive number; 0 when absent.
func (r *Reader) Number(key string, high float64) float64 {
	r.asked[key] = true
	switch v := r.values[key].(type) {
	case nil:
		return 0
	case float64:
		if v > 0 && v <= high {
			return v
		}
	case int:
		if v > 0 && float64(v) <= high {
			return float64(v)
		}
	}
	r.Complain(key, "must be a positive number")
	return 0
}

// Bool reads an optional boolean; fallback when absent.
func (r *Reader) Bool(key string, fallback bool) bool {
	r.asked[key] = true
	switch v := r.values[key].(type) {
	case nil:
		return fallback
	case bool:
		return v
	default:
		r.Complain(key, "must be true or false")
		return fallback
	}
}

// Set is what a read shows in the place of a stored secret.
func Set() map[string]any { return map[string]any{"set": true} }

// SetOn is what a read shows of a secret address: where it leads, and no more.
func SetOn(host string) map[string]any { return map[string]any{"set": true, "host": host} }

// IsSet reports whether v is what Set or SetOn returns: a client that sends back what
// it has read means the secret to stay.
func IsSet(v any) bool {
	m, ok := v.(map[string]any)
	_, on := m["host"]
	return ok && m["set"] == true && (len(m) == 1 || len(m) == 2 && on)
}

// Merge returns current with changes applied: a null removes a setting, an
// unchanged secret (see IsSet) stays, everything else replaces.
func Merge(current, changes map[string]any) map[string]any {
	merged := make(map[string]any, len(current)+len(changes))
	for key, v := range current {
		merged[key] = v
	}
	for key, v := range changes {
		switch {
		case v == nil:
			delete(merged, key)
		case IsSet(v) && merged[key] != nil:
		default:
			merged[key] = v
		}
	}
	return merged
}

// Name returns a name without surrounding space, or a complaint when nothing is left.
func Name(name string) (string, []errs.Field) {
	name = strings.TrimSpace(name)
	if name == "" {
		return "", []errs.Field{{Field: "name", Message: "must not be blank"}}
	}
	return name, nil
}
