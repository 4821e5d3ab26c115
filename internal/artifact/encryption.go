package artifact

import (
	"io"
	"strings"

	"filippo.io/age"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// Encryption of a member.
type Encryption string

// Encryptions.
const (
	Age          Encryption = "age"
	NoEncryption Encryption = "none"
)

// suffix of the names of encrypted parts.
func (e Encryption) suffix() string {
	if e == Age {
		return ".age"
	}
	return ""
}

// CheckRecipients accepts age public keys. The error is Invalid and names the
// first that is none.
func CheckRecipients(recipients []string) error {
	_, err := parseRecipients(recipients)
	return err
}

func parseRecipients(texts []string) ([]age.Recipient, error) {
	var all []age.Recipient
	for _, text := range texts {
		text = strings.TrimSpace(text)
		parsed, err := age.ParseRecipients(strings.NewReader(text))
		if err != nil || len(parsed) != 1 || strings.Contains(text, "\n") {
			return nil, errs.Wrap(err, errs.Invalid, errs.CodeValidation, "%q is not an age public key (age1...)", text)
		}
		all = append(all, parsed...)
	}
	return all, nil
}

// ParseIdentities reads age secret keys, one a line, as age-keygen writes them.
// The error is Invalid and holds nothing of the text.
func ParseIdentities(text string) ([]age.Identity, error) {
	ids, err := age.ParseIdentities(strings.NewReader(text))
	if err != nil {
		return nil, errs.New(errs.Invalid, errs.CodeValidation, "the text is not a list of age secret keys (AGE-SECRET-KEY-...), one a line")
	}
	return ids, nil
}

// encrypt returns a writer that encrypts into dst, or dst itself without
// recipients. Close ends the stream and leaves dst open.
func encrypt(dst io.Writer, recipients []age.Recipient) (io.WriteCloser, error) {
	if len(recipients) == 0 {
		return &verbatim{dst}, nil
	}
	w, err := age.Encrypt(dst, recipients...)
	if err != nil {
		return nil, errs.Wrap(err, errs.Internal, errs.CodeInternal, "the encryption of the backup could not be started")
	}
	return w, nil
}
