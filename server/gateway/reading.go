package gateway

import (
	"encoding/json"
	"fmt"
	"strconv"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// reading collects what keeps a JSON value from being a message.
type reading struct {
	unknown []string
	bad     []errs.Field
}

func (r *reading) complain(path, message string) any {
	r.bad = append(r.bad, errs.Field{Field: path, Message: message})
	return nil
}

// message returns the part of an object that fits a message.
func (r *reading) message(path string, d protoreflect.MessageDescriptor, object map[string]any) map[string]any {
	fitting := map[string]any{}
	for name, value := range object {
		at := name
		if path != "" {
			at = path + "." + name
		}
		field := fieldOf(d.Fields(), name)
		if field == nil {
			r.unknown = append(r.unknown, at)
			continue
		}
		if value = r.field(at, field, value); value != nil {
			fitting[name] = value
		}
	}
	return fitting
}

// field returns the value when it fits, else nil. null fits everywhere: it is a
// field that was not sent.
func (r *reading) field(path string, field protoreflect.FieldDescriptor, value any) any {
	if value == nil {
		return nil
	}
	if !field.IsList() {
		return r.single(path, field, value)
	}
	list, ok := value.([]any)
	if !ok {
		return r.complain(path, "must be a list")
	}
	fitting := make([]any, 0, len(list))
	for i, element := range list {
		at := fmt.Sprintf("%s[%d]", path, i)
		if element == nil {
			r.complain(at, "must not be null")
			continue
		}
		if element = r.single(at, field, element); element != nil {
			fitting = append(fitting, element)
		}
	}
	return fitting
}

func (r *reading) single(path string, field protoreflect.FieldDescriptor, value any) any {
	switch field.Kind() {
	case protoreflect.StringKind:
		if _, ok := value.(string); !ok {
			return r.complain(path, "must be a string")
		}
	case protoreflect.BoolKind:
		if _, ok := value.(bool); !ok {
			return r.complain(path, "must be true or false")
		}
	case protoreflect.Int32Kind, protoreflect.Int64Kind:
		if !whole(value, bits(field)) {
			return r.complain(path, wholeNumber)
		}
	case protoreflect.DoubleKind:
		if _, ok := value.(json.Number); !ok {
			return r.complain(path, "must be a number")
		}
	case protoreflect.EnumKind:
		word, _ := value.(string)
		if message := checkWord(field.Enum(), word); message != "" {
			return r.complain(path, message)
		}
	case protoreflect.MessageKind:
		return r.nested(path, field.Message(), value)
	default: // a kind that no request has
	}
	return value
}

// nested reads a message, or one of the few well-known ones with a JSON form of
// their own.
func (r *reading) nested(path string, d protoreflect.MessageDescriptor, value any) any {
	switch d.FullName() {
	case "google.protobuf.Timestamp":
		text, _ := value.(string)
		if message := checkInstant(text); message != "" {
			return r.complain(path, message)
		}
		return value
	case "google.protobuf.ListValue":
		if _, ok := value.([]any); !ok {
			return r.complain(path, "must be a list")
		}
		return value
	}
	object, ok := value.(map[string]any)
	if !ok {
		return r.complain(path, "must be an object")
	}
	if d.FullName() == "google.protobuf.Struct" {
		return object
	}
	return r.message(path, d, object)
}

// whole reports whether a JSON value is a whole number of so many bits, as a
// number or, as 64-bit ones are written, as a string.
func whole(value any, bits int) bool {
	text, ok := value.(string)
	if number, isNumber := value.(json.Number); isNumber {
		text, ok = number.String(), true
	}
	if !ok {
		return false
	}
	if _, err := strconv.ParseInt(text, 10, bits); err == nil {
		return true
	}
	f, err := strconv.ParseFloat(text, 64) // 1e3 and 5.0 are whole, too
	return err == nil && f == float64(int64(f)) && (bits == 64 || f == float64(int32(f)))
}
