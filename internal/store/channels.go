package store

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/notification"
	"github.com/dataguardian/dataguardian/internal/paging"
	"github.com/dataguardian/dataguardian/internal/store/db"
)

const (
	channelsTable = "notification_channels"
	channelNoun   = "notification channel"
)

type channels struct{ *Store }

var _ notification.ChannelStore = channels{}

// Channels keeps notification channels.
func (s *Store) Channels() notification.ChannelStore { return channels{s} }

func (s channels) Create(ctx context.Context, c notification.Channel) (notification.Channel, error) {
	config, secrets, err := s.split(c)
	if err != nil {
		return notification.Channel{}, err
	}
	err = s.q.CreateChannel(ctx, db.CreateChannelParams{
		ID: c.ID, Name: c.Name, Type: c.Type, Config: config, Secrets: secrets, Types: words(c.Types),
		MinSeverity: string(c.MinSeverity), Enabled: c.Enabled, MaxPerHour: int64(c.MaxPerHour),
	})
	if err != nil {
		return notification.Channel{}, failure(err)
	}
	return s.Get(ctx, c.ID)
}

func (s channels) Get(ctx context.Context, id string) (notification.Channel, error) {
	row, err := s.q.GetChannel(ctx, id)
	if err != nil {
		return notification.Channel{}, missing(err, channelNoun, id)
	}
	c, err := s.wholeChannel(row)
	if err != nil {
		return c, err
	}
	one := []notification.Channel{c}
	err = s.addState(ctx, one)
	return one[0], err
}

func (s channels) List(ctx context.Context, p paging.Page) ([]notification.Channel, int, error) {
	total, err := s.q.CountChannels(ctx)
	if err != nil {
		return nil, 0, failure(err)
	}
	limit, offset := window(p)
	rows, err := s.q.ListChannels(ctx, db.ListChannelsParams{PageLimit: limit, PageOffset: offset})
	if err != nil {
		return nil, 0, failure(err)
	}
	listed := each(rows, listedChannel)
	return listed, int(total), s.addState(ctx, listed)
}

// addState fills in what has become of the deliveries of channels.
func (s channels) addState(ctx context.Context, of []notification.Channel) error {
	ids := each(of, func(c notification.Channel) string { return c.ID })
	last, err := s.q.LastDeliveries(ctx, ids)
	if err != nil {
		return failure(err)
	}
	// After the other, so that what is shown as delivered is not counted as waiting.
	waiting, err := s.q.CountWaiting(ctx, ids)
	if err != nil {
		return failure(err)
	}
	place := map[string]*notification.Channel{}
	for i := range of {
		place[of[i].ID] = &of[i]
	}
	for _, row := range waiting {
		place[row.ChannelID].Pending = int(row.Waiting)
	}
	for _, row := range last {
		place[row.NotificationDelivery.ChannelID].Last = new(deliveryOf(row.NotificationDelivery, row.Type, row.Severity, row.Title))
	}
	return nil
}

func (s channels) Update(ctx context.Context, id string, change func(*notification.Channel) error) (notification.Channel, error) {
	err := s.telling(ctx, func(q *db.Queries) error {
		row, err := q.LockChannel(ctx, id)
		if err != nil {
			return missing(err, channelNoun, id)
		}
		c, err := s.wholeChannel(row)
		if err != nil {
			return err
		}
		if err := change(&c); err != nil {
			return err
		}
		c.ID = row.ID
		config, secrets, err := s.split(c)
		if err != nil {
			return err
		}
		err = q.UpdateChannel(ctx, db.UpdateChannelParams{
			ID: row.ID, Name: c.Name, Config: config, Secrets: secrets, Types: words(c.Types), MinSeverity: string(c.MinSeverity), Enabled: c.Enabled,
			MaxPerHour: int64(c.MaxPerHour),
		})
		if err != nil {
			return err
		}
		return q.HurryDeliveries(ctx, row.ID) // the change may have been what it waited for
	})
	if err != nil {
		return notification.Channel{}, err
	}
	return s.Get(ctx, id)
}

func (s channels) Delete(ctx context.Context, id string) error {
	deleted, err := s.q.DeleteChannel(ctx, id)
	return none(deleted, err, channelNoun, id)
}

