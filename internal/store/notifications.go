package store

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dataguardian/dataguardian/internal/notification"
	"github.com/dataguardian/dataguardian/internal/paging"
	"github.com/dataguardian/dataguardian/internal/store/db"
)

const notificationNoun = "notification"

type notifications struct{ *Store }

var _ notification.Store = notifications{}

// Notifications keeps notifications.
func (s *Store) Notifications() notification.Store { return notifications{s} }

func (s notifications) List(ctx context.Context, f notification.Filter, p paging.Page) (found []notification.Notification, total, unread int, err error) {
	where := db.CountNotificationsParams{Read: f.Read, Severity: filter(f.Severity), Type: filter(f.Type)}
	counted, err := s.q.CountNotifications(ctx, where)
	if err != nil {
		return nil, 0, 0, failure(err)
	}
	fresh, err := s.q.CountUnreadNotifications(ctx)
	if err != nil {
		return nil, 0, 0, failure(err)
	}
	limit, offset := window(p)
	rows, err := s.q.ListNotifications(ctx, db.ListNotificationsParams{
		Read: where.Read, Severity: where.Severity, Type: where.Type, PageLimit: limit, PageOffset: offset,
	})
	if err != nil {
		return nil, 0, 0, failure(err)
	}
	found, err = eachOrError(rows, notificationOf)
	return found, int(counted), int(fresh), err
}

func (s notifications) MarkRead(ctx context.Context, id string) (notification.Notification, error) {
	row, err := s.q.MarkNotificationRead(ctx, id)
	if err != nil {
		return notification.Notification{}, missing(err, notificationNoun, id)
	}
	return notificationOf(row)
}

func (s notifications) MarkAllRead(ctx context.Context) (int, error) {
	marked, err := s.q.MarkAllNotificationsRead(ctx)
	return int(marked), failure(err)
}

func (s notifications) Delete(ctx context.Context, id string) error {
	deleted, err := s.q.DeleteNotification(ctx, id)
	return none(deleted, err, notificationNoun, id)
}

// After goes by since when the notification with afterID was deleted.
func (s notifications) After(ctx context.Context, since time.Time, afterID string, limit int) ([]notification.Notification, error) {
	rows, err := s.after(ctx, since, afterID, int64(limit))
	if err != nil {
		return nil, failure(err)
	}
	return eachOrError(rows, notificationOf)
}

func (s notifications) after(ctx context.Context, since time.Time, afterID string, limit int64) ([]db.Notification, error) {
	if afterID != "" {
		seq, err := s.q.NotificationSeq(ctx, afterID)
		if err == nil {
			return s.q.NotificationsAfter(ctx, db.NotificationsAfterParams{Seq: seq, PageLimit: limit})
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			return nil, err
		}
	}
	return s.q.NotificationsSince(ctx, db.NotificationsSinceParams{Since: since, PageLimit: limit})
}

func notificationOf(row db.Notification) (notification.Notification, error) {
	n := notification.Notification{
		ID: row.ID, Type: notification.Type(row.Type), Severity: notification.Severity(row.Severity),
		EntityType: notification.EntityType(row.EntityType), EntityID: row.EntityID, Title: row.Title, Message: row.Message,
		ReadAt: row.ReadAt, CreatedAt: row.CreatedAt,
	}
	return n, decode(row.Metadata, &n.Metadata)
}
