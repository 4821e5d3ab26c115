package app

import (
	"context"
	"time"

	"github.com/dataguardian/dataguardian/internal/metrics"
	"github.com/dataguardian/dataguardian/internal/queue"
	"github.com/dataguardian/dataguardian/worker"
	"github.com/dataguardian/dataguardian/worker/outbox"
)

// notificationBell is rung when notifications may have been written.
const notificationBell = "notifications"

// ringTimeout bounds one ring: those who wait look by themselves soon enough.
const ringTimeout = 2 * time.Second

// note says that notifications may have been written. It does not wait.
func (f *foundation) note() {
	select {
	case f.noted <- struct{}{}:
	default:
	}
}

// announce passes on what note says: to one outbox worker, and to all who watch,
// in every process. What does not arrive is found by their own looks.
func (f *foundation) announce(ctx context.Context) error {
	bell := queue.NewBell(f.client, notificationBell, nil)
	for {
		select {
		case <-f.noted:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if !f.monitor.Up() {
			continue
		}
		if err := f.ring(ctx, bell); err != nil && ctx.Err() == nil {
			f.logger.DebugContext(ctx, "nobody was told of a notification, they look by themselves", "error", err)
		}
	}
}

func (f *foundation) ring(ctx context.Context, bell *queue.Bell) error {
	ctx, cancel := context.WithTimeout(ctx, ringTimeout)
	defer cancel()
	if err := f.queue.Wake(ctx, outbox.Kind); err != nil {
		return err
	}
	return bell.Ring(ctx)
}

// carrier sends notifications from the outbox to their channels.
func carrier(f *foundation, d *domain, m *metrics.Metrics, entry *worker.Entry) worker.Service {
	for _, t := range d.courier.Types() {
		m.Channels(t.Name)
	}
	return &outbox.Carrier{Entry: entry, Meter: m, Store: f.store.Outbox(), Courier: d.courier, Queue: f.queue, Logger: f.logger, Poll: f.config.Timing.Poll, Lease: f.config.Timing.Lease}
}

// sealChannels encrypts what has become secret of channels since they were stored. The
// API works without it, and the next start tries again.
func (f *foundation) sealChannels(ctx context.Context, d *domain) {
	sealed, err := d.channels.Seal(ctx)
	if err != nil {
		f.logger.WarnContext(ctx, "the addresses of some notification channels are not encrypted yet, the next start tries again", "error", err)
	}
	if sealed > 0 {
		f.logger.InfoContext(ctx, "the addresses of notification channels were encrypted", "channels", sealed)
	}
}

// feed is what those who watch notifications read.
func (f *foundation) feed(d *domain) []worker.Service {
	bell := queue.NewBell(f.client, notificationBell, d.feed.Ring)
	return []worker.Service{
		worker.Loop("notification feed", d.feed.Run),
		worker.Loop("notification bell", bell.Run),
	}
}
