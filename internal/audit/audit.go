// Package audit writes down who did what, from where, and what became of it.
package audit

import (
	"context"
	"time"

	"github.com/dataguardian/dataguardian/internal/paging"
)

// Outcomes beside the codes of errors.
const (
	// OK is the outcome of what was done.
	OK = "ok"
	// Started is the outcome of what goes on, or was cut off by the end of a server.
	Started = "started"
)

// Entry is one thing that somebody did or tried. It never holds a secret.
type Entry struct {
	ID         string
	Actor      string // a user or token by name; empty: somebody without a good credential
	Action     string // such as backup_job.update
	EntityType string
	EntityID   string // empty: none
	Address    string // where the call came from
	Outcome    string // OK, Started, or the code of the error
	RequestID  string
	Count      int // calls that the entry stands for
	Metadata   map[string]any
	CreatedAt  time.Time
}

// Filter narrows a list; zero fields do not.
type Filter struct {
	Actor, Action, EntityType, EntityID, Outcome string
	From, To                                     *time.Time // at or after, before
}

// Store keeps entries.
type Store interface {
	// Create stores an entry, dated by the store's clock.
	Create(ctx context.Context, e Entry) error
	// Finish sets the outcome of an entry, and its entity when entityID is not empty.
	Finish(ctx context.Context, id, outcome, entityID string) error
	// Add counts more calls into an entry; one that is gone is fine.
	Add(ctx context.Context, id string, more int) error
	// List returns a page, newest first, and the rows in all.
	List(ctx context.Context, f Filter, p paging.Page) ([]Entry, int, error)
	// Prune removes some of the entries older than age and returns how many.
	Prune(ctx context.Context, age time.Duration) (int, error)
}
