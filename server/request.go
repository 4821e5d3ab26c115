package server

import (
	"regexp"

	"github.com/google/uuid"
)

// requestIDKey is gateway.RequestIDHeader as gRPC metadata.
const requestIDKey = "x-request-id"

var requestIDForm = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// requestID keeps the id a caller chose when it cannot spoil a log, else makes one.
func requestID(chosen string) string {
	if requestIDForm.MatchString(chosen) {
		return chosen
	}
	return uuid.NewString()
}
