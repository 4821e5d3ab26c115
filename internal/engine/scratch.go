package engine

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"regexp"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// Names of databases that live only during a restore, the same for all servers:
// what is restored into before it takes the target's place, and what the target
// held until then. The twelve hexadecimal digits at the end are one restore's; it
// holds a lock of that name on the server for as long as it lives, so that what a
// dead one left behind can be told from what a living one uses.
const (
	ScratchPrefix  = "dg_restore_"
	ReplacedPrefix = "dg_replaced_"
)

// ScratchPattern matches these names; its syntax is common to Go, PostgreSQL and
// MySQL.
const ScratchPattern = "^(" + ScratchPrefix + "|" + ReplacedPrefix + ")[0-9a-f]{12}$"

var scratchName = regexp.MustCompile(ScratchPattern)

// ErrUnsettled is in the error of a restore whose target is neither what it was nor
// restored, or may be either, or has changed for good before the restore failed. The
// error's sentence says which, and where the old content lies if it lies elsewhere.
var ErrUnsettled = errors.New("the target could not be made what it was")

const scratchDigits = 12

// NewScratchSuffix returns the digits of a new restore.
func NewScratchSuffix() string {
	b := make([]byte, scratchDigits/2)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// CheckToken keeps the Token of a restore what scratch databases are looked for as;
// an empty one is fine.
func CheckToken(token string) error {
	if token != "" && !scratchName.MatchString(ScratchPrefix+token) {
		return errs.New(errs.Internal, errs.CodeInternal, "the token %q of the restore is not 12 hexadecimal digits", token)
	}
	return nil
}

// ScratchSuffix returns the digits in a database's name; false for a database that
// is not a restore's own.
func ScratchSuffix(database string) (string, bool) {
	if !scratchName.MatchString(database) {
		return "", false
	}
	return database[len(database)-scratchDigits:], true
}
