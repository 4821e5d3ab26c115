package execution

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// tagging answers what Tagged is asked, after something else has happened.
type tagging struct {
	Changes
	meanwhile func()
	tagged    map[string][]string
}

func (g *tagging) Tagged(_ context.Context, tags []string) (map[string][]string, error) {
	g.meanwhile()
	found := map[string][]string{}
	for id, of := range g.tagged {
		if (WatchRequest{scope: tags}).may(of) {
			found[id] = of
		}
	}
	return found, nil
}

// seated returns a watcher with a scope that has begun on a board.
func seated(b *Board, tagged map[string][]string, scope ...string) *watcher {
	w := newWatcher(WatchRequest{Lines: true, scope: scope})
	b.inboxes[w] = struct{}{}
	w.arrive(tagged)
	return w
}

func changeOf(datasource string, status Status, at int64, tags ...string) *Change {
	return &Change{Execution: Execution{ID: uuid.NewString(), DatasourceID: datasource, Status: status}, ChangedAt: time.Unix(at, 0), Tags: tags}
}

func TestOneWhoComesWhileTagsAreReadIsNotMeasuredByTheAnswer(t *testing.T) {
	t.Parallel()
	changes := &tagging{tagged: map[string][]string{"1": {"a"}, "2": {"b"}}}
	b := NewBoard(BoardConfig{Changes: changes})
	early := seated(b, changes.tagged, "a")
	var late *watcher
	end := changeOf("2", Completed, 1, "b")
	changes.meanwhile = func() {
		late = seated(b, changes.tagged, "b")
		late.found(end)
	}
	require.NoError(t, b.regard(t.Context()))
	require.Equal(t, map[string]bool{"1": true}, early.reach)
	require.Equal(t, map[string]bool{"2": true}, late.reach)
	n, _, ok := late.take()
	require.True(t, ok)
	require.Equal(t, end, n.change)
	require.False(t, late.spilled())
}

func TestOnlyWhatComesIntoTheScopeMakesTheDatabaseBeRead(t *testing.T) {
	t.Parallel()
	w := seated(NewBoard(BoardConfig{}), nil, "a")
	one, two := map[string][]string{"1": {"a"}}, map[string][]string{"1": {"a"}, "2": {"a"}}
	for i, c := range []struct {
		tagged  map[string][]string
		spilled bool
	}{{nil, false}, {one, true}, {one, false}, {two, true}, {two, false}, {one, false}, {two, true}} {
		w.regard(c.tagged) // a slow client: nothing was found in the database yet
		require.Equal(t, c.spilled, w.spilled(), i)
	}
	require.True(t, w.hasJoined("1"))
	require.True(t, w.complete())
	require.False(t, w.hasJoined("1"))
}

func TestWhatHasEndedOutOfSightTakesNoRoom(t *testing.T) {
	t.Parallel()
	tagged := map[string][]string{"1": {"a"}}
	w := seated(NewBoard(BoardConfig{}), tagged, "a")
	r := &watchReader{inbox: w, recent: map[string]*seat{}, speaking: map[string]*seat{}}
	unseen := changeOf("1", Completed, 1, "a")
	w.found(unseen)
	var ids []string
	for range cursorPlaces + 1 {
		c := changeOf("1", Running, 1, "a")
		w.found(c)
		s := w.seats[c.ID]
		s.execution, s.changed, s.told, s.seq = c.Execution, c.ChangedAt, true, 7
		r.speaking[c.ID] = s
		ids = append(ids, c.ID)
	}
	w.regard(nil)
	require.NotContains(t, w.seats, unseen.ID, "its end will not come again")
	require.True(t, w.overflow, "whether it is to be told of only the database knows, which is read again")
	r.advance(time.Unix(2, 0))
	require.Len(t, r.speaking, len(ids), "they may come back")
	for _, id := range ids {
		w.change(&Change{Execution: Execution{ID: id, DatasourceID: "1", Status: Completed}, ChangedAt: time.Unix(3, 0)})
	}
	r.advance(time.Unix(4, 0))
	require.Empty(t, r.speaking)
	require.Empty(t, w.seats)
	c, ok := decodeCursor(r.id())
	require.True(t, ok)
	require.Equal(t, cursor{since: time.Unix(4, 0)}, c, fmt.Sprint(c))
	again := &seat{execution: Execution{ID: ids[0], Status: Running, Trigger: Retry}}
	r.begin(again)
	require.EqualValues(t, 7, again.seq, "a retried upload goes on where its lines were")
}
