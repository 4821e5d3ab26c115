package storetest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/notification"
	"github.com/dataguardian/dataguardian/internal/paging"
	"github.com/dataguardian/dataguardian/internal/store"
)

func (w *world) newChannel(t testing.TB, edit ...func(*notification.Channel)) notification.Channel {
	t.Helper()
	c := notification.Channel{
		ID: id(), Name: "ops " + id(), Type: "webhook", Config: map[string]any{"url": "https://example.com/hook"},
		Secrets: map[string]any{"secret": "sésame"}, MinSeverity: notification.Info, Enabled: true,
	}
	for _, e := range edit {
		e(&c)
	}
	c, err := w.Channels().Create(t.Context(), c)
	require.NoError(t, err)
	return c
}

func channels(t *testing.T, w *world) {
	s := w.Channels()
	t.Run("a channel comes back as it went, with its secrets", func(t *testing.T) {
		want := notification.Channel{
			ID: id(), Name: "a first", Type: "smtp", Config: map[string]any{"host": "mail", "port": 25.0}, Secrets: map[string]any{"password": "p"},
			Types: []notification.Type{notification.BackupFailed, notification.StorageFull}, MinSeverity: notification.Warning, Enabled: true,
		}
		got, err := s.Create(t.Context(), want)
		require.NoError(t, err)
		want.CreatedAt, want.UpdatedAt = got.CreatedAt, got.UpdatedAt
		require.False(t, got.CreatedAt.IsZero())
		require.Equal(t, want, got)
		rows, total, err := s.List(t.Context(), firstPage)
		require.NoError(t, err)
		require.Equal(t, 1, total)
		require.Nil(t, rows[0].Config)
		require.Nil(t, rows[0].Secrets)
		require.Equal(t, want.Types, rows[0].Types)
	})
	t.Run("names are unique, also after a change", func(t *testing.T) {
		c := w.newChannel(t)
		_, err := s.Create(t.Context(), notification.Channel{ID: id(), Name: c.Name, Type: "slack", MinSeverity: notification.Info})
		requireCode(t, err, errs.Exists, errs.CodeConflict)
		requireField(t, err, "name")
		_, err = s.Update(t.Context(), c.ID, func(c *notification.Channel) error { c.Name = "a first"; return nil })
		requireCode(t, err, errs.Exists, errs.CodeConflict)
	})
	t.Run("a change keeps what it does not touch", func(t *testing.T) {
		c := w.newChannel(t)
		changed, err := s.Update(t.Context(), c.ID, func(c *notification.Channel) error {
			c.Enabled, c.Secrets["authorization"] = false, "Bearer x"
			return nil
		})
		require.NoError(t, err)
		require.Equal(t, map[string]any{"secret": "sésame", "authorization": "Bearer x"}, changed.Secrets)
		require.Equal(t, c.Config, changed.Config)
		require.False(t, changed.Enabled)
		_, err = s.Update(t.Context(), c.ID, func(*notification.Channel) error { return errRefused })
		require.ErrorIs(t, err, errRefused)
	})
	t.Run("absent ones are not found", func(t *testing.T) {
		for _, gone := range absent() {
			_, err := s.Get(t.Context(), gone)
			requireNotFound(t, err)
			_, err = s.Update(t.Context(), gone, func(*notification.Channel) error { return nil })
			requireNotFound(t, err)
			_, _, err = s.Deliveries(t.Context(), gone, "", firstPage)
			requireNotFound(t, err)
			requireNotFound(t, s.Delete(t.Context(), gone))
		}
		c := w.newChannel(t)
		require.NoError(t, s.Delete(t.Context(), c.ID))
		requireNotFound(t, s.Delete(t.Context(), c.ID))
	})
	t.Run("every table with sealed secrets is in the list", func(t *testing.T) {
		rows, err := w.conn.Query(t.Context(), "select table_name::text from information_schema.columns where column_name = 'secrets' and table_schema = current_schema()")
		require.NoError(t, err)
		tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		require.ElementsMatch(t, tables, store.SealedTables())
	})
}