func (s channels) Deliveries(ctx context.Context, id string, status notification.DeliveryStatus, p paging.Page) ([]notification.Delivery, int, error) {
	if _, err := s.q.GetChannel(ctx, id); err != nil {
		return nil, 0, missing(err, channelNoun, id)
	}
	total, err := s.q.CountDeliveries(ctx, db.CountDeliveriesParams{ChannelID: id, Status: filter(status)})
	if err != nil {
		return nil, 0, failure(err)
	}
	limit, offset := window(p)
	rows, err := s.q.ListDeliveries(ctx, db.ListDeliveriesParams{ChannelID: id, Status: filter(status), PageLimit: limit, PageOffset: offset})
	if err != nil {
		return nil, 0, failure(err)
	}
	return each(rows, func(row db.ListDeliveriesRow) notification.Delivery {
		return deliveryOf(row.NotificationDelivery, row.Type, row.Severity, row.Title)
	}), int(total), nil
}

// split returns the open and the sealed settings.
func (s channels) split(c notification.Channel) (config, secrets []byte, err error) {
	open := c.Config
	if open == nil {
		open = map[string]any{}
	}
	if config, err = encode(open); err != nil {
		return nil, nil, err
	}
	secrets, err = s.seal(channelsTable, c.ID, c.Secrets)
	return config, secrets, err
}

// wholeChannel is a row with its settings.
func (s *Store) wholeChannel(row db.NotificationChannel) (notification.Channel, error) {
	c := listedChannel(row)
	c.Config = map[string]any{}
	if err := decode(row.Config, &c.Config); err != nil {
		return c, err
	}
	secrets, err := s.unseal(channelsTable, row.ID, row.Secrets)
	c.Secrets = secrets
	return c, err
}

// listedChannel is a row without its settings.
func listedChannel(row db.NotificationChannel) notification.Channel {
	return notification.Channel{
		ID: row.ID, Name: row.Name, Type: row.Type, Types: each(row.Types, func(w string) notification.Type { return notification.Type(w) }),
		MinSeverity: notification.Severity(row.MinSeverity), Enabled: row.Enabled,
		MaxPerHour: int(row.MaxPerHour), CreatedAt: row.CreatedAt, UpdatedAt: row.UpdatedAt,
	}
}

func deliveryOf(row db.NotificationDelivery, kind, severity, title string) notification.Delivery {
	d := notification.Delivery{
		ID: row.ID, ChannelID: row.ChannelID, NotificationID: row.NotificationID, Type: notification.Type(kind),
		Severity: notification.Severity(severity), Title: title, Status: notification.DeliveryStatus(row.Status), Attempts: int(row.Attempts),
		DeliveredAt: row.DeliveredAt, LastError: row.LastError, CreatedAt: row.CreatedAt,
	}
	if d.Status == notification.Waiting {
		d.NextAttemptAt = &row.NextAttemptAt
	}
	return d
}

func words[T ~string](in []T) []string { return each(in, func(w T) string { return string(w) }) }

type outbox struct{ *Store }

var _ notification.Outbox = outbox{}

// Outbox is the queue of notifications on their way to channels.
func (s *Store) Outbox() notification.Outbox { return outbox{s} }

// brokenPause is how long a channel rests whose settings cannot be read.
const brokenPause = 5 * time.Minute

// Claim passes over channels whose settings cannot be read: they would keep every
// other one waiting.
func (s outbox) Claim(ctx context.Context, lease time.Duration) (notification.Parcel, bool, error) {
	for {
		c, err := s.claim(ctx, lease)
		switch {
		case err != nil || c.nothing:
			return notification.Parcel{}, false, err
		case c.rests:
			continue
		case c.broken == nil:
			return c.parcel, true, nil
		}
		rest := notification.Miss{Reason: errs.Message(c.broken), Retry: brokenPause, Pause: brokenPause, Unsound: true}
		if err := s.Missed(ctx, c.parcel, rest); err != nil {
			return notification.Parcel{}, false, err
		}
	}
}

// claimed is what one look for something to deliver has found.
type claimed struct {
	nothing bool  // no channel has anything due
	rests   bool  // one has, and waits for its next digest
	broken  error // its settings cannot be read
	parcel  notification.Parcel
}

func (s outbox) claim(ctx context.Context, lease time.Duration) (c claimed, err error) {
	err = s.tx(ctx, func(q *db.Queries) error {
		row, err := q.ClaimChannel(ctx, lease)
		if errors.Is(err, pgx.ErrNoRows) {
			c.nothing = true
			return nil
		}
		if err != nil {
			return err
		}
		over, pause, err := overLimit(ctx, q, row)
		if err != nil {
			return err
		}
		if pause > 0 {
			c.rests = true
			_, err := q.ReleaseChannel(ctx, db.ReleaseChannelParams{ID: row.ID, Fence: row.Fence, Pause: pause})
			return err
		}
		taken, err := q.TakeDelivery(ctx, row.ID)
		if errors.Is(err, pgx.ErrNoRows) { // settled between two looks
			c.nothing = true
			_, err := q.ReleaseChannel(ctx, db.ReleaseChannelParams{ID: row.ID, Fence: row.Fence})
			return err
		}
		if err != nil {
			return err
		}
		if c.parcel, c.broken = s.parcel(row, taken); over {
			return digest(ctx, q, &c.parcel)
		}
		return nil
	})
	return c, err
}

