package store

import (
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/dataguardian/dataguardian/internal/paging"
)

// filter is a parameter that narrows only when it is set.
func filter[T ~string](v T) *string {
	if v == "" {
		return nil
	}
	s := string(v)
	return &s
}

// text is what a nullable column holds, empty when null.
func text(v *string) string {
	if v == nil {
		return ""
	}
	return *v
}

// storable is s without what PostgreSQL cannot store: NUL and broken UTF-8. It is
// for text from elsewhere (messages, errors) whose loss would be worse.
func storable(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// window returns the limit and offset of a page.
func window(p paging.Page) (limit, offset int64) {
	p = p.Normal()
	return int64(p.Limit), int64(p.Number-1) * int64(p.Limit)
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

func toInt(v *int64) *int {
	if v == nil {
		return nil
	}
	n := int(*v)
	return &n
}

func toInt64(v *int) *int64 {
	if v == nil {
		return nil
	}
	n := int64(*v)
	return &n
}

func each[T, U any](in []T, convert func(T) U) []U {
	out := make([]U, 0, len(in))
	for _, v := range in {
		out = append(out, convert(v))
	}
	return out
}

// eachOrError is each for conversions that can fail.
func eachOrError[T, U any](in []T, convert func(T) (U, error)) ([]U, error) {
	out := make([]U, 0, len(in))
	for _, v := range in {
		u, err := convert(v)
		if err != nil {
			return nil, err
		}
		out = append(out, u)
	}
	return out, nil
}

func isUUID(s string) bool { return uuid.Validate(s) == nil }
