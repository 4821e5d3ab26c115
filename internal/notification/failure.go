package notification

import (
	"time"

	"github.com/dataguardian/dataguardian/internal/errs"
)

// Codes of a failed try to send.
const (
	CodeChannelUnreachable errs.Code = "CHANNEL_UNREACHABLE" // no answer, or one that says to try later
	CodeChannelRefused     errs.Code = "CHANNEL_REFUSED"     // the receiver does not take this message
	CodeChannelAuth        errs.Code = "CHANNEL_AUTH_FAILED" // the receiver does not know the credentials, or the address
	CodeChannelBlocked     errs.Code = "CHANNEL_BLOCKED"     // the address must not be reached
)

// CodeInvalidChannel marks settings of a channel that are not acceptable.
const CodeInvalidChannel errs.Code = "INVALID_CHANNEL_CONFIG"

// ErrClaimLost says that a claim's lease is over and the parcel belongs to another.
var ErrClaimLost = errs.New(errs.Conflict, errs.CodeLeaseLost, "the delivery took longer than its lease and belongs to another worker")

const retryAfterDetail = "retry_after_seconds"

// WithRetryAfter notes for how long the receiver asked to be left alone.
func WithRetryAfter(e *errs.Error, d time.Duration) *errs.Error {
	return e.With(retryAfterDetail, int64(d/time.Second))
}

// RetryAfter returns for how long the receiver asked to be left alone; 0 when it
// did not.
func RetryAfter(err error) time.Duration {
	e := errs.As(err)
	if e == nil {
		return 0
	}
	seconds, _ := e.Details[retryAfterDetail].(int64)
	return time.Duration(seconds) * time.Second
}

// Unsound reports whether a failed try says something of the channel, and not
// only of the message.
func Unsound(err error) bool { return errs.CodeOf(err) != CodeChannelRefused }