// outbox works on channels of its own: the tests before it leave none enabled.
func outbox(t *testing.T, w *world) {
	s := w.Outbox()
	j := w.newJob(t)
	told := func(t *testing.T, n int) { // info
		t.Helper()
		for range n {
			require.NoError(t, w.Catalogue().NoteCleanup(t.Context(), j, []backup.Backup{{ExecutionID: id()}}))
		}
	}
	failedBackup := func(t *testing.T) { // critical
		t.Helper()
		_, l := w.run(t, j)
		require.NoError(t, w.Executions().Finish(t.Context(), l, failedResult("X")))
	}
	claim := func(t *testing.T) notification.Parcel {
		t.Helper()
		p, found, err := s.Claim(t.Context(), minute)
		require.NoError(t, err)
		require.True(t, found, "nothing to deliver")
		return p
	}
	nothing := func(t *testing.T) {
		t.Helper()
		p, found, err := s.Claim(t.Context(), minute)
		require.NoError(t, err)
		require.False(t, found, "%+v", p)
	}
	only := func(t *testing.T, edit ...func(*notification.Channel)) notification.Channel { // the one channel there is
		t.Helper()
		w.exec(t, "delete from notification_channels")
		return w.newChannel(t, edit...)
	}
	state := func(t *testing.T, c notification.Channel) notification.Channel {
		t.Helper()
		got, err := w.Channels().Get(t.Context(), c.ID)
		require.NoError(t, err)
		return got
	}

	t.Run("a notification waits for every channel that wants it, from the moment it is there", func(t *testing.T) {
		w.exec(t, "delete from notification_channels")
		all := w.newChannel(t)
		grave := w.newChannel(t, func(c *notification.Channel) { c.MinSeverity = notification.Warning })
		failures := w.newChannel(t, func(c *notification.Channel) { c.Types = []notification.Type{notification.BackupFailed} })
		off := w.newChannel(t, func(c *notification.Channel) { c.Enabled = false })
		told(t, 2)
		failedBackup(t)
		for c, want := range map[string]int{all.ID: 3, grave.ID: 1, failures.ID: 1, off.ID: 0} {
			got, err := w.Channels().Get(t.Context(), c)
			require.NoError(t, err)
			require.Equal(t, want, got.Pending)
			require.Nil(t, got.Last)
		}
	})
	t.Run("deliveries of a channel come one by one, oldest first", func(t *testing.T) {
		c := only(t)
		told(t, 3)
		seq := int64(0)
		for range 3 {
			p := claim(t)
			require.Equal(t, c.Secrets, p.Channel.Secrets)
			require.Equal(t, 1, p.Delivery.Attempts)
			require.Equal(t, p.Notification.ID, p.Delivery.NotificationID)
			require.Greater(t, p.Notification.Seq, seq)
			seq = p.Notification.Seq
			nothing(t)
			require.NoError(t, s.Done(t.Context(), p))
			require.ErrorIs(t, s.Done(t.Context(), p), notification.ErrClaimLost)
		}
		nothing(t)
		got := state(t, c)
		require.Zero(t, got.Pending)
		require.Equal(t, notification.Delivered, got.Last.Status)
		require.NotNil(t, got.Last.DeliveredAt)
		rows, total, err := w.Channels().Deliveries(t.Context(), c.ID, "", paging.Page{Number: 1, Limit: 2})
		require.NoError(t, err)
		require.Equal(t, 3, total)
		require.Len(t, rows, 2)
		require.Equal(t, *got.Last, rows[0])
		_, total, err = w.Channels().Deliveries(t.Context(), c.ID, notification.Waiting, firstPage)
		require.NoError(t, err)
		require.Zero(t, total)
	})
	t.Run("a failed try rests the delivery and the channel, and no other channel", func(t *testing.T) {
		c := only(t)
		told(t, 2)
		p := claim(t)
		require.NoError(t, s.Missed(t.Context(), p, notification.Miss{Reason: "no answer\x00", Retry: time.Hour, Pause: time.Hour, Unsound: true}))
		nothing(t)
		other := w.newChannel(t)
		told(t, 1)
		require.Equal(t, other.ID, claim(t).Channel.ID)
		nothing(t)
		got := state(t, c)
		require.Equal(t, 3, got.Pending)
		require.Equal(t, "no answer\uFFFD", got.Last.LastError)
		require.NotNil(t, got.Last.NextAttemptAt)
		w.exec(t, "update notification_channels set paused_until = null where id = $1", c.ID)
		again := claim(t)
		require.Equal(t, c.ID, again.Channel.ID)
		require.NotEqual(t, p.Delivery.ID, again.Delivery.ID, "the delivery rests longer than the channel")
		require.Equal(t, 1, again.Failures)
		require.NoError(t, s.Done(t.Context(), again))
		require.Zero(t, claim(t).Failures)
	})
	t.Run("what is given up is not tried again", func(t *testing.T) {
		c := only(t)
		told(t, 1)
		require.NoError(t, s.Missed(t.Context(), claim(t), notification.Miss{Reason: "never", GiveUp: true}))
		nothing(t)
		got := state(t, c)
		require.Equal(t, notification.GivenUp, got.Last.Status)
		require.Nil(t, got.Last.NextAttemptAt)
		require.Zero(t, got.Pending)
	})
	t.Run("whoever is silent for longer than the lease loses the delivery: it is sent at least once", func(t *testing.T) {
		c := only(t)
		told(t, 1)
		lost := claim(t)
		w.exec(t, "update notification_channels set leased_until = now() - interval '1 second'")
		p := claim(t)
		require.Equal(t, lost.Delivery.ID, p.Delivery.ID)
		require.Equal(t, 2, p.Delivery.Attempts)
		require.ErrorIs(t, s.Done(t.Context(), lost), notification.ErrClaimLost)
		require.ErrorIs(t, s.Missed(t.Context(), lost, notification.Miss{Reason: "late"}), notification.ErrClaimLost)
		require.ErrorIs(t, s.Release(t.Context(), lost), notification.ErrClaimLost)
		require.NoError(t, s.Done(t.Context(), p))
		require.Empty(t, state(t, c).Last.LastError)
	})
	t.Run("what was given back was not tried", func(t *testing.T) {
		only(t)
		told(t, 1)
		p := claim(t)
		require.NoError(t, s.Release(t.Context(), p))
		again := claim(t)
		require.Equal(t, p.Delivery.ID, again.Delivery.ID)
		require.Equal(t, 1, again.Delivery.Attempts)
	})
	t.Run("a channel that was changed tries at once", func(t *testing.T) {
		c := only(t)
		told(t, 1)
		require.NoError(t, s.Missed(t.Context(), claim(t), notification.Miss{Reason: "wrong password", Retry: time.Hour, Pause: time.Hour, Unsound: true}))
		nothing(t)
		_, err := w.Channels().Update(t.Context(), c.ID, func(c *notification.Channel) error { c.Secrets["secret"] = "right"; return nil })
		require.NoError(t, err)
		require.Equal(t, "right", claim(t).Channel.Secrets["secret"])
	})
	t.Run("a channel whose settings cannot be read keeps no other waiting", func(t *testing.T) {
		broken := only(t)
		w.exec(t, "update notification_channels set secrets = 'junk'")
		good := w.newChannel(t)
		told(t, 1)
		require.Equal(t, good.ID, claim(t).Channel.ID)
		nothing(t)
		w.exec(t, "update notification_channels set secrets = null where id = $1", broken.ID)
		got := state(t, broken)
		require.Equal(t, 1, got.Pending)
		require.NotEmpty(t, got.Last.LastError)
	})
	t.Run("deliveries go with their notification and with their channel", func(t *testing.T) {
		c := only(t)
		told(t, 2)
		p := claim(t)
		require.NoError(t, w.Notifications().Delete(t.Context(), p.Notification.ID))
		require.NoError(t, s.Done(t.Context(), p), "it was sent all the same")
		require.Equal(t, 1, state(t, c).Pending)
		require.NoError(t, w.Channels().Delete(t.Context(), c.ID))
		var left int
		require.NoError(t, w.conn.QueryRow(t.Context(), "select count(*) from notification_deliveries").Scan(&left))
		require.Zero(t, left)
	})
	t.Run("beyond its limit a channel gets what waits in one message every ten minutes", func(t *testing.T) {
		c := only(t, func(c *notification.Channel) { c.MaxPerHour = 2 })
		told(t, 2)
		for range 2 {
			p := claim(t)
			require.Nil(t, p.Digest)
			require.NoError(t, s.Done(t.Context(), p))
		}
		told(t, 5)
		failedBackup(t)
		lead := claim(t)
		require.NotNil(t, lead.Digest)
		require.Equal(t, "6 notifications in one", lead.Notification.Title)
		require.Equal(t, notification.BackupFailed, lead.Notification.Type)
		require.Equal(t, notification.Critical, lead.Notification.Severity)
		require.Contains(t, lead.Notification.Message, "1 backup_failed, 5 cleanup_completed")
		require.NoError(t, s.Missed(t.Context(), lead, notification.Miss{Reason: "no answer"}))
		told(t, 1)
		p := claim(t)
		require.Equal(t, "7 notifications in one", p.Notification.Title)
		told(t, 1) // while it is being sent
		require.NoError(t, s.Done(t.Context(), p))
		require.Equal(t, 1, state(t, c).Pending)
		nothing(t)
		w.exec(t, "update notification_channels set digested_at = now() - interval '11 minutes', paused_until = null")
		p = claim(t)
		require.NotNil(t, p.Digest)
		require.NotContains(t, p.Notification.Title, "in one", "one alone stands for itself")
		require.NoError(t, s.Done(t.Context(), p))
		told(t, 1)
		nothing(t)
		w.exec(t, "update notification_deliveries set attempted_at = attempted_at - interval '2 hours'")
		w.exec(t, "update notification_channels set paused_until = null")
		require.Nil(t, claim(t).Digest, "an hour later it may send again")
	})
	t.Run("old notifications go with their deliveries", func(t *testing.T) {
		c := only(t)
		told(t, 3)
		w.exec(t, "update notifications set created_at = now() - interval '10 days' where seq in (select seq from notifications order by seq desc limit 2)")
		removed, err := w.Notifications().Prune(t.Context(), 9*24*time.Hour)
		require.NoError(t, err)
		require.Equal(t, 2, removed)
		require.Equal(t, 1, state(t, c).Pending)
		removed, err = w.Notifications().Prune(t.Context(), 9*24*time.Hour)
		require.NoError(t, err)
		require.Zero(t, removed)
	})
	t.Run("many workers deliver each once, and one at a time for each channel", func(t *testing.T) {
		only(t)
		w.newChannel(t)
		const each, workers = 20, 6
		told(t, each)
		var mu sync.Mutex
		seen, busy := map[string]int{}, map[string]bool{}
		var group sync.WaitGroup
		failures := make(chan error, workers)
		for range workers {
			group.Go(func() {
				for {
					p, found, err := s.Claim(t.Context(), minute)
					mu.Lock()
					done := len(seen) == 2*each
					if found {
						if busy[p.Channel.ID] {
							err = fmt.Errorf("two work on %s", p.Channel.ID)
						}
						busy[p.Channel.ID] = true
						seen[p.Delivery.ID]++
					}
					mu.Unlock()
					if err == nil && found {
						mu.Lock()
						busy[p.Channel.ID] = false
						mu.Unlock()
						err = s.Done(t.Context(), p)
					}
					if err != nil {
						failures <- err
						return
					}
					if done {
						return
					}
				}
			})
		}
		group.Wait()
		close(failures)
		for err := range failures {
			require.NoError(t, err)
		}
		require.Len(t, seen, 2*each)
		for _, times := range seen {
			require.Equal(t, 1, times)
		}
	})
	t.Run("whoever waits is told of every commit that may have made a notification", func(t *testing.T) {
		only(t)
		rung := make(chan struct{}, 1)
		dsn := w.conn.Config().ConnString()
		other, err := store.Open(t.Context(), store.Config{DSN: dsn, Box: newBox(t), Noted: func() {
			select {
			case rung <- struct{}{}:
			default:
			}
		}})
		require.NoError(t, err)
		t.Cleanup(other.Close)
		require.NoError(t, other.Catalogue().NoteCleanup(t.Context(), j, []backup.Backup{{ExecutionID: id()}}))
		select {
		case <-rung:
		case <-time.After(minute):
			t.Fatal("nobody was told")
		}
		p := claim(t)
		require.Equal(t, notification.CleanupCompleted, p.Notification.Type)
	})
}
