package store

import (
	"bytes"
	"encoding/json"

	"github.com/dataguardian/dataguardian/internal/errs"
)

func encode(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, errs.Wrap(err, errs.Internal, errs.CodeInternal, "a value cannot be written as JSON")
	}
	return text, nil
}

// decode reads what encode wrote; nothing leaves v as it is.
func decode(text []byte, v any) error {
	if len(text) == 0 {
		return nil
	}
	if err := json.Unmarshal(text, v); err != nil {
		return errs.Wrap(err, errs.Internal, errs.CodeInternal, "a stored value cannot be read; the database was changed by hand or by a newer version")
	}
	return nil
}

// encodeStorable is encode without NUL characters, which PostgreSQL cannot store.
// It is for text from elsewhere, see storable.
func encodeStorable(v any) ([]byte, error) {
	text, err := encode(v)
	if err != nil || !bytes.Contains(text, []byte(`\u0000`)) {
		return text, err
	}
	for i := 0; i < len(text)-1; i++ {
		if text[i] != '\\' {
			continue
		}
		if bytes.HasPrefix(text[i:], []byte(`\u0000`)) {
			copy(text[i:], `\ufffd`)
		}
		i++ // the escaped character
	}
	return text, nil
}
