package storetest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/backup"
	"github.com/dataguardian/dataguardian/internal/notification"
	"github.com/dataguardian/dataguardian/internal/paging"
)

func notifications(t *testing.T, w *world) {
	s := w.Notifications()
	list := func(f notification.Filter, p paging.Page) (rows []notification.Notification, total, unread int) {
		rows, total, unread, err := s.List(t.Context(), f, p)
		require.NoError(t, err)
		require.NotNil(t, rows)
		return rows, total, unread
	}
	t.Run("there are none", func(t *testing.T) {
		rows, total, unread := list(notification.Filter{}, firstPage)
		require.Empty(t, rows)
		require.Zero(t, total)
		require.Zero(t, unread)
		marked, err := s.MarkAllRead(t.Context())
		require.NoError(t, err)
		require.Zero(t, marked)
	})
	j := w.newJob(t)
	cleanup := func(n int) {
		for range n {
			require.NoError(t, w.Catalogue().NoteCleanup(t.Context(), j, []backup.Backup{{ExecutionID: id()}}))
		}
	}
	t.Run("lists are filtered, newest first, in pages", func(t *testing.T) {
		cleanup(3)
		_, l := w.run(t, j)
		require.NoError(t, w.Executions().Finish(t.Context(), l, failedResult("X")))
		rows, total, unread := list(notification.Filter{}, paging.Page{Number: 1, Limit: 2})
		require.Len(t, rows, 2)
		require.Equal(t, 4, total)
		require.Equal(t, 4, unread)
		require.Equal(t, notification.BackupFailed, rows[0].Type)
		require.False(t, rows[0].CreatedAt.Before(rows[1].CreatedAt))
		rows, total, _ = list(notification.Filter{Severity: notification.Critical}, firstPage)
		require.Len(t, rows, 1)
		require.Equal(t, 1, total)
		rows, total, _ = list(notification.Filter{Type: notification.CleanupCompleted, Read: ptr(false)}, paging.Page{Number: 2, Limit: 2})
		require.Len(t, rows, 1)
		require.Equal(t, 3, total)
		_, total, _ = list(notification.Filter{Read: ptr(true)}, firstPage)
		require.Zero(t, total)
	})
	t.Run("the time of the first reading stays", func(t *testing.T) {
		rows, _, unread := list(notification.Filter{}, firstPage)
		first, err := s.MarkRead(t.Context(), rows[0].ID)
		require.NoError(t, err)
		require.NotNil(t, first.ReadAt)
		second, err := s.MarkRead(t.Context(), rows[0].ID)
		require.NoError(t, err)
		require.Equal(t, first, second)
		_, total, after := list(notification.Filter{Read: ptr(true)}, firstPage)
		require.Equal(t, 1, total)
		require.Equal(t, unread-1, after)
		marked, err := s.MarkAllRead(t.Context())
		require.NoError(t, err)
		require.Equal(t, unread-1, marked)
	})
	t.Run("absent ones are not found, deleted ones are absent", func(t *testing.T) {
		for _, gone := range absent() {
			_, err := s.MarkRead(t.Context(), gone)
			requireNotFound(t, err)
			requireNotFound(t, s.Delete(t.Context(), gone))
		}
		rows, _, _ := list(notification.Filter{}, firstPage)
		require.NoError(t, s.Delete(t.Context(), rows[0].ID))
		requireNotFound(t, s.Delete(t.Context(), rows[0].ID))
	})
	t.Run("a follower gets every one once, in order, whoever writes", func(t *testing.T) {
		last, err := s.Last(t.Context())
		require.NoError(t, err)
		const writers, each = 6, 15
		var group sync.WaitGroup
		failed := make([]error, writers)
		for i := range failed {
			group.Go(func() {
				for n := range each {
					b := []backup.Backup{{ExecutionID: fmt.Sprint(i, "-", n)}}
					if err := w.Catalogue().NoteCleanup(t.Context(), j, b); err != nil {
						failed[i] = err
					}
				}
			})
		}
		seen := map[string]bool{}
		require.Eventually(t, func() bool {
			fresh, err := s.After(t.Context(), last, 4)
			require.NoError(t, err)
			for _, n := range fresh {
				require.False(t, seen[n.ID])
				require.Greater(t, n.Seq, last)
				seen[n.ID], last = true, n.Seq
			}
			return len(seen) == writers*each
		}, minute, time.Millisecond)
		group.Wait()
		for _, err := range failed {
			require.NoError(t, err)
		}
	})
	t.Run("a follower whose last one was deleted goes on after it", func(t *testing.T) {
		cleanup(2)
		last, err := s.Last(t.Context())
		require.NoError(t, err)
		newest, _, _ := list(notification.Filter{}, paging.Page{Number: 1, Limit: 1})
		require.Equal(t, last, newest[0].Seq)
		require.NoError(t, s.Delete(t.Context(), newest[0].ID))
		fresh, err := s.After(t.Context(), last, 10)
		require.NoError(t, err)
		require.Empty(t, fresh)
		cleanup(1)
		fresh, err = s.After(t.Context(), last, 10)
		require.NoError(t, err)
		require.Len(t, fresh, 1)
	})
}
