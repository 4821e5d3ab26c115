package notification

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// journal is a Source in memory.
type journal struct {
	mu    sync.Mutex
	notes []Notification
	err   error
	looks int
}

func (j *journal) add(severity Severity) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.notes = append(j.notes, Notification{Seq: int64(len(j.notes) + 1), Severity: severity, Type: BackupFailed})
}

func (j *journal) After(_ context.Context, seq int64, limit int) ([]Notification, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.notes[seq:min(int(seq)+limit, len(j.notes))], j.err
}

func (j *journal) Last(context.Context) (int64, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.looks++
	return int64(len(j.notes)), j.err
}

// watching collects the events of a watch until it ends.
type watching struct {
	mu     sync.Mutex
	events []WatchEvent
	err    error
	done   chan struct{}
}

func watch(ctx context.Context, f *Feed, r WatchRequest) *watching {
	w := &watching{done: make(chan struct{})}
	go func() {
		defer close(w.done)
		for e, err := range f.Watch(ctx, r) {
			w.mu.Lock()
			if err != nil {
				w.err = err
			} else {
				w.events = append(w.events, e)
			}
			w.mu.Unlock()
		}
	}()
	return w
}

// seqs are those of the notifications, and how many other events there were.
func (w *watching) seqs() (notes []int64, idle int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if e.Notification == nil {
			idle++
			continue
		}
		notes = append(notes, e.Seq)
	}
	return notes, idle
}

func TestAFeedTellsEveryNotificationOnceAndInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		j := &journal{}
		for range 250 {
			j.add(Info)
		}
		f := NewFeed(j, FeedConfig{})
		run := make(chan error, 1)
		go func() { run <- f.Run(ctx) }()
		looks := j.looks
		<-time.After(time.Minute)
		require.Equal(t, looks, j.looks, "nobody watches: nobody looks")

		fresh := watch(ctx, f, WatchRequest{})
		all := watch(ctx, f, WatchRequest{After: new(int64(0))})
		rest := watch(ctx, f, WatchRequest{After: new(int64(249))})
		grave := watch(ctx, f, WatchRequest{MinSeverity: Warning})
		ahead := watch(ctx, f, WatchRequest{After: new(int64(9999))})
		synctest.Wait()
		notes, idle := all.seqs()
		require.Len(t, notes, 250)
		require.Equal(t, 1, idle, "the first says that it has begun")

		j.add(Info)
		j.add(Critical)
		f.Ring()
		synctest.Wait()
		for w, want := range map[*watching][]int64{fresh: {251, 252}, rest: {250, 251, 252}, grave: {252}, ahead: {251, 252}} {
			notes, _ := w.seqs()
			require.Equal(t, want, notes)
		}
		j.add(Info) // and nobody rings
		<-time.After(3 * time.Second)
		notes, _ = fresh.seqs()
		require.Equal(t, []int64{251, 252, 253}, notes)
		<-time.After(time.Minute)
		_, idle = fresh.seqs()
		require.Greater(t, idle, 2, "a quiet stream says that it lives")

		cancel()
		<-fresh.done
		require.ErrorIs(t, fresh.err, context.Canceled)
		require.ErrorIs(t, <-run, context.Canceled)
		for _, w := range []*watching{all, rest, grave, ahead} {
			<-w.done
		}
	})
}

func TestAFeedThatCannotReadSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &journal{err: errors.New("gone")}
		w := watch(t.Context(), NewFeed(j, FeedConfig{}), WatchRequest{})
		<-w.done
		require.ErrorIs(t, w.err, j.err)
	})
}
