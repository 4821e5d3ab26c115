package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// bodyTimeout is how long a caller may take to send its body.
const bodyTimeout = 30 * time.Second

// readBody takes the whole body, checks it, and puts it back. No body at all is a
// message without fields.
func (g *gateway) readBody(w http.ResponseWriter, r *http.Request, called *route) error {
	text, err := takeBody(w, r)
	if err != nil {
		return err
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
	if len(bytes.TrimSpace(text)) == 0 {
		return nil
	}
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/json" {
		return errs.New(errs.Malformed, errs.CodeUnsupportedMediaType, "a body must be JSON: send the header Content-Type: application/json")
	}
	return g.checkBody(text, called)
}

func takeBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	tooLarge := errs.New(errs.Exhausted, errs.CodePayloadTooLarge, "the body is larger than %d bytes, which no call needs", MaxBody)
	if r.ContentLength > MaxBody {
		return nil, tooLarge
	}
	conn := http.NewResponseController(w)
	if err := conn.SetReadDeadline(time.Now().Add(bodyTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return nil, fmt.Errorf("limiting the time for a body: %w", err)
	}
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	if limit := (*http.MaxBytesError)(nil); errors.As(err, &limit) {
		return nil, tooLarge
	}
	if err != nil {
		return nil, errs.Wrap(err, errs.Malformed, errs.CodeInvalidArgument, "the body did not arrive whole; send it again")
	}
	if err := conn.SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return nil, fmt.Errorf("lifting the time limit of a body: %w", err)
	}
	return text, nil
}

// checkBody holds a JSON body against the message it must fill, and names every
// field that does not fit, together with what the server would refuse in the rest.
func (g *gateway) checkBody(text []byte, called *route) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var value any
	if err := dec.Decode(&value); err != nil {
		return errs.Wrap(err, errs.Malformed, errs.CodeInvalidArgument, "the body is not JSON: %v", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errs.New(errs.Malformed, errs.CodeInvalidArgument, "the body holds more than one JSON value")
	}
	object, ok := value.(map[string]any)
	if !ok {
		return errs.New(errs.Malformed, errs.CodeInvalidArgument, "the body must be a JSON object")
	}
	read := reading{}
	fitting := read.message("", called.input.Descriptor(), object)
	switch {
	case len(read.unknown) > 0:
		return unknownFields(read.unknown)
	case len(read.bad) > 0:
		return g.completed(read.bad, fitting, called)
	}
	return nil
}

func unknownFields(fields []string) error {
	slices.Sort(fields)
	e := errs.New(errs.Malformed, errs.CodeInvalidArgument, "the body has an unknown field: %s; check its spelling", strings.Join(fields, ", "))
	for _, name := range fields {
		e.Fields = append(e.Fields, errs.Field{Field: name, Message: "is not a field of this call"})
	}
	return e
}

// completed adds to the fields that cannot be decoded what the server says of the
// others, so that one answer names all.
func (g *gateway) completed(bad []errs.Field, fitting map[string]any, called *route) error {
	for _, field := range g.refused(fitting, called) {
		named := slices.ContainsFunc(bad, func(b errs.Field) bool { return b.Field == field.Field })
		if !named && !slices.Contains(called.inPath, field.Field) {
			bad = append(bad, field)
		}
	}
	slices.SortFunc(bad, func(a, b errs.Field) int { return strings.Compare(a.Field, b.Field) })
	return errs.InvalidFields(errs.CodeValidation, bad...)
}

// refused lists what the server says of the fitting part of a body; nothing when
// that part cannot be decoded after all.
func (g *gateway) refused(fitting map[string]any, called *route) []errs.Field {
	message := called.input.New().Interface()
	text, err := json.Marshal(fitting)
	if err == nil {
		err = protojson.Unmarshal(text, message)
	}
	if err == nil {
		err = g.Check(message)
	}
	if refusal := errs.As(err); refusal != nil {
		return refusal.Fields
	}
	return nil
}
