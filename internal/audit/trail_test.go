package audit_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/audit"
	"github.com/dataguardian/dataguardian/internal/errs"
)

// shelf keeps entries in memory.
type shelf struct {
	audit.Store

	mu      sync.Mutex
	entries []audit.Entry
	away    bool
	pruned  int
}

func (s *shelf) Create(_ context.Context, e audit.Entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return errs.New(errs.Unavailable, errs.CodeDatabaseUnavailable, "away")
	}
	s.entries = append(s.entries, e)
	return nil
}

func (s *shelf) Finish(_ context.Context, id, outcome, entityID string) error {
	return s.change(id, func(e *audit.Entry) { e.Outcome, e.EntityID = outcome, entityID })
}

func (s *shelf) Add(_ context.Context, id string, more int) error {
	return s.change(id, func(e *audit.Entry) { e.Count += more })
}

func (s *shelf) change(id string, how func(*audit.Entry)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.entries {
		if s.entries[i].ID == id {
			how(&s.entries[i])
		}
	}
	return nil
}

func (s *shelf) Prune(context.Context, time.Duration) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pruned++
	return 0, nil
}

func (s *shelf) all() []audit.Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]audit.Entry(nil), s.entries...)
}

func TestNothingIsBegunThatCannotBeWrittenDown(t *testing.T) {
	store := &shelf{}
	trail := audit.NewTrail(store, time.Hour, slog.New(slog.DiscardHandler))
	id, err := trail.Begin(t.Context(), audit.Entry{Actor: "bob", Action: "backup.restore"})
	require.NoError(t, err)
	require.Equal(t, audit.Started, store.all()[0].Outcome)
	trail.End(t.Context(), id, audit.OK, "x")
	require.Equal(t, audit.OK, store.all()[0].Outcome)
	store.away = true
	_, err = trail.Begin(t.Context(), audit.Entry{Actor: "bob", Action: "backup.restore"})
	require.Equal(t, errs.CodeDatabaseUnavailable, errs.CodeOf(err))
}

func TestAFloodOfRefusalsIsAFewEntriesThatAddUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &shelf{}
		trail := audit.NewTrail(store, time.Hour, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- trail.Run(ctx) }()

		const calls = 5000
		for i := range calls {
			trail.Refused(t.Context(), audit.Entry{Action: "session.login", Outcome: "UNAUTHORIZED", Address: fmt.Sprint(i % 500)})
		}
		trail.Refused(t.Context(), audit.Entry{Actor: "bob", Action: "datasource.delete", Outcome: "FORBIDDEN", Address: "1"})
		<-time.After(time.Minute)
		entries := store.all()
		require.Len(t, entries, 32+1+1, "a flood takes no place from those who have a credential")
		total := 0
		for _, e := range entries {
			total += e.Count
		}
		require.Equal(t, calls+1, total)

		<-time.After(10 * time.Minute)
		trail.Refused(t.Context(), audit.Entry{Action: "session.login", Outcome: "UNAUTHORIZED", Address: "1"})
		require.Len(t, store.all(), len(entries)+1, "a new window begins a new entry")
		trail.Refused(t.Context(), audit.Entry{Action: "session.login", Outcome: "UNAUTHORIZED", Address: "1"})
		<-time.After(time.Hour)
		cancel()
		require.NoError(t, <-ended)
		require.Equal(t, 2, store.all()[len(entries)].Count)
		require.GreaterOrEqual(t, store.pruned, 2)
	})
}
