package notification

import (
	"context"
	"time"

	"github.com/dataguardian/dataguardian/internal/paging"
)

// Channel is a way out for notifications.
type Channel struct {
	ID          string
	Name        string
	Type        string         // the name of a ChannelType
	Config      map[string]any // its open settings; nil in lists
	Secrets     map[string]any // its secret settings, in the clear: they must reach a Courier only; nil in lists
	Types       []Type         // only these; empty: all
	MinSeverity Severity       // only from this one on
	Enabled     bool
	MaxPerHour  int       // beyond so many messages in an hour what waits is put together; 0: no limit
	Pending     int       // deliveries that wait
	Last        *Delivery // the newest that was tried; nil without one
	CreatedAt   time.Time
	UpdatedAt   time.Time
}

// DeliveryStatus says how far a delivery is.
type DeliveryStatus string

// Delivery statuses.
const (
	Waiting   DeliveryStatus = "pending" // also between two tries
	Delivered DeliveryStatus = "delivered"
	GivenUp   DeliveryStatus = "failed"
)

// Delivery is the way of one notification through one channel. It begins in the
// transaction that writes the notification.
type Delivery struct {
	ID             string // the same at every try: receivers may drop what they have seen
	ChannelID      string
	NotificationID string
	Type           Type
	Severity       Severity
	Title          string
	Status         DeliveryStatus
	Attempts       int
	NextAttemptAt  *time.Time // while it waits
	DeliveredAt    *time.Time
	LastError      string
	CreatedAt      time.Time
}

// ChannelStore keeps channels. Secrets are encrypted at rest, bound to their row.
// Methods fail with NotFound for an id that is not there.
type ChannelStore interface {
	// Create stores c under its ID. A taken name fails with Exists (CodeConflict).
	Create(ctx context.Context, c Channel) (Channel, error)
	// Get returns one channel with its settings.
	Get(ctx context.Context, id string) (Channel, error)
	// List returns a page by name, without settings, and the rows in all.
	List(ctx context.Context, p paging.Page) ([]Channel, int, error)
	// Update locks the row, lets change edit it, and stores the result. A channel
	// that is changed tries what waits for it at once.
	Update(ctx context.Context, id string, change func(*Channel) error) (Channel, error)
	// Delete removes a channel with its deliveries.
	Delete(ctx context.Context, id string) error
	// Deliveries returns a page, newest first, and the rows in all; an empty status
	// means all.
	Deliveries(ctx context.Context, channelID string, status DeliveryStatus, p paging.Page) ([]Delivery, int, error)
}

// Parcel is a delivery that one caller has claimed and nobody else works on.
type Parcel struct {
	Delivery     Delivery
	Channel      Channel // with its secrets
	Notification Notification
	Fence        int64   // of the claim
	Failures     int     // how often in a row the channel has failed before
	Digest       *Digest // set when Notification tells of everything that waited
}

// Digest is what the notification of a parcel tells of, beside its own delivery.
type Digest struct {
	Until int64 // the Seq of the newest
	Kinds []Kind
}

// Kind counts what waits for a channel.
type Kind struct {
	Type     Type
	Severity Severity
	Count    int
}

// Miss says how a try failed and what follows.
type Miss struct {
	Reason  string        // a sentence without secrets
	Retry   time.Duration // until the delivery's next try
	Pause   time.Duration // until the channel is tried again with anything
	GiveUp  bool          // no next try
	Unsound bool          // the channel itself does not work: counts for Parcel.Failures
}

// Outbox is the queue of what is to be delivered. A channel delivers one
// notification at a time; channels do not wait for each other.
type Outbox interface {
	// Claim takes the oldest due delivery of the channel that waited longest, for
	// the time of lease; false when nothing is due. After the lease others may claim
	// it again: it is delivered at least once.
	Claim(ctx context.Context, lease time.Duration) (Parcel, bool, error)
	// Done books a delivery. It fails with ErrClaimLost when the lease is over and
	// another one has claimed.
	Done(ctx context.Context, p Parcel) error
	// Missed books a failed try. It fails with ErrClaimLost as Done does.
	Missed(ctx context.Context, p Parcel, m Miss) error
	// Release gives a parcel back that was not tried.
	Release(ctx context.Context, p Parcel) error
}
