package gateway

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// checkQuery holds the query parameters against the fields of the request. An
// empty parameter counts as not sent. A browser that resumes a stream sends the
// last id it saw in a header: it takes the place of "after".
func checkQuery(r *http.Request, called *route, events bool) error {
	if called.body {
		return nil // the body has every field
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return errs.Wrap(err, errs.Malformed, errs.CodeInvalidArgument, "the query of the address cannot be understood; encode it as a URL query")
	}
	fields := called.input.Descriptor().Fields()
	var bad []errs.Field
	for name, values := range query {
		values = slices.DeleteFunc(values, func(v string) bool { return v == "" })
		if len(values) == 0 {
			query.Del(name)
			continue
		}
		query[name] = values
		field := fieldOf(fields, name)
		if field == nil || slices.Contains(called.inPath, string(field.Name())) {
			continue
		}
		for _, value := range values {
			if message := checkParameter(field, value); message != "" {
				bad = append(bad, errs.Field{Field: name, Message: message})
			}
		}
	}
	if len(bad) > 0 {
		slices.SortFunc(bad, func(a, b errs.Field) int { return strings.Compare(a.Field, b.Field) })
		return errs.InvalidFields(errs.CodeValidation, bad...)
	}
	if id := r.Header.Get("Last-Event-ID"); events && resumes(fields.ByName("after"), id) {
		query.Set("after", id)
	}
	r.URL.RawQuery = query.Encode()
	return nil
}

// maxEventID bounds an id that a browser sends back, in bytes.
const maxEventID = 4096

// resumes reports whether an id may take the place of "after": a number where that
// is one, else what we may have given out. Anything else is no reason to refuse a
// browser, which would not come again: the stream begins anew.
func resumes(after protoreflect.FieldDescriptor, id string) bool {
	switch {
	case after == nil || id == "":
		return false
	case after.Kind() == protoreflect.StringKind:
		return len(id) <= maxEventID
	}
	n, err := strconv.ParseInt(id, 10, 64)
	return err == nil && n >= 0
}

// fieldOf finds a field by its own or its camelCase name.
func fieldOf(fields protoreflect.FieldDescriptors, name string) protoreflect.FieldDescriptor {
	if field := fields.ByName(protoreflect.Name(name)); field != nil {
		return field
	}
	return fields.ByJSONName(name)
}

// checkParameter returns what is wrong with the text of a parameter, or nothing.
func checkParameter(field protoreflect.FieldDescriptor, value string) string {
	switch field.Kind() {
	case protoreflect.BoolKind:
		if value != "true" && value != "false" {
			return "must be true or false"
		}
	case protoreflect.Int32Kind, protoreflect.Int64Kind:
		if _, err := strconv.ParseInt(value, 10, bits(field)); err != nil {
			return wholeNumber
		}
	case protoreflect.EnumKind:
		return checkWord(field.Enum(), value)
	case protoreflect.MessageKind:
		if field.Message().FullName() == "google.protobuf.Timestamp" {
			return checkInstant(value)
		}
	default: // text, or a kind that no request has
	}
	return ""
}

const wholeNumber = "must be a whole number"

func bits(field protoreflect.FieldDescriptor) int {
	if field.Kind() == protoreflect.Int32Kind {
		return 32
	}
	return 64
}

// checkWord accepts the names of an enumeration but the one that means nothing.
func checkWord(e protoreflect.EnumDescriptor, value string) string {
	var words []string
	for i := range e.Values().Len() {
		if v := e.Values().Get(i); v.Number() != 0 {
			words = append(words, string(v.Name()))
		}
	}
	if slices.Contains(words, value) {
		return ""
	}
	return "must be one of " + strings.Join(words, ", ")
}

func checkInstant(value string) string {
	if _, err := time.Parse(time.RFC3339Nano, value); err != nil {
		return "must be a time such as 2026-11-24T03:00:00Z"
	}
	return ""
}
