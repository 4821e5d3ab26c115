package store

import (
	"context"
	"time"

	"github.com/dataguardian/dataguardian/internal/auth"
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
	where := db.CountNotificationsParams{Read: f.Read, Severity: filter(f.Severity), Type: filter(f.Type), Scope: auth.ScopeOf(ctx)}
	counted, err := s.q.CountNotifications(ctx, where)
	if err != nil {
		return nil, 0, 0, failure(err)
	}
	fresh, err := s.q.CountUnreadNotifications(ctx, where.Scope)
	if err != nil {
		return nil, 0, 0, failure(err)
	}
	limit, offset := window(p)
	rows, err := s.q.ListNotifications(ctx, db.ListNotificationsParams{
		Read: where.Read, Severity: where.Severity, Type: where.Type, Scope: where.Scope, PageLimit: limit, PageOffset: offset,
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

func (s notifications) After(ctx context.Context, seq int64, limit int) ([]notification.Notification, error) {
	rows, err := s.q.NotificationsAfter(ctx, db.NotificationsAfterParams{Seq: seq, Scope: auth.ScopeOf(ctx), PageLimit: int64(limit)})
	if err != nil {
		return nil, failure(err)
	}
	return eachOrError(rows, notificationOf)
}

func (s notifications) Last(ctx context.Context) (int64, error) {
	if scope := auth.ScopeOf(ctx); scope != nil {
		seq, err := s.q.LastNotificationSeqInScope(ctx, scope)
		return seq, failure(err)
	}
	seq, err := s.q.LastNotificationSeq(ctx)
	return seq, failure(err)
}

// pruneBatch bounds what one statement removes.
const pruneBatch = 5000

func (s notifications) Prune(ctx context.Context, age time.Duration) (removed int, err error) {
	for {
		n, err := s.q.PruneNotifications(ctx, db.PruneNotificationsParams{Age: age, PageLimit: pruneBatch})
		removed += int(n)
		if err != nil || n < pruneBatch {
			return removed, failure(err)
		}
	}
}

func notificationOf(row db.Notification) (notification.Notification, error) {
	n := notification.Notification{
		ID: row.ID, Seq: row.Seq, Type: notification.Type(row.Type), Severity: notification.Severity(row.Severity),
		EntityType: notification.EntityType(row.EntityType), EntityID: row.EntityID, Title: row.Title, Message: row.Message,
		ReadAt: row.ReadAt, CreatedAt: row.CreatedAt,
	}
	return n, decode(row.Metadata, &n.Metadata)
}
