package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"strings"

	"github.com/google/uuid"
)

// Prefixes let people and secret scanners recognise a credential.
const (
	tokenPrefix   = "dgt_"
	sessionPrefix = "dgs_"
)

// secretBytes of entropy make guessing hopeless, so a plain hash is enough at rest.
const secretBytes = 32

// credential is what a caller shows: a prefix, an id and a secret.
type credential struct {
	prefix, id string
}

// newCredential makes an id and the text that belongs to it.
func newCredential(prefix string) (id, bearer string) {
	made, secret := uuid.New(), make([]byte, secretBytes)
	_, _ = rand.Read(secret) // never fails
	return made.String(), prefix + base64.RawURLEncoding.EncodeToString(made[:]) + "." + base64.RawURLEncoding.EncodeToString(secret)
}

// parse reads prefix and id out of a credential.
func parse(bearer string) (credential, bool) {
	for _, prefix := range []string{tokenPrefix, sessionPrefix} {
		rest, ok := strings.CutPrefix(bearer, prefix)
		if !ok {
			continue
		}
		encoded, _, ok := strings.Cut(rest, ".")
		if !ok || strings.ContainsAny(encoded, "\r\n") { // which the decoder would skip
			return credential{}, false
		}
		raw, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
		if err != nil {
			return credential{}, false
		}
		id, err := uuid.FromBytes(raw)
		return credential{prefix, id.String()}, err == nil
	}
	return credential{}, false
}

type digest = [sha256.Size]byte

func hashOf(bearer string) digest { return sha256.Sum256([]byte(bearer)) }

// pad keeps the comparison's time the same for credentials that do not exist.
func pad(hash []byte) []byte {
	if len(hash) == sha256.Size {
		return hash
	}
	return make([]byte, sha256.Size)
}
