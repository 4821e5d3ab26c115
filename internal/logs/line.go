// Package logs carries the lines of executions one way: from the worker through
// redaction to terminals, live tails and the execution's own record.
package logs

import (
	"context"
	"iter"
	"time"

	"github.com/dataguardian/dataguardian/internal/engine"
)

// Line is one line of an execution's log. Seq runs from 1 without gaps.
type Line struct {
	Seq     int64        `json:"seq"`
	Time    time.Time    `json:"ts"`
	Level   engine.Level `json:"level"`
	Message string       `json:"message"` // one line, redacted, control characters escaped
}

// Event is what a tail receives: exactly one field is set.
type Event struct {
	Line  *Line
	Gap   *Gap   // lines that are lost for good
	State []byte // an opaque snapshot of state or progress, see Hub.Announce
	Idle  bool   // nothing came for a heartbeat's time
	End   bool   // the log is closed; the sequence ends
}

// Gap names lost lines, both ends included.
type Gap struct{ From, To int64 }

// Hub moves lines between processes. It may lose everything at any moment: the
// execution's row is the truth. All methods may be called concurrently.
type Hub interface {
	// Append adds lines in order. Lines whose Seq the hub has already are dropped,
	// so that a retry or an outdated writer repeats nothing.
	Append(ctx context.Context, executionID string, lines ...Line) error
	// Announce sends a snapshot of an execution's state to its tails and watchers. It is
	// not kept.
	Announce(ctx context.Context, executionID string, state []byte) error
	// Read returns the lines after seq that the hub still has, in order.
	Read(ctx context.Context, executionID string, after int64) ([]Line, error)
	// Follow replays the lines after seq and then follows. It loses nothing that the
	// hub still has, however slow the reader; what the hub has not any more is a
	// Gap. It ends with an End event after Close, or with an error.
	Follow(ctx context.Context, executionID string, after int64) iter.Seq2[Event, error]
	// Watch follows the announcements (and lines, when lines is set) of all
	// executions from now on. A reader that falls behind receives an error. A Gap
	// without an execution says that from here on nothing is missed, but that
	// something may have been before: it comes first, and again after every loss of
	// the connection. Idle comes without an execution, too.
	Watch(ctx context.Context, lines bool) iter.Seq2[Announcement, error]
	// Close ends all tails of an execution and lets its lines expire.
	Close(ctx context.Context, executionID string) error
	// Open takes Close back, for an execution that goes on after its end. Its lines
	// go on where they ended.
	Open(ctx context.Context, executionID string) error
}

// Announcement is an event with the execution it belongs to.
type Announcement struct {
	ExecutionID string
	Event       Event
}