// overLimit reports whether a channel has sent what it may within an hour, and for
// how long it must wait then until its next digest.
func overLimit(ctx context.Context, q *db.Queries, row db.NotificationChannel) (over bool, pause time.Duration, err error) {
	if row.MaxPerHour == 0 {
		return false, 0, nil
	}
	sent, err := q.CountMessages(ctx, row.ID)
	if err != nil || sent.Messages < row.MaxPerHour {
		return false, 0, err
	}
	return true, max(notification.DigestEvery-sent.SinceDigest, 0), nil
}

// digest makes of a parcel one that tells of everything that waits for its channel.
func digest(ctx context.Context, q *db.Queries, p *notification.Parcel) error {
	rows, err := q.WaitingKinds(ctx, p.Channel.ID)
	if err != nil {
		return err
	}
	d, total := notification.Digest{}, 0
	for _, row := range rows {
		total += int(row.Waiting)
		d.Until = max(d.Until, row.Newest)
		d.Kinds = append(d.Kinds, notification.Kind{Type: notification.Type(row.Type), Severity: notification.Severity(row.Severity), Count: int(row.Waiting)})
	}
	p.Digest = &d
	if total < 2 { // it stands for itself
		return nil
	}
	titles, err := q.WaitingTitles(ctx, db.WaitingTitlesParams{ChannelID: p.Channel.ID, PageLimit: notification.DigestTitles})
	if err != nil {
		return err
	}
	p.Notification = notification.Summarize(p.Notification, d.Kinds, titles)
	return nil
}

// parcel is what was claimed, with its settings if they can be read.
func (s outbox) parcel(row db.NotificationChannel, taken db.TakeDeliveryRow) (notification.Parcel, error) {
	n, noteErr := notificationOf(taken.Notification)
	c, err := s.wholeChannel(row)
	return notification.Parcel{
		Delivery: notification.Delivery{
			ID: taken.ID, ChannelID: row.ID, NotificationID: n.ID, Type: n.Type, Severity: n.Severity, Title: n.Title,
			Status: notification.Waiting, Attempts: int(taken.Attempts), CreatedAt: taken.CreatedAt,
		},
		Channel: c, Notification: n, Fence: row.Fence, Failures: int(row.Failures),
	}, errors.Join(noteErr, err)
}

func (s outbox) Done(ctx context.Context, p notification.Parcel) error {
	return s.settle(ctx, db.ReleaseChannelParams{ID: p.Channel.ID, Fence: p.Fence, Sound: true, Digested: p.Digest != nil},
		func(q *db.Queries) error {
			err := q.SettleDelivery(ctx, db.SettleDeliveryParams{ID: p.Delivery.ID, Status: string(notification.Delivered)})
			if err != nil || p.Digest == nil {
				return err
			}
			return q.SettleDigest(ctx, db.SettleDigestParams{DigestID: p.Delivery.ID, ChannelID: p.Channel.ID, Seq: p.Digest.Until})
		})
}

func (s outbox) Missed(ctx context.Context, p notification.Parcel, m notification.Miss) error {
	status := notification.Waiting
	if m.GiveUp {
		status = notification.GivenUp
	}
	return s.settle(ctx, db.ReleaseChannelParams{ID: p.Channel.ID, Fence: p.Fence, Unsound: m.Unsound, Sound: !m.Unsound, Pause: m.Pause},
		func(q *db.Queries) error {
			return q.SettleDelivery(ctx, db.SettleDeliveryParams{
				ID: p.Delivery.ID, Status: string(status), LastError: storable(m.Reason), Retry: m.Retry,
			})
		})
}

func (s outbox) Release(ctx context.Context, p notification.Parcel) error {
	return s.settle(ctx, db.ReleaseChannelParams{ID: p.Channel.ID, Fence: p.Fence},
		func(q *db.Queries) error { return q.ReturnDelivery(ctx, p.Delivery.ID) })
}

// settle ends a claim and books what came of it, in one.
func (s outbox) settle(ctx context.Context, claim db.ReleaseChannelParams, book func(q *db.Queries) error) error {
	return s.tx(ctx, func(q *db.Queries) error {
		held, err := q.ReleaseChannel(ctx, claim)
		if err != nil {
			return err
		}
		if held == 0 {
			return notification.ErrClaimLost
		}
		return book(q)
	})
}
