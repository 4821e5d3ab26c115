package execution_test

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataguardian/dataguardian/internal/errs"
	"github.com/dataguardian/dataguardian/internal/execution"
	"github.com/dataguardian/dataguardian/internal/logs"
)

// row is a store of one execution, which ends after some looks.
type row struct {
	execution.Store
	looks    int
	endAfter int
	stored   [][]logs.Line // by look; the last one stays
}

func (r *row) Get(_ context.Context, id string) (execution.Execution, error) {
	if id != "known" {
		return execution.Execution{}, errs.New(errs.NotFound, errs.CodeNotFound, "no such execution")
	}
	e := r.next()
	r.looks++
	return e, nil
}

// next is what Get returns next.
func (r *row) next() execution.Execution {
	e := execution.Execution{ID: "known", Status: execution.Running, Logs: r.stored[min(r.looks, len(r.stored)-1)]}
	if r.looks >= r.endAfter {
		e.Status = execution.Completed
	}
	return e
}

func (r *row) Look(context.Context, []string) (map[string]execution.Look, error) {
	return map[string]execution.Look{"known": lookAt(r.next())}, nil
}

func lookAt(e execution.Execution) execution.Look {
	look := execution.Look{Status: e.Status}
	if len(e.Logs) > 0 {
		look.Last = e.Logs[len(e.Logs)-1].Seq
	}
	return look
}

// script is a hub that says fixed things.
type script struct {
	logs.Hub
	events []logs.Event
	err    error
}

func (s script) Follow(ctx context.Context, _ string, _ int64) iter.Seq2[logs.Event, error] {
	return func(yield func(logs.Event, error) bool) {
		for _, e := range s.events {
			if !yield(e, nil) {
				return
			}
		}
		if s.err != nil {
			yield(logs.Event{}, s.err)
			return
		}
		<-ctx.Done()
		yield(logs.Event{}, context.Cause(ctx))
	}
}

func lines(from, to int64) []logs.Line {
	var all []logs.Line
	for seq := from; seq <= to; seq++ {
		all = append(all, logs.Line{Seq: seq, Message: "x"})
	}
	return all
}

func live(seq int64) logs.Event { return logs.Event{Line: &logs.Line{Seq: seq, Message: "x"}} }

// seen follows to the end and returns the numbers of the lines, gaps negative.
func seen(t *testing.T, r *row, h script, after int64) (numbers []int64, ended bool) {
	t.Helper()
	s := execution.NewService(execution.Config{Store: r, Hub: h, Logger: slog.New(slog.DiscardHandler)})
	for event, err := range s.Follow(t.Context(), "known", after) {
		require.NoError(t, err)
		switch {
		case event.Line != nil:
			numbers = append(numbers, event.Line.Seq)
		case event.Gap != nil:
			numbers = append(numbers, -event.Gap.From, -event.Gap.To)
		case event.End != nil:
			ended = true
		}
	}
	return numbers, ended
}

func TestATailShowsEveryLineOnceAndEnds(t *testing.T) {
	for name, c := range map[string]struct {
		row   row
		hub   script
		after int64
		want  []int64
	}{
		"an ended execution comes from its row":      {row{stored: [][]logs.Line{lines(1, 3)}}, script{}, 0, []int64{1, 2, 3}},
		"from where the reader was":                  {row{stored: [][]logs.Line{lines(1, 5)}}, script{}, 3, []int64{4, 5}},
		"lines that were dropped are a gap":          {row{stored: [][]logs.Line{append(lines(1, 2), lines(6, 7)...)}}, script{}, 0, []int64{1, 2, -3, -5, 6, 7}},
		"live lines follow stored ones, once":        {row{endAfter: 1, stored: [][]logs.Line{lines(1, 2), lines(1, 4)}}, script{events: []logs.Event{live(2), live(3), live(3), live(4), {End: true}}}, 0, []int64{1, 2, 3, 4}},
		"what the hub lost comes from the row":       {row{endAfter: 1, stored: [][]logs.Line{nil, lines(1, 3)}}, script{events: []logs.Event{{End: true}}}, 0, []int64{1, 2, 3}},
		"a gap of the hub is passed on":              {row{endAfter: 1, stored: [][]logs.Line{nil, lines(1, 6)}}, script{events: []logs.Event{live(1), {Gap: &logs.Gap{From: 2, To: 4}}, live(5), {End: true}}}, 0, []int64{1, -2, -4, 5, 6}},
		"a hub that is away: the row is looked at":   {row{endAfter: 2, stored: [][]logs.Line{lines(1, 1), lines(1, 2), lines(1, 4)}}, script{err: errors.New("away")}, 0, []int64{1, 2, 3, 4}},
		"an end that nobody announced is noticed":    {row{endAfter: 1, stored: [][]logs.Line{lines(1, 1), lines(1, 2)}}, script{events: []logs.Event{{Idle: true}}}, 0, []int64{1, 2}},
		"states are no lines and unreadable ones go": {row{endAfter: 1, stored: [][]logs.Line{lines(1, 1)}}, script{events: []logs.Event{{State: []byte("{")}, {State: []byte(`{"status":"running"}`)}, {End: true}}}, 0, []int64{1}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				numbers, ended := seen(t, &c.row, c.hub, c.after)
				require.Equal(t, c.want, numbers)
				require.True(t, ended)
			})
		})
	}
}

func TestATailOfAnUnknownExecutionIsAnErrorAndOneOfALeavingReaderEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &row{endAfter: 1000, stored: [][]logs.Line{nil}}
		s := execution.NewService(execution.Config{Store: r, Hub: script{}, Logger: slog.New(slog.DiscardHandler)})
		for _, err := range s.Follow(t.Context(), "unknown", 0) {
			require.Equal(t, errs.NotFound, errs.KindOf(err))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var last error
		for _, err := range s.Follow(ctx, "known", 0) {
			last = err
		}
		require.ErrorIs(t, last, context.DeadlineExceeded)
	})
}
